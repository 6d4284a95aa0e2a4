"""The GraphQL types of jobs; api/jobs/schema.graphql is their snapshot."""

from typing import Any, Literal

import graphene
from graphql import GraphQLError

from api.graphql.scalars import JSON, DateTime, Long
from api.graphql.types import Node, PageInfo, User, UserError, decode_cursor, encode_cursor, page_size
from api.jobs.context import Context
from api.jobs.graphql_enums import FileFormat, JobState, JobStatus, RowOutcome
from api.jobs.model import Job as JobRow
from api.jobs.rejects import Fault
from api.jobs.rejects import Group as GroupRow
from jobber.errors import NotFound
from jobber.ids import is_id
from jobber.model import Format, State

#: The original's three values.
STATUS = {State.SUCCEEDED: "COMPLETED", State.PARTIAL: "COMPLETED", State.FAILED: "FAILED", State.CANCELED: "FAILED"}


def job_id(text: str) -> str:
    """A job's id as we write it. Raises NotFound for anything else: no such job can exist."""
    if is_id(text.lower()):
        return text.lower()
    raise NotFound("There is no such job, or it is not yours.")


class ContractColumn(graphene.ObjectType):
    """A column of a job type's contract."""

    name = graphene.String(required=True)
    type = graphene.String(required=True)
    required = graphene.Boolean(required=True)
    default = graphene.String(description="What a record without it gets; null for none, and for a required column.")
    rules = graphene.List(graphene.NonNull(graphene.String), required=True)


class JobMetadata(graphene.ObjectType):
    """A job type."""

    name = graphene.String(required=True)
    description = graphene.String(required=True)
    version = graphene.String(required=True)
    input_schema = graphene.Field(JSON, required=True, description="JSON Schema of `data`.")
    columns = graphene.List(
        graphene.NonNull(ContractColumn), required=True, description="The contract of a record, as a table."
    )
    template_url = graphene.String(required=True, description="A CSV file with the header that an input wants.")


class Counts(graphene.ObjectType):
    """Records by what became of them. Once the job has ended, the others sum up to `total`."""

    total = Long(description="Null until the input is planned.")
    read = Long(required=True)
    inserted = Long(required=True)
    updated = Long(required=True)
    unchanged = Long(required=True)
    rejected = Long(required=True)
    unprocessed = Long(required=True, description="Records that a failed or cancelled job never came to.")


class Progress(graphene.ObjectType):
    """How far a job is: its receipts, summed."""

    counts = graphene.Field(Counts, required=True)
    batches_committed = graphene.Int(required=True)
    batches_total = graphene.Int()
    rows_per_second = graphene.Float(required=True)
    eta_seconds = graphene.Int()
    seq = Long(required=True, description="Grows with every change.")


class RowError(graphene.ObjectType):
    """One broken rule of one record."""

    row = Long(required=True, description="Number of the record in the input, from 1.")
    column = graphene.String()
    code = graphene.String(required=True)
    message = graphene.String(required=True)
    raw = graphene.Field(JSON, required=True, description="The record as it stood in the input.")

    @staticmethod
    def of(fault: Fault) -> "RowError":
        """As people see it."""
        return RowError(row=fault.row, column=fault.column, code=fault.code, message=fault.message, raw=fault.raw)


class ErrorGroup(graphene.ObjectType):
    """How often a rule was broken."""

    code = graphene.String(required=True)
    column = graphene.String()
    count = Long(required=True)
    sample = graphene.Field(RowError, required=True)

    @staticmethod
    def of(group: GroupRow) -> "ErrorGroup":
        """As people see it."""
        return ErrorGroup(code=group.code, column=group.column, count=group.count, sample=RowError.of(group.sample))


class ResultFile(graphene.ObjectType):
    """Something to download, with the token of the job's submitter."""

    rows = Long(required=True)
    url = graphene.String(required=True)
    sha256 = graphene.String(required=True)
    expires_at = graphene.Field(DateTime, required=True)

    async def resolve_sha256(root: Any, info: graphene.ResolveInfo) -> str:
        """Only when it is asked for: the whole file is made for it, once when the job has ended."""
        context: Context = info.context
        return await context.rejects.sha256(root.row.id, root.kind, root.form, ended=root.row.state.terminal)


class RowErrorEdge(graphene.ObjectType):
    """A place in a job's errors."""

    cursor = graphene.String(required=True)
    node = graphene.Field(RowError, required=True)


class RowErrorConnection(graphene.ObjectType):
    """A job's errors, by row."""

    edges = graphene.List(graphene.NonNull(RowErrorEdge), required=True)
    page_info = graphene.Field(PageInfo, required=True)
    total_count = Long(required=True)

    async def resolve_total_count(root: Any, info: graphene.ResolveInfo) -> int:
        """Counted only when asked for."""
        context: Context = info.context
        return await context.rejects.count(root.job_id)


