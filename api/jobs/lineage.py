"""Which batch a row came from: products know their batch, this room knows the batch's place and whose it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from api.database import Pool
from api.database import connection as checkout
from jobber.model import BatchKey

BATCHES: LiteralString = """
    SELECT b.job_id::text, b.batch_no, b.first_row, b.rows, b.attempts, r.committed_at
      FROM unnest(%(jobs)s::uuid[], %(numbers)s::integer[]) WITH ORDINALITY AS asked(job_id, batch_no, place)
      JOIN jobs.batches b USING (job_id, batch_no)
      JOIN jobs.jobs j ON j.id = b.job_id AND (%(owner)s::uuid IS NULL OR j.owner_id = %(owner)s)
      LEFT JOIN jobs.receipts r USING (job_id, batch_no)
     ORDER BY asked.place
"""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch as people see it."""

    key: BatchKey
    first_row: int
    rows: int
    attempts: int
    #: None until its receipt is stored.
    committed_at: datetime | None


class Lineage:
    """Batches in the `jobs` schema."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def batches(self, keys: Sequence[BatchKey], owner_id: str | None) -> list[BatchRow]:
        """Those of the keys that are there and belong to `owner_id` (None: whoever), in the order of the keys."""
        values = {"jobs": [key.job_id for key in keys], "numbers": [key.batch_no for key in keys], "owner": owner_id}
        async with checkout(self._pool) as session:
            cursor = await session.execute(BATCHES, values)
            return [BatchRow(BatchKey(row[0], row[1]), *row[2:]) for row in await cursor.fetchall()]
