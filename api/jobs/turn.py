"""The SQL of dispatch: what is waiting, what goes next, what was lost. Only the database's clock decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import LiteralString

from api.database import Connection
from api.jobs.decide import Hungry, Outstanding

#: Serialises dispatch among replicas of the jobs service; a round takes milliseconds.
DISPATCH_LOCK = 0x4A0B0001

#: Seconds after a planner's last sign of life when another one gets its job. It gives one every 5 seconds (pipelines/plan.py),
#: and its calls are tried again for 20.
PLAN_LEASE = 30.0


#: An owner after the other, and of each the jobs that come first: what a round costs does not grow with what waits.
CANDIDATES: LiteralString = """
    WITH RECURSIVE hungry AS NOT MATERIALIZED (
        SELECT id, owner_id, priority, number, next_batch, batches, name, lane, lookups_id,
               max_rows_per_second IS NOT NULL AS paced
          FROM jobs.jobs
         WHERE state IN ('QUEUED', 'RUNNING') AND batches IS NOT NULL AND next_batch < batches
           -- Stable: with a volatile clock_timestamp() the rows would be collected before they are looked through.
           AND (paced_until IS NULL OR paced_until <= statement_timestamp())),
    owners AS (
        (SELECT owner_id FROM hungry ORDER BY owner_id LIMIT 1)
         UNION ALL
        SELECT (SELECT h.owner_id FROM hungry h WHERE h.owner_id > o.owner_id ORDER BY h.owner_id LIMIT 1)
          FROM owners o WHERE o.owner_id IS NOT NULL)
    SELECT id::text, owner_id::text, priority, number, next_batch, batches, name, lane, lookups_id IS NOT NULL,
           (SELECT count(*) FROM jobs.batches b WHERE b.job_id = first.id AND b.dispatch_no > 0 AND NOT b.settled),
           -- Not those of paused jobs, which are with nobody: they would keep the window from all other jobs.
           (SELECT count(*) FROM jobs.batches b JOIN jobs.jobs j ON j.id = b.job_id
             WHERE b.dispatch_no > 0 AND NOT b.settled AND j.state = 'RUNNING'), paced
      FROM owners o
     CROSS JOIN LATERAL (SELECT id, priority, number, next_batch, batches, name, lane, lookups_id, paced FROM hungry h
                          WHERE h.owner_id = o.owner_id ORDER BY priority DESC, number LIMIT %s) first
