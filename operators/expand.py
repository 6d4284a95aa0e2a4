"""Compressed inputs: told by their content, expanded as a stream, and whole or refused.

What is cut, damaged, followed by anything else, or larger than it may be ends the stream with a StructureFault: a plan is only
made of an input that came to its proper end, so that nothing of such a file is ever loaded.
"""

import io
from collections.abc import Iterable, Iterator

import pyarrow as pa
from isal import isal_zlib

from jobber.errors import StructureFault
from jobber.model import Compression, InputOptions

#: Bytes that are expanded at once: however much a few bytes stand for, no more is in memory.
STEP = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: A header of a zstd frame has at most so many bytes.
_HEADER = 18
#: zlib's way to ask for gzip's header and checksum.
_GZIP_BITS = 31


def compression_of(head: bytes, options: InputOptions) -> Compression:
    """How an input that begins so is compressed. Raises StructureFault (FORMAT) when that is not what it was told to be."""
    seen = Compression.NONE
    if head.startswith(_GZIP):
        seen = Compression.GZIP
    elif head.startswith(_ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):  # RFC 8878 3.1.2: a skippable frame
        seen = Compression.ZSTD
    told = options.compression
    if told is not None and told is not seen:
        raise StructureFault(
            "FORMAT",
            f"It was said to be {_named(told)}, and is {_named(seen)}. Without the option compression its content tells.",
        )
    return seen


def window_of(head: bytes) -> int:
    """Bytes that it takes to expand a zstd frame that begins so (RFC 8878 3.1.1.1); 0 for what is none."""
    if not head.startswith(_ZSTD) or len(head) < _HEADER:
        return 0
    descriptor = head[4]
    if not descriptor & 0x20:
        return ((1 << 10 + (head[5] >> 3)) >> 3) * (8 + (head[5] & 7))
    # A single segment, which takes as much as it has.
    place, size = 5 + (0, 1, 2, 4)[descriptor & 3], (1, 2, 4, 8)[descriptor >> 6]
    return int.from_bytes(head[place : place + size], "little")


def _named(compression: Compression) -> str:
    return "not compressed" if compression is Compression.NONE else f"compressed with {compression.lower()}"


def expanded(windows: Iterable[bytes], compression: Compression, limit: int) -> Iterator[bytes]:
    """What the windows stand for. Raises StructureFault: CORRUPT, or TOO_LARGE beyond `limit` bytes."""
    if compression is Compression.NONE:
        yield from windows
        return
    total = 0
    for piece in _gunzipped(windows) if compression is Compression.GZIP else _unzstd(windows):
        total += len(piece)
        if total > limit:
            raise StructureFault(
                "TOO_LARGE",
                f"Expanded, the file has more than {limit:,} bytes; JOBBER_EXPANDED_BYTES says how many it may have.",
            )
        yield piece


def _corrupt(what: str) -> StructureFault:
    return StructureFault("CORRUPT", f"The compressed file is damaged: {what}. Nothing of it was loaded; send it again.")


def _gunzipped(windows: Iterable[bytes]) -> Iterator[bytes]:
    """RFC 1952: members, one behind the other; they may be padded with zeros, as on tapes."""
    member, began, ended = isal_zlib.decompressobj(_GZIP_BITS), False, False
    for window in windows:
        data = window
        while data:
            if ended:
                data = data.lstrip(b"\0")
                if not data:
                    break
                if data[0] != _GZIP[0]:
                    raise _corrupt("something that is no gzip stands behind its end")
                member, began, ended = isal_zlib.decompressobj(_GZIP_BITS), False, False
            try:
                piece = member.decompress(data, STEP)
                began = True
                yield piece
                while not member.eof and (member.unconsumed_tail or len(piece) == STEP):
                    piece = member.decompress(member.unconsumed_tail, STEP)
                    yield piece
            except isal_zlib.error as fault:  # type: ignore[misc]  # its stub has a value where it has a class
                raise _corrupt(f"{fault}") from fault
            data, ended = (member.unused_data, True) if member.eof else (b"", False)
    if began and not ended:
        raise _corrupt("it is cut off")


def _unzstd(windows: Iterable[bytes]) -> Iterator[bytes]:
    """RFC 8878: frames, one behind the other; a window of at most 128 MiB, as zstd's own default is."""
    reading = _Stream(windows)
    with pa.PythonFile(reading, mode="r") as source, pa.CompressedInputStream(source, "zstd") as stream:
        while True:
            try:
                piece = stream.read(STEP)
            except OSError as fault:
                if reading.fault is not None:
                    raise reading.fault from fault
                what = str(fault)
                raise _corrupt("it is cut off" if "Truncated" in what else what.partition(". Detail")[0]) from fault
            if not piece:
                return
            yield piece


class _Stream(io.RawIOBase):
    """Windows as a file, for Arrow."""

    def __init__(self, windows: Iterable[bytes]) -> None:
        self._windows = iter(windows)
        self._here = memoryview(b"")
        #: Why the windows ended, when that was not their end.
        self.fault: Exception | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._here:
            try:
                window = next(self._windows, None)
            except Exception as fault:
                self.fault = fault
                raise
            if window is None:
                return b""
            self._here = memoryview(window)
        taken, self._here = self._here[:size], self._here[size:]
        return bytes(taken)
