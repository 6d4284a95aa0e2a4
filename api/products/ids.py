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
        async with self._fetching:
            if not self._free:
                async with connection(self._pool) as session:
                    steps = await (await session.execute(NEXT, [AHEAD])).fetchall()
                self._free.extend(step for (step,) in steps)
            return self._free.popleft()
