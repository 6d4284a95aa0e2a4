"""What a place for blobs offers, and what its two kinds share."""

import builtins
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol

from jobber.errors import NotFound, QuotaExceeded

#: Bytes of a window while planning, and of a part while uploading to a bucket.
WINDOW = 8 << 20
#: Chunks are written together up to so many bytes: a change of threads costs as much as writing 50 KB.
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored."""

    bytes: int
    sha256: builtins.bytes


class Place(Protocol):
    """A folder or a bucket. Obligations as in `Blobs`; keys are good."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit: int) -> Stored:
        """Store the chunks."""

    async def delete(self, key: str) -> None:
        """Forget the blob."""

    def keys(self, most: int) -> AsyncIterator[list[str]]:
        """Every blob's key, in pages."""

    async def tidy(self) -> None:
        """Delete what killed writers left."""

    def size(self, key: str) -> int:
        """Bytes of the blob."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """At least one byte, at most what was asked: all of the range."""

    def windows(self, key: str, size: int) -> Iterator[bytes]:
        """The whole blob."""


async def pieces(chunks: AsyncIterable[bytes], limit: int, size: int = PIECE) -> AsyncIterator[bytes]:
    """The chunks, small ones put together. Raises QuotaExceeded before a byte beyond `limit` is passed on."""
    waiting: list[bytes] = []
    total = held = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise QuotaExceeded(f"The file has more than {limit:,} bytes.")
        waiting.append(chunk)
        held += len(chunk)
        if held >= size:
            yield b"".join(waiting)
            waiting, held = [], 0
    if waiting:
        yield b"".join(waiting)


def gone(key: str) -> NotFound:
    """The blob is not there."""
    return NotFound(f"The input {key} is not in the blob store any more.")


def cut(key: str, offset: int, length: int, found: int) -> NotFound:
    """The blob is shorter than it was."""
    return NotFound(f"The input {key} is shorter than it was: of {length:,} bytes at {offset:,} there are {found:,}.")
