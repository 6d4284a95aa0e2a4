"""The GraphQL door of jobs: submit, follow, cancel. Raised JobberErrors become errors with `extensions.code`."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import graphene
import msgspec

from api import audit
from api.graphql.scalars import JSON, RawJson
from api.graphql.types import (
    AuditConnection,
    Node,
    PageInfo,
    User,
    decode_cursor,
    encode_cursor,
    exactly_one,
    page_size,
    user_error,
)
from api.jobs import acts
from api.jobs import graphql_dead as dead
from api.jobs import graphql_inputs as inputs
from api.jobs import graphql_later as later
from api.jobs import graphql_lineage as lineage
from api.jobs import graphql_types as types
from api.jobs import graphql_uploads as uploads
from api.jobs.context import Context
from api.jobs.graphql_follow import Subscription
from api.jobs.graphql_replay import JobReplayRejected
from api.jobs.submission import Asked
from api.jobs.submit import Stored
from api.scopes import ADMIN_READ
from jobber.contract import Contract, rules_of, type_of
from jobber.errors import Forbidden, InvalidData, JobberError, NotFound
from jobber.job import JobType
from jobber.model import Compression, Format, State

#: `jobs` has no page size in the original; more than so many are asked for by jobsConnection.
UNBOUNDED = 1000


class Query(graphene.ObjectType):
    """What can be asked."""

    me = graphene.Field(User)
    jobs_metadata = graphene.List(graphene.NonNull(types.JobMetadata), required=True)
    jobs = graphene.List(graphene.NonNull(types.Job), required=True, deprecation_reason="unbounded: use jobsConnection")
    job = graphene.Field(types.Job, id=graphene.ID(required=True))
    jobs_connection = graphene.Field(
        types.JobConnection,
        required=True,
        first=graphene.Int(default_value=50),
        after=graphene.String(),
        filter=inputs.JobFilter(),
    )
    upload = graphene.Field(
        uploads.StagedUpload,
        id=graphene.ID(required=True),
        description="An upload of the caller's, also one that is still coming in pieces.",
    )
    row_lineage = graphene.List(
        graphene.NonNull(lineage.Batch),
        required=True,
        table=graphene.String(required=True),
        key=JSON(required=True),
        description='The batches that wrote a row, as far as their jobs may be seen: table "products", key `{"id": 1}`.',
    )
    audit_log = graphene.Field(
        AuditConnection,
        required=True,
        first=graphene.Int(default_value=50),
        after=graphene.String(),
        description="Who did what to jobs and uploads, newest first; for an ADMIN. For users and tokens ask the auth service.",
    )
    dead_letters = graphene.Field(
        dead.DeadLetterConnection,
        required=True,
        first=graphene.Int(default_value=50),
        after=graphene.String(),
        description="What can never be loaded, with its reason, newest first; for an ADMIN.",
    )
    node = graphene.Field(Node, id=graphene.ID(required=True), description="A job or a batch that the caller may see.")

    async def resolve_me(root: Any, info: graphene.ResolveInfo) -> User | None:
        """The caller; null without a token."""
        context: Context = info.context
        caller = context.caller
        return User(id=caller.id, email=caller.email, role=caller.role) if caller else None

    async def resolve_jobs_metadata(root: Any, info: graphene.ResolveInfo) -> list[types.JobMetadata]:
        """The job types that are installed, with what their input must look like."""
        context: Context = info.context
        _ = context.who
        return [
            types.JobMetadata(
                name=kind.name,
                description=kind.description,
                version=kind.version,
                input_schema=input_schema(kind),
                columns=[
                    types.ContractColumn(
                        name=column.name, type=type_of(column), required=column.required, rules=rules_of(column)
                    )
                    for column in Contract.of(kind.contract).columns
                ],
                template_url=f"{context.base_url}/contracts/{quote(kind.name)}/template.csv",
            )
            for kind in sorted(context.services.kinds.values(), key=lambda kind: kind.name)
        ]

    async def resolve_jobs(root: Any, info: graphene.ResolveInfo) -> list[types.Job]:
        """Newest first."""
        context: Context = info.context
        return [types.Job.of(row) for row in await context.store.jobs(context.sees, first=UNBOUNDED)]

    async def resolve_job(root: Any, info: graphene.ResolveInfo, id: str) -> types.Job | None:
        """The job, or null when there is none of that id that the caller may see."""
        context: Context = info.context
        return await _find(context, id)

    async def resolve_jobs_connection(
        root: Any, info: graphene.ResolveInfo, first: int, after: str | None = None, filter: Any = None
    ) -> types.JobConnection:
        """Newest first."""
        context: Context = info.context
        size, place, wanted = page_size(first), decode_cursor(after, 1), filter or {}
        rows = await context.store.jobs(
            context.sees,
            first=size + 1,
            before=place[0] if place else None,
            name=wanted.get("name"),
            states=[State(state) for state in wanted.get("states") or ()],
            created_after=wanted.get("created_after"),
        )
        edges = [types.JobEdge(cursor=encode_cursor(row.number), node=types.Job.of(row)) for row in rows[:size]]
        page = PageInfo(has_next_page=len(rows) > size, end_cursor=edges[-1].cursor if edges else None)
        return types.JobConnection(edges=edges, page_info=page)

    async def resolve_upload(root: Any, info: graphene.ResolveInfo, id: str) -> uploads.StagedUpload | None:
        """Null when there is none of that id that is the caller's own."""
        return await uploads.find_upload(info.context, id)

    async def resolve_row_lineage(root: Any, info: graphene.ResolveInfo, table: str, key: RawJson) -> list[lineage.Batch]:
        """None for a row that was made by hand."""
        return await lineage.row_lineage(info.context, table, key)

    async def resolve_audit_log(root: Any, info: graphene.ResolveInfo, first: int, after: str | None = None) -> AuditConnection:
        """One more than asked for says whether there is a next page."""
        context: Context = info.context
        if context.who.role != "ADMIN":
            raise Forbidden
        context.who.check(ADMIN_READ)
        size, place = page_size(first), decode_cursor(after, 1)
        entries = await audit.page(context.store.pool, "jobs", size + 1, place[0] if place else None)
        return AuditConnection.of(entries, size)

    async def resolve_dead_letters(
        root: Any, info: graphene.ResolveInfo, first: int, after: str | None = None
    ) -> dead.DeadLetterConnection:
        """For operators, not for the owners of jobs: a job's `error` tells those."""
        return await dead.dead_letters(info.context, first, after)

    async def resolve_node(root: Any, info: graphene.ResolveInfo, id: str) -> Any:
        """By what the id looks like."""
        context: Context = info.context
        return await (lineage.find_batch(context, id) if ":" in id else _find(context, id))