"""


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
    #: Where the job's trace begins.
    traceparent: str | None = None


class Turn:
    """One turn of the dispatcher, in a transaction of its own that no other replica's overlaps."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def candidates(self, most: int) -> tuple[list[Candidate], int]:
        """Jobs that have batches left, at most `most` an owner; and how many batches of running jobs are with executors."""
        cursor = await self._connection.execute(CANDIDATES, [most])
        rows = await cursor.fetchall()
        found = [
            Candidate(Hungry(row[0], row[1], row[2], row[3], row[4], row[5], row[9], row[11]), row[6], row[7], row[8])
            for row in rows
        ]
        return found, rows[0][10] if rows else 0

    async def start(self, upto: dict[str, int], lookups: dict[str, int]) -> dict[str, float]:
        """Move the jobs' `next_batch`, start those that wait, and freeze their lookups.

        Answers those that may be dispatched, with the seconds after which there may be more of them: what is let out of a job
        with a rate keeps its next batch back for as long as its rows take. What is issued again was let out before.
        """
        ids = sorted(upto)
        await self._connection.execute("SELECT 1 FROM jobs.jobs WHERE id = ANY (%s::uuid[]) ORDER BY id FOR UPDATE", [ids])
        cursor = await self._connection.execute(
            """UPDATE jobs.jobs j
                  SET next_batch = d.upto, lookups_id = coalesce(j.lookups_id, d.lookups),
                      changes = j.changes + (j.state <> 'RUNNING')::integer, state = 'RUNNING',
                      started_at = coalesce(j.started_at, clock_timestamp()),
                      paced_until = CASE WHEN j.max_rows_per_second IS NOT NULL THEN
                          clock_timestamp() + interval '1 second' / j.max_rows_per_second
                              * (SELECT coalesce(sum(b.rows), 0) FROM jobs.batches b
                                  WHERE b.job_id = j.id AND b.batch_no >= j.next_batch AND b.batch_no < d.upto) END
                 FROM unnest(%s::uuid[], %s::integer[], %s::bigint[]) AS d(id, upto, lookups)
                WHERE j.id = d.id AND j.state IN ('QUEUED', 'RUNNING')
            RETURNING j.id::text, coalesce(extract(epoch FROM j.paced_until - clock_timestamp()), 0)::float8""",
            [ids, [upto[job] for job in ids], [lookups.get(job) for job in ids]],
        )
        return dict(await cursor.fetchall())

    async def issue(self, batches: Sequence[tuple[str, int]]) -> list[Ticket]:
        """Number a dispatch of each batch that has no receipt, in the order given."""
        cursor = await self._connection.execute(
            """UPDATE jobs.batches b
                  SET dispatch_no = b.dispatch_no + 1, dispatched_at = clock_timestamp(), claimed_at = NULL
                 FROM unnest(%s::uuid[], %s::integer[]) WITH ORDINALITY AS d(job_id, batch_no, place), jobs.jobs j
                WHERE b.job_id = d.job_id AND b.batch_no = d.batch_no AND NOT b.settled AND j.id = b.job_id
                  AND j.state = 'RUNNING'
            RETURNING d.place, b.job_id::text, b.batch_no, b.dispatch_no, j.name, j.lane, j.traceparent""",
            [[job for job, _ in batches], [number for _, number in batches]],
        )
        return [Ticket(*row[1:]) for row in sorted(await cursor.fetchall(), key=itemgetter(0))]

    async def issue_plans(self, most: int) -> list[Ticket]:
        """Number a dispatch for planning of every job that waits for it, or whose planner seems lost."""
        cursor = await self._connection.execute(
            """UPDATE jobs.jobs j
                  SET plan_no = plan_no + 1, plan_dispatched_at = clock_timestamp(), plan_claimed_at = NULL,
                      changes = changes + (state <> 'VALIDATING')::integer, state = 'VALIDATING'
                 FROM (SELECT id FROM jobs.jobs
                        WHERE state IN ('QUEUED', 'VALIDATING') AND batches IS NULL
                          AND (plan_dispatched_at IS NULL
                               OR clock_timestamp() > coalesce(plan_claimed_at, plan_dispatched_at)
                                  + CASE WHEN plan_claimed_at IS NULL THEN least(3 * 2 ^ least(plan_no - 1, 10), 20)
                                         ELSE %s END * interval '1 second')
                        ORDER BY priority DESC, number LIMIT %s FOR UPDATE SKIP LOCKED) d
                WHERE j.id = d.id
            RETURNING j.id::text, -1, j.plan_no, j.name, 'plan', j.traceparent""",
            [PLAN_LEASE, most],
        )
        return [Ticket(*row) for row in await cursor.fetchall()]

    async def outstanding(self) -> list[Outstanding]:
        """Batches of running jobs that are with executors."""
        cursor = await self._connection.execute(
            """SELECT b.job_id::text, b.batch_no, b.dispatch_no,
                      CASE WHEN isfinite(b.dispatched_at) THEN extract(epoch FROM clock_timestamp() - b.dispatched_at)::float8
                           ELSE 1e9 END,
                      extract(epoch FROM clock_timestamp() - b.claimed_at)::float8
                 FROM jobs.batches b JOIN jobs.jobs j ON j.id = b.job_id
                WHERE b.dispatch_no > 0 AND NOT b.settled AND j.state = 'RUNNING'"""
        )
        return [Outstanding(*row) for row in await cursor.fetchall()]

    async def keep_lookups(self, sha256: bytes, body: bytes) -> int:
        """The id of this reference data, stored once."""
        cursor = await self._connection.execute(
            """WITH made AS (
                   INSERT INTO jobs.lookups (sha256, body) SELECT %(sha256)s, %(body)s
                    WHERE NOT EXISTS (SELECT FROM jobs.lookups WHERE sha256 = %(sha256)s) RETURNING id)
               SELECT id FROM made UNION ALL SELECT id FROM jobs.lookups WHERE sha256 = %(sha256)s LIMIT 1""",
            {"sha256": sha256, "body": body},
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])
