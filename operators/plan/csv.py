"""Plan a CSV: where its records end, in one pass over windows of bytes, with no more than a few windows in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout
from operators.csv_grammar import (
    Bytes,
    Dialect,
    Places,
    fields,
    has_lone_return,
    lone_returns,
    marks,
    record_pattern,
    spans,
    strange,
    strict,
)
from operators.encoding import UTF8, canonical
from operators.frames import MAX_FIELD
from operators.plan.buffer import MAX_RECORD, OWN_BATCH, Buffer, Cut, cut_of, further, too_long
from operators.plan.columns import check_names

#: A header longer than this is none.
MAX_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class Ends:
    """Where records end, how many bytes they take, and whether all are strictly quoted, without control characters."""

    ends: Places
    size: int
    regular: bool


def plan_csv(buffer: Buffer, options: InputOptions) -> Iterator[Layout | Cut]:
    """The columns, told by the header, then the batches. Raises StructureFault."""
    dialect = dialect_of(options)
    yield read_header(buffer, dialect, options)
    target = options.batch_bytes
    while buffer.fill(target + 1):
        cut = _cut(buffer, dialect, target, options)
        if cut is None:  # no record ends in what is here
            if buffer.whole:
                raise StructureFault("QUOTE", f"A quote opened in record {buffer.row} is never closed.")
            if len(buffer) > MAX_RECORD:
                raise too_long(buffer.row)
            target = further(target, len(buffer))
            continue
        # Short records: what is beyond the most rows of a batch would be looked at again and again.
        target = min(options.batch_bytes, cut.size * 2) if cut.rows == options.batch_rows else options.batch_bytes
        yield cut


def dialect_of(options: InputOptions) -> Dialect:
    """The dialect that the options name. Raises StructureFault (DIALECT)."""
    delimiter, quote = options.delimiter, options.quote
    if len(delimiter) != 1 or not (" " <= delimiter <= "~" or delimiter == "\t"):
        raise StructureFault(
            "DIALECT", f"The delimiter must be one printable ASCII character or a tab; got {delimiter[:20]!r}."
        )
    if len(quote) != 1 or not "!" <= quote <= "~" or quote == delimiter:
        raise StructureFault(
            "DIALECT", f"The quote must be one printable ASCII character that is not the delimiter; got {quote[:20]!r}."
        )
    return Dialect(delimiter.encode(), quote.encode())


def _cut(buffer: Buffer, dialect: Dialect, target: int, options: InputOptions) -> Cut | None:
    """The next batch: whole records of about `target` bytes; None when more bytes are needed to see a record's end."""
    data = buffer.head(target)
    # What lies between the marks of a huge record would fill the memory.
    found = _strict_ends(buffer, data, dialect) if data.size <= max(OWN_BATCH, options.batch_bytes) else None
    if found is None:
        found = _exact_ends(buffer, dialect, target, options.batch_rows)
        if found is None:
            return None
        data = buffer.head(len(buffer))
    starts, stops = spans(found.ends, data[: found.size], found.size)
    regular = found.regular and bool(starts.size) and int((stops - starts).max()) <= MAX_FIELD
    return cut_of(starts, stops, found.size, options, regular=regular)


def _strict_ends(buffer: Buffer, data: Bytes, dialect: Dialect) -> Ends | None:
    """Record ends within `data`; None when quotes are not strict, or no record ends."""
    found = marks(data, dialect, quoted=buffer.holds(dialect.quote, data.size))
    ends, quotes = found.line_ends, found.quotes
    everything = buffer.whole and data.size == len(buffer) and not found.quotes.size % 2
    size = data.size if everything else int(ends[-1]) + 1 if ends.size else 0
    found = found.before(size)
    if not size or not strict(data[:size], found.quotes, dialect):
        return None
    # Behind the last end that was seen a record begins, which is here in part; unless a stray quote hides all further ends.
    if not strict(data[size:], quotes[found.quotes.size :] - size, dialect, cut=True):
        return None
    lone = lone_returns(data[:size], found)
    if lone.size:
        raise _lone_cr(buffer.row + int(np.searchsorted(ends, lone[0])))
    return Ends(found.line_ends, size, regular=not strange(found).size)


def _exact_ends(buffer: Buffer, dialect: Dialect, target: int, most: int) -> Ends | None:
    """The same by the grammar, record by record: where quotes are not strict."""
    ends: list[int] = []
    pattern, place = record_pattern(dialect), 0
    data, size = buffer.bytes(), len(buffer)
    while place < min(target, size) and len(ends) < most:
        match = pattern.match(data, place)
        last = match is not None and match.end() == size
        if match is None or (last and not buffer.whole) or (ends and match.end() >= target):
            break
        record = match.group()
        if has_lone_return(record if last else record.removesuffix(b"\r"), dialect):
            raise _lone_cr(buffer.row + len(ends))
        ends.append(match.end())
        place = match.end() + 1
    if not ends:
        return None
    return Ends(np.array(ends, np.int64), min(ends[-1] + 1, size), regular=False)


def _lone_cr(row: int) -> StructureFault:
    return StructureFault(
        "LINE_END",
        f"A carriage return without a newline stands near record {row}. Lines must end in LF or CRLF; convert the file.",
    )


def read_header(buffer: Buffer, dialect: Dialect, options: InputOptions) -> Layout:
    """Take the first line that is not blank. Raises StructureFault."""
    pattern = record_pattern(dialect)
    wanted = 64 << 10
    while True:
        some = buffer.fill(wanted)
        text = buffer.bytes()
        blank = len(text) - len(text.lstrip(b"\r\n"))
        if blank:
            buffer.drop(blank)
            continue
        if not some or not text:
            raise StructureFault("EMPTY", "The file is empty: a CSV needs a header line with the column names.")
        match = pattern.match(text)
        if match and (match.end() < len(text) or buffer.whole):
            break
        if buffer.whole:
            raise StructureFault("QUOTE", "A quote opened in the header is never closed.")
        if wanted > MAX_HEADER:
            if b"\r" in text and b"\n" not in text:
                raise _lone_cr(0)
            raise StructureFault("HEADER", f"The first line has no end within {MAX_HEADER >> 20} MiB; it is no header.")
        wanted *= 4
    line = match.group()
    if match.end() < len(text):
        line = line.removesuffix(b"\r")
    if has_lone_return(line, dialect):
        raise _lone_cr(0)
    if len(line) > MAX_HEADER:
        raise StructureFault("HEADER", f"The header is longer than {MAX_HEADER >> 20} MiB.")
    try:
        names = tuple(field.decode().strip() for field in fields(line, dialect))
    except UnicodeDecodeError as fault:
        raise StructureFault("ENCODING", _not_text(fault, options)) from fault
    check_names(names)
    buffer.drop(min(match.end() + 1, len(text)))
    return Layout(
        format=Format.CSV,
        columns=names,
        delimiter=options.delimiter,
        quote=options.quote,
    )


def _not_text(fault: UnicodeDecodeError, options: InputOptions) -> str:
    if canonical(options.encoding) != UTF8:
        return f"The header holds bytes that are no {options.encoding}."
    seen = f"The header is not UTF-8 ({fault.reason}: 0x{fault.object[fault.start]:02X})"
    return f'{seen}; save the file as UTF-8, or name its own in the option encoding, "windows-1252" for example.'
