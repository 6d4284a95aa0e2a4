"""What all that writes to a folder shares: modes, syncing names, and what the disk's errors mean."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from jobber.blobs.place import gone
from jobber.errors import DiskFull, Unavailable

#: Only we and our group: inputs are their owners' affair.
FOLDER_MODE, FILE_MODE = 0o750, 0o640


def sync_name(path: Path, root: Path) -> None:
    """Make a file's name durable: it is in its folder, whose name is in the next; any of them may be new."""
    for folder in path.parents:
        _sync(folder)
        if folder == root.parent:
            break


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def translated(key: str) -> Iterator[None]:
    """Raises NotFound, DiskFull, Unavailable for what the disk says."""
    try:
        yield
    except FileNotFoundError as fault:
        raise gone(key) from fault
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull from fault
        raise Unavailable(f"The blob store does not answer: {fault.strerror}.") from fault
