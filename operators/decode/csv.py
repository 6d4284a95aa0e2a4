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
    Bytes,
    Dialect,
    Marks,
    Places,
    Switches,
    fields,
    marks,
    record_pattern,
    spans,
    spans_by_grammar,
    strange,
    strict,
    strict_pattern,
)
from operators.frames import MAX_FIELD, Decoded, faults_of, is_plain, not_plain, not_text, shown
from operators.plan.buffer import OWN_BATCH

_BOM = b"\xef\xbb\xbf"
#: Control characters (Unicode category Cc) but tab and line ends; C1 ones have two bytes.
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")


def decode_csv(data: bytes, layout: Layout, contract: Contract, first_row: int, plain: int | None = None) -> Decoded:
    """The records of a batch, as one String column for each column of the contract.

    `plain`: planning has seen that it is strictly quoted text, of so many records.
    """
    dialect = Dialect(layout.delimiter.encode(), layout.quote.encode())
    if plain is not None:
        frame = _parse(data, layout, dialect, plain, quoted=dialect.quote in data)
        # Polars fills a record that has fewer fields with nulls: without any in the last column no record has.
        if frame is not None and not frame.to_series(frame.width - 1).null_count():
            return Decoded(
                _named(frame, layout, contract, np.arange(first_row, first_row + plain)),
                faults_of([]),
                lambda rows: _raw(data, layout, first_row, rows),
            )
    array = np.frombuffer(data, np.uint8)
    if len(data) > OWN_BATCH and _huge(data, dialect):
        record = data.rstrip(b"\r\n")
        none = _named(_empty(layout), layout, contract, np.empty(0, np.int64))
        return Decoded(none, faults_of([(first_row, None, *_size(len(record)))]), lambda rows: [shown(record) for _ in rows])
    found = marks(array, dialect, quoted=dialect.quote in data)
    well_quoted = strict(array, found.quotes, dialect)
    starts, stops = spans(found.line_ends, array, array.size) if well_quoted else spans_by_grammar(data, dialect)
    quoted = found.quotes.size > 0

    def raw(rows: Sequence[int]) -> list[str]:
        return [shown(data[starts[row - first_row] : stops[row - first_row]]) for row in rows]

    frame = _parse(data, layout, dialect, starts.size, quoted=quoted) if well_quoted else None
    if frame is not None and _whole(frame, data, array, found, starts, stops, dialect):
        rows = np.arange(first_row, first_row + frame.height)
        return Decoded(_named(frame, layout, contract, rows), faults_of([]), raw)
    suspects = _suspects(data, array, found, well_quoted, starts, stops, len(layout.columns), dialect)
    faults = []
    bad = np.zeros(starts.size, np.bool_)
    for index in suspects.tolist():
        fault = _fault(data[starts[index] : stops[index]], layout, dialect)
        if fault is not None:
            bad[index] = True
            faults.append((first_row + index, None, *fault))
    good = np.flatnonzero(~bad)
    if frame is not None:  # a row a record: those that are broken are left out
        frame = frame.filter(pl.Series(~bad))
    elif good.size:
        frame = _parse(_without(data, array, starts, stops, bad), layout, dialect, good.size, quoted=quoted)
        if frame is None:  # Polars and the grammar do not agree: the grammar counts
            frame = _by_grammar([data[starts[index] : stops[index]] for index in good.tolist()], layout, dialect)
    else:
        frame = _empty(layout)
    return Decoded(_named(frame, layout, contract, good + first_row), faults_of(faults), raw)


def _raw(data: bytes, layout: Layout, first_row: int, rows: Sequence[int]) -> list[str]:
    """Raw texts of a batch whose records were not looked for before."""
    if not rows:
        return []
    starts, stops = csv_bounds(data, layout)
    return [shown(data[starts[row - first_row] : stops[row - first_row]]) for row in rows]


def csv_bounds(data: bytes, layout: Layout) -> tuple[Places, Places]:
    """Where the records of a batch begin and end, as planning counted them."""
    dialect = Dialect(layout.delimiter.encode(), layout.quote.encode())
    array = np.frombuffer(data, np.uint8)
    if len(data) > OWN_BATCH and _huge(data, dialect):
        return np.array([0]), np.array([len(data.rstrip(b"\r\n"))])
    found = marks(array, dialect, quoted=dialect.quote in data)
    return (
        spans(found.line_ends, array, array.size) if strict(array, found.quotes, dialect) else spans_by_grammar(data, dialect)
    )


def _huge(data: bytes, dialect: Dialect) -> bool:
    """Whether the batch is the one record that planning gave a batch of its own for its size."""
    match = record_pattern(dialect).match(data)
    return match is None or match.end() > OWN_BATCH


def _whole(
    frame: pl.DataFrame, data: bytes, array: Bytes, found: Marks, starts: Places, stops: Places, dialect: Dialect
) -> bool:
    """Whether all records are as they should be: text, with exactly the header's number of fields, none of them too long.

    May say no too often, never yes.
    """
    if strange(found).size:
        return False
    if not is_plain(data):
        return False
    if starts.size and int((stops - starts).max()) > MAX_FIELD:
        return False
    # Polars refuses a record with more fields, and fills one that has fewer with nulls: the last field tells.
    if frame.width == 1 or not frame.to_series(frame.width - 1).null_count():
        return True
    return int(_delimiters(array, found, dialect).size) == frame.height * (frame.width - 1)