class ExecuteJob(graphene.Mutation):
    """Submit a job: the original's mutation, with both spellings of its argument."""

    class Arguments:  # noqa: D106
        input = inputs.ExecuteJobInput()
        execute_job_input = inputs.ExecuteJobInput()

    Output = graphene.NonNull(types.Job)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, input: Any = None, execute_job_input: Any = None) -> types.Job:
        """Answer the job once it is stored durably."""
        context: Context = info.context
        owner = context.may_submit()
        given = exactly_one(input, execute_job_input, "input", "executeJobInput")
        asked = Asked(
            owner_id=owner,
            actor=context.who.actor,
            name=given["name"],
            data=_json_bytes(given["data"]),
            options=_plain(given.get("options")),
            idempotency_key=given.get("idempotency_key"),
        )
        return await _submitted(context, await acts.submit(context, asked))


class JobSubmit(graphene.Mutation):
    """Submit a job; what can be expected to go wrong is answered in userErrors."""

    class Arguments:  # noqa: D106
        input = inputs.SubmitJobInput(required=True)

    Output = graphene.NonNull(types.JobPayload)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, input: Any) -> types.JobPayload:
        """Answer the job once it is stored durably."""
        context: Context = info.context
        owner = context.may_submit()

        async def submit() -> types.JobPayload:
            source = input["source"]
            if sum(source.get(name) is not None for name in ("rows", "upload_id", "url")) != 1:
                raise InvalidData("A source is exactly one of rows, uploadId and url.")
            rows = source.get("rows")
            outcome = await acts.submit(
                context,
                Asked(
                    owner_id=owner,
                    actor=context.who.actor,
                    name=input["name"],
                    data=_json_bytes(rows) if rows is not None else None,
                    file_name=source.get("upload_id"),
                    url=source.get("url"),
                    options=_plain(input.get("options")),
                    idempotency_key=input["idempotency_key"],
                    format=Format(source["format"]) if source.get("format") else None,
                    compression=Compression(source["compression"]) if source.get("compression") else None,
                ),
            )
            job = await _submitted(context, outcome)
            return types.JobPayload(job=job, replayed=outcome.replayed, user_errors=[])

        return await _payload(submit)


