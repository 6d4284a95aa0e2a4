"""A batch of JSON records by their shapes: those that have one of a few are taken apart all at once."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl

from jobber.contract import Contract
from jobber.model import Format, Layout
from operators.csv_grammar import LF, Places, Switches
from operators.decode.json_shape import BRACE, Found, Page, Records, shape_of
from operators.decode.views import views
from operators.frames import CONTROL, is_plain, not_plain
from operators.json_grammar import BLANK
from operators.plan.ndjson import lines

#: Shapes that are looked for. An optional text that is null in some records doubles them.
SHAPES = 16
#: One of so many records may be left to the exact decoder without a look for its shape.
FEW = 64
#: A shape has to be that of one in so many of the records that look like it; else it is time wasted.
POOR = 16

_texts = msgspec.json.Decoder(list[str])


@dataclass(frozen=True, slots=True)
class Shaped:
    """The records by column; null in those that are left."""

    frame: pl.DataFrame
    #: Those that have no such shape.
    left: Switches


class _Values:
    """A column's values, as far as they were found."""

    def __init__(self, size: int) -> None:
        self.starts = np.zeros(size, np.int64)
        self.lengths = np.zeros(size, np.int64)
        self.null = np.ones(size, np.bool_)
        #: Texts that had escapes: whose, and what they are.
        self.places: list[int] = []
        self.texts: list[str] = []

    def put(self, found: Found, chosen: Places, fits: Switches, written: tuple[Places, list[str]]) -> None:
        """Values of the records `chosen`, where they fit; `written`: what stands there for some of those."""
        self.starts[chosen] = found.starts
        self.lengths[chosen] = found.lengths
        self.null[chosen] = ~fits if found.null is None else ~fits | found.null
        for place, text in zip(written[0].tolist(), written[1], strict=True):
            if fits[place]:
                self.places.append(int(chosen[place]))
                self.texts.append(text)

    def series(self, page: Page) -> pl.Series:
        """As texts."""
        null = self.null if self.null.any() else None
        made = views(page.data, page.words, self.starts, self.lengths, null)
        if self.places:
            made = made.scatter(self.places, pl.Series(self.texts, dtype=pl.String))
        return made


def by_shape(data: bytes, layout: Layout, contract: Contract, bounds: Callable[[], tuple[Places, Places]]) -> Shaped | None:
    """What can be told by shapes; None where that is not worth its time. `bounds`: where the records are, for certain."""
    if len(set(layout.fields.values())) < len(layout.fields):
        return None  # one key for two columns
    if layout.format is Format.NDJSON:
        page = Page(data, braces=False)
        return _taken(page, _lines(page), layout, contract)
    page = Page(data, braces=True)
    probable = _elements(page)
    made = None if probable is None else _taken(page, probable, layout, contract)
    # Each element is whole, with its comma: so these are the records. Else what looks like one may be part of one.
    if made is not None and not made.left.any():
        return made
    return _taken(page, _between(page, *bounds()), layout, contract)


def _lines(page: Page) -> Records:
    ends = np.flatnonzero(page.kinds == LF)
    starts, stops = lines(page.array, page.marks[ends])
    first, last = np.concatenate(([0], ends + 1)), np.append(ends, page.marks.size)
    if starts.size < first.size:  # nothing follows the last line end
        first, last = first[: starts.size], last[: starts.size]
    # A line's marks are those between two line ends; unless lines are blank, or end in more than one byte.
    if page.marks.size and starts.size == first.size and _parts(page.marks, first, starts) and _parts(page.marks, last, stops):
        return Records(starts, stops, first, last - first)
    return _between(page, starts, stops)


def _parts(marks: Places, first: Places, places: Places) -> bool:
    """Whether the marks from `first` on are those at or behind each of the places."""
    behind = (first == marks.size) | (marks[np.minimum(first, marks.size - 1)] >= places)
    return bool((behind & ((first == 0) | (marks[first - 1] < places))).all())


def _between(page: Page, starts: Places, stops: Places) -> Records:
    first = np.searchsorted(page.marks, starts)
    return Records(starts, stops, first, np.searchsorted(page.marks, stops) - first)


def _elements(page: Page) -> Records | None:
    """Where an array's elements are if they are objects with none within, and parted alike; None where that is not so."""
    first = np.flatnonzero(page.kinds == BRACE)
    starts = page.marks[first]
    if not starts.size or starts[0]:
        return None
    stops, count = np.append(starts[1:], page.array.size), np.diff(np.append(first, page.marks.size))
    if starts.size > 1:
        element = page.data[: int(starts[1])].rstrip(BLANK)
        if not element.endswith(b","):
            return None
        parting = page.data[len(element[:-1].rstrip(BLANK)) : int(starts[1])]
        stops[:-1] -= len(parting)
        count[:-1] -= len(page.marks_of(parting))
        if not page.stands(parting, stops[:-1]).all():
            return None
    return Records(starts, stops, first, count)


def _taken(page: Page, records: Records, layout: Layout, contract: Contract) -> Shaped | None:
    size = records.starts.size
    values = {column.name: _Values(size) for column in contract.columns}
    left, poor = np.arange(size), 0
    wrong = None if is_plain(page.data) else not_plain(page.data, records.starts)
    taken = np.zeros(size, np.bool_)
    seen: set[tuple[bytes, ...]] = set()
    for _ in range(SHAPES):
        if left.size * FEW <= size or poor > 1:
            break
        sample = left[left.size // 2]
        shape = shape_of(page.data[records.starts[sample] : records.stops[sample]], page, layout, contract)
        left = left[left != sample] if shape is None else left
        if shape is None or tuple(shape.literals) in seen:
            poor += 1
            continue
        seen.add(tuple(shape.literals))
        chosen = left[records.count[left] == shape.count]
        fits, found = shape.fit(page, records.of(chosen))
        if wrong is not None:
            fits &= ~wrong[chosen]
        written = [_written(page, value, fits) for value in found]
        for slot, value, texts in zip(shape.slots, found, written, strict=True):
            if slot.column is not None:
                values[slot.column.name].put(value, chosen, fits, texts)
        taken[chosen] = fits
        poor += int(fits.sum()) * POOR < chosen.size
        left = left[~taken[left]]
    if not taken.any():
        return None
    return Shaped(pl.DataFrame([value.series(page).alias(name) for name, value in values.items()]), ~taken)


def _written(page: Page, value: Found, fits: Switches) -> tuple[Places, list[str]]:
    """Texts that hold escapes, and where they are. Those that are broken, or hold what no text may, no longer fit."""
    if value.slashed is None or not value.slashed.any():
        return np.empty(0, np.int64), []
    places = np.flatnonzero(value.slashed & fits)
    starts, stops = value.starts[places] - 1, value.starts[places] + value.lengths[places] + 1
    raw = [page.data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    try:
        texts = _texts.decode(b"[" + b",".join(raw) + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        fits[places] = False
        return np.empty(0, np.int64), []
    fits[places] &= ~pl.Series(texts, dtype=pl.String).str.contains(CONTROL.pattern).to_numpy()
    return places, texts
