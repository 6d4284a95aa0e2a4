"""Surveys of uploads while they come: where their records end is known with the last byte, and a job can begin at once.

A survey only ever saves time. One that meets what is not of the plain kind is given up, and the job's input is planned by an
executor.
"""

import asyncio
import contextlib
import logging
import queue
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from jobber.log import event
from jobber.model import InputOptions
from operators.plan.survey import Survey, survey

#: Bytes of a window that is looked at, and windows that wait: an upload is never held up by more than the look at one.
WINDOW, WAITING = 1 << 20, 4
#: Batches of an input beyond which its plan is not to be stored within a request.
MOST_BATCHES = 4096


class GivenUp(Exception):
    """The upload has ended without its last byte."""


class Surveyor:
    """Looks at some uploads at once; others come unseen."""

    def __init__(self, options: InputOptions, at_once: int) -> None:
        """`options` say how large batches are to be; with 0 `at_once` none is looked at."""
        self._options = options
        self._free = at_once
        self._pool = ThreadPoolExecutor(max(at_once, 1), "survey")

    def begin(self) -> "Looking | None":
        """Begin with an upload; None when enough are looked at."""
        if not self._free:
            return None
        self._free -= 1
        return Looking(self, self._pool, self._options)

    def end(self) -> None:
        """There is room for one more."""
        self._free += 1

    async def close(self) -> None:
        """No upload is coming any more."""
        self._pool.shutdown(wait=False)


class Looking:
    """One survey: hand it every chunk through `along`, then ask for `found`; `close` it whatever happens."""

    def __init__(self, surveyor: Surveyor, pool: ThreadPoolExecutor, options: InputOptions) -> None:
        self._surveyor = surveyor
        self._windows: queue.Queue[bytes | None] = queue.Queue()
        self._room = asyncio.Semaphore(WAITING)
        self._loop = asyncio.get_running_loop()
        self._whole = False
        self._found: Future[Survey | None] = pool.submit(survey, self._coming(), options)
        self._found.add_done_callback(lambda _: self._let_go())

    def _coming(self) -> Iterator[bytes]:
        """In the survey's thread."""
        while (window := self._windows.get()) is not None:
            yield window
            self._let_go()
        if not self._whole:
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
        if window and not self._found.done():
            await self._room.acquire()
            self._windows.put(window)

    async def found(self) -> Survey | None:
        """What was seen of the whole; None when that is for an executor to tell."""
        self._windows.put(None)
        try:
            seen = await asyncio.wrap_future(self._found)
        except Exception as fault:
            event("bug", "The survey of an upload failed.", level=logging.ERROR, error=fault)
            return None
        return seen if seen is not None and len(seen.batches) <= MOST_BATCHES else None

    def close(self) -> None:
        """No more is coming."""
        self._windows.put(None)
        self._surveyor.end()
