"""Decode a batch of NDJSON lines or of a JSON array's elements. Types and digits are taken exactly as they stand.

msgspec decodes a whole batch into structs whose number columns stay raw text; one count proves that no key stood twice. Records
for which that does not hold are looked at one by one, by a decoder that sees every key.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import polars as pl

from jobber.contract import Column, Contract
from jobber.model import Format, Layout
from operators.csv_grammar import Bytes, Places, Switches
from operators.decode.json_batch import by_shape
from operators.decode.json_record import MAX_DEPTH, MAX_FIELD, STEP, exact, is_number, is_text, written_out
from operators.frames import CONTROL, Decoded, faults_of, is_plain, not_plain, shown
from operators.json_grammar import COMMA, Scan, without_space
from operators.plan.buffer import OWN_BATCH
from operators.plan.ndjson import lines

#: Bytes in which the first record, which shows the keys to expect, has to end.
FIRST = 64 << 10
#: Bytes below which looking for shapes costs more than it saves.
SMALL = 0
_COLON, _QUOTE = 58, 34
#: A struct's field cannot be called so.
_UNNAMEABLE = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')

_Fault = tuple[int, str | None, str, str]


class _Source:
    """A batch's bytes, and where its records are."""

    def __init__(self, data: bytes, layout: Layout) -> None:
        self.data = data
        self.array = np.frombuffer(data, np.uint8)
        self.lines = layout.format is Format.NDJSON

    def some(self, chosen: Places, layout: Layout) -> "_Source":
        """Some of its records."""
        records = [self.record(index) for index in chosen.tolist()]
        some = _Source((b"\n" if self.lines else b",").join(records), layout)
        stops = np.cumsum([len(record) + 1 for record in records]) - 1
        some.bounds = stops - [len(record) for record in records], stops
        return some

    @cached_property
    def bounds(self) -> tuple[Places, Places]:
        """Where the records begin and end, as planning counted them, without the space around them."""
        if self.lines:
            return without_space(self.array, *lines(self.array))
        # The commas outside of every nesting; a document that is one object has none.
        scan, commas = Scan(), [np.empty(0, np.int64)]
        for start in range(0, self.array.size, STEP):
            places, kinds, depths = scan.step(self.array[start : start + STEP])
            commas.append(places[(kinds == COMMA) & (depths == 0)] + start)
        parting = np.concatenate(commas)
        return without_space(self.array, np.concatenate(([0], parting + 1)), np.append(parting, self.array.size))

    def record(self, index: int) -> bytes:
        """The bytes of one record."""
        starts, stops = self.bounds
        return self.data[starts[index] : stops[index]]

    def counts(self, places: Places) -> Places:
        """How many of the places are in each record."""
        starts, stops = self.bounds
        found: Places = np.searchsorted(places, stops) - np.searchsorted(places, starts)
        return found


def json_bounds(data: bytes, layout: Layout) -> tuple[Places, Places]:
    """Where the records of a batch begin and end, as planning counted them."""
    return _Source(data, layout).bounds


def decode_json(data: bytes, layout: Layout, contract: Contract, first_row: int) -> Decoded:
    """The records of a batch, as one String column for each column of the contract."""
    source = _Source(data, layout)

    def raw(rows: Sequence[int]) -> list[str]:
        return [shown(source.record(row - first_row)) for row in rows]

    shaped = None
    if SMALL <= len(data) <= 2 * OWN_BATCH:  # blank lines may have made it a little larger than a batch is
        shaped = by_shape(data, layout, contract, lambda: source.bounds)
    if shaped is None:
        frame, rows, faults = _closer(source, layout, contract)
        return Decoded(_numbered(frame, rows + first_row), _faults(faults, first_row), raw)
    if not shaped.left.any():
        rows = np.arange(first_row, first_row + shaped.frame.height)
        return Decoded(_numbered(shaped.frame, rows), faults_of([]), raw)
    left = np.flatnonzero(shaped.left)
    frame, rows, faults = _closer(source.some(left, layout), layout, contract)
    faults = [(int(left[row]), column, code, message) for row, column, code, message in faults]
    frame = pl.concat(
        [
            _numbered(shaped.frame.filter(pl.Series(~shaped.left)), np.flatnonzero(~shaped.left) + first_row),
            _numbered(frame, left[rows] + first_row),
        ]
    )
    return Decoded(frame.sort("row_no"), _faults(faults, first_row), raw)


