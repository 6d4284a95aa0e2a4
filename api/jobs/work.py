"""The SQL of work: dispatch, claim, acknowledge, close. Only the database's clock decides.

Locks are taken in one order: the dispatch lock, then job rows by id, then batch rows by key.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isfinite

from msgspec import json as msgjson

from api.database import Connection, Pool
from api.database import connection as checkout
from api.jobs import metrics
from api.jobs.decide import Limits, Verdict, verdict
from api.jobs.endings import end_all, end_job, store_receipts, tallied, tell_end
from api.jobs.model import lane_of
from api.jobs.store import insert_batches
from api.jobs.turn import DISPATCH_LOCK, Ticket, Turn
from api.jobs.upload_store import claim_blob
from jobber import faults
from jobber.log import event
from jobber.model import PLAIN, BatchKey, Plan, PlannedBatch, Receipt, State, WriteMode, Writing


@dataclass(frozen=True, slots=True)
class Spec:
    """What every batch of a job shares."""

    job_id: str
    name: str
    args: bytes
    #: jobber.model.Layout, JSON; while planning, jobber.model.InputOptions.
    layout: bytes
    lookups: bytes
    inline: bytes | None
    blob_key: str | None
    writing: Writing = PLAIN


@dataclass(frozen=True, slots=True)
class Claimed:
    """A batch that an executor may now load."""

    key: BatchKey
    attempt: int
    planned: PlannedBatch


@dataclass(frozen=True, slots=True)
class Staged:
    """A job whose rows all wait to become visible."""

    job_id: str
    name: str
    writing: Writing
    #: jobber.model.Layout, JSON.
    layout: bytes
    #: Records that may be rejected; None: any number.
    allowed: int | None


class Work:
    """What dispatcher and executors do to the `jobs` schema."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @asynccontextmanager
    async def dispatching(self) -> AsyncIterator[Turn]:
        """A turn at dispatching; it is committed when the block ends well."""
        async with checkout(self.pool) as connection, connection.transaction():
            # A lost dispatch number is harmless: Claim, which commits synchronously, comes after it in the log.
            # And no sequential scans: a plan that was made for a small table must not stay when thousands of jobs wait.
            await connection.execute(
                "SELECT set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true),"
                " pg_advisory_xact_lock(%s)",
                [DISPATCH_LOCK],
            )
            yield Turn(connection)

    async def unpublished(self, tickets: Sequence[Ticket]) -> None:
        """The transport did not take these: they are due again at once."""
        async with checkout(self.pool) as connection:
            await connection.execute(
                """UPDATE jobs.batches b SET dispatched_at = '-infinity'
                     FROM unnest(%s::uuid[], %s::integer[], %s::integer[]) AS d(job_id, batch_no, dispatch_no)
                    WHERE b.job_id = d.job_id AND b.batch_no = d.batch_no AND b.dispatch_no = d.dispatch_no
                      AND b.claimed_at IS NULL""",
                [
                    [item.job_id for item in tickets],
                    [item.batch_no for item in tickets],
                    [item.dispatch_no for item in tickets],
                ],
            )
            await connection.execute(
                "UPDATE jobs.jobs SET plan_dispatched_at = NULL WHERE id = ANY (%s::uuid[]) AND plan_claimed_at IS NULL",
                [[item.job_id for item in tickets if item.batch_no < 0]],
            )

    async def claim_plan(self, job_id: str, plan_no: int) -> tuple[Spec, int] | None:
        """The job to plan and the number of this attempt, counted durably; None when it is planned, superseded or ended."""
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                """UPDATE jobs.jobs SET plan_claimed_at = clock_timestamp(), plan_attempts = plan_attempts + 1
                    WHERE id = %s AND plan_no = %s AND batches IS NULL AND state IN ('QUEUED', 'VALIDATING', 'PAUSED')
                RETURNING id::text, name, args, input_options, inline_data, blob_key, plan_attempts""",
                [job_id, plan_no],
            )
            row = await cursor.fetchone()
            if row is None:
                return None
            faults.point("claim_plan.before_commit")
        faults.point("claim_plan.after_commit")
        return Spec(row[0], row[1], bytes(row[2]), bytes(row[3]), b"", row[4] and bytes(row[4]), row[5]), row[6]

    async def known(self, job_id: str) -> bool:
        """Whether there is such a job."""
        async with checkout(self.pool) as connection:
            return (await connection.execute("SELECT 1 FROM jobs.jobs WHERE id = %s", [job_id])).rowcount == 1

    async def renew_plan(self, job_id: str, plan_no: int) -> bool:
        """The planner lives and goes on; False when the job does not wait for it any more."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(
                """UPDATE jobs.jobs SET plan_claimed_at = clock_timestamp()
                    WHERE id = %s AND plan_no = %s AND batches IS NULL AND state IN ('QUEUED', 'VALIDATING', 'PAUSED')""",
                [job_id, plan_no],
            )
            return cursor.rowcount == 1

    async def record_plan(self, job_id: str, plan: Plan) -> None:
        """Store the plan, unless there is one, or the job has ended. An empty input succeeds at once.

        Raises Unavailable when the plan's blob was taken for a stray meanwhile: it has to be made anew.
        """
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                """UPDATE jobs.jobs
                      SET layout = %(layout)s, plan_blob = %(plan_blob)s, total = %(total)s, batches = %(batches)s,
                          lane = %(lane)s, warnings = %(warnings)s, changes = changes + 1,
                          state = CASE WHEN state = 'VALIDATING' THEN 'QUEUED' ELSE state END
                    WHERE id = %(id)s AND batches IS NULL AND state IN ('QUEUED', 'VALIDATING', 'PAUSED')""",
                {
                    "id": job_id,
                    "layout": msgjson.encode(plan.layout),
                    "plan_blob": plan.blob_key,
                    "total": plan.rows,
                    "batches": len(plan.batches),
                    "lane": str(lane_of(len(plan.batches))),
                    "warnings": list(plan.warnings),
                },
            )
            if cursor.rowcount == 0:
                return
            if plan.blob_key is not None:
                await claim_blob(connection, plan.blob_key)
            if plan.batches:
                await insert_batches(connection, job_id, plan.batches)
            else:
                await end_job(connection, job_id, Verdict(State.SUCCEEDED))
            faults.point("record_plan.before_commit")
        faults.point("record_plan.after_commit")
        event("job_planned", "A plan was stored.", job=job_id, batches=len(plan.batches), rows=plan.rows)
        if not plan.batches:
            tell_end(job_id, State.SUCCEEDED)

    async def record_fault(self, job_id: str, error: str) -> None:
        """Fail a job whose file cannot be loaded as a whole; nothing of it was written."""
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT 1 FROM jobs.jobs WHERE id = %s AND batches IS NULL AND state IN ('QUEUED', 'VALIDATING', 'PAUSED')"
                " FOR UPDATE",
                [job_id],
            )
            found = await cursor.fetchone()
            if found:
                await end_job(connection, job_id, Verdict(State.FAILED, error))
                faults.point("record_fault.before_commit")
        faults.point("record_fault.after_commit")
        if found:
            tell_end(job_id, State.FAILED)

    async def claim(self, dispatches: Sequence[tuple[BatchKey, int]]) -> tuple[list[Claimed], list[Spec]]:
        """Count an attempt at each batch whose dispatch is current, durably; answer those and their jobs."""
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                """WITH asked AS MATERIALIZED (
                       SELECT b.job_id, b.batch_no FROM jobs.batches b
                         JOIN unnest(%s::uuid[], %s::integer[], %s::integer[]) AS d(job_id, batch_no, dispatch_no)
                           ON b.job_id = d.job_id AND b.batch_no = d.batch_no AND b.dispatch_no = d.dispatch_no
                         JOIN jobs.jobs j ON j.id = b.job_id AND j.state = 'RUNNING'
                        WHERE NOT b.settled ORDER BY b.job_id, b.batch_no FOR UPDATE OF b)
                   UPDATE jobs.batches b SET attempts = b.attempts + 1, claimed_at = clock_timestamp()
                     FROM asked WHERE b.job_id = asked.job_id AND b.batch_no = asked.batch_no
                RETURNING b.job_id::text, b.batch_no, b.attempts, b.start, b.length, b.first_row, b.rows, b.digest,
                         b.plain, extract(epoch FROM b.claimed_at - b.dispatched_at)::float8""",
                _columns(dispatches),
            )
            rows = sorted(await cursor.fetchall())
            specs = await _specs(connection, sorted({row[0] for row in rows})) if rows else []
            faults.point("claim.before_commit")
        faults.point("claim.after_commit")
        for row in rows:
            metrics.ATTEMPTS.labels("first" if row[2] == 1 else "again").inc()
            # None for one that was never dispatched, and was forged; infinite for one that was to go out again at once, and was
            # found by a copy of its message.
            if row[9] is not None and isfinite(row[9]):
                metrics.LAG_SECONDS.observe(max(row[9], 0))
        claimed = [
            Claimed(BatchKey(row[0], row[1]), row[2], PlannedBatch(row[3], row[4], row[5], row[6], bytes(row[7]), row[8]))
            for row in rows
        ]
        return claimed, specs

    async def renew(self, dispatches: Sequence[tuple[BatchKey, int]]) -> bool:
        """The executor lives and goes on; False when nobody waits for any of these dispatches any more."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(
                """UPDATE jobs.batches b SET claimed_at = clock_timestamp()
                     FROM unnest(%s::uuid[], %s::integer[], %s::integer[]) AS d(job_id, batch_no, dispatch_no), jobs.jobs j
                    WHERE b.job_id = d.job_id AND b.batch_no = d.batch_no AND b.dispatch_no = d.dispatch_no
                      AND b.claimed_at IS NOT NULL AND NOT b.settled
                      AND j.id = b.job_id AND j.state IN ('RUNNING', 'PAUSED')""",
                _columns(dispatches),
            )
            return cursor.rowcount > 0

    async def acknowledge(self, receipts: Sequence[Receipt]) -> set[str]:
        """Store the receipts of jobs that go on, and end those whose last one this is; answer the jobs that changed.

        Job rows are locked first: two last receipts at once must not miss each other.
        """
        if not receipts:
            return set()
        ids = sorted({receipt.key.job_id for receipt in receipts})
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                """SELECT id::text, state, total, batches, max_errors, max_error_ratio FROM jobs.jobs
                    WHERE id = ANY (%s::uuid[]) AND state IN ('RUNNING', 'PAUSED', 'CANCELING') ORDER BY id FOR UPDATE""",
                [ids],
            )
            open_jobs = {row[0]: row[1:] for row in await cursor.fetchall()}
            stored = await store_receipts(connection, [receipt for receipt in receipts if receipt.key.job_id in open_jobs])
            if not stored:
                return set()
            tallies = await tallied(connection, sorted(stored))
            ends: dict[str, Verdict] = {}
            for job_id in stored:
                state, total, batches, max_errors, ratio = open_jobs[job_id]
                if state == State.CANCELING:
                    continue
                end = verdict(tallies[job_id], total=total, batches=batches, limits=Limits(max_errors, ratio))
                if end is not None:
                    ends[job_id] = end
            await end_all(connection, ends)
            faults.point("acknowledge.before_commit")
        faults.point("acknowledge.after_commit")
        metrics.RECEIPTS.inc(len(receipts))
        for job_id, end in ends.items():
            if not end.closing and not end.publish:
                tell_end(job_id, end.state)
        return stored

    async def fail(self, key: BatchKey, reason: str) -> None:
        """Fail a job because one of its batches can never be loaded; products closes it before it ends."""
        async with checkout(self.pool) as connection, connection.transaction():
            await connection.execute(
                "SELECT 1 FROM jobs.jobs WHERE id = %s AND state IN ('RUNNING', 'PAUSED') FOR UPDATE", [key.job_id]
            )
            await end_job(connection, key.job_id, Verdict(State.FAILED, reason, closing=True))
            faults.point("fail.before_commit")
        faults.point("fail.after_commit")

    async def closing(self) -> list[tuple[str, str, bool]]:
        """Jobs in CANCELING: id, name, and whether products may have something of them."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(
                """SELECT id::text, name, next_batch > 0 AND (NOT dry_run OR mode <> 'INSERT') FROM jobs.jobs
                    WHERE state = 'CANCELING' ORDER BY number LIMIT 100"""
            )
            return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]

    async def publishable(self) -> list[Staged]:
        """Jobs that go on by being published."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(
                """SELECT id::text, name, mode, keys, dry_run, whole, layout, total, max_errors, max_error_ratio
                     FROM jobs.jobs WHERE publishing AND state = 'RUNNING' ORDER BY number LIMIT 100"""
            )
            return [
                Staged(
                    row[0],
                    row[1],
                    Writing(mode=WriteMode(row[2]), keys=tuple(row[3]), dry_run=row[4], whole=row[5]),
                    bytes(row[6]),
                    Limits(row[8], row[9]).allowed(row[7]),
                )
                for row in await cursor.fetchall()
            ]

    async def published(self, job_id: str, receipts: Sequence[Receipt] | None) -> bool:
        """End a job that was published, with all its receipts; None: nothing of it is anywhere else, as it only tried.

        False when it is published no more: another replica was first, or it is being closed, which brings the receipts too.
        """
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                """SELECT total, batches, max_errors, max_error_ratio FROM jobs.jobs
                    WHERE id = %s AND publishing AND state IN ('RUNNING', 'PAUSED') FOR UPDATE""",
                [job_id],
            )
            row = await cursor.fetchone()
            if row is None:
                return False
            if receipts is None:
                await connection.execute(
                    "UPDATE jobs.receipts SET inserted = staged, staged = 0 WHERE job_id = %s AND staged > 0", [job_id]
                )
            else:
                await store_receipts(connection, receipts)
            tally = (await tallied(connection, [job_id]))[job_id]
            end = verdict(tally, total=row[0], batches=row[1], limits=Limits(row[2], row[3]))
            if end is None or end.publish:
                raise AssertionError(f"job {job_id} was published and has {tally}")
            await end_job(connection, job_id, end)
            faults.point("publish.before_commit")
        faults.point("publish.after_commit")
        if not end.closing:
            tell_end(job_id, end.state)
        return True

    async def closed(self, job_id: str, receipts: Sequence[Receipt]) -> bool:
        """End a job that products has closed, with all its receipts; False when another replica was first."""
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT closing, error FROM jobs.jobs WHERE id = %s AND state = 'CANCELING' FOR UPDATE", [job_id]
            )
            row = await cursor.fetchone()
            if row is None:
                return False
            await store_receipts(connection, receipts)
            await connection.execute(
                "UPDATE jobs.batches SET settled = true WHERE job_id = %s AND dispatch_no > 0 AND NOT settled", [job_id]
            )
            await end_job(connection, job_id, Verdict(State(row[0]), row[1]))
            faults.point("close.before_commit")
        faults.point("close.after_commit")
        tell_end(job_id, State(row[0]))
        return True


