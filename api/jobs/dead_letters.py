"""What can never be loaded, kept with its reason for people to look at: messages that are no dispatch, or name a batch or a job
that there is not, and batches that fail their job.

Kept before it is acknowledged; equal ones are counted, and the number of different ones is bounded: whoever can write to the
broker cannot fill the database.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from prometheus_client import Counter

from api.database import Pool
from api.database import connection as checkout
from jobber import faults
from jobber.model import BatchKey

LETTERS = Counter("jobber_jobs_dead_letters", "Messages and batches that can never be loaded.")
#: Different ones that are kept, and bytes of each.
MOST, BODY_BYTES, TEXT_CHARS = 1000, 1000, 500
#: What stands for the topic of what an executor had claimed already, or took for a dispatch.
BATCH, UNKNOWN = "batch", "unknown"

KEEP: LiteralString = """
    INSERT INTO jobs.dead_letters AS kept (topic, body, sha256, reason, count)
    SELECT topic, body, sha256, min(reason), count(*)
      FROM unnest(%(topics)s::text[], %(bodies)s::bytea[], %(digests)s::bytea[], %(reasons)s::text[])
           AS given (topic, body, sha256, reason)
     GROUP BY topic, body, sha256 ORDER BY topic, sha256
        ON CONFLICT (topic, sha256) DO UPDATE
       SET count = kept.count + excluded.count, reason = excluded.reason, last_at = clock_timestamp()
"""
BOUND: LiteralString = """
    DELETE FROM jobs.dead_letters WHERE id IN (
        SELECT id FROM jobs.dead_letters ORDER BY last_at DESC, id DESC OFFSET %(most)s FOR UPDATE SKIP LOCKED)
"""
MISSING_BATCHES: LiteralString = """
    SELECT asked.job_id::text, asked.batch_no FROM unnest(%s::uuid[], %s::integer[]) AS asked (job_id, batch_no)
     WHERE NOT EXISTS (SELECT FROM jobs.batches b WHERE b.job_id = asked.job_id AND b.batch_no = asked.batch_no)
"""
PAGE: LiteralString = """
    SELECT id, topic, body, reason, count, first_at, last_at FROM jobs.dead_letters
     WHERE %(before)s::bigint IS NULL OR id < %(before)s ORDER BY id DESC LIMIT %(most)s
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """One that is to be kept."""

    topic: str
    body: bytes
    #: A sentence.
    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """One that is kept."""

    number: int
    topic: str
    #: Its beginning.
    body: bytes
    reason: str
    count: int
    first_at: datetime
    last_at: datetime


class DeadLetters:
    """`jobs.dead_letters`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep(self, letters: Sequence[Letter]) -> None:
        """Keep them; answers once that is durable. Raises Unavailable."""
        if not letters:
            return
        bodies = [letter.body[:BODY_BYTES] for letter in letters]
        async with checkout(self._pool) as session, session.transaction():
            await session.execute(
                KEEP,
                {
                    "topics": [_text(letter.topic) for letter in letters],
                    "bodies": bodies,
                    "digests": [hashlib.sha256(body).digest() for body in bodies],
                    "reasons": [_text(letter.reason) for letter in letters],
                },
            )
            await session.execute(BOUND, {"most": MOST})
            faults.point("dead_letter.before_commit")
        faults.point("dead_letter.after_commit")
        LETTERS.inc(len(letters))

    async def keep_missing(self, asked: Sequence[BatchKey]) -> None:
        """Keep those that name a batch that there is not. Raises Unavailable."""
        async with checkout(self._pool) as session:
            values = [[key.job_id for key in asked], [key.batch_no for key in asked]]
            missing = await (await session.execute(MISSING_BATCHES, values)).fetchall()
        await self.keep([Letter(UNKNOWN, name_of(BatchKey(*row)), "There is no such batch.") for row in missing])

    async def page(self, most: int, before: int | None) -> list[Kept]:
        """The latest, newest first; `before` is the number of the last one seen."""
        async with checkout(self._pool) as session:
            rows = await (await session.execute(PAGE, {"before": before, "most": most})).fetchall()
            return [Kept(*row) for row in rows]


def name_of(key: BatchKey) -> bytes:
    """As batches are named in GraphQL."""
    return f"{key.job_id}:{key.batch_no}".encode()


def _text(text: str) -> str:
    """As PostgreSQL takes it: without NUL."""
    return text.replace("\0", "")[:TEXT_CHARS]