def _delimiters(array: Bytes, found: Marks, dialect: Dialect) -> Places:
    """Delimiters outside of quotes, when the quotes are strict."""
    delimiters = np.flatnonzero(array == dialect.delimiter[0])
    if found.quotes.size:
        delimiters = delimiters[(np.searchsorted(found.quotes, delimiters) & 1) == 0]
    return delimiters


def _suspects(
    data: bytes,
    array: Bytes,
    found: Marks,
    well_quoted: bool,
    starts: Places,
    stops: Places,
    columns: int,
    dialect: Dialect,
) -> Places:
    """Records that may be broken; all others are whole. Found in whole arrays: one bad record costs the others nothing."""
    delimiters = _delimiters(array, found, dialect) if well_quoted else np.flatnonzero(array == dialect.delimiter[0])
    counts = np.searchsorted(delimiters, stops) - np.searchsorted(delimiters, starts)
    marked = (counts != columns - 1) | (stops - starts > MAX_FIELD)
    if not is_plain(data):
        marked |= not_plain(data, starts)
    places = [strange(found)]
    if not well_quoted:
        places.append(found.quotes)
    marked[np.maximum(np.searchsorted(starts, np.concatenate(places), "right") - 1, 0)] = True
    return np.flatnonzero(marked)


def _without(data: bytes, array: Bytes, starts: Places, stops: Places, bad: Switches) -> bytes:
    """The bytes without the bad records and without blank lines, which Polars would take for records."""
    good, follows = ~bad, np.append(starts[1:], len(data))
    ends = follows - stops
    ends -= (ends == 2) & (array[np.minimum(stops, len(data) - 1)] == CR)
    if starts[0] or (ends > 1).any():
        pairs = zip(starts[good].tolist(), stops[good].tolist(), strict=True)
        return b"".join(data[start:stop] + b"\n" for start, stop in pairs)
    # No blank lines: runs of good records are taken as they are.
    edges = np.flatnonzero(np.diff(np.concatenate(([False], good, [False])).astype(np.int8)))
    runs = zip(starts[edges[0::2]].tolist(), follows[edges[1::2] - 1].tolist(), strict=True)
    return b"".join(data[start:stop] for start, stop in runs)


def _parse(data: bytes, layout: Layout, dialect: Dialect, expected: int, *, quoted: bool) -> pl.DataFrame | None:
    """Parsed by Polars, a row a record (a short one padded with nulls); None when a record has too many fields."""
    names = [str(index) for index in range(len(layout.columns))]
    if data.startswith(_BOM):
        data = _BOM + data  # Polars takes one off; it belongs to the first field here
    if not data.endswith(b"\n"):
        data += b"\n"  # Polars overlooks a delimiter that is the last byte
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            separator=dialect.delimiter.decode(),
            quote_char=dialect.quote.decode() if quoted else None,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError:  # a record has more fields, the first has fewer, or something is not UTF-8
        return None
    # Polars makes records of blank lines.
    return frame if frame.height == expected else None


def _fault(record: bytes, layout: Layout, dialect: Dialect) -> tuple[str, str] | None:
    """What is wrong with one record, as code and message; None when it can be taken apart."""
    if len(record) > OWN_BATCH:
        return _size(len(record))
    if b"\0" in record:
        return "NUL", "the record holds a NUL character"
    try:
        record.decode()
    except UnicodeDecodeError as fault:
        return not_text(record, fault.start, layout.encoding)
    if _CONTROL.search(record):
        return "CONTROL", "the record holds a control character"
    quoted = dialect.quote in record
    if quoted and strict_pattern(dialect).match(record) is None:
        return "QUOTE", "a quote must open a field at its start, close it at its end, and be doubled within"
    columns = len(layout.columns)
    count = len(fields(record, dialect)) if quoted else record.count(dialect.delimiter) + 1
    if count < columns:
        return "SHORT_ROW", f"the record has {count} of {columns} fields"
    if count > columns:
        return "LONG_ROW", f"the record has {count} fields; the header has {columns}"
    if len(record) > MAX_FIELD and any(len(field) > MAX_FIELD for field in fields(record, dialect)):
        return "SIZE", f"a field has more than {MAX_FIELD:,} bytes"
    return None


def _size(size: int) -> tuple[str, str]:
    return "SIZE", f"the record has {size:,} bytes; at most {OWN_BATCH:,} are read"


def _by_grammar(records: Sequence[bytes], layout: Layout, dialect: Dialect) -> pl.DataFrame:
    rows = [[field.decode() for field in fields(record, dialect)] for record in records]
    return pl.DataFrame(rows, schema=dict.fromkeys(map(str, range(len(layout.columns))), pl.String), orient="row")


def _empty(layout: Layout) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(map(str, range(len(layout.columns))), pl.String))


def _named(frame: pl.DataFrame, layout: Layout, contract: Contract, rows: Places) -> pl.DataFrame:
    """The contract's columns, as the layout matches them, and row numbers. An empty field is null, quoted or not."""
    places = {name: str(index) for index, name in enumerate(layout.columns)}
    columns = {
        column.name: pl.col(places[layout.fields[column.name]]) for column in contract.columns if column.name in layout.fields
    }
    return frame.select(
        *(
            # Polars has null for an empty field, and "" for a quoted one.
            pl.when(columns[column.name] != "").then(columns[column.name]).alias(column.name)
            if column.name in columns
            else pl.lit(None, pl.String).alias(column.name)
            for column in contract.columns
        )
    ).with_columns(pl.Series("row_no", rows, dtype=pl.Int64))
