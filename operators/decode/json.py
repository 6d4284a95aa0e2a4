"""Decode a batch of NDJSON lines or of a JSON array's elements. Types and digits are taken exactly as they stand.

msgspec decodes a whole batch into structs whose number columns stay raw text; one count proves that no key stood twice. Where
that fails, records are looked at one by one.
"""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import numpy as np
import polars as pl

from jobber.contract import Column, Contract
from jobber.model import Format, Layout
from operators.csv_grammar import LF, Bytes, Places
from operators.frames import Decoded, faults_of, not_text, shown
from operators.json_grammar import COMMA, Scan
from operators.plan.buffer import OWN_BATCH
from operators.plan.ndjson import lines

#: A longer text is a file of another kind in the wrong place.
MAX_FIELD = 1 << 20
#: Bytes in which the first record, which shows the keys to expect, has to end.
FIRST = 64 << 10
#: Numbers beyond ten to this power fit no column; they are not written out.
MOST_DIGITS = 60
_COLON, _QUOTE = 58, 34
#: Control characters (Unicode category Cc) but tab and line ends.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

Fault = tuple[str | None, str, str]


def decode_json(data: bytes, layout: Layout, contract: Contract, first_row: int) -> Decoded:
    """The records of a batch, as one String column for each column of the contract."""
    array = np.frombuffer(data, np.uint8)

    def raw(rows: Sequence[int]) -> list[str]:
        starts, stops = _spans(array, layout)
        return [shown(data[starts[row - first_row] : stops[row - first_row]].strip()) for row in rows]

    extra = _extra(data, layout)
    decoders = _struct(tuple(_fields(layout, contract)), extra)
    colons = _key_ends(array)
    records, places = None, _odd_places(data, array)
    if not places and len(data) <= OWN_BATCH:
        records = _all(data, layout, decoders)
    if records is not None:
        frame, bad, present = _frame(records, layout, contract, extra, escapes=b"\\" in data)
        # Each record holds each key it has at least once: when the sums agree, none stands twice and none is unknown.
        if not bad.any() and int(present.sum()) == colons.size:
            return Decoded(_numbered(frame, first_row, np.arange(frame.height)), faults_of([]), raw)
    starts, stops = _spans(array, layout)
    bounds = list(zip(starts.tolist(), stops.tolist(), strict=True))
    suspect = np.zeros(len(bounds), np.bool_)
    if records is None:
        records = _one_by_one(data, bounds, decoders[0], suspect)
        frame, bad, present = _frame(records, layout, contract, extra, escapes=b"\\" in data)
    suspect[np.maximum(np.searchsorted(starts, places, "right") - 1, 0)] = True
    suspect |= bad | (present != np.searchsorted(colons, stops) - np.searchsorted(colons, starts))
    rows = [_numbered(frame.filter(~pl.Series(suspect)), first_row, np.flatnonzero(~suspect))]
    faults: list[tuple[int, str | None, str, str]] = []
    for index in np.flatnonzero(suspect).tolist():
        record, found = _one(data[bounds[index][0] : bounds[index][1]], layout, contract)
        if found:
            faults.extend((first_row + index, *fault) for fault in found)
        else:  # nothing is wrong with it: it only looked so
            single = pl.DataFrame([record], schema=frame.schema, orient="row")
            rows.append(_numbered(single, first_row, np.array([index])))
    return Decoded(pl.concat(rows).sort("row_no") if len(rows) > 1 else rows[0], faults_of(faults), raw)


def _numbered(frame: pl.DataFrame, first_row: int, indexes: Places) -> pl.DataFrame:
    return frame.with_columns(pl.Series("row_no", indexes + first_row, dtype=pl.Int64))


def _spans(array: Bytes, layout: Layout) -> tuple[Places, Places]:
    """Where the records are: as planning counted them."""
    if layout.format is Format.NDJSON:
        return lines(array, np.flatnonzero(array == LF), array.size)
    # The commas outside of every nesting; a document that is one object has none.
    places, kinds, depths = Scan().step(array)
    commas = places[(kinds == COMMA) & (depths == 0)]
    return np.concatenate(([0], commas + 1)), np.append(commas, array.size)


def _key_ends(array: Bytes) -> Places:
    """Places of the colons behind keys. One within a text, behind an escaped quote, counts too: its record is looked at."""
    colons: Places = np.flatnonzero(array == _COLON)
    before = array[np.maximum(colons - 1, 0)]
    ends: Places = colons[(before == _QUOTE) | (before <= 32)]
    return ends


def _odd_places(data: bytes, array: Bytes) -> list[int]:
    """Places of bytes that may not stand in a record: control characters, and what is not UTF-8."""
    places = np.flatnonzero(array == 127).tolist() if b"\x7f" in data else []
    return places + not_text(data)


