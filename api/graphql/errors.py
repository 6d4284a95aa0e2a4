"""What a caller is told of an error: expected ones by message and code, all others by an error id alone."""

import logging
import re
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
from graphql import GraphQLError

from jobber.errors import DiskFull, JobberError, RateLimited, Terminal, Unauthenticated, Unavailable
from jobber.log import event

#: Whose fault it is, in words that tools know: with `code` alone they cannot tell a refusal from a failure of ours.
CALLERS, OURS = "BAD_REQUEST", "INTERNAL_SERVER_ERROR"

#: graphql-core names what there is when a name is not known: with introspection off that would tell the schema.
_SUGGESTION = re.compile(r"\s*Did you mean [^?]*\?")


def format_error(error: GraphQLError, *, suggestions: bool) -> dict[str, Any]:
    """The error as the specification has it, with `extensions.code`."""
    told: dict[str, Any] = {}
    cause = cause_of(error)
    fault = _expected(cause)
    if fault is not None:
        # StructureFault and the like have no code of their own: what was sent is wrong.
        code = "INVALID_DATA" if isinstance(fault, Terminal) and fault.code == JobberError.code else fault.code
        told = {"message": fault.message, "extensions": {"code": code}}
        if isinstance(fault, Terminal):
            told["extensions"]["classification"] = CALLERS
    elif isinstance(cause, GraphQLError):
        message = cause.message if suggestions else _SUGGESTION.sub("", cause.message)
        extensions = {"code": "INVALID_DATA", "classification": CALLERS, **(cause.extensions or {})}
        told = {"message": message, "extensions": extensions}
    else:
        error_id = str(uuid.uuid4())
        path = ".".join(str(part) for part in error.path or ())
        event("bug", "A resolver failed.", level=logging.ERROR, error=cause, error_id=error_id, path=path)
        extensions = {"code": JobberError.code, "classification": OURS, "errorId": error_id}
        told = {"message": "Internal error", "extensions": extensions}
    if error.locations:
        told["locations"] = [location.formatted for location in error.locations]
    if error.path is not None:
        told["path"] = error.path
    return told


def cause_of(error: GraphQLError) -> BaseException:
    """What was raised in the resolver; the error itself when it is of GraphQL's own."""
    cause: BaseException = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    return cause


def is_unauthenticated(error: GraphQLError) -> bool:
    """Whether a login would have helped."""
    return isinstance(cause_of(error), Unauthenticated)


def outcome_of(errors: Sequence[GraphQLError]) -> str:
    """The worst of them, as /metrics tells it: ok, refused (the caller's own fault), unavailable or bug."""
    found = {_outcome(cause_of(error)) for error in errors}
    return next((outcome for outcome in ("bug", "unavailable", "refused") if outcome in found), "ok")


def _outcome(cause: BaseException) -> str:
    if isinstance(cause, GraphQLError | Terminal | RateLimited):
        return "refused"
    return "unavailable" if isinstance(cause, JobberError | psycopg.OperationalError) else "bug"


def _expected(cause: BaseException) -> JobberError | None:
    """The error in our words; None for what should not happen."""
    if isinstance(cause, JobberError):
        return cause
    if isinstance(cause, psycopg.errors.DiskFull):
        return DiskFull()
    if isinstance(cause, psycopg.OperationalError):
        event("unavailable", "The database does not answer.", level=logging.WARNING, reason=str(cause))
        return Unavailable("The database does not answer; try again in a moment.")
    return None
