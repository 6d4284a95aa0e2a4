"""Blobs as objects of a bucket: S3 and what speaks like it, Google Cloud Storage, Azure (obstore)."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import MemoryStore, from_url

from jobber.blobs.place import WINDOW, Growing, Part, Stored, cut, gone, pieces
from jobber.errors import NotFound, Unavailable

#: Parts of one upload on their way at once: bounds its memory, with WINDOW, to 32 MiB.
PARTS_AT_ONCE = 4
#: obstore would go on for three minutes; whoever asks tries again, and must be able to stop meanwhile. (Its client options stay
#: untouched: to give any takes away those of the environment, AWS_ALLOW_HTTP among them. Its timeouts are 5 and 30 s.)
_RETRY: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class Bucket:
    """A place behind a network. What is cut off in the middle never appears; let the bucket expire incomplete uploads."""

    def __init__(self, url: str) -> None:
        # The one kind without a network, for tests; it takes no options.
        self._store: Any = MemoryStore() if url.startswith("memory:") else from_url(url, retry_config=_RETRY)

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit: int) -> Stored:
        """In parts; obstore gives an upload up when its chunks raise."""
        digest, size = hashlib.sha256(), 0
        coming = pieces(chunks, limit, WINDOW)

        async def hashed(piece: bytes) -> AsyncIterator[bytes]:
            nonlocal size
            while piece:
                size += len(piece)
                await asyncio.to_thread(digest.update, piece)
                yield piece
                piece = await anext(coming, b"")

        first = await anext(coming, b"")
        try:
            if len(first) < WINDOW:
                # It is the last as well: one request instead of three.
                await self._store.put_async(key, first, use_multipart=False)
                return Stored(len(first), hashlib.sha256(first).digest())
            await self._store.put_async(key, hashed(first), chunk_size=WINDOW, max_concurrency=PARTS_AT_ONCE)
        except BaseError as fault:
            raise _unavailable(fault) from fault
        return Stored(size, digest.digest())

    def growing(self, last: Part | None, name: Callable[[], str]) -> Growing:
        """Objects of their own, one for each piece: a multipart upload can be continued by nobody but its beginner."""
        return _GrowingObjects(self, name)

    async def delete(self, key: str) -> None:
        """Delete it."""
        with contextlib.suppress(FileNotFoundError):
            try:
                await self._store.delete_async(key)
            except BaseError as fault:
                raise _unavailable(fault) from fault

    async def keys(self, most: int) -> AsyncIterator[list[str]]:
        """By listing."""
        with _translated("bucket"):
            async for page in self._store.list(chunk_size=most):
                yield [entry["path"] for entry in page]

    async def tidy(self) -> None:
        """Nothing: a rule of the bucket ends incomplete uploads."""

    def size(self, key: str) -> int:
        """By a HEAD request."""
        with _translated(key):
            return int(self._store.head(key)["size"])

    def read(self, key: str, offset: int, length: int) -> bytes:
        """By a range request."""
        with _translated(key):
            try:
                data = bytes(self._store.get_range(key, start=offset, length=length))
            except BaseError:
                # A range that begins after the end is an error, of no type of its own.
                size = self.size(key)
                if offset < size:
                    raise
                raise cut(key, offset, length, 0) from None
        if len(data) != length:
            raise cut(key, offset, length, len(data))
        return data

    def windows(self, key: str, size: int) -> Iterator[bytes]:
        """One window is fetched while the one before it is used."""
        total = self.size(key)
        with ThreadPoolExecutor(1, "blob-window") as fetcher:
            coming = None
            for offset in range(0, total, size):
                here, coming = coming, fetcher.submit(self.read, key, offset, min(size, total - offset))
                if here:
                    yield here.result()
            if coming:
                yield coming.result()


async def source_of(url: str, key: str, missing: str) -> AsyncGenerator[bytes, None]:
    """The bytes of an object of somebody else's bucket, in one request: as it is now. Raises NotFound, Unavailable."""
    try:
        found = await from_url(url, retry_config=_RETRY).get_async(key)
        async for chunk in found.stream(min_chunk_size=1 << 20):
            yield bytes(chunk)
    except FileNotFoundError as fault:
        raise NotFound(missing) from fault
    except BaseError as fault:
        raise _unavailable(fault) from fault


class _GrowingObjects:
    """Each piece is an object."""

    piece = WINDOW
    #: An object costs three requests in its life: a slow line had better fill it.
    patience = 10.0

    def __init__(self, bucket: Bucket, name: Callable[[], str]) -> None:
        self._bucket, self._name = bucket, name
        self._parts: list[Part] = []
        self._written: list[str] = []

    async def hold(self) -> None:
        """Nobody writes into an object that is there."""

    async def add(self, piece: bytes) -> None:
        """Put the object."""
        key = self._name()
        self._written.append(key)
        await self._bucket.put(key, _once(piece), len(piece))
        self._parts.append(Part(key, len(piece)))

    async def settle(self) -> Sequence[Part]:
        """They are durable once they are put."""
        settled, self._parts = self._parts, []
        return settled

    async def drop(self) -> None:
        """Delete the objects."""
        for key in self._written:
            await self._bucket.delete(key)

    async def close(self) -> None:
        """Nothing is held."""


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _unavailable(fault: BaseException) -> Unavailable:
    # Its further lines are for programmers.
    return Unavailable(f"The blob store does not answer: {str(fault).partition(chr(10))[0]}")


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as fault:
        raise gone(key) from fault
    except BaseError as fault:
        raise _unavailable(fault) from fault
