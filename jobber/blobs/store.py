"""The blob store: inputs by key, in a folder or a bucket. Keys are made by us; no name of a user becomes a path."""

import asyncio
import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from jobber.errors import DiskFull, NotFound, QuotaExceeded, Unavailable

#: Bytes of a window while planning, and of a part while uploading to a bucket.
WINDOW = 8 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored."""

    bytes: int
    sha256: Any


class Blobs:
    """`file:///folder`, `s3://bucket/prefix`, `gs://…` or `az://…`. Writing is async (api), reading is not (pipelines)."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._folder: Path | None = Path(unquote(parts.path)) if parts.scheme in ("", "file") else None
        self._bucket: Any = None
        if self._folder is None:
            from obstore.store import from_url

            self._bucket = from_url(url)

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit: int) -> Stored:
        """Store the chunks under the key; durable when it answers, and nothing is left of it when it fails.

        Raises QuotaExceeded beyond `limit` bytes, DiskFull; what the chunks raise is passed on.
        """
        digest, size = hashlib.sha256(), 0
        write = _LocalWrite(self._path(key)) if self._folder is not None else _BucketWrite(self._bucket, key)
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise QuotaExceeded(f"The file has more than {limit:,} bytes.")
                await asyncio.to_thread(_digest_and_write, digest, write, chunk)
            await asyncio.to_thread(write.finish)
        except OSError as fault:
            await asyncio.to_thread(write.abandon)
            if fault.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull from fault
            raise Unavailable(f"The blob store does not take the file: {fault.strerror}.") from fault
        except BaseException:
            write.abandon()
            raise
        return Stored(size, digest.digest())

    async def delete(self, key: str) -> None:
        """Forget the blob; one that is not there is no error."""
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(self._path(key).unlink)
            return
        with contextlib.suppress(FileNotFoundError):
            await self._bucket.delete_async(key)

    def size(self, key: str) -> int:
        """Bytes of the blob. Raises NotFound."""
        try:
            if self._folder is not None:
                return self._path(key).stat().st_size
            return int(self._bucket.head(key)["size"])
        except FileNotFoundError as fault:
            raise _gone(key) from fault

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of the blob. Raises NotFound; Unavailable when the range is not there."""
        try:
            if self._folder is not None:
                with self._path(key).open("rb", buffering=0) as file:
                    data = os.pread(file.fileno(), length, offset)
            else:
                data = bytes(self._bucket.get_range(key, start=offset, length=length))
        except FileNotFoundError as fault:
            raise _gone(key) from fault
        if len(data) != length:
            raise Unavailable(f"Blob {key} has {len(data)} of {length} bytes at {offset}.")
        return data

    def windows(self, key: str, size: int = WINDOW) -> Iterator[bytes]:
        """The whole blob, one window after the other. Raises NotFound."""
        if self._folder is None:
            total = self.size(key)
            for offset in range(0, total, size):
                yield self.read(key, offset, min(size, total - offset))
            return
        try:
            file = self._path(key).open("rb", buffering=0)
        except FileNotFoundError as fault:
            raise _gone(key) from fault
        with file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while window := file.read(size):
                yield window

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        if not key or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"{key!r} is not a key")
        return self._folder / key


class _LocalWrite:
    """A file that appears under its name only once it is whole and on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        self._file: BinaryIO | None = None

    def write(self, chunk: bytes) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("wb")
        self._file.write(chunk)

    def finish(self) -> None:
        self.write(b"")
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def abandon(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._temporary.unlink(missing_ok=True)


class _BucketWrite:
    """A multipart upload of obstore, which appears only when it is closed."""

    def __init__(self, bucket: Any, key: str) -> None:
        import obstore

        self._writer: Any = obstore.open_writer(bucket, key, buffer_size=WINDOW)
        self._abandoned = False

    def write(self, chunk: bytes) -> None:
        self._writer.write(chunk)

    def finish(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        """What is not closed never appears; buckets expire parts of uploads that were not completed."""
        self._abandoned = True


def _digest_and_write(digest: Any, write: _LocalWrite | _BucketWrite, chunk: bytes) -> None:
    digest.update(chunk)
    write.write(chunk)


def _gone(key: str) -> NotFound:
    return NotFound(f"The input {key} is not in the blob store any more.")
