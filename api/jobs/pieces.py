"""A request's body in pieces: of a good size while it flows, of what there is when it trickles or breaks off."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect


class Pieces:
    """Reads ahead by one piece, in a task of its own, which can be ended at any time without losing what has come."""

    def __init__(self, chunks: AsyncIterator[bytes], size: int, patience: float) -> None:
        self._size, self._patience = size, patience
        self._held: list[bytes] = []
        self._bytes = 0
        self._full, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._reading = asyncio.create_task(self._read(chunks))
        #: The body did not come to its end.
        self.cut = False

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises what reading the body raised."""
        while not self._reading.done() and not self._full.is_set():
            full = asyncio.create_task(self._full.wait())
            done, _ = await asyncio.wait({full, self._reading}, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
            full.cancel()
            if not done and self._held:
                break
        piece = b"".join(self._held)
        self._held.clear()
        self._bytes = 0
        self._full.clear()
        self._room.set()
        if not piece and self._reading.done() and not self._reading.cancelled():
            self._reading.result()
        return piece

    def end(self) -> None:
        """Somebody else goes on: what has come is the last of it."""
        self.cut = True
        self._reading.cancel()

    async def close(self) -> None:
        """Read no more."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._reading

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                self._held.append(chunk)
                self._bytes += len(chunk)
                if self._bytes >= self._size:
                    self._room.clear()
                    self._full.set()
                    await self._room.wait()
        except ClientDisconnect:
            self.cut = True
