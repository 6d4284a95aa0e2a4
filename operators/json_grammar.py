"""JSON's structure, found in whole arrays of bytes: strings, nesting, and the commas that part the elements of an array."""

from dataclasses import dataclass

import numpy as np

from operators.csv_grammar import Bytes, Places, Switches

QUOTE, BACKSLASH, COMMA, SLASH = 34, 92, 44, 47
#: JSON's white space.
BLANK = b" \t\r\n"
#: Longer white space is rare.
SHORT_SPACE = 64

_DEPTH = np.zeros(256, np.int8)
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
        # Eight switches in a byte: what is said of each byte is made and held against each other at an eighth of the cost.
        structure = np.packbits(_structure(data), bitorder="little") & ~self._inside(self._quotes(data))
        places = np.flatnonzero(np.unpackbits(structure, count=data.size, bitorder="little").view(np.bool_))
        kinds = data[places]
        depths = self.depth + np.cumsum(_DEPTH[kinds], dtype=np.int64)
        if depths.size:
            self.depth = int(depths[-1])
        return places, kinds, depths

    def _quotes(self, data: Bytes) -> Switches:
        """Which bytes are quotes that open or close a string: those behind an even number of backslashes."""
        quotes: Switches = data == QUOTE
        if not data.size:
            return quotes
        carried, self.escaped = self.escaped, False
        slashes = np.flatnonzero(data == BACKSLASH)
        if slashes.size:
            behind = escaped(slashes, carried=carried)
            self.escaped = bool(behind.size and behind[-1] == data.size)
            quotes[behind[behind < data.size]] = False
        if carried and data[0] != BACKSLASH:
            quotes[0] = False
        return quotes

    def _inside(self, quotes: Switches) -> Bytes:
        """Which bytes stand within a string, or are the quote that opens one; eight in a byte."""
        packed = np.packbits(quotes, bitorder="little")
        words = np.zeros(-(-packed.size // 8), "<u8")
        words.view(np.uint8)[: packed.size] = packed
        # Each bit becomes the parity of those up to it: in its word, then with the words before.
        for shift in (1, 2, 4, 8, 16, 32):
            words ^= words << shift
        odd = np.logical_xor.accumulate(np.append(self.in_string, words >> 63 != 0))
        self.in_string = bool(odd[-1])
        np.invert(words, out=words, where=odd[:-1])
        return words.view(np.uint8)[: packed.size]


def _structure(data: Bytes) -> Switches:
    """Which bytes are structural, wherever they stand. A bracket and a brace differ in one bit."""
    alike = data | (ord("[") ^ ord("{"))
    hits: Switches = alike == ord("{")
    hits |= alike == ord("}")
    hits |= data == COMMA
    hits |= data == SLASH
    return hits


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
