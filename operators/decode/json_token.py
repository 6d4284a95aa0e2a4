"""Many JSON tokens at once: read eight bytes at a time, and held against the grammar without looking at each."""

import numpy as np
from numpy.typing import NDArray

from jobber.contract import Column
from operators.csv_grammar import Places, Switches
from operators.decode.json_record import is_text

Words = NDArray[np.uint64]

#: The lowest 0 to 8 bytes of a word.
KEEP = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
#: Longer numbers, and those with an exponent, are left to the exact decoder.
LONGEST = 32
_NULL, _TRUE, _FALSE = (int.from_bytes(word, "little") for word in (b"null", b"true", b"false"))
_EACH = 0x0101010101010101
_ZEROS = _EACH * ord("0")
#: What is left of a point where digits become 0 to 9.
_POINT = ord(".") ^ ord("0")


def kept(words: Words, places: Places, lengths: Places) -> Words:
    """The first bytes of each token; zeros follow where it has fewer than eight."""
    found: Words = words[places] & KEEP[np.clip(lengths, 0, 8)]
    return found


def is_bare(words: Words, places: Places, lengths: Places, column: Column | None) -> tuple[Switches, Switches]:
    """Which tokens are values that `column` (None: nobody) takes as they stand; and which of those are null.

    Numbers are those without an exponent; for an integer column, without a point.
    """
    word = kept(words, places, lengths)
    null = (word == _NULL) & (lengths == 4)
    if column is not None and is_text(column):
        return null, null
    fits = null
    if column is None or column.kind == "boolean":
        fits = fits | ((word == _TRUE) & (lengths == 4)) | ((word == _FALSE) & (lengths == 5))
    if (column is None or column.kind != "boolean") and not fits.all():
        numbers, points = _numbers(words, word, places, lengths)
        if column is not None and column.kind == "integer":
            numbers &= points == 0
        fits = fits | numbers
    return fits, null


def _numbers(words: Words, word: Words, places: Places, lengths: Places) -> tuple[Switches, Places]:
    """Which tokens are numbers (RFC 8259 6) without an exponent; and how many bytes of each are no digits."""
    minus = (word & 0xFF) == ord("-")
    if minus.any():
        places, lengths = places + minus, lengths - minus
        word = kept(words, places, lengths)
    fits = (lengths > 0) & (lengths <= LONGEST)
    points = np.zeros(places.size, np.int64)
    for start in range(0, min(int(lengths.max(initial=0)), LONGEST), 8):
        if start:
            word = kept(words, places + start, lengths - start)
        # Digits become 0 to 9, and what follows the token becomes 0, too.
        digits = (word ^ _ZEROS) & KEEP[np.clip(lengths - start, 0, 8)]
        # The highest bit of each byte that is no digit. Seven bits and 118 carry nothing into the next byte.
        others = (((digits & (_EACH * 0x7F)) + (_EACH * 0x76)) | digits) & (_EACH * 0x80)
        if not start:
            # The first is a digit. Behind a zero no digit stands, but the end or the point.
            fits &= ((others & 0x80) == 0) & (((digits & 0xFF) != 0) | ((others & 0x8000) != 0) | (lengths == 1))
        if others.any():
            points += np.bitwise_count(others)
            fits &= digits & ((others >> 7) * 0xFF) == (others >> 7) * _POINT
    # The last is a digit, too: so a point stands between digits.
    last = (words[places + np.clip(lengths - 1, 0, LONGEST)] & 0xFF) - ord("0")
    fits &= (last < 10) & (points <= 1)
    return fits, points
