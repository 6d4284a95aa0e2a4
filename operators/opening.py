"""From the bytes of an input to what planning reads: expanded, and in UTF-8 where it is text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from jobber.errors import StructureFault
from jobber.model import Compression, Format, InputOptions
from operators.encoding import UTF8, encoding_of, mark_of, recoded
from operators.expand import compression_of, expanded

#: Bytes that are looked at.
LOOK = 64 << 10
#: What a Parquet file begins with, and ends.
PARQUET = b"PAR1"


@dataclass(frozen=True, slots=True)
class Opened:
    """An input, opened."""

    #: Text in UTF-8, cut anywhere; of a Parquet file, its bytes.
    windows: Iterator[bytes]
    parquet: bool
    #: What it is written in.
    encoding: str
    compression: Compression
    #: The text is the input's own bytes, which can be read in parts.
    as_it_is: bool


def opened(windows: Iterable[bytes], options: InputOptions, limit: int, *, marked: bool = False) -> Opened:
    """Open an input by what it says it is, and what it was told to be. Nothing is guessed.

    With `marked` a byte-order mark says more than the option: for who was not told anything.
    Raises StructureFault: FORMAT, ENCODING; its windows raise CORRUPT, and TOO_LARGE beyond `limit` bytes of expanded input.
    """
    head, coming = _peeked(windows)
    compression = compression_of(head, options)
    if compression is not Compression.NONE:
        head, coming = _peeked(expanded(coming, compression, limit))
        if head[257:262] == b"ustar":
            raise StructureFault("FORMAT", "It is a tar archive; unpack it and upload the file itself.")
    parquet = head.startswith(PARQUET)
    if options.format is not None and parquet is not (options.format == Format.PARQUET):
        seen = "is a Parquet file" if parquet else "does not begin as a Parquet file"
        raise StructureFault("FORMAT", f"It was said to be {options.format}, and {seen}.")
    if parquet:
        return Opened(coming, True, UTF8, compression, as_it_is=compression is Compression.NONE)
    encoding = encoding_of(head, (marked and mark_of(head)) or options.encoding)
    if encoding != UTF8:
        coming = recoded(coming, encoding)
    return Opened(coming, False, encoding, compression, as_it_is=compression is Compression.NONE and encoding == UTF8)


def _peeked(windows: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first LOOK bytes or more, where there are as many, and everything from the start."""
    coming, parts, size = iter(windows), [], 0
    for window in coming:
        parts.append(window)
        size += len(window)
        if size >= LOOK:
            break
    head = parts[0] if len(parts) == 1 else b"".join(parts)
    return head, chain([head], coming) if head else iter(())
