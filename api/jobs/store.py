"""The SQL of jobs as people see them: submit, read, cancel, pause, uploads. What executors do is in work.py."""

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg.rows import dict_row

from api import audit
from api.audit import OPERATOR, Act, Actor
from api.database import Connection, Pool
from api.database import connection as checkout
from api.jobs.decide import Tally
from api.jobs.model import Job, Submission, Upload
from api.jobs.submit import SAME_JOB, Stored, insert
from api.jobs.upload_store import claim_blob, keep, lock_owner, used
from jobber import faults
from jobber.errors import Conflict, InvalidState, NotFound
from jobber.model import PlannedBatch, State

JOB: LiteralString = """
    SELECT j.id, j.number, j.owner_id, j.name, j.state, j.error, j.warnings, j.total, j.batches, j.changes, j.attempt,
           j.parent_id, j.created_at, j.started_at, j.ended_at, j.expired_at IS NOT NULL AS expired, j.dry_run, j.upload_id,
           greatest(extract(epoch FROM coalesce(j.ended_at, clock_timestamp()) - coalesce(j.started_at, j.created_at)),
                    0)::float8 AS seconds,
           t.receipts, t.inserted, t.updated, t.unchanged, t.rejected, t.staged,
           (SELECT u.file_name FROM jobs.uploads u WHERE u.id = j.upload_id) AS file_name
      FROM jobs.jobs j
      CROSS JOIN LATERAL (
           SELECT count(*) AS receipts, coalesce(sum(r.inserted), 0)::bigint AS inserted,
                  coalesce(sum(r.updated), 0)::bigint AS updated, coalesce(sum(r.unchanged), 0)::bigint AS unchanged,
                  coalesce(sum(r.rejected), 0)::bigint AS rejected, coalesce(sum(r.staged), 0)::bigint AS staged
             FROM jobs.receipts r WHERE r.job_id = j.id) t
"""

INSERT_BATCHES: LiteralString = """
    INSERT INTO jobs.batches (job_id, batch_no, start, length, first_row, rows, digest, plain)
    SELECT %s, (n - 1)::integer, o, l, f, r, d, p
      FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::integer[], %s::bytea[], %s::boolean[])
           WITH ORDINALITY AS b(o, l, f, r, d, p, n)
"""

#: Records that ended in each of so many equal parts of a job's time.
PACE: LiteralString = """
    SELECT least(greatest(width_bucket(extract(epoch FROM r.committed_at - j.started_at)::float8, 0,
                                       greatest(%(seconds)s, 0.001), %(parts)s), 1), %(parts)s)::integer AS part,
           sum(r.inserted + r.updated + r.unchanged + r.staged + r.rejected)::bigint
      FROM jobs.receipts r JOIN jobs.jobs j ON j.id = r.job_id WHERE r.job_id = %(id)s AND j.started_at IS NOT NULL
     GROUP BY part
"""

#: A block begins with the length of its head.
HEADS: LiteralString = """
    SELECT batch_no, substring(rejects FROM 5 FOR ('x' || encode(substring(rejects FOR 4), 'hex'))::bit(32)::integer)
      FROM jobs.receipts WHERE job_id = %s AND batch_no > %s AND rejects <> '' ORDER BY batch_no LIMIT %s
"""


