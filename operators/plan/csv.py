"""Plan a CSV: where its records end, in one pass over windows of bytes, with no more than a few windows in memory."""

from collections.abc import Iterator
from difflib import get_close_matches

import numpy as np

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout
from operators.csv_grammar import CR, Bytes, Dialect, Places, fields, line_ends, record_pattern, spans, strict
from operators.plan.buffer import MAX_RECORD, OWN_BATCH, Buffer, Cut, too_long

#: A header longer than this is none.
MAX_HEADER, MAX_COLUMNS = 1 << 20, 10_000
#: What might have been meant instead of the delimiter that was expected.
DELIMITERS = {";": "a semicolon", "\t": "a tab", "|": "a bar", ",": "a comma"}


def plan_csv(buffer: Buffer, contract: Contract, options: InputOptions) -> Iterator[Layout | Cut]:
    """The layout, told by the header, then the batches. Raises StructureFault."""
    dialect = Dialect(options.delimiter.encode(), options.quote.encode())
    yield read_header(buffer, dialect, contract, options)
    target = options.batch_bytes
    while buffer.fill(target + 1):
        cut = _cut(buffer, dialect, target, options.batch_rows)
        if cut is None:  # no record ends in what is here
            if buffer.whole:
                raise StructureFault("QUOTE", f"A quote opened in record {buffer.row} is never closed.")
            if len(buffer) > MAX_RECORD:
                raise too_long(buffer.row)
            target = max(target, len(buffer)) * 2
            continue
        target = options.batch_bytes
        yield cut


def _cut(buffer: Buffer, dialect: Dialect, target: int, most: int) -> Cut | None:
    """The next batch: whole records of about `target` bytes; None when more bytes are needed to see a record's end."""
    data = buffer.head(target)
    everything = buffer.whole and data.size == len(buffer)
    quotes = np.flatnonzero(data == dialect.quote[0])
    ends = line_ends(data, quotes)
    size = data.size if everything and not quotes.size % 2 else int(ends[-1]) + 1 if ends.size else 0
    inside = quotes[: np.searchsorted(quotes, size)]
    if size and strict(data[:size], inside, dialect):
        ends = ends[: np.searchsorted(ends, size)]
        _no_lone_cr(data[:size], inside, buffer)
    else:
        exact = _exact_ends(buffer, dialect, target, most)
        if exact is None:
            return None
        data, ends, size = exact
    starts, stops = spans(ends, data[:size], size)
    if starts.size > most:
        starts, stops = starts[:most], stops[:most]
        size = int(ends[np.searchsorted(ends, stops[-1])]) + 1
    long = np.flatnonzero(stops - starts > OWN_BATCH)
    if long.size:  # a huge record goes alone: it is rejected without being taken apart
        first = int(long[0])
        if first:
            return Cut(int(starts[first]), first)
        if starts.size > 1:
            return Cut(int(starts[1]), 1)
    return Cut(size, int(starts.size))


def _exact_ends(buffer: Buffer, dialect: Dialect, target: int, most: int) -> tuple[Bytes, Places, int] | None:
    """Record ends by the grammar, one after the other: where quotes are not strict."""
    ends: list[int] = []
    pattern, place = record_pattern(dialect), 0
    view, size = buffer.bytes(), len(buffer)
    while place < min(target, size) and len(ends) < most:
        match = pattern.match(view, place)
        if match is None or (match.end() == size and not buffer.whole):
            break
        if b"\r" in match.group().removesuffix(b"\r").replace(b"\r\n", b"") and dialect.quote not in match.group():
            raise _lone_cr(buffer.row + len(ends))
        ends.append(match.end())
        place = match.end() + 1
    if not ends:
        return None
    return np.frombuffer(view, np.uint8), np.array(ends, np.int64), min(ends[-1] + 1, size)


