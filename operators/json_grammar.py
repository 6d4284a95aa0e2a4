"""JSON's structure, found in whole arrays of bytes: strings, nesting, and the commas that part the elements of an array."""

from dataclasses import dataclass

import numpy as np

from operators.csv_grammar import Bytes, Places, Switches

QUOTE, BACKSLASH, COMMA, SLASH = 34, 92, 44, 47
#: JSON's white space.
BLANK = b" \t\r\n"
#: Longer white space is rare.
SHORT_SPACE = 64

_STRUCTURE = np.zeros(256, np.bool_)
_STRUCTURE[list(b"{}[],/")] = True
_DEPTH = np.zeros(256, np.int32)
_DEPTH[list(b"{[")] = 1
_DEPTH[list(b"}]")] = -1
_SPACE = np.zeros(256, np.bool_)
_SPACE[list(BLANK)] = True
#: What a JSON value can begin with.
_VALUE = np.zeros(256, np.bool_)
_VALUE[list(b'{["-0123456789tfn')] = True


@dataclass(slots=True)
class Scan:
    """Where a scan is: it goes on over bytes that are cut anywhere."""

    depth: int = 0
    in_string: bool = False
    #: The bytes before end in an odd number of backslashes, within a string.
    escaped: bool = False

    def step(self, data: Bytes) -> tuple[Places, Bytes, Places]:
        """Structural bytes outside strings: their places, what they are, and the depth behind each of them."""
        quotes = self._quotes(data)
        places = np.flatnonzero(_STRUCTURE[data])
        inside = (np.searchsorted(quotes, places) + self.in_string) & 1
        places = places[inside == 0]
        kinds = data[places]
        depths = self.depth + np.cumsum(_DEPTH[kinds], dtype=np.int64)
        self.in_string ^= bool(quotes.size & 1)
        if depths.size:
            self.depth = int(depths[-1])
        return places, kinds, depths

    def _quotes(self, data: Bytes) -> Places:
        """Quotes that open or close a string: those behind an even number of backslashes."""
        quotes = np.flatnonzero(data == QUOTE)
        slashes = np.flatnonzero(data == BACKSLASH)
        carried = self.escaped
        if slashes.size:
            odd = escaped(slashes, carried=carried)
            quotes = quotes[~np.isin(quotes, odd, assume_unique=True)]
            self.escaped = bool(odd.size and odd[-1] == data.size)
            if carried and slashes[0] != 0:
                quotes = quotes[quotes != 0]
        else:
            if carried:
                quotes = quotes[quotes != 0]
            if data.size:
                self.escaped = False
        return quotes


def escaped(slashes: Places, *, carried: bool = False) -> Places:
    """What stands behind an odd number of backslashes; `carried`: one more before the first byte."""
    # Runs of backslashes: where each begins, and how long it is.
    first = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
    begins, sizes = slashes[first], np.diff(np.append(first, slashes.size))
    odd = (sizes & 1) == 1
    if carried and begins[0] == 0:
        odd[0] ^= True
    behind: Places = (begins + sizes)[odd]
    return behind


def without_space(data: Bytes, starts: Places, stops: Places) -> tuple[Places, Places]:
    """The same ranges without white space at their ends; an empty one where there was nothing else."""
    return _inwards(data, starts, stops, 1), _inwards(data, stops, starts, -1)


def _inwards(data: Bytes, places: Places, limits: Places, step: int) -> Places:
    places = places.copy()
    offset = 0 if step > 0 else -1
    going = np.arange(places.size)
    for _ in range(SHORT_SPACE):
        going = going[(places[going] - limits[going]) * step < 0]
        going = going[_SPACE[data[places[going] + offset]]]
        if not going.size:
            return places
        places[going] += step
    for index in going.tolist():  # long runs, one by one: a step for all at once would be repeated for each of their bytes
        low, high = sorted((int(places[index]), int(limits[index])))
        rest = data[low:high].tobytes()
        places[index] = high - len(rest.lstrip(BLANK)) if step > 0 else low + len(rest.rstrip(BLANK))
    return places


def begins_value(kinds: Bytes) -> Switches:
    """Whether a JSON value can begin with each byte."""
    return _VALUE[kinds]
