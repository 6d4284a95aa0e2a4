"""One asking for all who want to know the same: an answer is never older than the request that gets it.

a ──► asked ──────────► answered: a
  b, c wait ─► asked ─────────► answered: b, c
                 d waits ─► …
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Seconds that a question waits for the one before it. Where that one hangs, nobody is to wait for two of them.
PATIENCE = 0.05


class Shared(Generic[K, V]):
    """Asks at most one question about a key at a time; those that come meanwhile share the next one."""

    def __init__(self, ask: Callable[[K], Awaitable[V]]) -> None:
        self._ask = ask
        #: Not sent yet: whoever comes may join.
        self._next: dict[K, asyncio.Task[V]] = {}
        #: Sent last. What became true since may not be in its answer.
        self._sent: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The answer to a question that is sent after this call. Raises what asking raises."""
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._turn(key, self._sent.get(key)))
            # All who wanted to know may have gone.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Shielded: one who leaves must not end the question of the others.
        return await asyncio.shield(task)

    async def _turn(self, key: K, before: "asyncio.Task[V] | None") -> V:
        if before is not None:
            await asyncio.wait((before,), timeout=PATIENCE)
        mine = self._sent[key] = self._next.pop(key)
        try:
            return await self._ask(key)
        finally:
            if self._sent.get(key) is mine:
                del self._sent[key]