def _all(data: bytes, layout: Layout, decoders: tuple[Any, Any]) -> list[Any] | None:
    """Every record, or None when one of them is broken."""
    one, many = decoders
    try:
        return one.decode_lines(data) if layout.format is Format.NDJSON else many.decode(b"[" + data + b"]")  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _one_by_one(data: bytes, bounds: Sequence[tuple[int, int]], decoder: Any, suspect: np.ndarray[Any, Any]) -> list[Any]:
    """Every record; an empty one stands for what is broken."""
    records = []
    empty = decoder.decode(b"{}")
    for index, (start, stop) in enumerate(bounds):
        try:
            records.append(decoder.decode(data[start:stop]) if stop - start <= OWN_BATCH else empty)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            suspect[index] = True
            records.append(empty)
    return records


def _frame(
    records: list[Any], layout: Layout, contract: Contract, extra: tuple[str, ...], *, escapes: bool
) -> tuple[pl.DataFrame, np.ndarray[Any, Any], Places]:
    """The records by column; which of them need a closer look; and how many of the keys that are known each of them has."""
    columns: dict[str, pl.Series] = {}
    bad = np.zeros(len(records), np.bool_)
    present = np.zeros(len(records), np.int64)
    for index in range(len(extra)):
        present += np.array([bytes(getattr(record, f"x{index}")) != b"" for record in records], np.bool_)
    for index, column in enumerate(contract.columns):
        if column.name not in layout.fields:
            columns[column.name] = pl.Series([None] * len(records), dtype=pl.String)
            continue
        values = [getattr(record, f"c{index}") for record in records]
        series, there, odd = _texts(values, escapes) if _is_text(column) else _numbers(values, column)
        columns[column.name] = series
        present += there
        bad |= odd
    return pl.DataFrame(columns), bad, present


def _extra(data: bytes, layout: Layout) -> tuple[str, ...]:
    """Keys of the first record that the contract does not have, when it can be read: they are expected in the others too."""
    try:
        text = data[:FIRST].decode(errors="ignore").lstrip(" \t\r\n")
        first, _ = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(first, dict) or len(first) > 100:
        return ()
    known = set(layout.fields.values())
    return tuple(key for key in first if key not in known)


def _is_text(column: Column) -> bool:
    return column.kind in ("text", "date")


def _fields(layout: Layout, contract: Contract) -> list[tuple[str, str, bool]]:
    return [
        (f"c{index}", layout.fields[column.name], _is_text(column))
        for index, column in enumerate(contract.columns)
        if column.name in layout.fields
    ]


@cache
def _struct(fields: tuple[tuple[str, str, bool], ...], extra: tuple[str, ...]) -> tuple[Any, Any]:
    """Decoders of lines and of arrays, whose records have texts as text and everything else as the raw JSON."""
    members: list[tuple[str, Any, Any]] = []
    for name, key, text in fields:
        kind: Any = str | None | msgspec.UnsetType if text else msgspec.Raw
        members.append((name, kind, msgspec.field(name=key, default=msgspec.UNSET if text else msgspec.Raw(b""))))
    members += [(f"x{i}", msgspec.Raw, msgspec.field(name=key, default=msgspec.Raw(b""))) for i, key in enumerate(extra)]
    struct: Any = msgspec.defstruct("Record", members, gc=False)
    return msgspec.json.Decoder(struct), msgspec.json.Decoder(list[struct])


def _texts(values: list[Any], escapes: bool) -> tuple[pl.Series, Any, Any]:
    """Texts; which are there; which hold a control character or are too long."""
    there = np.array([value is not msgspec.UNSET for value in values], np.bool_)
    if not there.all():
        values = [None if value is msgspec.UNSET else value for value in values]
    series = pl.Series(values, dtype=pl.String)
    odd = series.str.len_bytes() > MAX_FIELD
    if escapes:
        odd |= series.str.contains(_CONTROL.pattern)
    return series, there, odd.fill_null(False).to_numpy()


def _numbers(values: list[Any], column: Column) -> tuple[pl.Series, Any, Any]:
    """Number tokens as they stand, those in another notation written out; which are there; which are no numbers."""
    tokens = [bytes(value) for value in values]
    there = np.array([token != b"" for token in tokens], np.bool_)
    series = pl.Series(tokens, dtype=pl.Binary).cast(pl.String)
    series = series.set(series.is_in(["", "null"]), None)
    if column.kind == "boolean":
        return series, there, (~series.is_in(["true", "false"])).fill_null(False).to_numpy()
    odd = np.zeros(len(tokens), np.bool_)
    other = series.str.contains("[^0-9.-]" if column.kind != "integer" else "[^0-9-]").fill_null(False)
    changed: dict[int, str] = {}
    for place in other.arg_true().to_list():
        token = tokens[place].decode(errors="replace")
        if _is_number(token):
            changed[place] = written_out(token, column)
        else:
            odd[place] = True
    if changed:
        series = series.scatter(list(changed), pl.Series(list(changed.values()), dtype=pl.String))
    return series, there, odd


