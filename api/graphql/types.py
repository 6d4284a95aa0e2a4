"""The GraphQL types that both services serve: people, pages, errors, the audit trail."""

import base64
import binascii
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import graphene

from api import audit
from api.graphql.scalars import JSON, DateTime
from jobber.errors import InvalidData

#: The most nodes of one page.
MAX_PAGE = 1000


def described_enum(name: str, what: str, values: Mapping[str, str]) -> Any:
    """An enum whose values each have a sentence.

    Resolvers get members that are texts too: graphene would hand out members that equal nothing else.
    """
    make: Any = enum.StrEnum  # mypy wants to know its members
    members = make(name, [(value, value) for value in values])
    return graphene.Enum.from_enum(members, description=lambda value: what if value is None else values[value.name])


Role = described_enum(
    "Role",
    "What a user may do.",
    {
        "ADMIN": "Everything: see all jobs, make and disable users, read the audit trail.",
        "MEMBER": "Submit jobs and upload files; see and change their own.",
        "VIEWER": "See their own jobs; change nothing.",
    },
)

ErrorCode = described_enum(
    "ErrorCode",
    "Why something was not done.",
    {
        "UNKNOWN_JOB": "There is no job type of that name.",
        "INVALID_DATA": "What was sent cannot be taken.",
        "UPLOAD_INCOMPLETE": "The upload has not all its bytes yet.",
        "IDEMPOTENCY_CONFLICT": "The idempotency key was used before, for something else.",
        "QUOTA_EXCEEDED": "That is more than the caller may use.",
        "FORBIDDEN": "The caller's role, or the API token's scopes, do not allow it.",
        "NOT_FOUND": "There is no such thing, or it is not the caller's.",
        "INVALID_STATE": "It cannot be done in this state, or not by this version.",
        "REVERT_CONFLICT": "Rows were changed since; reverting would lose those changes.",
    },
)


class Node(graphene.Interface):
    """Anything with an id."""

    id = graphene.ID(required=True)


class User(graphene.ObjectType):
    """Who may log in."""

    class Meta:  # noqa: D106
        interfaces = (Node,)

    email = graphene.String(required=True)
    role = graphene.Field(Role, required=True)


class UserError(graphene.ObjectType):
    """Why something was not done."""

    field = graphene.List(graphene.NonNull(graphene.String), description="Path to the argument that is wrong, where it is one.")
    message = graphene.String(required=True, description="A sentence to act on.")
    code = graphene.Field(ErrorCode, required=True)


class PageInfo(graphene.ObjectType):
    """Where a page ends."""

    has_next_page = graphene.Boolean(required=True)
    end_cursor = graphene.String(description="Give it as `after` to get the next page.")


class AuditEvent(graphene.ObjectType):
    """Who did what."""

    at = graphene.Field(DateTime, required=True)
    actor = graphene.String(required=True, description="The e-mail at that time; `operator` at the command line.")
    action = graphene.String(required=True, description="`noun.verb`, like `user.create`.")
    subject = graphene.String(required=True, description="`noun:id`: the job, user, upload or token.")
    detail = JSON()


class AuditEdge(graphene.ObjectType):
    """A place in the audit trail."""

    cursor = graphene.String(required=True)
    node = graphene.Field(AuditEvent, required=True)


class AuditConnection(graphene.ObjectType):
    """The audit trail, newest first."""

    edges = graphene.List(graphene.NonNull(AuditEdge), required=True)
    page_info = graphene.Field(PageInfo, required=True)

    @staticmethod
    def of(entries: Sequence[audit.Entry], size: int) -> "AuditConnection":
        """From one entry more than the page has, if there is one."""
        edges = [
            AuditEdge(
                cursor=encode_cursor(entry.number),
                node=AuditEvent(
                    at=entry.at, actor=entry.actor, action=entry.action, subject=entry.subject, detail=entry.detail
                ),
            )
            for entry in entries[:size]
        ]
        page = PageInfo(has_next_page=len(entries) > size, end_cursor=edges[-1].cursor if edges else None)
        return AuditConnection(edges=edges, page_info=page)


def user_error(error: Any) -> UserError:
    """A JobberError as people see it; raises it when the public schema has no code for it."""
    if error.code not in ErrorCode._meta.enum.__members__:
        raise error
    return UserError(message=error.message, code=error.code)


def encode_cursor(*parts: int) -> str:
    """An opaque place in a list."""
    return base64.urlsafe_b64encode(",".join(map(str, parts)).encode()).decode()


def decode_cursor(cursor: str | None, parts: int) -> tuple[int, ...] | None:
    """The place that `encode_cursor` made. Raises InvalidData for anything else."""
    if cursor is None:
        return None
    try:
        numbers = tuple(int(part) for part in base64.urlsafe_b64decode(cursor.encode()).decode().split(","))
    except (ValueError, binascii.Error, UnicodeError) as fault:
        raise InvalidData("`after` is not a cursor of this list.") from fault
    if len(numbers) != parts or any(abs(number) >= 1 << 62 for number in numbers):
        raise InvalidData("`after` is not a cursor of this list.")
    return numbers


def page_size(first: int | None) -> int:
    """Raises InvalidData for a page that is negative or too large."""
    if first is None or not 0 <= first <= MAX_PAGE:
        raise InvalidData(f"`first` must be between 0 and {MAX_PAGE}.")
    return first


def exactly_one(first: Any, second: Any, one: str, other: str) -> Any:
    """The one of two arguments, which mean the same, that was given. Raises InvalidData for both or none."""
    if (first is None) == (second is None):
        raise InvalidData(f"Give exactly one of `{one}` and `{other}`.")
    return first if first is not None else second