def _no_lone_cr(data: Bytes, quotes: Places, buffer: Buffer) -> None:
    returns = np.flatnonzero(data == CR)
    if not returns.size:
        return
    lone = returns[data[np.minimum(returns + 1, data.size - 1)] != 10]
    if quotes.size:
        lone = lone[(np.searchsorted(quotes, lone) & 1) == 0]
    if lone.size:
        raise _lone_cr(buffer.row + int(np.count_nonzero(data[: int(lone[0])] == 10)))


def _lone_cr(row: int) -> StructureFault:
    return StructureFault(
        "LINE_END",
        f"A carriage return without a newline stands near record {row}. Lines must end in LF or CRLF; convert the file.",
    )


def read_header(buffer: Buffer, dialect: Dialect, contract: Contract, options: InputOptions) -> Layout:
    """Take the first line that is not blank, and match it with the contract. Raises StructureFault."""
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
            raise StructureFault("HEADER", f"The first line has no end within {MAX_HEADER >> 20} MiB; it is no header.")
        wanted *= 4
    line = match.group()
    if len(line) > MAX_HEADER:
        raise StructureFault("HEADER", f"The header is longer than {MAX_HEADER >> 20} MiB.")
    if b"\r" in line.removesuffix(b"\r"):
        raise _lone_cr(0)
    try:
        names = tuple(field.decode().strip() for field in fields(line.removesuffix(b"\r"), dialect))
    except UnicodeDecodeError as fault:
        raise StructureFault(
            "ENCODING", f"The header is not UTF-8 ({fault.reason}); name the encoding by the `encoding` option."
        ) from fault
    if len(names) > MAX_COLUMNS:
        raise StructureFault("HEADER", f"The header has {len(names):,} columns; at most {MAX_COLUMNS:,} are read.")
    buffer.drop(min(match.end() + 1, len(text)))
    return Layout(
        format=Format.CSV,
        columns=names,
        fields=match_columns(names, contract, options),
        delimiter=options.delimiter,
        quote=options.quote,
    )


def match_columns(names: tuple[str, ...], contract: Contract, options: InputOptions) -> dict[str, str]:
    """Contract column -> input column, by `mapping`, else by name in any case. Raises StructureFault (HEADER)."""
    folded: dict[str, str] = {}
    for name in names:
        if name and name.casefold() in folded:
            raise StructureFault("HEADER", f"The header has the column {name!r} twice.")
        folded[name.casefold()] = name
    found = {}
    for column in contract.columns:
        wanted = options.mapping.get(column.name, column.name)
        seen = folded.get(wanted.strip().casefold())
        if seen is not None and (column.name in options.mapping or seen not in options.mapping.values()):
            found[column.name] = seen
        elif column.name in options.mapping:
            raise StructureFault(
                "HEADER", f"The mapping names the input column {wanted!r}, which the header does not have. {_seen(names)}"
            )
        elif column.required:
            raise StructureFault("HEADER", _missing(column.name, names, folded, options))
    for column_name in options.mapping:
        if contract.column(column_name) is None:
            raise StructureFault("HEADER", f"The mapping names {column_name!r}, which is no column of {contract.name}.")
    return found


def _missing(column: str, names: tuple[str, ...], folded: dict[str, str], options: InputOptions) -> str:
    text = f"The required column {column!r} is not in the header. {_seen(names)}"
    if len(names) == 1:
        for delimiter, what in DELIMITERS.items():
            if delimiter != options.delimiter and delimiter in names[0]:
                shown = "\\t" if delimiter == "\t" else delimiter
                return f'{text} It looks like {what} parts the columns: the option delimiter "{shown}" would load it.'
    close = get_close_matches(column, folded, 1, 0.7)
    if close:
        return (
            f'{text} If {folded[close[0]]!r} is meant, the option mapping {{"{column}": "{folded[close[0]]}"}} would load it.'
        )
    return text


def _seen(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:20])
    return f"Seen: {shown}{', …' if len(names) > 20 else ''}."