class Store:
    """Jobs and uploads in the `jobs` schema."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def submit(self, asked: Submission) -> tuple[str, bool]:
        """Store the job, durably; answer its id and whether it was there before.

        Raises Conflict when the owner used the idempotency key for another payload, NotFound when the upload has gone.
        """
        outcome = (await self.submit_all([asked]))[0]
        if isinstance(outcome, Conflict):
            raise outcome
        return outcome.job_id, outcome.replayed

    async def submit_all(self, group: Sequence[Submission]) -> list[Stored | Conflict]:
        """Store the jobs, durably, in one commit; what became of each, in order.

        Raises NotFound when an upload has gone, Unavailable; none is stored then, or, when only the answer to COMMIT was lost,
        all are.
        """
        async with checkout(self.pool) as connection, connection.transaction():
            for asked in group:
                if asked.blob and asked.blob.upload_id:
                    await _hold_upload(connection, asked.blob.upload_id)
                elif asked.blob:
                    await claim_blob(connection, asked.blob.key)
            outcomes = await insert(connection, group)
            faults.point("submit.before_commit")
        faults.point("submit.after_commit")
        return outcomes

    async def known(self, owner_id: str, key: str, payload_sha256: bytes) -> Stored | None:
        """The job that the owner submitted with this key. Raises Conflict when it was for something else."""
        async with checkout(self.pool) as connection:
            row = await (await connection.execute(SAME_JOB, [owner_id, key])).fetchone()
        if row is not None and bytes(row[1]) != payload_sha256:
            raise Conflict
        return Stored(str(row[0]), True) if row else None

    async def job(self, job_id: str, owner_id: str | None) -> Job | None:
        """The job, if it is there and belongs to `owner_id` (None: whoever)."""
        jobs = await self._jobs(
            JOB + "WHERE j.id = %(id)s AND (%(owner)s::uuid IS NULL OR j.owner_id = %(owner)s)",
            {"id": job_id, "owner": owner_id},
        )
        return jobs[0] if jobs else None

    async def jobs(
        self,
        owner_id: str | None,
        *,
        first: int | None = None,
        before: int | None = None,
        name: str | None = None,
        states: Sequence[State] = (),
        created_after: object = None,
    ) -> list[Job]:
        """Jobs of `owner_id` (None: of everyone), newest first; `before` is the number of the last one seen."""
        return await self._jobs(
            JOB
            + """WHERE (%(owner)s::uuid IS NULL OR j.owner_id = %(owner)s)
                   AND (%(before)s::bigint IS NULL OR j.number < %(before)s)
                   AND (%(name)s::text IS NULL OR j.name = %(name)s)
                   AND (%(states)s::text[] = '{}' OR j.state = ANY (%(states)s))
                   AND (%(after)s::timestamptz IS NULL OR j.created_at > %(after)s)
                 ORDER BY j.number DESC LIMIT %(first)s""",
            {
                "owner": owner_id,
                "before": before,
                "name": name,
                "states": [str(state) for state in states],
                "after": created_after,
                "first": first,
            },
        )

    async def pace(self, job: Job, parts: int) -> list[int]:
        """How many records ended in each of so many equal parts of the job's time until now."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(PACE, {"id": job.id, "seconds": job.seconds, "parts": parts})
            ended = dict(await cursor.fetchall())
            return [ended.get(part, 0) for part in range(1, parts + 1)]

    async def jobs_by_id(self, ids: Sequence[str], owner_id: str | None) -> list[Job]:
        """Those of the ids that are there and belong to `owner_id` (None: whoever), in the order of the ids."""
        found = await self._jobs(
            JOB + "WHERE j.id = ANY (%(ids)s::uuid[]) AND (%(owner)s::uuid IS NULL OR j.owner_id = %(owner)s)",
            {"ids": list(ids), "owner": owner_id},
        )
        place = {job_id: number for number, job_id in enumerate(ids)}
        return sorted(found, key=lambda job: place[job.id])

    async def _jobs(self, query: LiteralString, parameters: dict[str, Any]) -> list[Job]:
        async with checkout(self.pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, parameters)
            return [_job(row) for row in await cursor.fetchall()]

    async def cancel(self, job_id: str, owner_id: str | None, actor: Actor = OPERATOR) -> State:
        """Mark the job as CANCELING; answer its state after. A job that is CANCELING or CANCELED stays as it is.

        Raises NotFound; InvalidState when it has ended otherwise.
        """
        async with checkout(self.pool) as connection, connection.transaction():
            state = await _locked_state(connection, job_id, owner_id)
            if state in (State.CANCELING, State.CANCELED):
                return state
            if state.terminal:
                raise InvalidState(f"The job has ended ({state}); it cannot be cancelled any more.")
            await connection.execute(
                "UPDATE jobs.jobs SET state = 'CANCELING', closing = 'CANCELED', error = 'Cancelled on request.',"
                " changes = changes + 1 WHERE id = %s",
                [job_id],
            )
            await audit.record(connection, "jobs", Act(actor, "job.cancel", f"job:{job_id}"))
            faults.point("cancel.before_commit")
            return State.CANCELING

    async def pause(self, job_id: str, owner_id: str | None, actor: Actor = OPERATOR) -> None:
        """Stop dispatching; batches that are on their way come to their end. Raises NotFound, InvalidState."""
        async with checkout(self.pool) as connection, connection.transaction():
            state = await _locked_state(connection, job_id, owner_id)
            if state is State.PAUSED:
                return
            if state not in (State.QUEUED, State.VALIDATING, State.RUNNING):
                raise InvalidState(f"Only a job that is waiting or running can be paused; this one is {state}.")
            await connection.execute("UPDATE jobs.jobs SET state = 'PAUSED', changes = changes + 1 WHERE id = %s", [job_id])
            await audit.record(connection, "jobs", Act(actor, "job.pause", f"job:{job_id}"))
            faults.point("pause.before_commit")
        faults.point("pause.after_commit")

    async def resume(self, job_id: str, owner_id: str | None, actor: Actor = OPERATOR) -> None:
        """Go on with a paused job. Raises NotFound, InvalidState."""
        async with checkout(self.pool) as connection, connection.transaction():
            state = await _locked_state(connection, job_id, owner_id)
            if state is not State.PAUSED:
                raise InvalidState(f"Only a paused job can be resumed; this one is {state}.")
            # Claims of a paused job are dropped, so that what was dispatched has to be issued again.
            await connection.execute(
                """WITH reset AS (
                       UPDATE jobs.batches SET dispatched_at = '-infinity', claimed_at = NULL
                        WHERE job_id = %(id)s AND dispatch_no > 0 AND NOT settled)
                   UPDATE jobs.jobs
                      SET state = CASE WHEN started_at IS NULL THEN 'QUEUED' ELSE 'RUNNING' END, changes = changes + 1,
                          plan_dispatched_at = NULL
                    WHERE id = %(id)s""",
                {"id": job_id},
            )
            await audit.record(connection, "jobs", Act(actor, "job.resume", f"job:{job_id}"))
            faults.point("resume.before_commit")
        faults.point("resume.after_commit")

    async def add_upload(self, upload: Upload, actor: Actor, quota: int = 0) -> Upload:
        """Remember a file that the blob store holds, under the blob that the owner has of the same content already.

        Raises QuotaExceeded when the owner would keep more than `quota` bytes (0: any number).
        """
        async with checkout(self.pool) as connection, connection.transaction():
            await lock_owner(connection, upload.owner_id)
            kept = await keep(connection, upload, actor, quota)
            faults.point("upload.before_commit")
        return kept

    async def used(self, owner_id: str) -> int:
        """Bytes of uploads that the owner keeps, and has announced."""
        async with checkout(self.pool) as connection:
            return await used(connection, owner_id)

    async def staged(self, owner_id: str, upload_id: str) -> tuple[int, int] | None:
        """Of an upload that still comes in pieces: the bytes that are there, and all."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(
                "SELECT received, bytes FROM jobs.staged WHERE owner_id = %s AND id::text = %s", [owner_id, upload_id]
            )
            row = await cursor.fetchone()
            return (row[0], row[1]) if row else None

    async def upload(self, owner_id: str, name_or_id: str) -> Upload | None:
        """The owner's upload of that id, else the newest of that file name."""
        async with checkout(self.pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(
                """SELECT id::text, owner_id::text, file_name, blob_key, bytes AS size, sha256, created_at, format, survey,
                          plan_blob
                     FROM jobs.uploads WHERE owner_id = %(owner)s AND (id::text = %(name)s OR file_name = %(name)s)
                    ORDER BY id::text = %(name)s DESC, created_at DESC, id DESC LIMIT 1""",
                {"owner": owner_id, "name": name_or_id},
            )
            row = await cursor.fetchone()
            return Upload(**row) if row else None

    async def blocks(self, job_id: str, kind: LiteralString, after_batch: int, most: int) -> list[tuple[int, bytes]]:
        """Non-empty blocks (`rejects` or `results`) of the job's receipts, by batch_no, from behind `after_batch`."""
        query: LiteralString = (
            f"SELECT batch_no, {kind} FROM jobs.receipts WHERE job_id = %s AND batch_no > %s AND {kind} <> ''"
            " ORDER BY batch_no LIMIT %s"
        )
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(query, [job_id, after_batch, most])
            return [(number, bytes(block)) for number, block in await cursor.fetchall()]

    async def heads(self, job_id: str, after_batch: int, most: int | None) -> list[tuple[int, bytes]]:
        """What blocks of rejects come to (operators.rejects), by batch_no, from behind `after_batch`, at most so many.

        The blocks themselves, which PostgreSQL keeps apart from their rows and in pieces, are not read.
        """
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(HEADS, [job_id, after_batch, most])
            return [(number, bytes(head)) for number, head in await cursor.fetchall()]

    async def blocks_of(self, job_id: str, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
        """The blocks of rejects of these batches, by batch_no."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute(
                "SELECT batch_no, rejects FROM jobs.receipts WHERE job_id = %s AND batch_no = ANY (%s) AND rejects <> ''"
                " ORDER BY batch_no",
                [job_id, list(numbers)],
            )
            return [(number, bytes(block)) for number, block in await cursor.fetchall()]

    async def layout(self, job_id: str) -> bytes | None:
        """How the job's input is read (jobber.model.Layout, JSON); None before the plan."""
        async with checkout(self.pool) as connection:
            cursor = await connection.execute("SELECT layout FROM jobs.jobs WHERE id = %s", [job_id])
            row = await cursor.fetchone()
            return bytes(row[0]) if row and row[0] is not None else None


async def insert_batches(connection: Connection, job_id: str, batches: Sequence[PlannedBatch]) -> None:
    """Store a plan's batches, in order."""
    await connection.execute(
        INSERT_BATCHES,
        [
            job_id,
            [batch.offset for batch in batches],
            [batch.length for batch in batches],
            [batch.first_row for batch in batches],
            [batch.rows for batch in batches],
            [batch.digest for batch in batches],
            [batch.plain for batch in batches],
        ],
    )


async def _hold_upload(connection: Connection, upload_id: str) -> None:
    """Lock the upload's row, so that it cannot expire under a job that is being made of it."""
    held = await connection.execute("SELECT 1 FROM jobs.uploads WHERE id = %s FOR KEY SHARE", [upload_id])
    if held.rowcount == 0:
        raise NotFound("The upload has expired; upload the file again.")


async def _locked_state(connection: Connection, job_id: str, owner_id: str | None) -> State:
    cursor = await connection.execute(
        "SELECT state FROM jobs.jobs WHERE id = %(id)s AND (%(owner)s::uuid IS NULL OR owner_id = %(owner)s) FOR UPDATE",
        {"id": job_id, "owner": owner_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("There is no such job, or it is not yours.")
    return State(row[0])


def _job(row: dict[str, Any]) -> Job:
    return Job(
        id=str(row["id"]),
        number=row["number"],
        owner_id=str(row["owner_id"]),
        name=row["name"],
        state=State(row["state"]),
        error=row["error"],
        warnings=tuple(row["warnings"]),
        total=row["total"],
        batches=row["batches"],
        tally=Tally(row["receipts"], row["inserted"], row["updated"], row["unchanged"], row["rejected"], row["staged"]),
        changes=row["changes"],
        attempt=row["attempt"],
        parent_id=str(row["parent_id"]) if row["parent_id"] else None,
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        expired=row["expired"],
        dry_run=row["dry_run"],
        seconds=row["seconds"],
        upload_id=str(row["upload_id"]) if row["upload_id"] else None,
        file_name=row["file_name"],
    )
