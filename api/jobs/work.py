"""The SQL of work: dispatch, claim, acknowledge, close. Only the database's clock decides.

Locks are taken in one order: the dispatch lock, then job rows by id, then batch rows by key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from msgspec import json as msgjson

from api.database import Connection, Pool
from api.database import connection as checkout
from api.jobs.decide import Hungry, Limits, Outstanding, Tally, Verdict, verdict
from api.jobs.model import lane_of
from api.jobs.store import insert_batches
from jobber import faults
from jobber.model import BatchKey, Plan, PlannedBatch, Receipt, State

#: Serialises dispatch among replicas of the jobs service; a round takes milliseconds.
DISPATCH_LOCK = 0x4A0B0001
#: A file whose planning was begun this often kills its planner.
PLAN_ATTEMPTS = 5
#: A batch that was begun this often without a receipt fails its job rather than killing executors for ever.
BATCH_ATTEMPTS = 12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job with something to dispatch, and what its dispatch needs."""

    hungry: Hungry
    name: str
    lane: str
    has_lookups: bool


@dataclass(frozen=True, slots=True)
class Ticket:
    """One dispatch, as it is published. Plans have batch_no -1."""

    job_id: str
    batch_no: int
    dispatch_no: int
    name: str
    lane: str


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


@dataclass(frozen=True, slots=True)
class Claimed:
    """A batch that an executor may now load."""

    key: BatchKey
    attempt: int
    planned: PlannedBatch