def _faults(found: Iterable[_Fault], first_row: int) -> pl.DataFrame:
    return faults_of([(first_row + row, column, code, message) for row, column, code, message in found])


def _closer(source: _Source, layout: Layout, contract: Contract) -> tuple[pl.DataFrame, Places, list[_Fault]]:
    """The records, whatever their shape; which they are, from 0; and the faults of the others."""
    names = [column.name for column in contract.columns]
    # Planning gives a huge record a batch of its own; it is not looked into.
    huge = len(source.data) > OWN_BATCH and source.bounds[0].size == 1
    quick = None if huge else _quick(source, layout, contract)
    if quick is None:
        suspect = np.ones(source.bounds[0].size, np.bool_)
        frame = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    else:
        frame, suspect = quick
        if not suspect.any():
            return frame, np.arange(frame.height), []
        frame = frame.filter(pl.Series(~suspect))
    values: list[list[str | None]] = []
    rows: list[int] = []
    faults: list[_Fault] = []
    for index in np.flatnonzero(suspect).tolist():
        record, found = exact(source.record(index), layout, contract)
        faults.extend((index, *fault) for fault in found)
        if not found:  # nothing is wrong with it: it only looked so
            values.append(record)
            rows.append(index)
    good = np.flatnonzero(~suspect)
    if values:
        closer = pl.DataFrame(values, schema=dict.fromkeys(names, pl.String), orient="row")
        order = np.argsort(np.concatenate((good, rows)))
        frame, good = pl.concat([frame, closer])[order], np.sort(np.concatenate((good, rows)))
    return frame, good, faults


def _numbered(frame: pl.DataFrame, rows: Places) -> pl.DataFrame:
    return frame.with_columns(pl.Series("row_no", rows, dtype=pl.Int64))


def _quick(source: _Source, layout: Layout, contract: Contract) -> tuple[pl.DataFrame, Switches] | None:
    """All records by column, and those that need a closer look; None when all do."""
    data, array = source.data, source.array
    extra = _extra(data, layout)
    decoders = _decoders(tuple(_fields(layout, contract)), extra)
    if decoders is None:
        return None
    one, many = decoders
    plain = is_plain(data)
    records = None if not plain or len(data) > OWN_BATCH else _all(source, one, many)
    broken: list[int] = []
    if records is None:
        records, broken = _one_by_one(source, one)
    frame, suspect, present = _frame(records, layout, contract, extra, escapes=b"\\" in data)
    keys = _key_ends(array)
    deep = data.count(b"{") + data.count(b"[") - len(records) >= MAX_DEPTH
    # Each record holds each key it has at least once: when the sums agree, none stands twice and none is unknown.
    if not broken and plain and not deep and int(present.sum()) == keys.size:
        return frame, suspect
    suspect |= present != source.counts(keys)
    suspect[broken] = True
    if not plain:
        suspect |= not_plain(data, source.bounds[0])
    if deep:
        # `[` and `{` differ in one bit from each other, and in more from all else.
        suspect |= source.counts(np.flatnonzero((array | 0x20) == ord("{"))) > MAX_DEPTH
    return frame, suspect


def _key_ends(array: Bytes) -> Places:
    """Places of the colons behind keys. One within a text, behind an escaped quote, counts too: its record is looked at."""
    colons: Places = np.flatnonzero(array == _COLON)
    before = array[np.maximum(colons - 1, 0)]
    ends: Places = colons[(before == _QUOTE) | (before <= 32)]
    return ends


def _all(source: _Source, one: Any, many: Any) -> list[Any] | None:
    """Every record, or None when one of them is broken."""
    try:
        if not source.lines:
            return many.decode(b"[" + source.data + b"]")  # type: ignore[no-any-return]
        # For the decoder a newline is white space. A line that begins and ends with a brace holds whole objects (no JSON has
        # `}` and `{` side by side within), and exactly one, when there are as many objects as lines.
        starts, stops = source.bounds
        if not ((source.array[starts] == ord("{")) & (source.array[stops - 1] == ord("}"))).all():
            return None
        records = one.decode_lines(source.data)
        return records if len(records) == starts.size else None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _one_by_one(source: _Source, one: Any) -> tuple[list[Any], list[int]]:
    """Every record, and which of them are broken; an empty one stands for those."""
    records, broken, empty = [], [], one.decode(b"{}")
    starts, stops = source.bounds
    for index, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        try:
            records.append(one.decode(source.data[start:stop]))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            broken.append(index)
            records.append(empty)
    return records, broken


