"""Protobuf <-> what travels through the dataflows."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from jobber.errors import JobberError
from jobber.job import find
from jobber.model import BatchKey, InputOptions, Layout, Plan, Writing
from jobber.transport import Delivery
from pipelines.work import Batch, Failed, Planned, PlanTask, Prepared, Source, Spec, Unplannable
from protos.jobber.jobs.v1 import jobs_pb2
from protos.jobber.v1 import receipt_pb2

#: `batch_no` in a ticket that asks for a plan.
PLAN = -1
_LARGEST = (1 << 31) - 1


class Ticket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a message: a reference to a dispatch."""

    job_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
    batch_no: Annotated[int, msgspec.Meta(ge=PLAN, le=_LARGEST)]
    dispatch_no: Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]

    @property
    def key(self) -> BatchKey:
        """The batch that it asks for."""
        return BatchKey(self.job_id, self.batch_no)


_tickets = msgspec.json.Decoder(Ticket)


def ticket_of(delivery: Delivery, *, plan: bool = False) -> Ticket | None:
    """The ticket, for a batch or for a plan; None for garbage."""
    try:
        ticket = _tickets.decode(delivery.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return ticket if (ticket.batch_no == PLAN) is plan else None


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
    specs: dict[str, Spec | JobberError | msgspec.MsgspecError] = {}
    for job in response.jobs:
        try:
            specs[job.job_id] = _spec(job)
        except (JobberError, msgspec.MsgspecError) as fault:
            specs[job.job_id] = fault
    found: list[Batch | Failed] = []
    for item in response.batches:
        key = BatchKey(item.key.job_id, item.key.batch_no)
        spec = specs[item.key.job_id]
        if isinstance(spec, Spec):
            source = source_of(item.source)
            found.append(Batch(key, item.attempt, spec, source, item.first_row, item.rows, item.digest, item.plain))
        else:
            found.append(Failed(key, *_reason(spec)))
    return found


def _spec(job: jobs_pb2.JobSpec) -> Spec:
    kind = find(job.name)
    lookups: Mapping[str, Mapping[str, str]] = msgspec.json.decode(job.lookups or b"{}", type=dict[str, dict[str, str]])
    layout = msgspec.json.decode(job.layout, type=Layout)
    writing = msgspec.json.decode(job.writing or b"{}", type=Writing)
    return Spec(job.job_id, kind, kind.decode_args(job.args), layout, lookups, writing)


def _reason(fault: JobberError | msgspec.MsgspecError) -> tuple[str, str]:
    if isinstance(fault, JobberError):
        return fault.code, fault.message
    return "INTERNAL", f"this executor does not understand the job: {fault}"


def plan_task_of(response: jobs_pb2.ClaimPlanResponse, dispatch_no: int) -> PlanTask | Unplannable | None:
    """The job to plan; None when there is nothing to do; why not, when this executor does not understand it."""
    if not response.HasField("task"):
        return None
    job = response.task.job
    try:
        options = msgspec.json.decode(job.layout, type=InputOptions)
        task = response.task
        return PlanTask(job.job_id, dispatch_no, task.attempt, find(job.name), source_of(task.source), options)
    except (JobberError, msgspec.MsgspecError) as fault:
        return Unplannable(job.job_id, *_reason(fault))


def source_of(source: jobs_pb2.Source) -> Source:
    """Where the bytes are."""
    if source.WhichOneof("place") == "inline":
        return Source(inline=source.inline)
    return Source(blob_key=source.blob.key, offset=source.blob.offset, length=source.blob.length)


def key_to(key: BatchKey) -> receipt_pb2.BatchKey:
    """As in every message."""
    return receipt_pb2.BatchKey(job_id=key.job_id, batch_no=key.batch_no)


def computed_receipt(item: Prepared) -> receipt_pb2.Receipt:
    """The receipt of a batch that writes nothing to a target: what it made travels in it, and jobs stores the first one.

    It has no time: only the database's clock says when, which is jobs' affair here.
    """
    return receipt_pb2.Receipt(
        key=key_to(item.key),
        inserted=0 if item.staged else item.rows,
        staged=item.rows if item.staged else 0,
        rejected=item.rejected,
        rejects=item.rejects,
        results=bytes(item.frame),
    )


def failure_to(item: Failed) -> jobs_pb2.BatchFailure:
    """Why a batch can never be loaded."""
    return jobs_pb2.BatchFailure(key=key_to(item.key), code=item.code, message=item.message)


def record_of(item: Planned | Unplannable) -> jobs_pb2.RecordPlanRequest:
    """Stores a plan, or why there is none."""
    if isinstance(item, Unplannable):
        failure = jobs_pb2.PlanFailure(code=item.code, message=item.message)
        return jobs_pb2.RecordPlanRequest(job_id=item.job_id, failure=failure)
    return jobs_pb2.RecordPlanRequest(job_id=item.job_id, plan=_plan_to(item.plan))


def _plan_to(plan: Plan) -> jobs_pb2.Plan:
    return jobs_pb2.Plan(
        layout=msgspec.json.encode(plan.layout),
        batches=[
            jobs_pb2.PlannedBatch(
                offset=batch.offset,
                length=batch.length,
                first_row=batch.first_row,
                rows=batch.rows,
                digest=batch.digest,
                plain=batch.plain,
            )
            for batch in plan.batches
        ],
        warnings=plan.warnings,
        blob_key=plan.blob_key,
    )
