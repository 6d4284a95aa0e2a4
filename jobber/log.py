"""Logs: JSON lines on stderr, one per event, each with an `action` that scripts and alerts may rely on.

    event("waiting", "Waiting for PostgreSQL at db:5432.", what="PostgreSQL at db:5432")

    {"time": "2026-11-24T08:30:00.123Z", "level": "INFO", "service": "auth", "action": "waiting", "message": "…", "what": "…"}

The action names are a public surface: ACTIONS lists them, a snapshot test pins them. Secrets never get through: `hide` names
the values that must not appear, and what looks like a token or the password of a DSN is cut out wherever it comes from.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from jobber.tracing import trace_ids

#: Every action that is logged, and what it means.
ACTIONS: Mapping[str, str] = {
    # Every service.
    "starting": "the process has read its settings",
    "waiting": "it waits for something that it depends on",
    "found": "what it waited for answers",
    "migrating": "a migration of the database is applied",
    "migrated": "the database's schema is up to date",
    "ready": "it serves",
    "stopping": "it was told to stop and finishes what is in flight",
    "stopped": "it has ended as it should",
    "failed": "it ends because of an error",
    "bug": "an error that should not happen; `error_id` is what the caller was told",
    "unavailable": "something that it depends on does not answer; it goes on trying",
    "library": "a message of a library",
    # auth
    "admin_made": "the first admin was made",
    "user_made": "a user was made",
    "logged_in": "a login succeeded",
    "login_failed": "a login was refused",
    "logged_out": "a session was ended by its user",
    "password_changed": "a user changed the password; all sessions ended",
    "user_disabled": "a user was disabled; all sessions ended",
    "login_limited": "a login was refused because too many failed before",
    "token_made": "an API token was made",
    "token_revoked": "an API token was revoked",
    "no_users": "nobody can log in yet",
    "weak_password": "the first admin's password is easily guessed; production refuses it",
    # jobs
    "job_submitted": "a job was accepted",
    "job_planned": "a job's plan was stored",
    "job_ended": "a job came to a terminal state",
    "job_cancelled": "a job's cancel was asked",
    "job_closed": "products closed a job",
    "dispatched": "messages were published to the transport (DEBUG)",
    "reissued": "lost batches were published again",
    "swept": "what had expired was deleted",
    "upload_stored": "an upload was stored",
    "upload_refused": "an upload was refused",
    "message_refused": "a message of the transport was garbage and was dropped",
    # products
    "loaded": "a group of batches was committed (DEBUG)",
    "load_retried": "a group was refused by the database and is loaded batch by batch",
    # executor
    "planning": "a plan is being made",
    "planned": "a plan was made",
    "claimed": "a batch was claimed (DEBUG)",
    "settled": "a batch was written and acknowledged (DEBUG)",
    "handed_back": "batches were handed back to the transport, to be tried again",
    "batch_failed": "a batch can never be loaded",
    "isolated": "what may have ended executors is read in a process of its own",
    "superseded": "an executor stopped working at what another one has, or what was cancelled",
    "poison_found": "a record ended whoever read it, and is rejected",
    "child_started": "the planning process was started",
    "child_died": "the planning process ended by itself",
    "child_stopped": "the planning process was stopped",
}

#: A field of such a name is never written, whatever is in it.
_SECRET_NAME = re.compile(r"password|passwd|secret|token|authorization|cookie|dsn|database_url", re.IGNORECASE)

_SECRET_SHAPES = (
    # The user part of a URL: a password may itself hold `@`, so cut at the last one before the path.
    (re.compile(r"(\w://)[^\s/?#'\"]*:[^\s/?#'\"]*@"), r"\1***@"),
    (re.compile(r"(\bpassword\s*=\s*)('[^']*'|\S+)", re.IGNORECASE), r"\1***"),
    (re.compile(r"(\bBearer\s+)\S+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\bjobber_[\w-]{43}"), "***"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]*(\.[\w-]*)?"), "***"),
)

#: What a LogRecord has of its own; everything else was passed as a field.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "action", "color_message"}

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
Form = Literal["auto", "json", "text"]

_hidden: set[str] = set()
_events = logging.getLogger("jobber")


def configure(service: str, level: str, stream: TextIO | None = None, form: Form = "auto") -> None:
    """Let every logger of the process write on stderr, as `service`: JSON lines, or text for people when that is a terminal."""
    handler = logging.StreamHandler(stream or sys.stderr)
    text = form == "text" or (form == "auto" and handler.stream.isatty())
    handler.setFormatter(_Text(service) if text else _JsonLines(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These tell at INFO what is no event of ours: each connection, each start of the server.
    for library in ("uvicorn", "uvicorn.error", "psycopg.pool", "httpx", "httpcore", "asyncio", "ariadne"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.captureWarnings(True)


def event(
    action: str, message: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: object
) -> None:
    """Log one event. `action` is a key of ACTIONS; `error`'s traceback goes into the line."""
    if _events.isEnabledFor(level):
        extra = {f"{key}_" if key in _OWN else key: value for key, value in fields.items()}
        _events.log(level, message, exc_info=error, extra={"action": action, **extra})


def hide(*secrets: str) -> None:
    """Never write these values, whatever text they are in. Shorter than eight characters they would blot out words."""
    _hidden.update(secret for secret in secrets if len(secret) >= 8)


def without_secrets(text: str) -> str:
    """The text with everything cut out that is, or looks like, a secret."""
    for secret in _hidden:
        text = text.replace(secret, "***")
    for shape, kept in _SECRET_SHAPES:
        text = shape.sub(kept, text)
    return text


class _JsonLines(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        return msgspec.json.encode(self.line(record)).decode()

    def line(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is told of the event."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "service": self.service,
            "action": getattr(record, "action", "library"),
            "message": without_secrets(record.getMessage()),
        }
        if traces := trace_ids():
            line["trace"] = traces[0] if len(traces) == 1 else traces
        if line["action"] == "library":
            line["logger"] = record.name
        for key, value in vars(record).items():
            if key not in _OWN:
                line[key] = "***" if _SECRET_NAME.search(key) else _plain(value)
        if record.exc_info and record.exc_info[1]:
            line["error"] = without_secrets("".join(traceback.format_exception(record.exc_info[1])))
        return line


class _Text(_JsonLines):
    """08:30:00 WARNING jobs waiting: Waiting for PostgreSQL at db:5432. (what=PostgreSQL at db:5432)"""

    def format(self, record: logging.LogRecord) -> str:
        line = self.line(record)
        head = (
            f"{line.pop('time')[11:19]} {line.pop('level')} {line.pop('service')} {line.pop('action')}: {line.pop('message')}"
        )
        error = line.pop("error", "")
        rest = ", ".join(f"{key}={value}" for key, value in line.items())
        # One line an event, here too: what a client sent must not look like an event of ours.
        shown = _CONTROL.sub(lambda found: repr(found[0])[1:-1], f"{head} ({rest})" if rest else head)
        return f"{shown}\n{error.rstrip()}" if error else shown


def _plain(value: object) -> object:
    """The value as something that JSON holds, without secrets."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): "***" if _SECRET_NAME.search(str(key)) else _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return without_secrets(str(value))