def _frame(
    records: list[Any], layout: Layout, contract: Contract, extra: tuple[str, ...], *, escapes: bool
) -> tuple[pl.DataFrame, Switches, Places]:
    """The records by column; which of them need a closer look; and how many of the keys that are known each of them has."""
    columns: dict[str, pl.Series] = {}
    suspect = np.zeros(len(records), np.bool_)
    present = np.zeros(len(records), np.int64)
    for index in range(len(extra)):
        present += np.array([bytes(value) != b"" for value in map(attrgetter(f"x{index}"), records)], np.bool_)
    for index, column in enumerate(contract.columns):
        if column.name not in layout.fields:
            columns[column.name] = pl.Series([None] * len(records), dtype=pl.String)
            continue
        values = list(map(attrgetter(f"c{index}"), records))
        series, there, odd = _texts(values, escapes) if is_text(column) else _numbers(values, column)
        columns[column.name] = series
        present += there
        suspect |= odd
    return pl.DataFrame(columns), suspect, present


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
    return tuple(key for key in first if key not in known and not _UNNAMEABLE.search(key))


def _fields(layout: Layout, contract: Contract) -> list[tuple[str, str, bool]]:
    return [
        (f"c{index}", layout.fields[column.name], is_text(column))
        for index, column in enumerate(contract.columns)
        if column.name in layout.fields
    ]


@lru_cache(maxsize=64)  # inputs choose the keys: it must not grow with them
def _decoders(fields: tuple[tuple[str, str, bool], ...], extra: tuple[str, ...]) -> tuple[Any, Any] | None:
    """Decoders of one record and of arrays, whose records have texts as text and everything else as the raw JSON.

    None when a mapping has names that no struct can have: `"` or a backslash, or one key for two columns.
    """
    members: list[tuple[str, Any, Any]] = []
    for name, key, text in fields:
        kind: Any = str | None | msgspec.UnsetType if text else msgspec.Raw
        members.append((name, kind, msgspec.field(name=key, default=msgspec.UNSET if text else msgspec.Raw(b""))))
    members += [(f"x{i}", msgspec.Raw, msgspec.field(name=key, default=msgspec.Raw(b""))) for i, key in enumerate(extra)]
    try:
        struct: Any = msgspec.defstruct("Record", members, gc=False)
        return msgspec.json.Decoder(struct), msgspec.json.Decoder(list[struct])
    except ValueError:  # a UnicodeError is one, too
        return None


def _texts(values: list[Any], escapes: bool) -> tuple[pl.Series, Any, Any]:
    """Texts; which are there; which hold a control character or are too long."""
    there: Any = True
    if values.count(msgspec.UNSET):
        there = np.array([value is not msgspec.UNSET for value in values], np.bool_)
        values = [None if value is msgspec.UNSET else value for value in values]
    series = pl.Series(values, dtype=pl.String)
    odd = series.str.len_bytes() > MAX_FIELD
    if escapes:
        odd |= series.str.contains(CONTROL.pattern)
    return series, there, odd.fill_null(False).to_numpy()


def _numbers(values: list[Any], column: Column) -> tuple[pl.Series, Any, Any]:
    """Number tokens as they stand, those in another notation written out; which are there; which are no numbers."""
    series = pl.Series(list(map(bytes, values)), dtype=pl.Binary).cast(pl.String)
    there = (series != "").to_numpy()
    series = series.set(series.is_in(["", "null"]), None)
    if column.kind == "boolean":
        return series, there, (~series.is_in(["true", "false"])).fill_null(False).to_numpy()
    odd = np.zeros(series.len(), np.bool_)
    other = series.str.contains("[^0-9.-]" if column.kind != "integer" else "[^0-9-]").fill_null(False)
    changed: dict[int, str] = {}
    for place in other.arg_true().to_list():
        token = series[place]
        if is_number(token):
            changed[place] = written_out(token, column)
        else:
            odd[place] = True
    if changed:
        series = series.scatter(list(changed), pl.Series(list(changed.values()), dtype=pl.String))
    return series, there, odd
