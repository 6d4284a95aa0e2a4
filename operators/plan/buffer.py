"""The part of an input that planning holds: from the start of the next batch as far as it was read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from jobber.errors import StructureFault
from jobber.model import InputOptions
from operators.csv_grammar import Bytes, Places
from operators.frames import is_plain

#: A record that is longer is a batch of its own, and is rejected for its size.
OWN_BATCH = 8 << 20
#: A record that is longer ends planning: it is a file of another kind, or one whose quotes never close.
MAX_RECORD = 128 << 20


@dataclass(frozen=True, slots=True)
class Cut:
    """The next batch, measured from the buffer's start."""

    #: Bytes that the batch takes, with everything up to the next one's start.
    size: int
    rows: int
    #: Where its records begin and end within, when that is not the whole.
    start: int = 0
    stop: int | None = None
    #: Whether its structure was seen to be without fault; whether its text is, `Buffer.take` looks.
    regular: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch's records, as they stand in the input."""

    #: Bytes of the input before it.
    offset: int
    data: bytes | memoryview
    #: Row number of the first record, from 1.
    first_row: int
    rows: int
    #: As of `PlannedBatch`.
    plain: bool = False


def cut_of(starts: Places, stops: Places, size: int, options: InputOptions, *, regular: bool = False) -> Cut:
    """The next batch of the records that are in the first `size` bytes. A huge one goes alone: it is never taken apart."""
    count = min(max(int(np.searchsorted(stops, options.batch_bytes, "right")), 1), options.batch_rows, starts.size)
    huge = np.flatnonzero(stops[:count] - starts[:count] > OWN_BATCH)
    if huge.size:
        count = int(huge[0]) or 1
    return Cut(size if count == starts.size else int(starts[count]), count, regular=regular)


def further(target: int, size: int) -> int:
    """How many bytes to look at when no record ends in the first `target` of the `size` that are here."""
    return min(max(target, size) * 4, MAX_RECORD + 1)


def too_long(row: int) -> StructureFault:
    """A record without an end in sight."""
    return StructureFault("LINE_TOO_LONG", f"Record {row} has no end within {MAX_RECORD >> 20} MiB.")


class Outgrown(Exception):
    """More bytes were needed at once than a buffer may hold."""


class Buffer:
    """Reads windows ahead as needed; knows where it is in the input, in bytes and in records."""

    def __init__(self, windows: Iterable[bytes], most: int | None = None) -> None:
        """It holds at most a window more than `most` bytes."""
        self._windows: Iterator[bytes] = iter(windows)
        self._data = b""
        self._place = 0
        self._most = most
        #: Bytes of the input before the buffer.
        self.offset = 0
        #: Number of the next record.
        self.row = 1
        #: Nothing follows what is here.
        self.whole = False

    def __len__(self) -> int:
        return len(self._data) - self._place

    def fill(self, size: int) -> bool:
        """Read until there are `size` bytes, or everything; False when nothing is left. Raises Outgrown."""
        if self._most is not None and size > self._most:
            raise Outgrown
        if len(self) < size and not self.whole:
            parts = [self._data[self._place :]]
            have = len(parts[0])
            while have < size:
                window = next(self._windows, None)
                if window is None:
                    self.whole = True
                    break
                parts.append(window)
                have += len(window)
            self._data, self._place = parts[0] if len(parts) == 1 else b"".join(parts), 0
        return len(self) > 0

    def head(self, size: int) -> Bytes:
        """The first `size` bytes, or what there is, without copying."""
        return np.frombuffer(self._data, np.uint8, min(size, len(self)), self._place) if len(self) else np.empty(0, np.uint8)

    def holds(self, byte: bytes, size: int) -> bool:
        """Whether `byte` is among the first `size` bytes."""
        return self._data.find(byte, self._place, self._place + size) >= 0

    def rfind(self, byte: bytes, size: int) -> int:
        """Place of the last `byte` among the first `size` bytes; -1 when there is none."""
        found = self._data.rfind(byte, self._place, self._place + size)
        return found - self._place if found >= 0 else -1

    def bytes(self) -> bytes:
        """Everything that is here."""
        return self._data[self._place :] if self._place else self._data

    def drop(self, size: int) -> None:
        """Go on behind the first `size` bytes."""
        self._place += size
        self.offset += size

    def take(self, cut: Cut) -> Piece | None:
        """The batch of the cut, and go on behind it; None when it holds no record."""
        start, stop = cut.start, cut.size if cut.stop is None else cut.stop
        if cut.rows == 1 and stop - start > MAX_RECORD:
            raise too_long(self.row)
        piece = None
        if cut.rows:
            data = self._data[self._place + start : self._place + stop]
            plain = cut.regular and is_plain(data)
            piece = Piece(self.offset + start, data, self.row, cut.rows, plain)
            self.row += cut.rows
        self.drop(cut.size)
        return piece
