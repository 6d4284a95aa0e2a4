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
from operators.frames import Decoded, faults_of, shown
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

    frame = _at_once(data, array, layout, contract)
    if frame is not None:
        rows = pl.int_range(first_row, first_row + frame.height, dtype=pl.Int64, eager=True)
        return Decoded(frame.with_columns(rows.alias("row_no")), faults_of([]), raw)
    records: list[list[str | None]] = []
    numbers: list[int] = []
    faults: list[tuple[int, str | None, str, str]] = []
    starts, stops = _spans(array, layout)
    for row, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True), first_row):
        record, found = _one(data[start:stop], layout, contract)
        if found:
            faults.extend((row, *fault) for fault in found)
        else:
            records.append(record)
            numbers.append(row)
    frame = pl.DataFrame(records, schema=dict.fromkeys((column.name for column in contract.columns), pl.String), orient="row")
    return Decoded(frame.with_columns(pl.Series("row_no", numbers, dtype=pl.Int64)), faults_of(faults), raw)


def _spans(array: Bytes, layout: Layout) -> tuple[Places, Places]:
    """Where the records are: as planning counted them."""
    if layout.format is Format.NDJSON:
        return lines(array, np.flatnonzero(array == LF), array.size)
    # The commas outside of every nesting; a document that is one object has none.
    places, kinds, depths = Scan().step(array)
    commas = places[(kinds == COMMA) & (depths == 0)]
    return np.concatenate(([0], commas + 1)), np.append(commas, array.size)


def _at_once(data: bytes, array: Bytes, layout: Layout, contract: Contract) -> pl.DataFrame | None:
    """All records, or None when any of them needs a closer look."""
    named = _keys(data, array)
    extra = _extra(data, layout) if named is not None and _plain_text(data) else None
    if extra is None:
        return None
    try:
        records = _records(data, layout, _struct(tuple(_fields(layout, contract)), extra))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    # Each record holds each key it has at least once: when the sums agree, none stands twice and none is unknown.
    present = sum(1 for record in records for index in range(len(extra)) if bytes(getattr(record, f"x{index}")))
    columns: dict[str, pl.Series] = {}
    for index, column in enumerate(contract.columns):
        if column.name not in layout.fields:
            columns[column.name] = pl.Series([None] * len(records), dtype=pl.String)
            continue
        values = [getattr(record, f"c{index}") for record in records]
        series, count = _texts(values, b"\\" in data) if _is_text(column) else _numbers(values, column)
        if series is None:
            return None
        columns[column.name] = series
        present += count
    return pl.DataFrame(columns) if present == named else None


def _keys(data: bytes, array: Bytes) -> int | None:
    """How many keys there are, counted as the colons right behind a quote; None when that cannot be told so simply."""
    colons = np.flatnonzero(array == _COLON)
    if not colons.size:
        return 0
    if colons[0] == 0:
        return None
    before = array[colons - 1]
    # White space before a colon, or a key spelt with an escape: they have to be looked at one by one.
    return None if (before <= 32).any() or b"\\u00" in data else int(np.count_nonzero(before == _QUOTE))


def _plain_text(data: bytes) -> bool:
    if len(data) > OWN_BATCH or b"\x7f" in data:
        return False
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return re.search(rb"\xc2[\x80-\x9f]", data) is None


def _extra(data: bytes, layout: Layout) -> tuple[str, ...] | None:
    """Keys of the first record that the contract does not have; None when it cannot be read."""
    try:
        text = data[:FIRST].decode(errors="ignore").lstrip(" \t\r\n")
        first, _ = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(first, dict) or len(first) > 1000:
        return None
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


def _records(data: bytes, layout: Layout, decoders: tuple[Any, Any]) -> list[Any]:
    one, many = decoders
    if layout.format is Format.NDJSON:
        return one.decode_lines(data)  # type: ignore[no-any-return]
    return many.decode(b"[" + data + b"]")  # type: ignore[no-any-return]


def _texts(values: list[Any], escapes: bool) -> tuple[pl.Series | None, int]:
    absent = sum(1 for value in values if value is msgspec.UNSET)
    if absent:
        values = [None if value is msgspec.UNSET else value for value in values]
    series = pl.Series(values, dtype=pl.String)
    longest: Any = series.str.len_bytes().max()
    if (longest or 0) > MAX_FIELD or (escapes and series.str.contains(_CONTROL.pattern).any()):
        return None, 0
    return series, len(values) - absent


def _numbers(values: list[Any], column: Column) -> tuple[pl.Series | None, int]:
    """Number tokens as they stand; those in another notation are written out."""
    tokens = [bytes(value) for value in values]
    series = pl.Series(tokens, dtype=pl.Binary).cast(pl.String)
    series = series.set(series.is_in(["", "null"]), None)
    other = series.str.contains("[^0-9.-]" if column.kind != "integer" else "[^0-9-]")
    if column.kind == "boolean":
        other = ~series.is_in(["true", "false"])
    for place in other.arg_true().to_list():
        token = tokens[place].decode()
        if not _is_number(token) or column.kind == "boolean":
            return None, 0
        series[place] = written_out(token, column)
    return series, len(tokens) - tokens.count(b"")


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
