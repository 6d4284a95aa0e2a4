"""Blobs as files of a folder, which all services of one machine share.

ROOT/.incoming/<random>   being written; locked by its writer, so that what a killed one left is known and deleted
ROOT/<key>                whole and on the disk
"""

import asyncio
import contextlib
import fcntl
import hashlib
import itertools
import os
import threading
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from pathlib import Path

from jobber import faults
from jobber.blobs.disk import FILE_MODE, FOLDER_MODE, sync_name, translated
from jobber.blobs.growing_file import GrowingFile
from jobber.blobs.place import Growing, Part, Stored, cut, pieces
from jobber.errors import Unavailable

#: Where files are that are being written; no key begins with a dot.
INCOMING = ".incoming"
#: Linux reads at most so many bytes in one call (read(2)).
MOST_AT_ONCE = 0x7FFFF000


class Folder:
    """A place on this machine's disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tidied = False

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit: int) -> Stored:
        """Write beside its place, sync, rename; the next piece is received while one is written."""
        if not self._tidied:
            self._tidied = True
            await self.tidy()
        incoming = _Incoming(self._root, self._root / key)
        writing: asyncio.Task[None] | None = None
        stored = None
        try:
            async for piece in pieces(chunks, limit):
                if writing:
                    await writing
                writing = asyncio.create_task(asyncio.to_thread(incoming.write, piece))
            if writing:
                await writing
            stored = await asyncio.to_thread(incoming.finish)
            return stored
        finally:
            if stored is None:
                # A thread may be at work on the file still. It cannot be stopped, only waited for, cancelled or not.
                await asyncio.shield(_abandon(incoming, writing))

    def growing(self, last: Part | None, name: Callable[[], str]) -> Growing:
        """A file that grows."""
        return GrowingFile(self._root, last, name)

    async def delete(self, key: str) -> None:
        """Unlink it."""
        with translated(key), contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread((self._root / key).unlink)

    async def keys(self, most: int) -> AsyncIterator[list[str]]:
        """By walking the folder."""
        walk = _walk(self._root)
        while page := await asyncio.to_thread(lambda: list(itertools.islice(walk, most))):
            yield page

    async def tidy(self) -> None:
        """Delete the files that nobody locks."""
        await asyncio.to_thread(_tidy, self._root / INCOMING)

    def size(self, key: str) -> int:
        """Of the file."""
        with translated(key):
            return (self._root / key).stat().st_size

    def read(self, key: str, offset: int, length: int) -> bytes:
        """By pread: no position, no buffer."""
        with translated(key), (self._root / key).open("rb", buffering=0) as file:
            parts: list[bytes] = []
            missing = length
            while missing and (part := os.pread(file.fileno(), min(missing, MOST_AT_ONCE), offset + length - missing)):
                parts.append(part)
                missing -= len(part)
        if missing:
            raise cut(key, offset, length, length - missing)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def windows(self, key: str, size: int) -> Iterator[bytes]:
        """By plain reads: a mapping would count as our memory."""
        with translated(key), (self._root / key).open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):  # not on macOS
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while window := file.read(size):
                yield window


class _Incoming:
    """A file that gets its name once it is whole and on the disk. Blocking; one thread at a time gets in."""

    def __init__(self, root: Path, target: Path) -> None:
        self._root = root
        self._target = target
        self._path = root / INCOMING / uuid.uuid4().hex
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._size = 0
        self._file: int | None = None
        self._abandoned = self._named = False

    def write(self, piece: bytes) -> None:
        with self._lock, translated(self._target.name):
            file = self._open()
            self._digest.update(piece)
            self._size += len(piece)
            left = memoryview(piece)
            while left:
                left = left[os.write(file, left) :]
        faults.point("blob.after_piece")

    def finish(self) -> Stored:
        with self._lock, translated(self._target.name):
            file = self._open()
            faults.point("blob.before_sync")
            os.fsync(file)
            faults.point("blob.before_rename")
            self._target.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            self._path.rename(self._target)
            self._named = True
            faults.point("blob.after_rename")
            sync_name(self._target, self._root)
            self._close()
            return Stored(self._size, self._digest.digest())

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            self._path.unlink(missing_ok=True)
            if self._named:
                self._target.unlink(missing_ok=True)
            self._close()

    def _open(self) -> int:
        if self._abandoned:
            raise Unavailable("The file is not wanted any more.")
        while self._file is None:
            self._path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if not os.fstat(self._file).st_nlink:
                # Somebody tidying up was quicker than our lock.
                self._close()
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


async def _abandon(incoming: _Incoming, writing: asyncio.Task[None] | None) -> None:
    if writing:
        await asyncio.gather(writing, return_exceptions=True)
    await asyncio.to_thread(incoming.abandon)


def _walk(root: Path) -> Iterator[str]:
    """The keys of all files but those that are being written."""
    with translated(root.name):
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if not name.startswith(".")]
            yield from (os.path.relpath(os.path.join(folder, file), root) for file in files)


def _tidy(folder: Path) -> None:
    """Delete what killed writers left: files that nobody locks."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
