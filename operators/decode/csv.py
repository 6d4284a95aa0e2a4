"""Decode a batch of CSV. Polars parses it at once where that is provably exact; else the broken records are taken out first.

Polars alone would pad short rows, keep NULs, make records of blank lines, and abort a batch for one stray quote.
"""

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from jobber.contract import Contract
from jobber.model import Layout
from operators.csv_grammar import (
    CR,
    LF,
    Bytes,
    Dialect,
    Marks,
    Places,
    fields,
    line_ends,
    record_pattern,
    spans,
    strict,
    strict_pattern,
)
from operators.frames import Decoded, faults_of, not_text, shown
from operators.plan.buffer import OWN_BATCH

#: A longer field is a file of another kind in the wrong place.
MAX_FIELD = 1 << 20
_BOM = b"\xef\xbb\xbf"
#: Control characters (Unicode category Cc) but tab and line ends; C1 ones have two bytes.
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\r(?!\n)")
_CONTROL_QUOTED = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")


def decode_csv(data: bytes, layout: Layout, contract: Contract, first_row: int) -> Decoded:
    """The records of a batch, as one String column for each column of the contract."""
    dialect = Dialect(layout.delimiter.encode(), layout.quote.encode())
    array = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(array == dialect.quote[0])
    well_quoted = strict(array, quotes, dialect)

    def raw(rows: Sequence[int]) -> list[str]:
        starts, stops = _spans(data, array, quotes, well_quoted, dialect)
        return [shown(data[starts[row - first_row] : stops[row - first_row]]) for row in rows]

    frame = None
    if well_quoted:
        expected = _expected(data, array, quotes)
        frame = _parse(data, layout, dialect, expected, quoted=quotes.size > 0)
        if frame is not None and _clean(data, array) and _whole(frame, data, array, quotes, dialect):
            return Decoded(_named(frame, layout, contract, first_row, None), faults_of([]), raw)
    starts, stops = _spans(data, array, quotes, well_quoted, dialect)
    suspects = _suspects(data, array, quotes, well_quoted, starts, stops, len(layout.columns), dialect)
    faults = []
    bad = np.zeros(starts.size, np.bool_)
    for index in suspects.tolist():
        fault = _fault(data[starts[index] : stops[index]], len(layout.columns), dialect)
        if fault is not None:
            bad[index] = True
            faults.append((first_row + index, None, *fault))
    good = np.flatnonzero(~bad)
    if frame is not None:  # a row a record: those that are broken are left out
        frame = frame.filter(pl.Series(~bad))
    elif good.size:
        kept = _without(data, starts, stops, bad)
        frame = _parse(kept, layout, dialect, good.size, quoted=quotes.size > 0)
        if frame is None:  # blank lines are left over, or Polars and the grammar do not agree: the grammar counts
            frame = _by_grammar([data[starts[index] : stops[index]] for index in good.tolist()], layout, dialect)
    else:
        frame = _empty(layout)
    return Decoded(_named(frame, layout, contract, first_row, good), faults_of(faults), raw)


def _whole(frame: pl.DataFrame, data: bytes, array: Bytes, quotes: Places, dialect: Dialect) -> bool:
    """Whether every record has exactly the header's number of fields, and none too long a one.

    No record has more fields (Polars refuses those), so that none has fewer when the sum of delimiters is right.
    """
    delimiters = data.count(dialect.delimiter)
    if quotes.size:
        places = np.searchsorted(np.flatnonzero(array == dialect.delimiter[0]), quotes)
        delimiters -= int((places[1::2] - places[0::2]).sum())
    if delimiters != frame.height * (frame.width - 1):
        return False
    longest = frame.select(pl.max_horizontal(pl.all().str.len_bytes().max())).item()
    return longest is None or longest <= MAX_FIELD


def _suspects(
    data: bytes,
    array: Bytes,
    quotes: Places,
    well_quoted: bool,
    starts: Places,
    stops: Places,
    columns: int,
    dialect: Dialect,
) -> Places:
    """Records that may be broken; all others are whole. Found in whole arrays: one bad record costs the others nothing."""
    delimiters = np.flatnonzero(array == dialect.delimiter[0])
    if well_quoted and quotes.size:
        delimiters = delimiters[(np.searchsorted(quotes, delimiters) & 1) == 0]
    counts = np.searchsorted(delimiters, stops) - np.searchsorted(delimiters, starts)
    marked = (counts != columns - 1) | (stops - starts > MAX_FIELD)
    control = ((array < 32) & (array != LF) & (array != 9)) | (array == 127)
    places = np.flatnonzero(control)
    places = places[(array[places] != CR) | (array[np.minimum(places + 1, array.size - 1)] != LF)]
    places = np.concatenate((places, np.array(not_text(data), np.int64)))
    if not well_quoted:
        places = np.concatenate((places, quotes))
    marked[np.maximum(np.searchsorted(starts, places, "right") - 1, 0)] = True
    return np.flatnonzero(marked)


