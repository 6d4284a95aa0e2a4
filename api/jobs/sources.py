"""Inputs that lie elsewhere: `s3://…`, `gs://…`, `az://…` and `file://…`, from the places that the operator has named.

What is there is copied at the submission, as an upload of the submitter: the job's bytes are frozen then, whatever becomes of
the original, and count for the same quota. A caller names an object below a configured place, and nothing else: no other
scheme, host, query or credential, no `..`, no encoding that could mean one, and no symbolic link.
"""

import asyncio
import contextlib
import os
import re
import stat
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from api.audit import Actor
from api.jobs.model import Upload
from api.jobs.uploads import Uploads
from jobber.blobs.bucket import source_of
from jobber.errors import Forbidden, InvalidData, InvalidState, NotFound, Unavailable

#: Bytes read at a time.
WINDOW = 1 << 20
SCHEMES = ("s3", "gs", "az", "file")
#: A name that means the same to everybody: no control characters, no `%`, `?`, `#`, backslash, and no `.` or `..` alone.
_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[^\x00-\x1f\x7f/\\%?#]{1,255}")
NOTHING = "There is no such object in the place of sources."


class Sources:
    """Copies inputs from configured places."""

    def __init__(self, places: Sequence[str], uploads: Uploads) -> None:
        self._places = [place.rstrip("/") + "/" for place in places]
        self._uploads = uploads
        self._copying: dict[tuple[str, ...], asyncio.Task[Upload]] = {}

    def check(self, url: str) -> tuple[str, tuple[str, ...]]:
        """The configured place and the names below it. Raises InvalidData, Forbidden."""
        if not self._places:
            raise InvalidData("No place is configured to read sources from.")
        if url.partition("://")[0] not in SCHEMES:
            raise InvalidData(f"A source's url begins with {', '.join(f'{scheme}://' for scheme in SCHEMES)}.")
        for place in self._places:
            names = tuple(url.removeprefix(place).split("/"))
            if url.startswith(place) and all(_SEGMENT.fullmatch(name) for name in names):
                return place, names
        raise Forbidden("The url is not below a place that is configured to read sources from.")

    async def take(self, url: str, owner_id: str, key: str, actor: Actor) -> Upload:
        """An upload of what is there. Asked again while it is copied, with the same idempotency key, it is one copy.

        Raises InvalidData, Forbidden, NotFound, InvalidState when it changes meanwhile, and what Uploads raises.
        """
        place, names = self.check(url)
        known = (owner_id, key, url)
        task = self._copying.get(known)
        if task is None:
            task = self._copying[known] = asyncio.create_task(self._copy(place, names, owner_id, actor))
            task.add_done_callback(lambda _: self._copying.pop(known, None))
        # Who asked may go away; the copy is for whoever asks again.
        return await asyncio.shield(task)

    async def _copy(self, place: str, names: tuple[str, ...], owner_id: str, actor: Actor) -> Upload:
        read = _file(place, names) if place.startswith("file:") else _object(place, names)
        async with contextlib.aclosing(read) as chunks:
            return await self._uploads.receive(owner_id, names[-1], chunks, actor)


async def _object(place: str, names: tuple[str, ...]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(source_of(place.rstrip("/"), "/".join(names), NOTHING)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _file(place: str, names: tuple[str, ...]) -> AsyncGenerator[bytes, None]:
    file = await asyncio.to_thread(_opened, Path(unquote(urlsplit(place).path)), names)
    try:
        before = _state(os.fstat(file))
        while window := await asyncio.to_thread(os.read, file, WINDOW):
            yield window
        if _state(os.fstat(file)) != before:
            raise InvalidState("The source changed while it was read; nothing of it was kept. Submit it again.")
    finally:
        os.close(file)


def _opened(folder: Path, names: tuple[str, ...]) -> int:
    """The file, found name by name: a link, wherever it leads, is none of the place's files."""
    here = None
    try:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in names[:-1]:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        # Without waiting: a pipe has no other end.
        file = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
    except OSError as fault:
        if here is None:
            raise Unavailable("The place of sources does not answer.") from fault
        raise NotFound(NOTHING) from fault
    finally:
        if here is not None:
            os.close(here)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotFound(NOTHING)
    return file


def _state(known: os.stat_result) -> tuple[Any, ...]:
    return (known.st_size, known.st_mtime_ns, known.st_ino)