def _change(name: str, doc: str, act: Callable[[Context, str], Awaitable[None]]) -> Any:
    """A mutation that changes the job of an id."""

    async def mutate(root: Any, info: graphene.ResolveInfo, id: str) -> types.JobPayload:
        context: Context = info.context
        context.may_submit()

        async def run() -> types.JobPayload:
            job_id = types.job_id(id)
            await act(context, job_id)
            return types.JobPayload(job=await _stored(context, job_id), replayed=False, user_errors=[])

        return await _payload(run)

    arguments = type("Arguments", (), {"id": graphene.ID(required=True)})
    members = {
        "__doc__": doc,
        "Arguments": arguments,
        "Output": graphene.NonNull(types.JobPayload),
        "mutate": staticmethod(mutate),
    }
    return type(name, (graphene.Mutation,), members)


class JobRetry(graphene.Mutation):
    """Run what a failed or cancelled job left, as a job of its own; no record is loaded twice. Again: the same child."""

    class Arguments:  # noqa: D106
        id = graphene.ID(required=True)

    Output = graphene.NonNull(types.JobPayload)

    async def mutate(root: Any, info: graphene.ResolveInfo, id: str) -> types.JobPayload:
        """The child job."""
        context: Context = info.context
        context.may_submit()

        async def run() -> types.JobPayload:
            child, replayed = await acts.retry(context, types.job_id(id))
            return types.JobPayload(job=await _stored(context, child), replayed=replayed, user_errors=[])

        return await _payload(run)


class Mutation(graphene.ObjectType):
    """What can be changed."""

    execute_job = ExecuteJob.Field()
    job_submit = JobSubmit.Field()
    job_cancel = _change(
        "JobCancel", "Cancel a job; once answered CANCELED, no further row of it appears.", acts.cancel
    ).Field()
    job_pause = _change("JobPause", "Stop dispatching a job's batches until it is resumed.", acts.pause).Field()
    job_resume = _change("JobResume", "Go on with a paused job.", acts.resume).Field()
    job_retry = JobRetry.Field()
    job_replay_rejected = JobReplayRejected.Field()
    job_revert = later.JobRevert.Field()
    upload_create = uploads.UploadCreate.Field()
    schedule_create = later.ScheduleCreate.Field()
    schedule_delete = later.ScheduleDelete.Field()


schema = graphene.Schema(query=Query, mutation=Mutation, subscription=Subscription, types=[types.Job, User, lineage.Batch])


def input_schema(kind: JobType) -> dict[str, Any]:
    """JSON Schema of `data` for this job type: a record, an array of records, or an upload with arguments."""
    record = Contract.of(kind.contract).json_schema()
    arguments = msgspec.json.schema(kind.args)
    own = arguments.get("$defs", {}).get(kind.args.__name__, {})
    members, required = own.get("properties", {}), own.get("required", [])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.name,
        "description": kind.description,
        "anyOf": [
            {"$ref": "#/$defs/record"},
            {"type": "array", "items": {"$ref": "#/$defs/record"}},
            {
                "type": "object",
                "properties": {"fileName": {"type": "string", "description": "name or id of an upload"}, **members},
                "required": ["fileName", *required],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"records": {"type": "array", "items": {"$ref": "#/$defs/record"}}, **members},
                "required": ["records", *required],
                "additionalProperties": False,
            },
        ],
        "$defs": {"record": record},
    }


async def _find(context: Context, id: str) -> types.Job | None:
    sees = context.sees
    try:
        row = await context.store.job(types.job_id(id), sees)
    except NotFound:
        return None
    return types.Job.of(row) if row else None


async def _submitted(context: Context, outcome: Stored) -> types.Job:
    """The job that was stored; read only when it is not the one that was asked for."""
    return types.Job.of(outcome.job) if outcome.job else await _stored(context, outcome.job_id)


async def _stored(context: Context, job_id: str) -> types.Job:
    row = await context.store.job(job_id, None)
    assert row is not None
    return types.Job.of(row)


async def _payload(act: Callable[[], Awaitable[types.JobPayload]]) -> types.JobPayload:
    try:
        return await act()
    except JobberError as fault:
        return types.JobPayload(job=None, replayed=False, user_errors=[user_error(fault)])


def _json_bytes(value: Any) -> bytes:
    """The text of a JSON scalar as it was sent."""
    return bytes(value) if isinstance(value, RawJson) else msgspec.json.encode(value)


def _plain(options: Any) -> dict[str, Any] | None:
    """Options as plain values."""
    if options is None:
        return None
    return {key: inputs.json_value(value) if isinstance(value, RawJson) else value for key, value in options.items()}
