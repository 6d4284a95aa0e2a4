"""The transaction that writes batches with their receipts, and the one that closes a job.

                Load (shared lock per job)              CloseJob (exclusive lock of the job)
    lock        waits for a close, not for loads        waits for every load of the job
    check       closed_jobs, in a later statement       -
    write       ledger rows, then COPY                  closed_jobs
    commit      lets go                                 lets go: from now on no row of the job can appear

A batch that is in the ledger is never written again: its row there is its receipt.
"""

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow
from psycopg.sql import Composed

from api.database import Connection, Pool
from api.products import metrics, staging
from api.products.model import Batch, Closed, DataRefused, TryAgain
from api.products.rows import COPY_HEADER, COPY_TRAILER, PRODUCTS, STAGED, copy_into
from jobber import faults, tracing
from jobber.errors import DiskFull, Unavailable
from jobber.log import event
from jobber.model import BatchKey, Receipt

#: Seconds that a transaction waits for a lock, sits between two statements, and runs one statement. A group takes well under a
#: second; what is slower than this is a process that was stopped, or a disk that is.
LOCK_TIMEOUT, IDLE_TIMEOUT, STATEMENT_TIMEOUT = 6.0, 10.0, 60.0
#: A COPY that has waited for its client and is older than this is taken for one whose process was stopped.
STALLED_AFTER = 15.0
#: Closing tries so often: LOCK_TIMEOUT times this is more than STALLED_AFTER, and less than the caller's 30 s.
CLOSE_TRIES = 4
#: Bytes of one write, about as many as the socket takes at once: of what it does not take libpq moves the rest, each time.
COPY_SLICE = 256 << 10
#: Bytes of rejects and number of receipts of one page; a message must stay far below gRPC's 64 MiB.
PAGE_BYTES, PAGE_RECEIPTS = 2 << 20, 2000

TIMEOUTS: LiteralString = """
    SELECT set_config('lock_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true),
           set_config('statement_timeout', %s, true)
"""

LOCK_SHARED: LiteralString = "SELECT pg_advisory_xact_lock_shared(key) FROM unnest(%s::bigint[]) AS key"

LOCK: LiteralString = "SELECT pg_advisory_xact_lock(%s)"

#: Waits for another transaction that is writing the same batch; answers the batches that are ours to write. In key order, so
#: that two groups which overlap do not wait for each other.
ENTER: LiteralString = """
    INSERT INTO products.ledger (job_id, batch_no, inserted, staged, rejected, rejects, first_id)
    SELECT * FROM unnest(%s::uuid[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[], %s::bigint[])
                  AS given (job_id, batch_no, inserted, staged, rejected, rejects, first_id)
     WHERE NOT EXISTS (SELECT FROM products.closed_jobs AS closed WHERE closed.job_id = given.job_id)
     ORDER BY job_id, batch_no
        ON CONFLICT DO NOTHING
 RETURNING job_id::text, batch_no, committed_at
"""

STORED: LiteralString = """
    SELECT job_id::text, batch_no, inserted, updated, unchanged, rejected, rejects, committed_at, staged
      FROM products.ledger JOIN unnest(%s::uuid[], %s::integer[]) AS asked (job_id, batch_no) USING (job_id, batch_no)
"""

CLOSE: LiteralString = """
    INSERT INTO products.closed_jobs (job_id) VALUES (%s) ON CONFLICT (job_id) DO UPDATE SET job_id = excluded.job_id
    RETURNING closed_at
"""

FORGET: LiteralString = "UPDATE products.ledger SET rejects = '' WHERE job_id = ANY (%s::uuid[]) AND rejects <> ''"

SIZES: LiteralString = "SELECT batch_no, octet_length(rejects) FROM products.ledger WHERE job_id = %s ORDER BY batch_no"

PAGE: LiteralString = """
    SELECT job_id::text, batch_no, inserted, updated, unchanged, rejected, rejects, committed_at, staged
      FROM products.ledger WHERE job_id = %s AND batch_no BETWEEN %s AND %s ORDER BY batch_no
"""

#: Nothing else ends them: while a backend reads from its client in a COPY no timeout fires, and the kernel of a stopped
#: process goes on answering keepalives.
END_STALLED: LiteralString = """
    SELECT pg_terminate_backend(pid), pid FROM pg_stat_activity
     WHERE application_name = current_setting('application_name') AND datname = current_database() AND pid <> pg_backend_pid()
       AND state = 'active' AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - make_interval(secs => %s)
"""


class LockTimeout(Unavailable):
    """Another transaction holds what this one needs."""