def _is_number(token: str) -> bool:
    return token[:1] in "-0123456789"


def written_out(token: str, column: Column) -> str:
    """A JSON number without an exponent, with the same value; a whole one without a point in an integer column.

    Beyond MOST_DIGITS it becomes a number of as many digits: out of the range of any column.
    """
    if column.kind == "number":
        return token
    if "e" not in token and "E" not in token and (column.kind != "integer" or len(token) > MOST_DIGITS):
        return token
    sign, digits, exponent = Decimal(token).as_tuple()
    assert isinstance(exponent, int)
    minus = "-" if sign else ""
    if not any(digits):
        return minus + "0"
    if len(digits) + exponent > MOST_DIGITS or len(digits) > MOST_DIGITS:
        return minus + "1" + "0" * MOST_DIGITS
    if exponent < -MOST_DIGITS:
        return minus + "0." + "0" * MOST_DIGITS + "1"
    text = format(Decimal(token), "f")
    if column.kind == "integer" and "." in text and not text.partition(".")[2].strip("0"):
        text = text.partition(".")[0]
    return text


class _Duplicate(ValueError):
    """A key stands twice in one object."""


class _Number(str):
    """A number's token."""

    __slots__ = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Duplicate(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _one(record: bytes, layout: Layout, contract: Contract) -> tuple[list[str | None], list[Fault]]:
    """One record's values, or its faults."""
    if len(record) > OWN_BATCH:
        return [], [(None, "SIZE", f"the record has {len(record):,} bytes; at most {OWN_BATCH:,} are read")]
    try:
        text = record.decode()
        value = json.loads(text, object_pairs_hook=_pairs, parse_int=_Number, parse_float=_Number, parse_constant=_constant)
    except UnicodeDecodeError as fault:
        return [], [(None, "ENCODING", f"byte {fault.start + 1} of the record (0x{record[fault.start]:02X}) is not UTF-8")]
    except _Duplicate as fault:
        return [], [(None, "DUPLICATE_KEY", f"the key {str(fault)[:60]!r} stands twice")]
    except RecursionError:
        return [], [(None, "DEPTH", "the record is nested too deeply")]
    except ValueError as fault:
        code = "NUL" if b"\0" in record else "CONTROL" if "control character" in str(fault) else "SYNTAX"
        return [], [(None, code, f"the record is not JSON: {fault}")]
    if not isinstance(value, dict):
        return [], [(None, "TYPE", f"a record must be an object; got {_kind(value)}")]
    if _SURROGATE.search(record):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return [], [(None, "ENCODING", "the record holds half of a surrogate pair, which is no character")]
    values: list[str | None] = []
    faults: list[Fault] = []
    for column in contract.columns:
        taken, broken = _taken(
            value.get(layout.fields.get(column.name, ""), None) if column.name in layout.fields else None, column
        )
        values.append(taken)
        if broken:
            faults.append((column.name, *broken))
    return values, faults


def _taken(value: Any, column: Column) -> tuple[str | None, tuple[str, str] | None]:
    if value is None:
        return None, None
    if column.kind == "boolean":
        return (str(value).lower(), None) if isinstance(value, bool) else (None, _wrong(column, "true or false", value))
    if isinstance(value, _Number):
        return (None, _wrong(column, "a text", value)) if _is_text(column) else (written_out(value, column), None)
    if not isinstance(value, str) or not _is_text(column):
        return None, _wrong(column, "a text" if _is_text(column) else "a number", value)
    if "\0" in value:
        return None, ("NUL", f"{column.name} holds a NUL character")
    if _CONTROL.search(value):
        return None, ("CONTROL", f"{column.name} holds a control character")
    if len(value.encode()) > MAX_FIELD:
        return None, ("SIZE", f"{column.name} has more than {MAX_FIELD:,} bytes")
    return value, None


def _wrong(column: Column, wanted: str, value: Any) -> tuple[str, str]:
    return "TYPE", f"{column.name} must be {wanted}; got {_kind(value)}"


def _kind(value: Any) -> str:
    if isinstance(value, _Number):
        return "a number"
    return {str: "a text", bool: "true or false", dict: "an object", list: "an array", type(None): "null"}[type(value)]
