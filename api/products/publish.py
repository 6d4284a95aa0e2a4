"""The transaction that makes a job's staged rows visible, all at once (docs/adr/0013-published-at-once.md).

    lock      the job's lock alone: no batch of it is being written, it is not being closed
    check     not closed; something is staged
    find      for UPSERT and UPDATE: which product each record names (merge.py)
    write     new rows, changed rows, the receipts in the ledger
    close     closed_jobs, and the staging table is dropped

Who publishes by keys waits for all others who do: two that change the same rows in another order would wait for each other,
and two that insert the same key would both find none.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from api.database import Connection
from api.products import merge, metrics, staging
from api.products.ledger import CLOSE, Ledger, lock_key
from api.products.model import TryAgain
from api.products.rows import COLUMNS
from jobber import faults
from jobber.errors import Unavailable
from jobber.model import WriteMode

#: Seconds of one statement. A million rows take about five; a disk that is so slow that this is over is broken.
STATEMENT_TIMEOUT = 1800.0
#: Publications at once in one process: each holds a connection. One more publishes by keys.
PUBLISHING = 2
#: Times that a publication by keys is tried under which single products were changed by hand.
TRIES = 5
#: The advisory lock of all who publish by keys, in any process.
BY_KEYS = 0x4A0B0002

TRY_LOCK: LiteralString = "SELECT pg_try_advisory_xact_lock(%s)"
CLOSED: LiteralString = "SELECT 1 FROM products.closed_jobs WHERE job_id = %s"
SUMS: LiteralString = """
    SELECT coalesce(sum(staged), 0)::bigint, coalesce(sum(rejected), 0)::bigint FROM products.ledger WHERE job_id = %s
"""
INSERTED: LiteralString = """
    UPDATE products.ledger SET inserted = staged, staged = 0, committed_at = clock_timestamp() WHERE job_id = %s AND staged > 0
"""
PRODUCT = sql.SQL(", ").join(map(sql.Identifier, ("id", "job_id", "batch_no", *COLUMNS)))


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to become visible, and how."""

    job_id: str
    mode: WriteMode
    keys: Sequence[str] = ()
    #: Written to rows that are there.
    columns: Sequence[str] = ()
    #: Records that may be rejected; None: any number.
    allowed: int | None = None
    dry_run: bool = False


class Publisher:
    """Publishes jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._room = asyncio.Semaphore(PUBLISHING)
        self._by_keys = asyncio.Lock()

    async def publish(self, asked: Publication) -> None:
        """Do it, unless it was done or the job was closed; the receipts in the ledger say which.

        Raises DataRefused, and Unavailable: nothing was changed then, or only the answer to COMMIT was lost.
        """
        async with self._room if asked.mode is WriteMode.INSERT else self._by_keys:
            for tried in range(TRIES):
                try:
                    return await self._once(asked)
                except TryAgain as fault:
                    if tried == TRIES - 1:
                        raise Unavailable("The products are being changed by others; try again in a moment.") from fault
        raise AssertionError("not reached")

    async def _once(self, asked: Publication) -> None:
        rows = 0
        async with self._ledger.transaction(STATEMENT_TIMEOUT) as session:
            if not await _value(session, TRY_LOCK, lock_key(asked.job_id)):
                raise Unavailable("The job is being loaded, closed or published; try again in a moment.")
            if await _value(session, CLOSED, asked.job_id):
                return
            if await staging.there(session, asked.job_id):
                rows = await (self._insert(session, asked) if asked.mode is WriteMode.INSERT else self._merge(session, asked))
                await staging.drop(session, asked.job_id)
            await session.execute(CLOSE, [asked.job_id])
            faults.point("products.before_publish")
        faults.point("products.after_publish")
        metrics.ROWS.inc(rows)

    async def _insert(self, session: Connection, asked: Publication) -> int:
        query = sql.SQL("INSERT INTO products.products ({c}) SELECT {c} FROM {t}").format(
            c=PRODUCT, t=staging.named(asked.job_id)
        )
        written = (await session.execute(query)).rowcount
        said = await _value(session, SUMS, asked.job_id)
        if written != said:
            raise AssertionError(f"{written} rows were staged, and the receipts say {said}")
        await session.execute(INSERTED, [asked.job_id])
        return written

    async def _merge(self, session: Connection, asked: Publication) -> int:
        # Whoever has it publishes for seconds; those of this process do not even ask.
        if not await _value(session, TRY_LOCK, BY_KEYS):
            raise Unavailable("Another job is being published by its keys; try again in a moment.")
        found = merge.Merge(session, asked.job_id, asked.mode, asked.keys, asked.columns)
        await found.find()
        staged, rejected = await _row(session, SUMS, asked.job_id)
        counts = await found.counts()
        if sum(sum(count.values()) for count in counts.values()) != staged:
            raise AssertionError(f"{counts} is not what became of {staged} staged rows")
        lost = sum(count[merge.MISSING] + count[merge.RIVALS] for count in counts.values())
        beyond = asked.allowed is not None and rejected + lost > asked.allowed
        written = 0
        if not asked.dry_run and not beyond:
            written = await found.write()
        await self._enter(session, asked.job_id, counts, await found.rejects(), visible=not beyond)
        return written

    async def _enter(
        self, session: Connection, job_id: str, counts: "merge.Counts", rejects: Mapping[int, bytes], *, visible: bool
    ) -> None:
        """The receipts as they are now."""
        for batch_no, count in counts.items():
            made = [count[outcome] if visible else 0 for outcome in (merge.NEW, merge.CHANGED, merge.SAME)]
            lost = count[merge.MISSING] + count[merge.RIVALS]
            await session.execute(
                """UPDATE products.ledger SET inserted = %s, updated = %s, unchanged = %s, staged = %s,
                          rejected = rejected + %s, rejects = coalesce(%b, rejects), committed_at = clock_timestamp()
                    WHERE job_id = %s AND batch_no = %s""",
                [*made, sum(count.values()) - lost - sum(made), lost, rejects.get(batch_no), job_id, batch_no],
            )


async def _row(session: Connection, query: LiteralString, parameter: object) -> tuple[int, ...]:
    row = await (await session.execute(query, [parameter])).fetchone()
    assert row is not None
    return tuple(row)


async def _value(session: Connection, query: LiteralString, parameter: object) -> int | None:
    row = await (await session.execute(query, [parameter])).fetchone()
    return row[0] if row else None