def _without(data: bytes, starts: Places, stops: Places, bad: Marks) -> bytes:
    """The bytes without the bad records; blank lines stay where they are unless they would be taken for records."""
    if b"\n\n" in data or b"\n\r\n" in data or data[:1] in (b"\n", b"\r"):
        return b"".join(
            data[start:stop] + b"\n" for start, stop in zip(starts[~bad].tolist(), stops[~bad].tolist(), strict=True)
        )
    parts, place = [], 0
    for index in np.flatnonzero(bad).tolist():
        parts.append(data[place : starts[index]])
        place = int(starts[index + 1]) if index + 1 < starts.size else len(data)
    return b"".join([*parts, data[place:]])


def _clean(data: bytes, array: Bytes) -> bool:
    """Whether there is no byte that may not stand in a record; may say no too often, never yes."""
    controls = int(np.count_nonzero(array < 32))
    if controls != data.count(b"\n") + data.count(b"\r") + data.count(b"\t") or b"\x7f" in data:
        return False
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\xc2" not in data or _CONTROL_QUOTED.search(data) is None


def _expected(data: bytes, array: Bytes, quotes: Places) -> int:
    """How many records there are, blank lines left out."""
    if not quotes.size and b"\n\n" not in data and b"\n\r\n" not in data and data[:1] not in (b"\n", b"\r"):
        return data.count(b"\n") + (not data.endswith(b"\n"))
    return int(spans(line_ends(array, quotes), array, array.size)[0].size)


def _parse(data: bytes, layout: Layout, dialect: Dialect, expected: int, *, quoted: bool) -> pl.DataFrame | None:
    """Parsed by Polars, a row a record (a short one padded with nulls); None when a record has too many fields."""
    names = [str(index) for index in range(len(layout.columns))]
    if data.startswith(_BOM):
        data = _BOM + data  # Polars takes one off; it belongs to the first field here
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            separator=dialect.delimiter.decode(),
            quote_char=dialect.quote.decode() if quoted else None,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError:  # a record has more fields, or the first has fewer
        return None
    if frame.height != expected:  # Polars makes records of blank lines
        return None
    return _without_empty(frame) if quoted else frame


def _without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """An empty field is null, quoted or not; Polars has "" for a quoted one."""
    return frame.with_columns(pl.when(pl.all() != "").then(pl.all()))


def _spans(data: bytes, array: Bytes, quotes: Places, well_quoted: bool, dialect: Dialect) -> tuple[Places, Places]:
    """Where records begin and end, blank lines left out: as planning counted them."""
    if well_quoted:
        return spans(line_ends(array, quotes), array, array.size)
    ends: list[int] = []
    pattern, place = record_pattern(dialect), 0
    while place < len(data):
        match = pattern.match(data, place)
        end = match.end() if match else len(data)
        ends.append(end)
        place = end + 1
    return spans(np.array(ends, np.int64), array, array.size)


def _fault(record: bytes, columns: int, dialect: Dialect) -> tuple[str, str] | None:
    """What is wrong with one record, as code and message; None when it can be taken apart."""
    if len(record) > OWN_BATCH:
        return "SIZE", f"the record has {len(record):,} bytes; at most {OWN_BATCH:,} are read"
    if b"\0" in record:
        return "NUL", "the record holds a NUL character"
    quoted = dialect.quote in record
    if (_CONTROL_QUOTED if quoted else _CONTROL).search(record):
        return "CONTROL", "the record holds a control character"
    try:
        record.decode()
    except UnicodeDecodeError as fault:
        return "ENCODING", f"byte {fault.start + 1} of the record (0x{record[fault.start]:02X}) is not UTF-8"
    if quoted and strict_pattern(dialect).match(record) is None:
        return "QUOTE", "a quote must open a field at its start, close it at its end, and be doubled within"
    count = len(fields(record, dialect)) if quoted else record.count(dialect.delimiter) + 1
    if count < columns:
        return "SHORT_ROW", f"the record has {count} of {columns} fields"
    if count > columns:
        return "LONG_ROW", f"the record has {count} fields; the header has {columns}"
    if len(record) > MAX_FIELD and any(len(field) > MAX_FIELD for field in fields(record, dialect)):
        return "SIZE", f"a field has more than {MAX_FIELD:,} bytes"
    return None


def _by_grammar(records: Sequence[bytes], layout: Layout, dialect: Dialect) -> pl.DataFrame:
    rows = [[field.decode() or None for field in fields(record, dialect)] for record in records]
    return pl.DataFrame(rows, schema=dict.fromkeys(map(str, range(len(layout.columns))), pl.String), orient="row")


def _empty(layout: Layout) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(map(str, range(len(layout.columns))), pl.String))


def _named(frame: pl.DataFrame, layout: Layout, contract: Contract, first_row: int, indexes: Places | None) -> pl.DataFrame:
    """The contract's columns, as the layout matches them, and row numbers."""
    if indexes is None:
        rows = pl.int_range(first_row, first_row + frame.height, dtype=pl.Int64, eager=True)
    else:
        rows = pl.Series(indexes + first_row, dtype=pl.Int64)
    places = {name: str(index) for index, name in enumerate(layout.columns)}
    return frame.select(
        *(
            pl.col(places[layout.fields[column.name]]).alias(column.name)
            if column.name in layout.fields
            else pl.lit(None, pl.String).alias(column.name)
            for column in contract.columns
        )
    ).with_columns(rows.alias("row_no"))
