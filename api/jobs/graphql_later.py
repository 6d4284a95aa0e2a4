"""What the public schema has and this version does not do: each says so, and does nothing.

They are here so that clients can be written against the whole schema; an answer is INVALID_STATE, in `userErrors`.
"""

from typing import Any

import graphene

from api.graphql.types import UserError, user_error
from api.jobs.context import Context
from api.jobs.graphql_inputs import SubmitJobInput
from api.jobs.graphql_types import JobPayload
from jobber.errors import InvalidState


class SchedulePayload(graphene.ObjectType):
    """A schedule's id, or why there is none."""

    id = graphene.ID()
    user_errors = graphene.List(graphene.NonNull(UserError), required=True)


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