class Ledger:
    """`products.ledger` and `products.closed_jobs`, and the rows of products that belong to them."""

    def __init__(self, pool: Pool, *, lock_timeout: float = LOCK_TIMEOUT, stalled_after: float = STALLED_AFTER) -> None:
        self._pool = pool
        self._lock_timeout = lock_timeout
        self._stalled_after = stalled_after

    async def write(self, batches: Sequence[Batch]) -> dict[BatchKey, Receipt | Closed]:
        """Write the batches with their receipts, all in one transaction; keys must differ.

        A batch that was written before answers its old receipt. Raises DataRefused, TryAgain, Unavailable: nothing was written
        then, or, when only the answer to COMMIT got lost, everything, which the next try finds out.
        """
        faults.point("products.before_ledger")
        try:
            async with self.transaction() as session:
                outcomes, rows = await _write(session, batches)
                faults.point("products.before_commit")
            faults.point("products.after_commit")
            metrics.ROWS.inc(rows)
            return outcomes
        except LockTimeout:
            await self._end_stalled()
            raise

    async def close(self, job_id: str) -> datetime:
        """Let no further batch of the job in; answers when all that was in is committed. Raises Unavailable."""
        for left in reversed(range(CLOSE_TRIES)):
            try:
                async with self.transaction() as session:
                    await session.execute(LOCK, [lock_key(job_id)])
                    closed_at: datetime = (await _rows(session, CLOSE, [job_id]))[0][0]
                    await staging.drop(session, job_id)
                    faults.point("products.before_close")
                faults.point("products.after_close")
                return closed_at
            except TryAgain as fault:
                if not left:
                    raise Unavailable("The database is too busy to close the job; try again in a moment.") from fault
            except LockTimeout:
                await self._end_stalled()
                if not left:
                    raise
        raise AssertionError("not reached")

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Empty the rejects of jobs that have ended; their receipts stay, with their counts. Raises Unavailable."""
        async with self.transaction() as session:
            await session.execute(FORGET, [job_ids])
            faults.point("products.before_forget")
        faults.point("products.after_forget")

    async def receipts(self, job_id: str) -> AsyncIterator[list[Receipt]]:
        """All receipts of a job, by batch_no, in pages; no connection is held between them."""
        async with _session(self._pool) as session:
            sizes = await _rows(session, SIZES, [job_id])
        for first, last in pages(sizes):
            async with _session(self._pool) as session:
                page = await _rows(session, PAGE, [job_id, first, last])
            yield [_receipt(row) for row in page]

    @asynccontextmanager
    async def transaction(self, statement_timeout: float = STATEMENT_TIMEOUT) -> AsyncIterator[Connection]:
        """A session in a transaction with bounds; raises as `write` does."""
        async with _session(self._pool) as session:
            # In a stricter one the closed-job check would see the database as it was before the lock was had.
            await session.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
            async with session.transaction():
                timeouts = (self._lock_timeout, IDLE_TIMEOUT, statement_timeout)
                await session.execute(TIMEOUTS, [f"{round(seconds * 1000)}ms" for seconds in timeouts])
                yield session

    async def _end_stalled(self) -> None:
        """End the sessions of this service whose process was stopped in mid-COPY: they would hold their locks for ever."""
        async with _session(self._pool) as session:
            for _, pid in await _rows(session, END_STALLED, [self._stalled_after]):
                event("unavailable", f"Ended the stalled COPY of session {pid}.", level=logging.WARNING, pid=pid)


def lock_key(job_id: str) -> int:
    """The job's advisory lock: a bigint, the same in every process and version."""
    return int.from_bytes(hashlib.sha256(f"products job {job_id}".encode()).digest()[:8], signed=True)