class Job(graphene.ObjectType):
    """One asking."""

    class Meta:  # noqa: D106
        interfaces = (Node,)

    name = graphene.String(required=True)
    size = graphene.Float(required=True, description="Records of the input; 0 until it is planned.")
    completed = graphene.Float(required=True, description="Records that ended as loaded or rejected.")
    status = graphene.Field(JobStatus, required=True)
    started = graphene.Field(DateTime, required=True)
    ended = graphene.Field(DateTime)
    state = graphene.Field(JobState, required=True)
    dry_run = graphene.Boolean(required=True)
    progress = graphene.Field(Progress, required=True)
    error = graphene.String(description="Why the job failed, in a sentence to act on.")
    warnings = graphene.List(graphene.NonNull(graphene.String), required=True)
    attempt = graphene.Int(required=True)
    parent = graphene.Field(lambda: Job)
    submitted_by = graphene.Field(User, required=True)
    errors = graphene.Field(RowErrorConnection, required=True, first=graphene.Int(default_value=50), after=graphene.String())
    error_groups = graphene.List(graphene.NonNull(ErrorGroup), required=True)
    results = graphene.Field(
        ResultFile,
        outcome=graphene.Argument(RowOutcome, required=True),
        format=graphene.Argument(FileFormat, default_value="CSV"),
    )

    @staticmethod
    def of(row: JobRow) -> "Job":
        """As people see it."""
        tally, rate = row.tally, row.rows_per_second
        left = (row.total or 0) - row.read
        job = Job(
            id=row.id,
            name=row.name,
            size=float(row.total or 0),
            completed=float(tally.ended),
            status=STATUS.get(row.state, "IN_PROGRESS"),
            started=row.started_at or row.created_at,
            ended=row.ended_at,
            state=str(row.state),
            dry_run=row.dry_run,
            error=row.error,
            warnings=list(row.warnings),
            attempt=row.attempt,
            progress=Progress(
                counts=Counts(
                    total=row.total,
                    read=row.read,
                    inserted=tally.inserted,
                    updated=tally.updated,
                    unchanged=tally.unchanged,
                    rejected=tally.rejected,
                    unprocessed=row.unprocessed,
                ),
                batches_committed=tally.receipts,
                batches_total=row.batches,
                rows_per_second=rate,
                eta_seconds=round(left / rate) if rate and not row.state.terminal and row.total is not None else None,
                seq=row.seq,
            ),
        )
        job.row = row
        return job

    async def resolve_parent(root: Any, info: graphene.ResolveInfo) -> "Job | None":
        """The job that this one repeats, when it is the caller's to see."""
        context: Context = info.context
        row: JobRow = root.row
        if row.parent_id is None:
            return None
        found = await context.jobs.load(row.parent_id)
        return Job.of(found) if found else None

    async def resolve_submitted_by(root: Any, info: graphene.ResolveInfo) -> User:
        """From auth, many at once."""
        context: Context = info.context
        user = await context.users.load(root.row.owner_id)
        return User(id=user.id, email=user.email, role=user.role)

    async def resolve_errors(root: Any, info: graphene.ResolveInfo, first: int, after: str | None = None) -> RowErrorConnection:
        """By row, then in the order of the contract's rules."""
        context: Context = info.context
        place = decode_cursor(after, 2)
        faults, more = await context.rejects.page(root.id, page_size(first), (place[0], place[1]) if place else None)
        edges = [RowErrorEdge(cursor=encode_cursor(item.batch_no, item.index), node=RowError.of(item)) for item in faults]
        connection = RowErrorConnection(
            edges=edges, page_info=PageInfo(has_next_page=more, end_cursor=edges[-1].cursor if edges else None)
        )
        connection.job_id = root.id
        return connection

    async def resolve_error_groups(root: Any, info: graphene.ResolveInfo) -> list[ErrorGroup]:
        """Most frequent first."""
        context: Context = info.context
        return [ErrorGroup.of(group) for group in await context.rejects.groups(root.id)]

    async def resolve_results(root: Any, info: graphene.ResolveInfo, outcome: str, format: str) -> ResultFile | None:
        """A download of this outcome, or null when there is none."""
        context: Context = info.context
        if format not in ("CSV", "NDJSON"):
            raise GraphQLError("Results download as CSV or NDJSON.", extensions={"code": "INVALID_DATA"})
        row: JobRow = root.row
        if row.expired or (row.dry_run and outcome != "REJECTED"):
            return None
        kind: Literal["rejects", "results"] = "rejects" if outcome == "REJECTED" else "results"
        job_type = context.services.kinds.get(row.name)
        computed = job_type is not None and job_type.target is None
        if not (outcome == "REJECTED" or (outcome == "INSERTED" and computed)):
            return None
        file = ResultFile(
            rows=row.tally.rejected if kind == "rejects" else row.tally.inserted,
            url=f"{context.base_url}/jobs/{row.id}/{kind}.{format.lower()}",
            expires_at=context.expires(row),
        )
        file.row, file.kind, file.form = row, kind, Format(format)
        return file


class JobEdge(graphene.ObjectType):
    """A place in a list of jobs."""

    cursor = graphene.String(required=True)
    node = graphene.Field(Job, required=True)


class JobConnection(graphene.ObjectType):
    """Jobs, newest first."""

    edges = graphene.List(graphene.NonNull(JobEdge), required=True)
    page_info = graphene.Field(PageInfo, required=True)


class JobPayload(graphene.ObjectType):
    """A job, or why there is none."""

    job = graphene.Field(Job)
    replayed = graphene.Boolean(required=True, description="The same submission was made before; this is its job.")
    user_errors = graphene.List(graphene.NonNull(UserError), required=True)
