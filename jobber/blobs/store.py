"""The blob store: inputs by key, in a folder or a bucket. Keys are made by us; no name of a user becomes a path."""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobber.blobs.place import WINDOW, Growing, Part, Place, Stored

__all__ = ["WINDOW", "Blobs", "Growing", "Part", "Stored"]

#: Parts that begin with a dot are the store's own.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class Blobs:
    """`file:///folder`, `s3://bucket/prefix`, `gs://…` or `az://…`. Writing is async (api), reading is not (pipelines).

    Credentials and endpoints of buckets come from the environment variables of their makers (AWS_…, GOOGLE_…, AZURE_…).
    """

    def __init__(self, url: str) -> None:
        #: As it was given.
        self.url = url
        parts = urlsplit(url)
        self._place: Place
        if parts.scheme in ("", "file"):
            from jobber.blobs.folder import Folder

            self._place = Folder(Path(unquote(parts.path)))
        else:
            from jobber.blobs.bucket import Bucket

            self._place = Bucket(url)

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit: int) -> Stored:
        """Store the chunks under the key; durable when it answers, and nothing is left of it when it fails.

        Raises QuotaExceeded beyond `limit` bytes, DiskFull, Unavailable; what the chunks raise is passed on.
        """
        return await self._place.put(_checked(key), chunks, limit)

    def growing(self, last: Part | None, name: Callable[[], str]) -> Growing:
        """Add to an input that comes in pieces, behind its last part; any process may go on with it.

        The parts that it answers are the caller's to remember; `join` makes one blob of them. `name` makes keys.
        """
        return self._place.growing(last, lambda: _checked(name()))

    async def join(self, parts: Sequence[Part], key: str) -> str:
        """One blob of the parts, durable; answer its key, which is that of the only part when there is one.

        The parts stay. Raises NotFound, DiskFull, Unavailable.
        """
        if len(parts) == 1:
            return parts[0].key
        await self.put(key, self._bytes_of(parts), sum(part.size for part in parts))
        return key

    async def _bytes_of(self, parts: Sequence[Part]) -> AsyncIterator[bytes]:
        for part in parts:
            for offset in range(0, part.size, WINDOW):
                yield await asyncio.to_thread(self.read, part.key, offset, min(WINDOW, part.size - offset))

    async def delete(self, key: str) -> None:
        """Forget the blob; one that is not there is no error. Raises Unavailable."""
        await self._place.delete(_checked(key))

    def keys(self, most: int) -> AsyncIterator[list[str]]:
        """The keys of all blobs, `most` at a time, in no order; what comes or goes meanwhile may be missed.

        Raises Unavailable.
        """
        return self._place.keys(most)

    async def tidy(self) -> None:
        """Delete what killed writers left half-written. (A bucket does it by itself, when it has a rule for it.)

        Raises Unavailable.
        """
        await self._place.tidy()

    def size(self, key: str) -> int:
        """Bytes of the blob. Raises NotFound, Unavailable."""
        return self._place.size(_checked(key))

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of the blob. Raises NotFound when it, or part of the range, is not there; Unavailable."""
        return self._place.read(_checked(key), offset, length) if length else b""

    def windows(self, key: str, size: int = WINDOW) -> Iterator[bytes]:
        """The whole blob in order, `size` bytes at a time and few windows in memory. Raises NotFound, Unavailable."""
        return self._place.windows(_checked(key), size)


def _checked(key: str) -> str:
    """The key. Keys are ours: one that could name another file is a bug."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a key")
    return key
