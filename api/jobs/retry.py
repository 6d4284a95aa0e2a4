"""The records of a failed or cancelled job that never ended, as a job of their own.

Its batches are those of the parent that have no receipt, or one whose rows never became visible: the same bytes of the same
input, and the same row numbers. So no record is loaded by both. A job whose input was never planned is planned anew.
"""

from typing import LiteralString

from api import audit
from api.audit import OPERATOR, Act, Actor
from api.database import Pool
from api.database import connection as checkout
from jobber import tracing
from jobber.errors import InvalidState, NotFound
from jobber.ids import uuid7
from jobber.model import State

LOCK: LiteralString = """
    SELECT state, batches, expired_at IS NOT NULL FROM jobs.jobs
     WHERE id = %(id)s AND (%(owner)s::uuid IS NULL OR owner_id = %(owner)s) FOR UPDATE
"""
#: Children of a first attempt replay rejects (replay.py).
CHILD: LiteralString = "SELECT id::text FROM jobs.jobs WHERE parent_id = %(id)s AND attempt > 1 ORDER BY number LIMIT 1"
LEFT: LiteralString = """
    SELECT count(*)::integer, coalesce(sum(b.rows), 0)::bigint FROM jobs.batches b
     WHERE b.job_id = %(id)s AND NOT EXISTS (SELECT FROM jobs.receipts r WHERE r.job_id = b.job_id AND r.batch_no = b.batch_no
                        AND r.staged = 0)
"""
#: The charges are those of its own start, as for any job.
JOB: LiteralString = """
    INSERT INTO jobs.jobs (id, owner_id, name, args, input_options, payload_sha256, inline_data, upload_id, blob_key,
                           blob_bytes, max_errors, max_error_ratio, max_rows_per_second, priority, mode, keys, dry_run,
                           whole, state, warnings, layout, plan_blob, total, batches, lane, parent_id, attempt, traceparent)
    SELECT %(child)s, owner_id, name, args, input_options, payload_sha256, inline_data, upload_id, blob_key, blob_bytes,
           max_errors, max_error_ratio, max_rows_per_second, priority, mode, keys, dry_run, whole, 'QUEUED', warnings,
           layout, plan_blob, %(total)s, %(batches)s,
           CASE WHEN %(batches)s::integer IS NULL THEN NULL WHEN %(batches)s <= 1 THEN 'fast' ELSE 'bulk' END, id, attempt + 1,
           %(traceparent)s::text
      FROM jobs.jobs WHERE id = %(id)s
"""
BATCHES: LiteralString = """
    INSERT INTO jobs.batches (job_id, batch_no, start, length, first_row, rows, digest, plain)
    SELECT %(child)s, (row_number() OVER (ORDER BY b.batch_no) - 1)::integer, b.start, b.length, b.first_row, b.rows,
           b.digest, b.plain
      FROM jobs.batches b
     WHERE b.job_id = %(id)s AND NOT EXISTS (SELECT FROM jobs.receipts r WHERE r.job_id = b.job_id AND r.batch_no = b.batch_no
                        AND r.staged = 0)
"""


async def retry(pool: Pool, job_id: str, owner_id: str | None, actor: Actor | None = None) -> tuple[str, bool]:
    """Store the child, durably; answer its id, and whether it was there before: a job is retried once, its child after that.

    Raises NotFound; InvalidState when the job goes on or succeeded, when nothing of it is left, or its input has expired.
    """
    child = uuid7()
    async with checkout(pool) as connection, connection.transaction():
        given: dict[str, object] = {"id": job_id, "owner": owner_id, "child": child, "traceparent": tracing.parent()}
        row = await (await connection.execute(LOCK, given)).fetchone()
        if row is None:
            raise NotFound("There is no such job, or it is not yours.")
        known = await (await connection.execute(CHILD, given)).fetchone()
        if known is not None:
            return str(known[0]), True
        state, batches, expired = row
        if State(state) not in (State.FAILED, State.CANCELED):
            raise InvalidState(f"Only a job that failed or was cancelled can be retried; this one is {state}.")
        if expired:
            raise InvalidState("The job's input has expired; submit it again.")
        total = None
        if batches is not None:
            left = await (await connection.execute(LEFT, given)).fetchone()
            assert left is not None
            batches, total = left
            if not batches:
                raise InvalidState("Every record of the job has ended; nothing is left to retry.")
        inserted = await connection.execute(JOB, {**given, "total": total, "batches": batches})
        assert inserted.rowcount == 1
        if batches is not None:
            await connection.execute(BATCHES, given)
        await audit.record(connection, "jobs", Act(actor or OPERATOR, "job.retry", f"job:{child}", {"parent": job_id}))
    return child, False