class Work:
    """What dispatcher and executors do to the `jobs` schema."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    # -- dispatch -------------------------------------------------------------------------------------------------------

    async def candidates(self, connection: Connection, most: int) -> tuple[list[Candidate], int]:
        """Jobs that have batches left, at most `most` an owner; and how many batches are with executors in all."""
        cursor = await connection.execute(
            """SELECT id::text, owner_id::text, priority, number, next_batch, batches, name, lane, lookups_id IS NOT NULL,
                      (SELECT count(*) FROM jobs.batches b WHERE b.job_id = h.id AND b.dispatch_no > 0 AND NOT b.settled)
                 FROM (SELECT j.*, row_number() OVER (PARTITION BY owner_id ORDER BY priority DESC, number) AS turn
                         FROM jobs.jobs j
                        WHERE state IN ('QUEUED', 'RUNNING') AND batches IS NOT NULL AND next_batch < batches) h
                WHERE turn <= %s""",
            [most],
        )
        found = [
            Candidate(Hungry(row[0], row[1], row[2], row[3], row[4], row[5], row[9]), row[6], row[7], row[8])
            for row in await cursor.fetchall()
        ]
        if not found:
            return [], 0
        cursor = await connection.execute("SELECT count(*) FROM jobs.batches WHERE dispatch_no > 0 AND NOT settled")
        row = await cursor.fetchone()
        return found, row[0] if row else 0

    async def start(self, connection: Connection, upto: dict[str, int], lookups: dict[str, int]) -> set[str]:
        """Move the jobs' `next_batch`, start those that wait, and freeze their lookups; answer those that may be dispatched."""
        ids = sorted(upto)
        await connection.execute("SELECT 1 FROM jobs.jobs WHERE id = ANY (%s::uuid[]) ORDER BY id FOR UPDATE", [ids])
        cursor = await connection.execute(
            """UPDATE jobs.jobs j
                  SET next_batch = d.upto, lookups_id = coalesce(j.lookups_id, d.lookups),
                      changes = j.changes + (j.state <> 'RUNNING')::integer, state = 'RUNNING',
                      started_at = coalesce(j.started_at, clock_timestamp())
                 FROM unnest(%s::uuid[], %s::integer[], %s::bigint[]) AS d(id, upto, lookups)
                WHERE j.id = d.id AND j.state IN ('QUEUED', 'RUNNING')
            RETURNING j.id::text""",
            [ids, [upto[job] for job in ids], [lookups.get(job) for job in ids]],
        )
        return {row[0] for row in await cursor.fetchall()}

    async def issue(self, connection: Connection, batches: Sequence[tuple[str, int]]) -> list[Ticket]:
        """Number a dispatch of each batch that has no receipt, in the order given."""
        cursor = await connection.execute(
            """UPDATE jobs.batches b
                  SET dispatch_no = b.dispatch_no + 1, dispatched_at = clock_timestamp(), claimed_at = NULL
                 FROM unnest(%s::uuid[], %s::integer[]) WITH ORDINALITY AS d(job_id, batch_no, place), jobs.jobs j
                WHERE b.job_id = d.job_id AND b.batch_no = d.batch_no AND NOT b.settled AND j.id = b.job_id
                  AND j.state = 'RUNNING'
            RETURNING d.place, b.job_id::text, b.batch_no, b.dispatch_no, j.name, j.lane""",
            [[job for job, _ in batches], [number for _, number in batches]],
        )
        return [Ticket(*row[1:]) for row in sorted(await cursor.fetchall())]

    async def issue_plans(self, connection: Connection, most: int) -> list[Ticket]:
        """Number a dispatch for planning of every job that waits for it, or whose planner seems lost."""
        cursor = await connection.execute(
            """UPDATE jobs.jobs j
                  SET plan_no = plan_no + 1, plan_dispatched_at = clock_timestamp(), plan_claimed_at = NULL,
                      changes = changes + (state <> 'VALIDATING')::integer, state = 'VALIDATING'
                 FROM (SELECT id FROM jobs.jobs
                        WHERE state IN ('QUEUED', 'VALIDATING') AND batches IS NULL
                          AND (plan_dispatched_at IS NULL
                               OR clock_timestamp() > coalesce(plan_claimed_at, plan_dispatched_at)
                                  + CASE WHEN plan_claimed_at IS NULL THEN least(3 * 2 ^ least(plan_no - 1, 10), 20)
                                         ELSE least(45 * 2 ^ least(plan_attempts - 1, 10), 300) END
                                    * interval '1 second')
                        ORDER BY priority DESC, number LIMIT %s FOR UPDATE SKIP LOCKED) d
                WHERE j.id = d.id
            RETURNING j.id::text, -1, j.plan_no, j.name, 'plan'""",
            [most],
        )
        return [Ticket(*row) for row in await cursor.fetchall()]

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

    async def outstanding(self, connection: Connection) -> list[Outstanding]:
        """Batches of running jobs that are with executors."""
        cursor = await connection.execute(
            """SELECT b.job_id::text, b.batch_no, b.dispatch_no,
                      CASE WHEN isfinite(b.dispatched_at) THEN extract(epoch FROM clock_timestamp() - b.dispatched_at)::float8
                           ELSE 1e9 END,
                      extract(epoch FROM clock_timestamp() - b.claimed_at)::float8
                 FROM jobs.batches b JOIN jobs.jobs j ON j.id = b.job_id
                WHERE b.dispatch_no > 0 AND NOT b.settled AND j.state = 'RUNNING'"""
        )
        return [Outstanding(*row) for row in await cursor.fetchall()]

    async def keep_lookups(self, connection: Connection, sha256: bytes, body: bytes) -> int:
        """The id of this reference data, stored once."""
        await connection.execute(
            "INSERT INTO jobs.lookups (sha256, body) VALUES (%s, %s) ON CONFLICT (sha256) DO NOTHING", [sha256, body]
        )
        cursor = await connection.execute("SELECT id FROM jobs.lookups WHERE sha256 = %s", [sha256])
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])

    # -- planning -------------------------------------------------------------------------------------------------------

    async def claim_plan(self, job_id: str, plan_no: int) -> Spec | None:
        """The job to plan, or None when it is planned, superseded or ended; a file that kills its planner fails its job."""
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
            if row[6] > PLAN_ATTEMPTS:
                await _end(
                    connection, job_id, Verdict(State.FAILED, "PLANNING: reading this file ended its reader every time.")
                )
                return None
        return Spec(row[0], row[1], bytes(row[2]), bytes(row[3]), b"", row[4] and bytes(row[4]), row[5])

    async def record_plan(self, job_id: str, plan: Plan) -> None:
        """Store the plan, unless there is one, or the job has ended. An empty input succeeds at once."""
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                """UPDATE jobs.jobs
                      SET layout = %(layout)s, total = %(total)s, batches = %(batches)s, lane = %(lane)s,
                          warnings = %(warnings)s, changes = changes + 1,
                          state = CASE WHEN state = 'VALIDATING' THEN 'QUEUED' ELSE state END
                    WHERE id = %(id)s AND batches IS NULL AND state IN ('QUEUED', 'VALIDATING', 'PAUSED')""",
                {
                    "id": job_id,
                    "layout": msgjson.encode(plan.layout),
                    "total": plan.rows,
                    "batches": len(plan.batches),
                    "lane": str(lane_of(len(plan.batches))),
                    "warnings": list(plan.warnings),
                },
            )
            if cursor.rowcount == 0:
                return
            if plan.batches:
                await insert_batches(connection, job_id, plan.batches)
            else:
                await _end(connection, job_id, Verdict(State.SUCCEEDED))
            faults.point("record_plan.before_commit")
        faults.point("record_plan.after_commit")

    async def record_fault(self, job_id: str, error: str) -> None:
        """Fail a job whose file cannot be loaded as a whole; nothing of it was written."""
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT 1 FROM jobs.jobs WHERE id = %s AND batches IS NULL AND state IN ('QUEUED', 'VALIDATING', 'PAUSED')"
                " FOR UPDATE",
                [job_id],
            )
            if await cursor.fetchone():
                await _end(connection, job_id, Verdict(State.FAILED, error))

    # -- loading --------------------------------------------------------------------------------------------------------

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
                RETURNING b.job_id::text, b.batch_no, b.attempts, b.start, b.length, b.first_row, b.rows, b.sha256""",
                [
                    [key.job_id for key, _ in dispatches],
                    [key.batch_no for key, _ in dispatches],
                    [number for _, number in dispatches],
                ],
            )
            rows = sorted(await cursor.fetchall())
            specs = await _specs(connection, sorted({row[0] for row in rows})) if rows else []
            faults.point("claim.before_commit")
        faults.point("claim.after_commit")
        claimed = [
            Claimed(BatchKey(row[0], row[1]), row[2], PlannedBatch(row[3], row[4], row[5], row[6], bytes(row[7])))
            for row in rows
        ]
        for exhausted in [item for item in claimed if item.attempt > BATCH_ATTEMPTS]:
            claimed.remove(exhausted)
            await self.fail(exhausted.key, f"batch {exhausted.key.batch_no} was begun {BATCH_ATTEMPTS} times and never ended")
        return claimed, specs

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
            stored = await _store(connection, [receipt for receipt in receipts if receipt.key.job_id in open_jobs])
            if not stored:
                return set()
            tallies = await _tallies(connection, sorted(stored))
            for job_id in stored:
                state, total, batches, max_errors, ratio = open_jobs[job_id]
                if state == State.CANCELING:
                    continue
                end = verdict(tallies[job_id], total=total, batches=batches, limits=Limits(max_errors, ratio))
                if end is not None:
                    await _end(connection, job_id, end)
            faults.point("acknowledge.before_commit")
        faults.point("acknowledge.after_commit")
        return stored

    async def fail(self, key: BatchKey, reason: str) -> None:
        """Fail a job because one of its batches can never be loaded; products closes it before it ends."""
        async with checkout(self.pool) as connection, connection.transaction():
            await connection.execute(
                "SELECT 1 FROM jobs.jobs WHERE id = %s AND state IN ('RUNNING', 'PAUSED') FOR UPDATE", [key.job_id]
            )
            await _end(connection, key.job_id, Verdict(State.FAILED, reason, closing=True))

    # -- closing --------------------------------------------------------------------------------------------------------

    async def closing(self) -> list[tuple[str, str, bool]]:
        """Jobs in CANCELING: id, name, and whether any of their batches was ever dispatched."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(
                "SELECT id::text, name, next_batch > 0 FROM jobs.jobs WHERE state = 'CANCELING' ORDER BY number LIMIT 100"
            )
            return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]

    async def closed(self, job_id: str, receipts: Sequence[Receipt]) -> bool:
        """End a job that products has closed, with all its receipts; False when another replica was first."""
        async with checkout(self.pool) as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT closing, error FROM jobs.jobs WHERE id = %s AND state = 'CANCELING' FOR UPDATE", [job_id]
            )
            row = await cursor.fetchone()
            if row is None:
                return False
            await _store(connection, receipts)
            await _end(connection, job_id, Verdict(State(row[0]), row[1]))
            faults.point("close.before_commit")
        faults.point("close.after_commit")
        return True


