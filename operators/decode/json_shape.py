"""Take JSON records apart by their shape, all at once: what one program writes differs in its values alone.

One record of the batch is the sample. Cut at its values it leaves *literals*, such as `","price":`; between them are *slots*:

    {"name":"   Cup   ","price":   1.5   ,"stock":   null   }
    literal 0   slot  literal 1    slot  literal 2   slot   literal 3

Another record has the same shape when each literal stands where the slot before it ends, up to the record's end. A text ends at
the next *mark*: a quote that no backslash escapes, or a control character; the literal behind it begins with that quote. Any
other value ends where the first mark of the literal behind it says, and has to be a number in plain notation, true, false or
null. So every byte of a record that fits is accounted for, and its keys are the sample's, which the exact decoder has seen.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jobber.contract import Column, Contract
from jobber.model import Layout
from operators.csv_grammar import SPACE, Bytes, Places, Switches
from operators.decode.json_record import MAX_FIELD, exact
from operators.decode.json_token import KEEP, Words, is_bare
from operators.json_grammar import BACKSLASH, QUOTE, escaped

#: A longer record shows no shape.
LONGEST = 64 << 10
BRACE = ord("{")
#: Bytes looked at in turn: they stay in the processor's cache.
STEP = 256 << 10
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+0-9.eE]+|true|false|null|[{}\[\],:]|[ \t\r\n]+', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*:")


class Page:
    """A batch's bytes, readable eight at a time from any place, and the marks in them."""

    def __init__(self, data: bytes, *, braces: bool) -> None:
        """`braces`: those that open an object are marks, too."""
        self.data = data
        self.braces = braces
        padded = np.empty(len(data) + LONGEST + 64, np.uint8)
        padded[: len(data)] = np.frombuffer(data, np.uint8)
        padded[len(data) :] = 0
        self.array: Bytes = padded[: len(data)]
        #: Eight bytes from each place, the first the lowest. Zeros follow, for what is read beyond the end.
        self.words: Words = np.ndarray((padded.size - 7,), "<u8", padded.data, strides=(1,))
        self.marks, self.kinds = self._found(slashed=b"\\" in data)
        #: Grows from mark to mark where a backslash stands between; None: there are none.
        self.slashes: Places | None = None
        if b"\\" in data:
            kept = self.kinds != BACKSLASH
            behind = escaped(self.marks[~kept])
            index = np.minimum(np.searchsorted(self.marks, behind), self.marks.size - 1)
            kept[index[(self.marks[index] == behind) & (self.kinds[index] == QUOTE)]] = False
            chosen = np.flatnonzero(kept)
            self.slashes = chosen - np.arange(chosen.size)
            self.marks, self.kinds = self.marks[chosen], self.kinds[chosen]
        if braces:
            self._drop_written_braces()

    def _found(self, *, slashed: bool) -> tuple[Places, Bytes]:
        """Quotes and control characters, with backslashes, and braces where they count: where, and which."""
        places, kinds = [np.empty(0, np.int64)], [self.array[:0]]
        for start in range(0, self.array.size, STEP):
            some = self.array[start : start + STEP]
            # A quote differs in one bit from a space: so it comes to stand directly behind the control characters.
            hits = (some ^ (QUOTE ^ SPACE)) <= SPACE
            if self.braces:
                hits |= some == BRACE
            if slashed:
                hits |= some == BACKSLASH
            found = np.flatnonzero(hits)
            kinds.append(some[found])
            found += start
            places.append(found)
        return np.concatenate(places), np.concatenate(kinds)

    def _drop_written_braces(self) -> None:
        """Those within texts are no marks."""
        inside = np.logical_xor.accumulate(self.kinds == QUOTE)
        written = inside & (self.kinds == BRACE)
        if written.any():
            self.marks, self.kinds = self.marks[~written], self.kinds[~written]
            if self.slashes is not None:
                self.slashes = self.slashes[~written]

    def marks_of(self, literal: bytes) -> list[int]:
        """Places of the marks in a literal."""
        return [place for place, byte in enumerate(literal) if byte == QUOTE or byte < SPACE or (self.braces and byte == BRACE)]

    def stands(self, literal: bytes, places: Places) -> Switches:
        """Whether the literal stands at each place."""
        fits = np.ones(places.size, np.bool_)
        for offset, word, mask in _words(literal):
            there = self.words[places + offset] if offset else self.words[places]
            if mask is not None:
                there &= mask
            fits &= there == word
        return fits


