"""Surveys of uploads while they come: where their records end is known with the last byte, and a job can begin at once.

A survey only ever saves time. One that meets what is not of the plain kind, or does not keep up, is given up, and the job's
input is planned by an executor. What cannot be read in parts as it is (compressed, or in another encoding) is packed into a
blob of its own on the way; that of a survey which comes to nothing is deleted at once, or, where the process ends, a stray.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from jobber import faults
from jobber.blobs.store import Blobs
from jobber.errors import JobberError
from jobber.ids import uuid7
from jobber.log import event
from jobber.model import InputOptions
from operators.plan.survey import Survey, survey

#: Bytes of a window that is looked at, and windows that wait.
WINDOW, WAITING = 1 << 20, 4
#: Batches of an input beyond which its plan is not to be stored within a request.
MOST_BATCHES = 4096
#: Seconds that an upload waits for its survey altogether; one that takes longer by itself, as long as that.
PATIENCE = 2.0
#: Packing makes nothing larger by so much.
_SPARE = 1 << 30


class GivenUp(Exception):
    """The upload has ended without its last byte, or waits no longer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a survey has found."""

    survey: Survey
    #: The blob that its batches are ranges of, durable, where that is not the upload's own. Nothing refers to it yet.
    plan_blob: str | None


class Surveyor:
    """Looks at some uploads at once; others come unseen."""

    def __init__(self, options: InputOptions, at_once: int, blobs: Blobs, expanded_bytes: int) -> None:
        """`options` say how large batches are to be; with 0 `at_once` none is looked at."""
        self.options = options
        self.blobs = blobs
        self.expanded_bytes = expanded_bytes
        self.pool = ThreadPoolExecutor(max(at_once, 1), "survey")
        self._free = at_once

    def begin(self) -> "Looking | None":
        """Begin with an upload; None when enough are looked at."""
        if not self._free:
            return None
        self._free -= 1
        return Looking(self)

    def end(self) -> None:
        """There is room for one more."""
        self._free += 1

    def delete(self, key: str) -> None:
        """In a thread of surveys: a blob that nobody refers to. Where that fails it is a stray, which retention finds."""
        with contextlib.suppress(JobberError):
            _wait(self.blobs.delete(key))

    async def close(self) -> None:
        """No upload is coming any more."""
        self.pool.shutdown(wait=False)


class Looking:
    """One survey: hand it every chunk through `along`, then ask for `found`; `close` it whatever happens."""

    def __init__(self, surveyor: Surveyor) -> None:
        self._surveyor = surveyor
        self._windows: queue.Queue[bytes | None] = queue.Queue()
        self._room = asyncio.Semaphore(WAITING)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._held = 0.0
        self._whole = False
        self._lock = threading.Lock()
        #: No more is wanted of it. The lock orders this and the end of the survey: one of both deletes its blob.
        self._over = False
        self._made: str | None = None
        self._found: Future[Seen | None] = surveyor.pool.submit(self._look)
        self._found.add_done_callback(lambda _: self._let_go())

    def _look(self) -> Seen | None:
        """In the survey's thread."""
        surveyor, key = self._surveyor, f"plans/{uuid7()}"
        made = wanted = False

        def keep(chunks: Iterator[bytes]) -> None:
            nonlocal made
            _wait(surveyor.blobs.put(key, _each(chunks), surveyor.expanded_bytes * 2 + _SPARE))
            made = True
            faults.point("survey.after_blob")

        try:
            seen = survey(
                self._coming(),
                surveyor.options,
                limit=surveyor.expanded_bytes,
                most=MOST_BATCHES,
                keep=keep,
                goes_on=self._goes_on,
            )
            with self._lock:
                wanted = seen is not None and not self._over
                self._made = key if wanted and made else None
            return Seen(seen, self._made) if seen is not None and wanted else None
        except GivenUp:
            return None
        except JobberError as fault:
            event("unavailable", f"an upload is not surveyed: {fault}", level=logging.WARNING, step="survey")
            return None
        finally:
            if made and not wanted:
                surveyor.delete(key)

    def _coming(self) -> Iterator[bytes]:
        """In the survey's thread."""
        while (window := self._windows.get()) is not None:
            yield window
            self._let_go()
        if not self._whole:
            raise GivenUp

    def _goes_on(self) -> None:
        """In the survey's thread."""
        if self._over:
            raise GivenUp

    def _let_go(self) -> None:
        """In the survey's thread: one more window may come; or none will be looked at, and who waits for room goes on."""
        with contextlib.suppress(RuntimeError):  # the service has ended
            self._loop.call_soon_threadsafe(self._room.release)

    async def along(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The chunks, which are looked at on the way."""
        parts: list[bytes] = []
        size = 0
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= WINDOW:
                await self._hand(b"".join(parts))
                parts, size = [], 0
            yield chunk
        await self._hand(b"".join(parts))
        self._whole = True

    async def _hand(self, window: bytes) -> None:
        if window and not self._over and not self._found.done():
            with contextlib.suppress(TimeoutError):
                async with self._waiting():
                    await self._room.acquire()
                self._windows.put(window)

    @contextlib.asynccontextmanager
    async def _waiting(self) -> AsyncIterator[None]:
        """The upload waits for its survey. Raises TimeoutError once it has waited enough: then the survey is given up."""
        began = self._loop.time()
        try:
            async with asyncio.timeout(max(PATIENCE, began - self._began - self._held) - self._held):
                yield
        except TimeoutError:
            self._give_up()
            raise
        finally:
            self._held += self._loop.time() - began

    async def found(self) -> Seen | None:
        """What was seen of the whole, its blob now the caller's; None when that is for an executor to tell."""
        self._windows.put(None)
        if self._over:
            return None
        try:
            async with self._waiting():
                seen = await asyncio.wrap_future(self._found)
        except TimeoutError:
            return None
        except Exception as fault:
            event("bug", "The survey of an upload failed.", level=logging.ERROR, error=fault)
            return None
        self._made = None
        return seen

    def _give_up(self) -> None:
        with self._lock:
            self._over = True
            made, self._made = self._made, None
        if made is not None:
            with contextlib.suppress(RuntimeError):  # the service has ended
                self._surveyor.pool.submit(self._surveyor.delete, made)

    def close(self) -> None:
        """No more is coming."""
        self._windows.put(None)
        self._give_up()
        self._surveyor.end()


def _wait(work: Coroutine[Any, Any, Any]) -> None:
    """In a thread of surveys: nothing else waits for this loop."""
    asyncio.run(work)


async def _each(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """What blocks its loop is what that is there for."""
    for chunk in chunks:
        yield chunk