def _columns(dispatches: Sequence[tuple[BatchKey, int]]) -> list[list[str] | list[int]]:
    """As arrays of job ids, batch numbers and dispatch numbers."""
    return [
        [key.job_id for key, _ in dispatches],
        [key.batch_no for key, _ in dispatches],
        [number for _, number in dispatches],
    ]


async def _specs(connection: Connection, ids: Sequence[str]) -> list[Spec]:
    cursor = await connection.execute(
        """SELECT j.id::text, j.name, j.args, j.layout, l.body, CASE WHEN j.plan_blob IS NULL THEN j.inline_data END,
                  coalesce(j.plan_blob, j.blob_key), j.mode, j.keys, j.dry_run, j.whole
             FROM jobs.jobs j LEFT JOIN jobs.lookups l ON l.id = j.lookups_id WHERE j.id = ANY (%s::uuid[])""",
        [ids],
    )
    return [
        Spec(
            row[0],
            row[1],
            bytes(row[2]),
            bytes(row[3]),
            bytes(row[4] or b"{}"),
            None if row[5] is None else bytes(row[5]),
            row[6],
            Writing(mode=WriteMode(row[7]), keys=tuple(row[8]), dry_run=row[9], whole=row[10]),
        )
        for row in await cursor.fetchall()
    ]
