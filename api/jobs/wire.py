"""Protobuf <-> the nouns of this room."""

from datetime import UTC

import msgspec

from api.jobs.work import Claimed, Spec
from jobber.errors import InvalidData
from jobber.ids import is_id
from jobber.model import BatchKey, InputOptions, Layout, Plan, PlannedBatch, Receipt
from protos.jobber.jobs.v1 import jobs_pb2 as pb
from protos.jobber.v1 import receipt_pb2


def key_from(message: receipt_pb2.BatchKey) -> BatchKey:
    """Raises InvalidData when the job id is not a lowercase UUID or the number is negative."""
    return BatchKey(job_id_from(message.job_id), _natural(message.batch_no))


def key_to(key: BatchKey) -> receipt_pb2.BatchKey:
    """As in the receipts of every service."""
    return receipt_pb2.BatchKey(job_id=key.job_id, batch_no=key.batch_no)


def job_id_from(text: str) -> str:
    """Raises InvalidData when it is not a UUID as we write them."""
    if is_id(text):
        return text
    raise InvalidData(f"{text[:80]!r} is not a job id")


def receipt_from(message: receipt_pb2.Receipt) -> Receipt:
    """Raises InvalidData when a count is negative or the key is none."""
    return Receipt(
        key_from(message.key),
        _natural(message.inserted),
        _natural(message.updated),
        _natural(message.unchanged),
        _natural(message.rejected),
        message.rejects,
        message.results,
        message.committed_at.ToDatetime(tzinfo=UTC) if message.HasField("committed_at") else None,
        _natural(message.staged),
    )


def plan_from(message: pb.Plan) -> Plan:
    """Raises InvalidData when the plan is not one: rows must be numbered without a gap."""
    try:
        layout = msgspec.json.decode(message.layout, type=Layout)
    except msgspec.MsgspecError as fault:
        raise InvalidData(f"the plan's layout is not valid: {fault}") from fault
    batches = tuple(
        PlannedBatch(item.offset, item.length, item.first_row, item.rows, item.digest, item.plain) for item in message.batches
    )
    row = 1
    for batch in batches:
        if batch.first_row != row or batch.rows < 1 or batch.length < 1 or len(batch.digest) != 32:
            raise InvalidData("the plan's batches do not number the records from 1 without a gap")
        row += batch.rows
    return Plan(layout, batches, tuple(message.warnings), message.blob_key if message.HasField("blob_key") else None)


def spec_to(spec: Spec) -> pb.JobSpec:
    """What every batch of a job shares."""
    return pb.JobSpec(
        job_id=spec.job_id,
        name=spec.name,
        args=spec.args,
        layout=spec.layout,
        lookups=spec.lookups,
        writing=msgspec.json.encode(spec.writing),
    )


def plan_task_to(spec: Spec, attempt: int, batch_bytes: int, batch_rows: int) -> pb.PlanTask:
    """A job to plan; its source is the whole input. Its batches may have fewer rows than those of others."""
    told = msgspec.json.decode(spec.layout, type=InputOptions)
    source = pb.Source(blob=pb.BlobRange(key=spec.blob_key or ""))
    if spec.inline is not None:
        source = pb.Source(inline=spec.inline)
    return pb.PlanTask(
        job=spec_to(spec), attempt=attempt, source=source, batch_bytes=batch_bytes, batch_rows=min(batch_rows, told.batch_rows)
    )


def claimed_to(item: Claimed, spec: Spec) -> pb.ClaimedBatch:
    """A batch with where its bytes are: in the message, when the job's input is in its row."""
    planned = item.planned
    if spec.inline is not None:
        source = pb.Source(inline=spec.inline[planned.offset : planned.offset + planned.length])
    else:
        source = pb.Source(blob=pb.BlobRange(key=spec.blob_key or "", offset=planned.offset, length=planned.length))
    return pb.ClaimedBatch(
        key=key_to(item.key),
        attempt=item.attempt,
        source=source,
        first_row=planned.first_row,
        rows=planned.rows,
        digest=planned.digest,
        plain=planned.plain,
    )


def _natural(value: int) -> int:
    if value < 0:
        raise InvalidData(f"{value} is negative")
    return value
