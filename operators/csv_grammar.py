"""RFC 4180, strictly: one grammar for planning and decoding.

A quote opens a field only at its start; `""` inside is a quote; behind the closing quote comes a delimiter or a line end.
Everything else is a broken record, never a different structure: a stray quote does not move a record's end.
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

LF, CR = 10, 13

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are parted and quoted: one byte each."""

    delimiter: bytes = b","
    quote: bytes = b'"'


@cache
def record_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """Matches one record up to its line end (not included). No match: a quoted field is still open at the end.

    Possessive groups: it never goes back, so that no input takes more than linear time.
    """
    d, q = re.escape(dialect.delimiter), re.escape(dialect.quote)
    field = rb"(?:%(q)s(?:[^%(q)s]++|%(q)s%(q)s)*+%(q)s[^%(d)s\n]*+|(?!%(q)s)[^%(d)s\n]*+)" % {b"q": q, b"d": d}
    return re.compile(rb"%(f)s(?:%(d)s%(f)s)*+(?=\n|\Z)" % {b"f": field, b"d": d}, re.DOTALL)


@cache
def strict_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """Matches a whole record whose quotes are where RFC 4180 has them."""
    d, q = re.escape(dialect.delimiter), re.escape(dialect.quote)
    field = rb"(?:%(q)s(?:[^%(q)s]++|%(q)s%(q)s)*+%(q)s|[^%(q)s%(d)s]*+)" % {b"q": q, b"d": d}
    return re.compile(rb"%(f)s(?:%(d)s%(f)s)*+\Z" % {b"f": field, b"d": d}, re.DOTALL)


@cache
def field_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """Matches one field of a record, quoted or not, with what follows a closing quote."""
    d, q = re.escape(dialect.delimiter), re.escape(dialect.quote)
    return re.compile(
        rb"%(q)s((?:[^%(q)s]++|%(q)s%(q)s)*+)%(q)s[^%(d)s]*+|((?!%(q)s)[^%(d)s]*+)" % {b"q": q, b"d": d}, re.DOTALL
    )


def fields(record: bytes, dialect: Dialect) -> list[bytes]:
    """The fields of one record, unquoted; garbage behind a closing quote is left out."""
    found: list[bytes] = []
    place, pattern = 0, field_pattern(dialect)
    while True:
        match = pattern.match(record, place)
        if match is None:
            return [*found, record[place:]]
        quoted, plain = match.groups()
        found.append(plain if quoted is None else quoted.replace(dialect.quote * 2, dialect.quote))
        place = match.end() + 1
        if place > len(record):
            return found


def strict(data: Bytes, quotes: Places, dialect: Dialect) -> bool:
    """Whether every quote of `data` is where RFC 4180 has it; `data` begins at a record's start and ends at a record's end.

    Taken in turn as opening and closing: an opening one follows a delimiter, a line end, the start, or directly the quote
    before it (an escaped pair); a closing one is followed by a delimiter, a line end, the end, or directly the next quote.
    """
    if quotes.size % 2:
        return False
    if not quotes.size:
        return True
    opening, closing = quotes[0::2], quotes[1::2]
    delimiter, quote = dialect.delimiter[0], dialect.quote[0]
    before = data[opening - 1]  # for a quote at the start this is the last byte: a line end, or it does not matter
    fine = (before == delimiter) | (before == LF)
    fine[1:] |= opening[1:] == closing[:-1] + 1
    if opening[0] == 0:
        fine[0] = True
    if not fine.all():
        return False
    last = data.size - 1
    after = data[np.minimum(closing + 1, last)]
    fine = (after == delimiter) | (after == LF) | (after == CR) | (after == quote) | (closing == last)
    return bool(fine.all())


def line_ends(data: Bytes, quotes: Places) -> Places:
    """Places of the newlines that end records: those outside quotes, when the quotes are strict."""
    ends = np.flatnonzero(data == LF)
    if quotes.size:
        ends = ends[(np.searchsorted(quotes, ends) & 1) == 0]
    return ends


def spans(ends: Places, data: Bytes, size: int) -> tuple[Places, Places]:
    """Starts and ends (without line ends) of the records before `size`; blank lines are none."""
    stops = ends
    if not ends.size or ends[-1] < size - 1:  # the last record has no line end
        stops = np.append(ends, size)
    starts = np.empty_like(stops)
    starts[0] = 0
    starts[1:] = stops[:-1] + 1
    bare = stops - ((stops > starts) & (data[np.maximum(stops - 1, 0)] == CR))
    kept = bare > starts
    return starts[kept], bare[kept]
