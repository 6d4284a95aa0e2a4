"""What a place for blobs offers, and what its two kinds share."""

import builtins
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of an input that is still coming: the first `size` ones of the blob."""

    key: str
    size: int


class Growing(Protocol):
    """An input to which bytes are added, by one writer at a time. Nothing that it was given is lost by closing it.

    A part that is returned is durable. It may be one that was returned before, and has grown; its earlier bytes stay.
    """

    #: Bytes to add at once, at least, and seconds after which fewer are worth adding.
    piece: int
    patience: float

    async def hold(self) -> None:
        """Keep others out of the last part, before anything else. Only then it is certain that it is still the last one."""

    async def add(self, piece: bytes) -> None:
        """Take the bytes. Raises DiskFull, with nothing of them kept; Unavailable."""

    async def settle(self) -> Sequence[Part]:
        """Make durable what was added; the parts that are new or have grown, in order. Raises DiskFull, Unavailable."""

    async def drop(self) -> None:
        """Give up what was added and not settled, or settled and never recorded."""

    async def close(self) -> None:
        """Let others go on."""


class Place(Protocol):
    """A folder or a bucket. Obligations as in `Blobs`; keys are good."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit: int) -> Stored:
        """Store the chunks."""

    def growing(self, last: Part | None, name: Callable[[], str]) -> Growing:
        """Go on behind `last`, the last part so far; `name` makes keys for further ones."""

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
