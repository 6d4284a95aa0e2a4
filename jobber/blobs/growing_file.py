"""An input that comes in pieces, as a file that grows.

Who writes holds a lock on the file. Who finds it locked (by a process that is stopped, or still busy with a connection that was
cut) does not wait: it begins a further file, a part of its own. So nobody ever writes into what another one has recorded.
"""

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from jobber import faults
from jobber.blobs.disk import FILE_MODE, FOLDER_MODE, sync_name, translated
from jobber.blobs.place import PIECE, Part


class GrowingFile:
    """Adds to the last part's file, or to a new one."""

    piece = PIECE
    #: What a slow line brings is worth a write after so many seconds.
    patience = 1.0

    def __init__(self, root: Path, last: Part | None, name: Callable[[], str]) -> None:
        self._root, self._last, self._name = root, last, name
        # A cancelled writer leaves its thread at work: whoever closes waits for it.
        self._lock = threading.Lock()
        self._file: int | None = None
        self._key = ""
        self._size = self._settled = 0
        self._new = self._cut = False

    async def hold(self) -> None:
        """Lock the last part's file; without it there will be a new one."""
        await asyncio.to_thread(self._hold)

    async def add(self, piece: bytes) -> None:
        """Write it."""
        await asyncio.to_thread(self._add, piece)

    async def settle(self) -> Sequence[Part]:
        """Sync it; its name, too, when it is new."""
        return await asyncio.to_thread(self._settle)

    async def drop(self) -> None:
        """Cut the file to what was recorded, or delete it."""
        await asyncio.to_thread(self._drop)

    async def close(self) -> None:
        """Close the file, which unlocks it."""
        await asyncio.shield(asyncio.to_thread(self._close))

    def _add(self, piece: bytes) -> None:
        with self._lock, translated(self._key or "part"):
            file = self._open()
            left, at = memoryview(piece), self._size
            try:
                while left:
                    written = os.pwrite(file, left, at)
                    left, at = left[written:], at + written
            except OSError:
                os.ftruncate(file, self._size)
                raise
            self._size = at
        faults.point("stage.after_piece")

    def _settle(self) -> Sequence[Part]:
        with self._lock, translated(self._key or "part"):
            if self._file is None or self._size == self._settled:
                return ()
            os.fdatasync(self._file)
            if self._new:
                os.fsync(self._file)
                sync_name(self._root / self._key, self._root)
                self._new = False
            self._settled = self._size
            return (Part(self._key, self._size),)

    def _hold(self) -> None:
        with self._lock, translated(self._last.key if self._last else "part"):
            if self._last and (file := _locked(self._root / self._last.key)) is not None:
                self._file, self._key = file, self._last.key
                self._size = self._settled = self._last.size
            else:
                self._last = None

    def _open(self) -> int:
        if self._file is None:
            self._key, self._new = self._name(), True
            path = self._root / self._key
            path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        elif self._last and not self._cut:
            # What lies behind it was never recorded.
            os.ftruncate(self._file, self._last.size)
        self._cut = True
        return self._file

    def _drop(self) -> None:
        with self._lock, translated(self._key or "part"):
            if self._file is None:
                return
            if self._last:
                os.ftruncate(self._file, self._last.size)
            else:
                (self._root / self._key).unlink(missing_ok=True)

    def _close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _locked(path: Path) -> int | None:
    """The file, open and locked; None when another one writes to it, or it is not there."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            return file
    return None