async def _specs(connection: Connection, ids: Sequence[str]) -> list[Spec]:
    cursor = await connection.execute(
        """SELECT j.id::text, j.name, j.args, j.layout, l.body, j.inline_data, j.blob_key
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
        )
        for row in await cursor.fetchall()
    ]


STORE: LiteralString = """
    WITH stored AS (
        INSERT INTO jobs.receipts (job_id, batch_no, inserted, updated, unchanged, rejected, rejects, results, committed_at)
        SELECT * FROM unnest(%s::uuid[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[],
                             %s::bytea[], %s::timestamptz[])
        ON CONFLICT (job_id, batch_no) DO NOTHING RETURNING job_id, batch_no)
    UPDATE jobs.batches b SET settled = true FROM stored WHERE b.job_id = stored.job_id AND b.batch_no = stored.batch_no
    RETURNING b.job_id::text
"""


async def _store(connection: Connection, receipts: Sequence[Receipt]) -> set[str]:
    """Store what is new; answer the jobs of it."""
    if not receipts:
        return set()
    ordered = sorted(receipts, key=lambda receipt: (receipt.key.job_id, receipt.key.batch_no))
    cursor = await connection.execute(
        STORE,
        [
            [item.key.job_id for item in ordered],
            [item.key.batch_no for item in ordered],
            [item.inserted for item in ordered],
            [item.updated for item in ordered],
            [item.unchanged for item in ordered],
            [item.rejected for item in ordered],
            [item.rejects for item in ordered],
            [item.results for item in ordered],
            [item.committed_at for item in ordered],
        ],
    )
    return {row[0] for row in await cursor.fetchall()}


async def _tallies(connection: Connection, ids: Sequence[str]) -> dict[str, Tally]:
    """Progress is the sum of receipts, never a counter."""
    cursor = await connection.execute(
        """SELECT job_id::text, count(*), sum(inserted)::bigint, sum(updated)::bigint, sum(unchanged)::bigint,
                  sum(rejected)::bigint FROM jobs.receipts WHERE job_id = ANY (%s::uuid[]) GROUP BY job_id""",
        [ids],
    )
    return {row[0]: Tally(*row[1:]) for row in await cursor.fetchall()}


async def _end(connection: Connection, job_id: str, end: Verdict) -> None:
    """Give a job that has not ended its verdict; a terminal state never changes."""
    if end.closing:
        await connection.execute(
            """UPDATE jobs.jobs SET state = 'CANCELING', closing = %(state)s, error = %(error)s, changes = changes + 1
                WHERE id = %(id)s AND state IN ('QUEUED', 'VALIDATING', 'RUNNING', 'PAUSED')""",
            {"id": job_id, "state": str(end.state), "error": end.error},
        )
        return
    await connection.execute(
        """UPDATE jobs.jobs SET state = %(state)s, error = %(error)s, changes = changes + 1, ended_at = clock_timestamp(),
                                started_at = coalesce(started_at, created_at)
            WHERE id = %(id)s AND state NOT IN ('CANCELED', 'SUCCEEDED', 'PARTIAL', 'FAILED')""",
        {"id": job_id, "state": str(end.state), "error": end.error},
    )
