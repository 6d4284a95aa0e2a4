"""JSON's structure, found in whole arrays of bytes: strings, nesting, and the commas that part the elements of an array."""

from dataclasses import dataclass

import numpy as np

from operators.csv_grammar import Bytes, Places

QUOTE, BACKSLASH, COMMA, SLASH = 34, 92, 44, 47

_STRUCTURE = np.zeros(256, np.bool_)
_STRUCTURE[list(b"{}[],/")] = True
_DEPTH = np.zeros(256, np.int32)
_DEPTH[list(b"{[")] = 1
_DEPTH[list(b"}]")] = -1
_SPACE = np.zeros(256, np.bool_)
_SPACE[list(b" \t\r\n")] = True
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
            # Runs of backslashes: where each begins, and how long it is.
            first = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
            begins = slashes[first]
            lengths = np.diff(np.append(first, slashes.size))
            if carried and begins[0] == 0:
                lengths[0] += 1
            behind = begins + np.diff(np.append(first, slashes.size))
            odd = behind[(lengths & 1) == 1]
            quotes = quotes[~np.isin(quotes, odd, assume_unique=True)]
            self.escaped = bool(odd.size and odd[-1] == data.size)
            if carried and begins[0] != 0:
                quotes = quotes[quotes != 0]
        else:
            if carried:
                quotes = quotes[quotes != 0]
            if data.size:
                self.escaped = False
        return quotes


def blank_between(data: Bytes, start: int, stop: int) -> bool:
    """Whether there is only white space from `start` to `stop`."""
    return bool(_SPACE[data[start:stop]].all())


def first_bytes(data: Bytes, starts: Places) -> tuple[Places, Bytes]:
    """The first byte that is not white space behind each start (zero-based place, and the byte)."""
    places = starts.copy()
    last = data.size - 1
    while True:
        spaces = _SPACE[data[np.minimum(places, last)]] & (places <= last)
        if not spaces.any():
            return places, data[np.minimum(places, last)]
        places = places + spaces


def begins_value(kinds: Bytes) -> Bytes:
    """Whether a JSON value can begin with each byte."""
    return _VALUE[kinds]  # type: ignore[return-value]
