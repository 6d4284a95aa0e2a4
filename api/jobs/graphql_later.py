"""What the public schema has and this version does not do: each says so, and does nothing.

They are here so that clients can be written against the whole schema; an answer is INVALID_STATE, in `userErrors`.
"""

from typing import Any

import graphene

from api.graphql.scalars import DateTime, Long
from api.graphql.types import Node, UserError, user_error
from api.jobs.context import Context
from api.jobs.graphql_enums import Compression, FileFormat
from api.jobs.graphql_inputs import SubmitJobInput
from api.jobs.graphql_types import JobPayload
from jobber.errors import InvalidState


class StagedUpload(graphene.ObjectType):
    """A file that is being uploaded in pieces."""

    class Meta:  # noqa: D106
        interfaces = (Node,)

    tus_url = graphene.String(required=True, description="Where to send its pieces, by tus 1.0.")
    offset = Long(required=True, description="Bytes that have arrived.")
    complete = graphene.Boolean(required=True)
    expires_at = graphene.Field(DateTime, required=True)


class UploadPayload(graphene.ObjectType):
    """A place for a file, or why there is none."""

    upload = graphene.Field(StagedUpload)
    user_errors = graphene.List(graphene.NonNull(UserError), required=True)


class SchedulePayload(graphene.ObjectType):
    """A schedule's id, or why there is none."""

    id = graphene.ID()
    user_errors = graphene.List(graphene.NonNull(UserError), required=True)


class UploadInput(graphene.InputObjectType):
    """Which file will come."""

    filename = graphene.String(required=True)
    bytes = Long(required=True)
    sha256 = graphene.String()
    format = graphene.InputField(FileFormat, required=True)
    compression = graphene.InputField(Compression, default_value="NONE")


class ScheduleInput(graphene.InputObjectType):
    """Which job to submit, and when."""

    cron = graphene.String(required=True)
    timezone = graphene.String(default_value="UTC")
    job = graphene.InputField(SubmitJobInput, required=True)


def _refuses(name: str, doc: str, payload: Any, sentence: str, **arguments: Any) -> Any:
    """A mutation that says why it does nothing."""

    async def mutate(root: Any, info: graphene.ResolveInfo, **given: Any) -> Any:
        context: Context = info.context
        context.may_submit()
        blank = {"replayed": False} if payload is JobPayload else {}
        return payload(user_errors=[user_error(InvalidState(sentence))], **blank)

    members = {
        "__doc__": doc,
        "Arguments": type("Arguments", (), arguments),
        "Output": graphene.NonNull(payload),
        "mutate": staticmethod(mutate),
    }
    return type(name, (graphene.Mutation,), members)


_ID = graphene.ID(required=True)

UploadCreate = _refuses(
    "UploadCreate",
    "Make a place for a file that is sent in pieces, by tus. This version answers INVALID_STATE: use POST /uploads.",
    UploadPayload,
    "Uploads in pieces (tus) are not served by this version; send the file whole, by POST /uploads.",
    input=UploadInput(required=True),
)
JobReplayRejected = _refuses(
    "JobReplayRejected",
    "Submit a job's rejects again, corrected. This version answers INVALID_STATE: download, correct and submit them.",
    JobPayload,
    "Replaying is not served by this version; download the rejects, correct them, and submit them as a job of their own.",
    id=_ID,
    corrected_upload_id=graphene.ID(),
)
JobRevert = _refuses(
    "JobRevert",
    "Take back what a job loaded. This version answers INVALID_STATE.",
    JobPayload,
    "Reverting is not served by this version; nothing was changed.",
    id=_ID,
    dry_run=graphene.Boolean(default_value=True),
)
ScheduleCreate = _refuses(
    "ScheduleCreate",
    "Submit a job again and again. This version answers INVALID_STATE.",
    SchedulePayload,
    "Schedules are not served by this version; let cron call `jobber load`.",
    input=ScheduleInput(required=True),
)
ScheduleDelete = _refuses(
    "ScheduleDelete",
    "End a schedule. This version answers INVALID_STATE.",
    SchedulePayload,
    "Schedules are not served by this version; there is none to delete.",
    id=_ID,
)
