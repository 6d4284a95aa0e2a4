"""Protobuf <-> what travels through the dataflows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from jobber.errors import JobberError
from jobber.job import find
from jobber.model import BatchKey, Layout, Plan
from jobber.transport import Delivery
from pipelines.work import Batch, Failed, Prepared, Source, Spec
from protos.jobber.jobs.v1 import jobs_pb2
from protos.jobber.v1 import receipt_pb2


class Ticket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a message: a reference to a dispatch."""

    job_id: str
    batch_no: int
    dispatch_no: int


_tickets = msgspec.json.Decoder(Ticket)


def ticket_of(delivery: Delivery) -> Ticket | None:
    """The ticket, or None for garbage."""
    try:
        ticket = _tickets.decode(delivery.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return ticket if len(ticket.job_id) == 36 and ticket.job_id.isascii() and ticket.dispatch_no > 0 else None


def claim_of(tickets: Sequence[Ticket], executor: str) -> jobs_pb2.ClaimRequest:
    """Asks for the batches of the tickets."""
    return jobs_pb2.ClaimRequest(
        dispatches=[
            jobs_pb2.Dispatch(
                key=receipt_pb2.BatchKey(job_id=ticket.job_id, batch_no=ticket.batch_no), dispatch_no=ticket.dispatch_no
            )
            for ticket in tickets
        ],
        executor=executor,
    )


def batches_of(response: jobs_pb2.ClaimResponse) -> list[Batch | Failed]:
    """The batches that were handed out; those of a job that this executor does not understand have failed."""
    specs: dict[str, Spec | JobberError] = {}
    for job in response.jobs:
        try:
            specs[job.job_id] = _spec(job)
        except JobberError as fault:
            specs[job.job_id] = fault
    found: list[Batch | Failed] = []
    for item in response.batches:
        key = BatchKey(item.key.job_id, item.key.batch_no)
        spec = specs[item.key.job_id]
        if isinstance(spec, JobberError):
            found.append(Failed(key, spec.code, spec.message))
        else:
            found.append(Batch(key, item.attempt, spec, source_of(item.source), item.first_row, item.rows, item.sha256))
    return found


def _spec(job: jobs_pb2.JobSpec) -> Spec:
    kind = find(job.name)
    lookups: Mapping[str, Mapping[str, str]] = msgspec.json.decode(job.lookups or b"{}", type=dict[str, dict[str, str]])
    return Spec(job.job_id, kind, kind.decode_args(job.args), msgspec.json.decode(job.layout, type=Layout), lookups)


def source_of(source: jobs_pb2.Source) -> Source:
    """Where the bytes are."""
    if source.WhichOneof("place") == "inline":
        return Source(inline=source.inline)
    return Source(blob_key=source.blob.key, offset=source.blob.offset, length=source.blob.length)


def key_to(key: BatchKey) -> receipt_pb2.BatchKey:
    """As in every message."""
    return receipt_pb2.BatchKey(job_id=key.job_id, batch_no=key.batch_no)


def computed_receipt(item: Prepared) -> receipt_pb2.Receipt:
    """The receipt of a batch whose records were computed: what it made travels in it, and jobs stores the first one."""
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    return receipt_pb2.Receipt(
        key=key_to(item.key),
        inserted=item.rows,
        rejected=item.rejected,
        rejects=item.rejects,
        results=item.frame,
        committed_at=now,
    )


def failure_to(item: Failed) -> jobs_pb2.BatchFailure:
    """Why a batch can never be loaded."""
    return jobs_pb2.BatchFailure(key=key_to(item.key), code=item.code, message=item.message)


def plan_to(plan: Plan) -> jobs_pb2.Plan:
    """The plan as jobs stores it."""
    return jobs_pb2.Plan(
        layout=msgspec.json.encode(plan.layout),
        batches=[
            jobs_pb2.PlannedBatch(
                offset=batch.offset,
                length=batch.length,
                first_row=batch.first_row,
                rows=batch.rows,
                sha256=batch.sha256,
            )
            for batch in plan.batches
        ],
        warnings=plan.warnings,
    )
