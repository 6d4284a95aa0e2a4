"""The SQL of submissions: many jobs in one statement and one commit, each answered for itself.

What waits together is stored together (together.py), and stays separate: a key that was used before, by an older job or by a
neighbour, costs the neighbours nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from msgspec import json as msgjson

from api.audit import Act, Actor
from api.database import Connection
from api.jobs.decide import Tally
from api.jobs.model import Job, Submission, lane_of
from jobber.errors import Conflict
from jobber.model import State

#: In the order of their keys, so that two groups which share some do not wait for each other.
INSERT_JOBS: LiteralString = """
    WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(%(id)s::uuid[], %(owner_id)s::uuid[], %(name)s::text[], %(args)b::bytea[], %(input_options)b::bytea[],
                         %(idempotency_key)s::text[], %(payload_sha256)b::bytea[], %(inline)b::bytea[], %(upload_id)s::uuid[],
                         %(blob_key)s::text[], %(plan_blob)s::text[], %(blob_bytes)s::bigint[], %(max_errors)s::bigint[],
                         %(max_error_ratio)s::float8[], %(max_rows_per_second)s::integer[], %(priority)s::smallint[],
                         %(mode)s::text[], %(keys)s::text[], %(dry_run)s::boolean[], %(whole)s::boolean[],
                         %(state)s::text[], %(error)s::text[], %(warnings)s::text[], %(layout)b::bytea[],
                         %(total)s::bigint[], %(batches)s::integer[], %(lane)s::text[], %(traceparent)s::text[],
                         %(ended)s::boolean[], %(actor_id)s::uuid[], %(actor)s::text[], %(detail)s::text[])
             WITH ORDINALITY
          AS given (id, owner_id, name, args, input_options, idempotency_key, payload_sha256, inline_data, upload_id, blob_key,
                    plan_blob, blob_bytes, max_errors, max_error_ratio, max_rows_per_second, priority, mode, keys, dry_run,
                    whole, state, error, warnings, layout, total, batches, lane, traceparent, ended, actor_id, actor, detail,
                    place)),
    made AS (
    INSERT INTO jobs.jobs (id, owner_id, name, args, input_options, idempotency_key, payload_sha256, inline_data, upload_id,
                           blob_key, plan_blob, blob_bytes, max_errors, max_error_ratio, max_rows_per_second, priority, mode,
                           keys, dry_run, whole, state, error, warnings, layout, total, batches, lane, traceparent, started_at,
                           ended_at)
    SELECT id, owner_id, name, args, input_options, idempotency_key, payload_sha256, inline_data, upload_id, blob_key,
           plan_blob, blob_bytes, max_errors, max_error_ratio, max_rows_per_second, priority, mode,
           CASE WHEN keys IS NULL THEN '{}' ELSE ARRAY(SELECT json_array_elements_text(keys::json)) END, dry_run, whole, state,
           error, CASE WHEN warnings IS NULL THEN '{}' ELSE ARRAY(SELECT json_array_elements_text(warnings::json)) END,
           layout, total, batches, lane, traceparent,
           CASE WHEN ended THEN clock_timestamp() END, CASE WHEN ended THEN clock_timestamp() END
      FROM asked ORDER BY owner_id, idempotency_key, place
    ON CONFLICT (owner_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, number, created_at, started_at, ended_at),
    planned AS (
    INSERT INTO jobs.batches (job_id, batch_no, start, length, first_row, rows, digest, plain)
    SELECT cut.job_id, cut.batch_no, cut.start, cut.length, cut.first_row, cut.rows, cut.digest, cut.plain
      FROM unnest(%(job_ids)s::uuid[], %(batch_nos)s::integer[], %(starts)s::bigint[], %(lengths)s::bigint[],
                  %(first_rows)s::bigint[], %(rows)s::integer[], %(digests)b::bytea[], %(plain)s::boolean[])
        AS cut (job_id, batch_no, start, length, first_row, rows, digest, plain)
      JOIN made ON made.id = cut.job_id),
    noted AS (
    INSERT INTO jobs.audit (actor_id, actor, action, subject, detail)
    SELECT asked.actor_id, asked.actor, 'job.submit', 'job:' || id, asked.detail::jsonb FROM made JOIN asked USING (id))
    SELECT id::text, number, created_at, started_at, ended_at FROM made
"""

SAME_JOB: LiteralString = "SELECT id::text, payload_sha256 FROM jobs.jobs WHERE owner_id = %s AND idempotency_key = %s"


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a submission."""

    job_id: str
    #: The same was asked for before, under the same key.
    replayed: bool
    #: As it is stored; None for one that was there before.
    job: Job | None = None


async def insert(connection: Connection, group: Sequence[Submission]) -> list[Stored | Conflict]:
    """Store the jobs with their batches, within the caller's transaction; the outcome of each, in order."""
    cursor = await connection.execute(INSERT_JOBS, _columns(group), prepare=True)
    made = {row[0]: row[1:] for row in await cursor.fetchall()}
    outcomes: list[Stored | Conflict] = []
    for asked in group:
        if asked.job_id in made:
            outcomes.append(Stored(asked.job_id, False, _job(asked, *made[asked.job_id])))
        else:
            outcomes.append(await _same_job(connection, asked))
    return outcomes


async def _same_job(connection: Connection, asked: Submission) -> Stored | Conflict:
    """The job that has the key."""
    cursor = await connection.execute(SAME_JOB, [asked.owner_id, asked.idempotency_key])
    row = await cursor.fetchone()
    if row is None or bytes(row[1]) != asked.payload_sha256:
        return Conflict()
    return Stored(str(row[0]), True)


def _columns(group: Sequence[Submission]) -> dict[str, list[Any]]:
    """As arrays, by the names of INSERT_JOBS."""
    rows = [_job_row(asked) for asked in group]
    cut = [(asked.job_id, number, batch) for asked in group if asked.plan for number, batch in enumerate(asked.plan.batches)]
    return {
        **{name: [row[name] for row in rows] for name in rows[0]},
        "job_ids": [job_id for job_id, _, _ in cut],
        "batch_nos": [number for _, number, _ in cut],
        "starts": [batch.offset for _, _, batch in cut],
        "lengths": [batch.length for _, _, batch in cut],
        "first_rows": [batch.first_row for _, _, batch in cut],
        "rows": [batch.rows for _, _, batch in cut],
        "digests": [batch.digest for _, _, batch in cut],
        "plain": [batch.plain for _, _, batch in cut],
    }


def _state(asked: Submission) -> State:
    if asked.error is not None:
        return State.FAILED
    if asked.plan is not None and not asked.plan.batches:
        return State.SUCCEEDED
    return State.QUEUED


def _job_row(asked: Submission) -> dict[str, Any]:
    plan, blob, state = asked.plan, asked.blob, _state(asked)
    act = Act(asked.actor or Actor(asked.owner_id, asked.owner_id), "job.submit", asked.job_id, {"name": asked.name})
    actor_id, actor, _, _, detail = act.row
    return {
        "id": asked.job_id,
        "owner_id": asked.owner_id,
        "name": asked.name,
        "args": asked.args,
        "input_options": msgjson.encode(asked.options),
        "idempotency_key": asked.idempotency_key,
        "payload_sha256": asked.payload_sha256,
        "inline": asked.inline,
        "upload_id": blob.upload_id if blob else None,
        "blob_key": blob.key if blob else None,
        # The upload's: the transaction holds its row, so that it stays.
        "plan_blob": plan.blob_key if plan else None,
        "blob_bytes": blob.size if blob else None,
        "max_errors": asked.limits.max_errors,
        "max_error_ratio": asked.limits.max_error_ratio,
        "max_rows_per_second": asked.max_rows_per_second,
        "priority": asked.priority,
        "mode": str(asked.writing.mode),
        # unnest would take the texts of all jobs for one list.
        "keys": _list(asked.writing.keys),
        "dry_run": asked.writing.dry_run,
        "whole": asked.writing.whole,
        "state": str(state),
        "error": asked.error,
        "warnings": _list(plan.warnings) if plan else None,
        "layout": msgjson.encode(plan.layout) if plan else None,
        "total": plan.rows if plan else None,
        "batches": len(plan.batches) if plan else None,
        "lane": str(lane_of(len(plan.batches))) if plan else None,
        "traceparent": asked.traceparent,
        "ended": state.terminal,
        "actor_id": actor_id,
        "actor": actor,
        "detail": detail,
    }


def _list(texts: Sequence[str]) -> str | None:
    return msgjson.encode(texts).decode() if texts else None


def _job(asked: Submission, number: int, created: datetime, started: datetime | None, ended: datetime | None) -> Job:
    """The row, as reading it again would give it."""
    plan = asked.plan
    return Job(
        id=asked.job_id,
        number=number,
        owner_id=asked.owner_id,
        name=asked.name,
        state=_state(asked),
        error=asked.error,
        warnings=tuple(plan.warnings) if plan else (),
        total=plan.rows if plan else None,
        batches=len(plan.batches) if plan else None,
        tally=Tally(0, 0, 0, 0, 0),
        changes=0,
        attempt=1,
        parent_id=None,
        created_at=created,
        started_at=started,
        ended_at=ended,
        seconds=0.0,
        dry_run=asked.writing.dry_run,
    )
