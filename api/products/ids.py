"""Ids for loaded rows: one step of the sequence a batch, which the batch's rows share (sql/0001_products.sql)."""

import asyncio
from collections import deque
from typing import LiteralString

from api.database import Pool, connection

#: Steps fetched at once, so that few batches wait for the database. What a process leaves unused is lost; there are 9e13 steps.
AHEAD = 16

NEXT: LiteralString = "SELECT nextval('products.product_ids') FROM generate_series(1, %s)"


class Ids:
    """Hands out first ids. The rows can so be encoded before their transaction is opened."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._free: deque[int] = deque()
        self._fetching = asyncio.Lock()

    async def take(self) -> int:
        """The first of MAX_BATCH_ROWS ids that nobody else gets. Raises Unavailable."""
        return (await self.take_many(1))[0]

    async def take_many(self, count: int) -> list[int]:
        """The same for so many batches."""
        async with self._fetching:
            missing = count - len(self._free)
            if missing > 0:
                async with connection(self._pool) as session:
                    steps = await (await session.execute(NEXT, [max(missing, AHEAD)])).fetchall()
                self._free.extend(step for (step,) in steps)
            return [self._free.popleft() for _ in range(count)]