def pages(sizes: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Ranges of batch numbers, each within PAGE_BYTES and PAGE_RECEIPTS unless it is a single batch."""
    first = last = None
    count = total = 0
    for batch_no, size in sizes:
        if first is not None and last is not None and (total + size > PAGE_BYTES or count == PAGE_RECEIPTS):
            yield first, last
            first, count, total = None, 0, 0
        first = batch_no if first is None else first
        last = batch_no
        count, total = count + 1, total + size
    if first is not None and last is not None:
        yield first, last


async def _write(session: Connection, batches: Sequence[Batch]) -> tuple[dict[BatchKey, Receipt | Closed], int]:
    """What became of each batch, and how many rows were written."""
    keys = sorted({lock_key(batch.key.job_id) for batch in batches})
    # A statement of its own: the next one must see what was committed while this one waited.
    await session.execute(LOCK_SHARED, [keys])
    given = [
        (b.key.job_id, b.key.batch_no, b.visible, b.header.rows - b.visible, b.header.rejected, b.header.rejects, b.first_id)
        for b in batches
    ]
    columns = [list(column) for column in zip(*given, strict=True)]
    entered = {BatchKey(row[0], row[1]): row[2] for row in await _rows(session, ENTER, columns)}
    faults.point("products.after_ledger")
    fresh = [batch for batch in batches if batch.key in entered]
    plain = [batch for batch in fresh if not batch.header.staged and batch.header.rows]
    if plain:
        with tracing.span("COPY", kind="client", rows=sum(batch.header.rows for batch in plain)):
            await _copy(session, copy_into(PRODUCTS), plain)
    waiting: dict[str, list[Batch]] = {}
    for batch in fresh:
        if batch.header.staged and batch.header.rows:
            waiting.setdefault(batch.key.job_id, []).append(batch)
    for job_id in sorted(waiting):
        await _copy(session, copy_into(await staging.make(session, job_id), STAGED), waiting[job_id])
    known: dict[BatchKey, Receipt] = {}
    if others := [batch.key for batch in batches if batch.key not in entered]:
        asked = [[key.job_id for key in others], [key.batch_no for key in others]]
        known = {receipt.key: receipt for receipt in map(_receipt, await _rows(session, STORED, asked))}
    made = {
        batch.key: Receipt(
            batch.key,
            batch.visible,
            0,
            0,
            batch.header.rejected,
            batch.header.rejects,
            b"",
            entered[batch.key],
            batch.header.rows - batch.visible,
        )
        for batch in fresh
    }
    outcomes = {batch.key: made.get(batch.key) or known.get(batch.key) or Closed(batch.key) for batch in batches}
    return outcomes, sum(receipt.inserted for receipt in made.values())


async def _copy(session: Connection, query: Composed, batches: Sequence[Batch]) -> None:
    began, size = time.perf_counter(), 0
    async with session.cursor() as cursor:
        async with cursor.copy(query) as copy:
            for part in slices([COPY_HEADER, *(piece for batch in batches for piece in batch.copy), COPY_TRAILER]):
                size += len(part)
                await copy.write(part)
                faults.point("products.in_copy")
        said, written = sum(batch.header.rows for batch in batches), cursor.rowcount
    # An encoder that loses rows must not make a receipt lie.
    if written != said:
        raise AssertionError(f"COPY wrote {written} rows, and the receipts say {said}")
    metrics.COPY_SECONDS.observe(time.perf_counter() - began)
    metrics.COPY_BYTES.inc(size)


def slices(pieces: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """The same bytes in parts of at most COPY_SLICE: small pieces together, large ones cut."""
    small: list[bytes] = []
    size = 0
    for piece in pieces:
        if small and size + len(piece) > COPY_SLICE:
            yield b"".join(small)
            small, size = [], 0
        if len(piece) > COPY_SLICE:
            view = memoryview(piece)
            yield from (view[start : start + COPY_SLICE] for start in range(0, len(view), COPY_SLICE))
        else:
            small.append(piece)
            size += len(piece)
    if small:
        yield b"".join(small)


async def _rows(session: Connection, query: LiteralString, parameters: Sequence[object]) -> list[TupleRow]:
    return await (await session.execute(query, parameters)).fetchall()


def _receipt(row: TupleRow) -> Receipt:
    job_id, batch_no, inserted, updated, unchanged, rejected, rejects, committed_at, staged = row
    return Receipt(BatchKey(job_id, batch_no), inserted, updated, unchanged, rejected, rejects, b"", committed_at, staged)


@asynccontextmanager
async def _session(pool: Pool) -> AsyncIterator[Connection]:
    """A connection; what PostgreSQL raises becomes what it means for us (https://www.postgresql.org/docs/18/errcodes-appendix.html)."""
    try:
        async with pool.connection() as session:
            yield session
    except psycopg.Error as fault:
        state = fault.sqlstate or ""
        # Data exception, integrity constraint, program limit: the rows are at fault.
        if state[:2] in ("22", "23", "54"):
            raise DataRefused(fault.diag.message_primary or str(fault)) from fault
        if state[:2] == "40":
            raise TryAgain(state) from fault
        if isinstance(fault, psycopg.errors.LockNotAvailable):
            raise LockTimeout("Another load holds the same batch or job; try again in a moment.") from fault
        if isinstance(fault, psycopg.errors.DiskFull):
            raise DiskFull("The database has no room.") from fault
        if isinstance(fault, psycopg.OperationalError):
            raise Unavailable("The database does not answer; try again in a moment.") from fault
        raise
