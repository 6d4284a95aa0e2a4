"""A file becomes a job: the form, and what it says. The page's script uploads the file (tus) before it sends the form."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.http import status_of
from api.jobs import acts, graphql_types
from api.jobs.console import pages
from api.jobs.console.session import form_of
from api.jobs.context import Context
from api.jobs.submission import Asked
from jobber.errors import InvalidData, JobberError
from jobber.ids import is_id, uuid7
from jobber.job import JobType, find
from jobber.model import Format
from jobber.targets import TARGETS

#: Options that are texts, as the form and `LoadOptions` call them.
TEXTS = ("delimiter", "quote", "encoding")
CHOICES = {
    "mode": ("INSERT", "UPSERT", "UPDATE"),
    "atomicity": ("BATCH", "ALL_OR_NOTHING"),
    "priority": ("LOW", "NORMAL", "HIGH"),
}
NUMBERS = {"max_errors": "The most rejects", "max_rows_per_second": "The most rows a second"}


async def load_form(request: Request, context: Context) -> Response:
    """A new form. In the address: `type`, `upload` (a file of the caller's that is here already), `replay` (a job whose rejects
    were corrected).
    """
    owner, given = context.may_submit(), {"type": request.query_params.get("type", "")}
    if is_id(upload := request.query_params.get("upload", "")) and (found := await context.store.upload(owner, upload)):
        given |= {"upload_id": found.id, "file_name": found.file_name}
    if (job_id := request.query_params.get("replay", "")) and await context.store.job(
        graphql_types.job_id(job_id), context.sees
    ):
        given["replay"] = job_id
    return _form(context, given)


async def load_submitted(request: Request, context: Context) -> Response:
    """Start the job; where that cannot be, the form again, with what was filled in and why."""
    context.may_submit()
    given = await form_of(request)
    try:
        if given.get("replay"):
            job_id, _ = await acts.replay(context, graphql_types.job_id(given["replay"]), _upload_of(given))
        else:
            job_id = (await acts.submit(context, asked_of(context, given))).job_id
    except JobberError as fault:
        return _form(context, given, fault)
    return RedirectResponse(f"{pages.HOME}/jobs/{job_id}", 303)


def _form(context: Context, given: Mapping[str, str], fault: JobberError | None = None) -> Response:
    kinds = sorted(context.services.kinds.values(), key=lambda kind: kind.name)
    # What most people load comes first.
    kinds.sort(key=lambda kind: kind.target is None)
    return pages.page(
        "load.html",
        status_of(fault) if fault else 200,
        who=context.who,
        kinds=[(kind, arguments(kind)) for kind in kinds],
        formats=list(Format),
        choices=CHOICES,
        given=given,
        # One key for each form: sent twice, it is one job.
        key=given.get("key") or uuid7(),
        fault=fault,
        most=context.services.settings.upload_bytes,
        targets={name: [column for column in _columns(name)] for name in TARGETS},
    )


def _columns(target: str) -> list[str]:
    from jobber.contract import Contract

    return [column.name for column in Contract.of(TARGETS[target]).columns]


def asked_of(context: Context, given: Mapping[str, str]) -> Asked:
    """What the form asks for. Raises InvalidData, UnknownJob."""
    kind = find(given.get("type", ""))
    upload = _upload_of(given)
    form = given.get("format", "")
    if form and form not in Format.__members__:
        raise InvalidData(f"The format is one of {', '.join(Format)}.")
    who = context.who
    data = {"fileName": upload, **arguments_of(kind, given)}
    return Asked(
        owner_id=who.id,
        actor=who.actor,
        name=kind.name,
        data=msgspec.json.encode(data),
        options=options_of(given),
        idempotency_key=given.get("key") or None,
        format=Format(form) if form else None,
    )


def _upload_of(given: Mapping[str, str]) -> str:
    """The id of the file that was uploaded. Raises InvalidData."""
    upload = given.get("upload_id", "")
    if not is_id(upload):
        raise InvalidData("Choose a file first.")
    return upload


def options_of(given: Mapping[str, str]) -> dict[str, Any]:
    """The options that were filled in, by the names that the desk knows. Raises InvalidData."""
    options: dict[str, Any] = {name: given[name] for name in TEXTS if given.get(name)}
    if options.get("delimiter") in ("\\t", "TAB"):
        options["delimiter"] = "\t"
    for name, choices in CHOICES.items():
        if given.get(name):
            if given[name] not in choices:
                raise InvalidData(f"{name} is one of {', '.join(choices)}.")
            options[name] = given[name]
    for name, what in NUMBERS.items():
        if text := given.get(name, "").strip():
            if not (text.isascii() and text.isdigit() and len(text) < 19):
                raise InvalidData(f"{what} must be a whole number; {text[:40]!r} is none.")
            options[name] = int(text)
    if given.get("dry_run"):
        options["dry_run"] = True
    if keys := [key.strip() for key in given.get("keys", "").split(",") if key.strip()]:
        options["keys"] = keys
    if mapping := given.get("mapping", "").strip():
        options["mapping"] = dict(_pair(line) for line in mapping.splitlines() if line.strip())
    return options


def _pair(line: str) -> tuple[str, str]:
    ours, equals, theirs = line.partition("=")
    if not equals or not ours.strip() or not theirs.strip():
        raise InvalidData(f"Columns are mapped as `contract column = input column`, one a line; {line[:80]!r} is not.")
    return ours.strip(), theirs.strip()


def arguments(kind: JobType) -> list[dict[str, Any]]:
    """The job type's own arguments, as fields of the form; those that are no plain values can be given over GraphQL."""
    fields = []
    for field in msgspec.structs.fields(kind.args):
        plain = {bool: "checkbox", int: "number", float: "number", str: "text"}.get(field.type)
        if plain:
            default = "" if field.default in (msgspec.NODEFAULT, None, False) else str(field.default)
            fields.append({"name": field.encode_name, "input": plain, "required": field.required, "default": default})
    return fields


def arguments_of(kind: JobType, given: Mapping[str, str]) -> dict[str, Any]:
    """What was filled in for them; the job type judges it."""
    values: dict[str, Any] = {}
    for field in arguments(kind):
        text = given.get(f"arg.{kind.name}.{field['name']}", "")
        if field["input"] == "checkbox":
            if text:
                values[field["name"]] = True
        elif text:
            values[field["name"]] = _number(text) if field["input"] == "number" else text
    return values


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