def _words(literal: bytes) -> list[tuple[int, np.uint64, np.uint64 | None]]:
    """The literal eight bytes at a time: where, what, and a mask for fewer. The last may begin within the one before."""
    size = len(literal)
    if size < 8:
        return [(0, np.uint64(int.from_bytes(literal, "little")), KEEP[size])] if size else []
    places = [*range(0, size - 7, 8), *([size - 8] if size % 8 else [])]
    return [(place, np.uint64(int.from_bytes(literal[place : place + 8], "little")), None) for place in places]


@dataclass(frozen=True, slots=True)
class Records:
    """Where a batch's records are."""

    starts: Places
    stops: Places
    #: The first mark of each, and how many it has.
    first: Places
    count: Places

    def of(self, chosen: Places) -> "Records":
        """Some of them."""
        if chosen.size == self.starts.size:
            return self
        return Records(self.starts[chosen], self.stops[chosen], self.first[chosen], self.count[chosen])


@dataclass(frozen=True, slots=True)
class Slot:
    """A value that each record has."""

    #: Whose value it is; None: nobody's, but it has to be one.
    column: Column | None
    #: It is a text, between quotes.
    quoted: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A slot's values."""

    starts: Places
    lengths: Places
    #: Which are null.
    null: Switches | None
    #: Which hold a backslash.
    slashed: Switches | None


class Shape:
    """What all records of one shape have in common."""

    def __init__(self, literals: Sequence[bytes], slots: Sequence[Slot], page: Page) -> None:
        """Raises ValueError where nothing tells where a slot ends."""
        self.literals, self.slots = literals, slots
        marks = [page.marks_of(literal) for literal in literals]
        #: How many marks a record has.
        self.count = sum(map(len, marks))
        #: For each slot: which of the record's marks tells its end, and how far behind the end it stands; None: the record's
        #: own end does.
        self._ends: list[tuple[int, int] | None] = []
        seen = 0
        for index, slot in enumerate(slots):
            seen += len(marks[index])
            behind = marks[index + 1]
            if slot.quoted:
                self._ends.append((seen, 0))
            elif index == len(slots) - 1:
                self._ends.append(None)
            elif behind:
                self._ends.append((seen, behind[0]))
            else:
                raise ValueError("there is no mark behind a slot")

    def fit(self, page: Page, records: Records) -> tuple[Switches, list[Found]]:
        """Which of the records, that have as many marks as the shape, have this shape; and their values by slot."""
        stop, fits = records.starts, np.ones(records.starts.size, np.bool_)
        values = []
        for literal, slot, end in zip(self.literals, self.slots, self._ends, strict=False):
            fits &= page.stands(literal, stop)
            start = stop + len(literal)
            stop = records.stops - len(self.literals[-1]) if end is None else page.marks[records.first + end[0]] - end[1]
            null = slashed = None
            if slot.quoted:
                fits &= stop - start <= MAX_FIELD
                if page.slashes is not None and end is not None:
                    behind = records.first + end[0]
                    slashed = page.slashes[behind] != page.slashes[behind - 1]
            else:
                good, null = is_bare(page.words, start, stop - start, slot.column)
                fits &= good
            values.append(Found(start, stop - start, null, slashed))
        fits &= page.stands(self.literals[-1], stop)
        fits &= stop + len(self.literals[-1]) == records.stops
        return fits, values


def shape_of(sample: bytes, page: Page, layout: Layout, contract: Contract) -> Shape | None:
    """The shape of a record; None where it is none that could be told in others."""
    if len(sample) > LONGEST or exact(sample, layout, contract)[1]:
        return None
    columns = {layout.fields[column.name]: column for column in contract.columns if column.name in layout.fields}
    literals, slots, last = [], [], 0
    for start, stop, key in _values(sample):
        quoted = sample[start] == QUOTE
        literals.append(sample[last : start + quoted])
        slots.append(Slot(None if key is None else columns.get(key), quoted))
        last = stop - quoted
    literals.append(sample[last:])
    if any(b"\\" in literal for literal in literals):
        return None
    try:
        return Shape(literals, slots, page)
    except ValueError:
        return None


def _values(record: bytes) -> Iterator[tuple[int, int, str | None]]:
    """Where the texts, numbers, `true`, `false` and `null` of a valid record are; and the keys of those that are not nested."""
    depth, key = 0, None
    for token in _TOKEN.finditer(record):
        kind = token.group()[:1]
        if kind in b"{[":
            depth += 1
        elif kind in b"}]":
            depth -= 1
        elif kind == b'"' and _COLON.match(record, token.end()):
            key = token.group()[1:-1].decode()
        elif kind not in b",: \t\r\n":
            yield token.start(), token.end(), key if depth == 1 else None
