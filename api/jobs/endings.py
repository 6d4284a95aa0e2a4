"""What receipts come to: they are stored and summed, and end their jobs. Always in the caller's transaction."""

from collections.abc import Mapping, Sequence
from typing import LiteralString

from api.database import Connection
from api.jobs import metrics
from api.jobs.decide import Tally, Verdict
from jobber.log import event
from jobber.model import BatchKey, Receipt, State

#: A receipt stays as it is, but that staged rows become something else: the one that has fewer of them is the later one.
STORE: LiteralString = """
    WITH stored AS (
        INSERT INTO jobs.receipts AS there (job_id, batch_no, inserted, updated, unchanged, staged, rejected, rejects, results,
                                            committed_at)
        SELECT j, b, i, u, n, s, x, rejects, results, coalesce(at, clock_timestamp())
          FROM unnest(%s::uuid[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                      %s::bytea[], %s::bytea[], %s::timestamptz[]) AS r(j, b, i, u, n, s, x, rejects, results, at)
        ON CONFLICT (job_id, batch_no) DO UPDATE
           SET inserted = excluded.inserted, updated = excluded.updated, unchanged = excluded.unchanged,
               staged = excluded.staged, rejected = excluded.rejected, rejects = excluded.rejects,
               committed_at = excluded.committed_at
         WHERE excluded.staged < there.staged
        RETURNING job_id, batch_no)
    UPDATE jobs.batches b SET settled = true FROM stored WHERE b.job_id = stored.job_id AND b.batch_no = stored.batch_no
    RETURNING b.job_id::text
"""


async def store_receipts(connection: Connection, receipts: Sequence[Receipt]) -> set[str]:
    """Store what is new; answer the jobs of it."""
    if not receipts:
        return set()
    # The statement takes each key once: the first one counts, but for one that tells what became of staged rows.
    latest: dict[BatchKey, Receipt] = {}
    for receipt in receipts:
        known = latest.get(receipt.key)
        if known is None or receipt.staged < known.staged:
            latest[receipt.key] = receipt
    ordered = sorted(latest.values(), key=lambda receipt: (receipt.key.job_id, receipt.key.batch_no))
    cursor = await connection.execute(
        STORE,
        [
            [item.key.job_id for item in ordered],
            [item.key.batch_no for item in ordered],
            [item.inserted for item in ordered],
            [item.updated for item in ordered],
            [item.unchanged for item in ordered],
            [item.staged for item in ordered],
            [item.rejected for item in ordered],
            [item.rejects for item in ordered],
            [item.results for item in ordered],
            [item.committed_at for item in ordered],
        ],
    )
    return {row[0] for row in await cursor.fetchall()}


async def tallied(connection: Connection, ids: Sequence[str]) -> dict[str, Tally]:
    """Progress is the sum of receipts, never a counter."""
    cursor = await connection.execute(
        """SELECT job_id::text, count(*), sum(inserted)::bigint, sum(updated)::bigint, sum(unchanged)::bigint,
                  sum(rejected)::bigint, sum(staged)::bigint
             FROM jobs.receipts WHERE job_id = ANY (%s::uuid[]) GROUP BY job_id""",
        [ids],
    )
    return {row[0]: Tally(*row[1:]) for row in await cursor.fetchall()}


END: LiteralString = """
    UPDATE jobs.jobs j
       SET state = e.state, error = e.error, changes = j.changes + 1, ended_at = clock_timestamp(),
           started_at = coalesce(j.started_at, j.created_at)
      FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(errors)s::text[]) AS e (id, state, error)
     WHERE j.id = e.id AND j.state NOT IN ('CANCELED', 'SUCCEEDED', 'PARTIAL', 'FAILED')
"""
CLOSING: LiteralString = """
    UPDATE jobs.jobs j SET state = 'CANCELING', closing = e.state, error = e.error, changes = j.changes + 1
      FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(errors)s::text[]) AS e (id, state, error)
     WHERE j.id = e.id AND j.state IN ('QUEUED', 'VALIDATING', 'RUNNING', 'PAUSED')
"""


PUBLISH: LiteralString = """
    UPDATE jobs.jobs SET publishing = true, changes = changes + 1 WHERE id = ANY (%s::uuid[]) AND NOT publishing
"""


async def end_job(connection: Connection, job_id: str, end: Verdict) -> None:
    """Give a job that has not ended its verdict; a terminal state never changes."""
    await end_all(connection, {job_id: end})


async def end_all(connection: Connection, ends: Mapping[str, Verdict]) -> None:
    """The same for many jobs, whose rows the caller has locked or may lock in any order: one statement for those of a kind."""
    publish = sorted(job_id for job_id, end in ends.items() if end.publish)
    if publish:
        await connection.execute(PUBLISH, [publish])
    for statement, closing in ((END, False), (CLOSING, True)):
        ids = sorted(job_id for job_id, end in ends.items() if end.closing is closing and not end.publish)
        if ids:
            await connection.execute(
                statement,
                {
                    "ids": ids,
                    "states": [str(ends[job_id].state) for job_id in ids],
                    "errors": [ends[job_id].error for job_id in ids],
                },
            )


def tell_end(job_id: str, state: State) -> None:
    """For metrics and the log, after the commit."""
    metrics.ENDED.labels(state).inc()
    event("job_ended", f"A job ended: {state}.", job=job_id, state=state)
