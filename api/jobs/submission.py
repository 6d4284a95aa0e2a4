"""From what a caller sends to a job that can be stored: everything that can be refused is refused here, with nothing stored."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from api.audit import Actor
from api.jobs import metrics
from api.jobs.decide import Limits
from api.jobs.model import Blob, Submission, Upload
from api.jobs.sources import Sources
from api.jobs.store import Store
from api.jobs.submit import Stored
from api.jobs.together import Together
from jobber import faults, tracing
from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.errors import Conflict, InvalidData, NotFound, StructureFault, Terminal, UploadIncomplete
from jobber.ids import uuid7
from jobber.job import JobType, find
from jobber.log import event
from jobber.model import Compression, Format, InputOptions, Plan, WriteMode, Writing
from jobber.settings import JobsSettings
from jobber.targets import TARGETS
from operators.encoding import canonical
from operators.plan import plan_records
from operators.plan.survey import Survey

#: Names of a job, a file or a key that are longer than this are no names.
MAX_NAME = 255
#: Rows of a batch of the slowest job: a batch costs as much as thousands of rows, and a plan of millions is none.
FEWEST = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller sends, decoded from GraphQL and nothing more."""

    owner_id: str
    #: For the audit trail.
    actor: Actor
    name: str
    #: The JSON text of `data`, untouched; or
    data: bytes | None = None
    #: an upload's id or name.
    file_name: str | None = None
    #: Where it is instead; with an idempotency key.
    url: str | None = None
    options: Mapping[str, Any] | None = None
    idempotency_key: str | None = None
    format: Format | None = None
    compression: Compression | None = None


class Desk:
    """Takes submissions."""

    def __init__(self, store: Store, blobs: Blobs, settings: JobsSettings, sources: Sources | None = None) -> None:
        self._store = store
        self._sources = sources
        self._blobs = blobs
        self._settings = settings
        self._together = Together(store.submit_all)

    async def submit(self, asked: Asked) -> Stored:
        """Store the job durably; answer what became of it.

        Raises UnknownJob, InvalidData, NotFound (no such upload), Conflict, RateLimited.
        """
        with tracing.span("submit", type=asked.name[:MAX_NAME]) as span:
            stored = await self._submit(asked)
            span.set(job=stored.job_id)
            event("job_submitted", "A job was accepted.", job=stored.job_id, type=asked.name, replayed=stored.replayed)
        return stored

    async def _submit(self, asked: Asked) -> Stored:
        kind = find(asked.name)
        key = asked.idempotency_key
        if key is not None and not (0 < len(key) <= MAX_NAME and key.isprintable()):
            raise InvalidData(f"An idempotency key has 1 to {MAX_NAME} printable characters.")
        options, limits, priority = _options(asked, self._settings)
        writing = _writing(kind, asked.options or {})
        if writing.whole and limits == Limits():
            # All or nothing: one reject, and it is nothing.
            limits = Limits(max_errors=0)
        inline, file_name, args = (None, asked.url, b"{}") if asked.url is not None else _split(asked, kind)
        kind.decode_args(args)
        digest = hashlib.sha256(
            msgspec.json.encode([kind.name, asked.options or {}, asked.format, asked.compression, file_name, args.decode()])
            + (inline or b"")
        ).digest()
        job_id = uuid7()
        blob, planned, error = None, None, None
        if asked.url is not None:
            # What was asked before is answered before anything is copied.
            if known := await self._store.known(asked.owner_id, key or "", digest):
                return known
            upload = await self._copied(asked, key or "")
            blob = Blob(upload.blob_key, upload.size, upload.id)
            planned, error = _surveyed(upload, kind, options)
        elif file_name is not None:
            upload = await self._upload(asked.owner_id, file_name)
            blob = Blob(upload.blob_key, upload.size, upload.id)
            if upload.format and not options.format:
                options = msgspec.structs.replace(options, format=Format(upload.format))
            planned, error = _surveyed(upload, kind, options)
        else:
            assert inline is not None
            try:
                planned = plan_records(inline, Contract.of(kind.contract), options)
            except StructureFault as fault:
                error = f"{fault.fault}: {fault.message}"
            if len(inline) > self._settings.inline_bytes:
                stored = await self._blobs.put(f"inline/{job_id}", _once(inline), len(inline))
                blob, inline = Blob(f"inline/{job_id}", stored.bytes), None
                faults.point("submit.after_blob")
        submission = Submission(
            job_id,
            asked.owner_id,
            kind.name,
            args,
            options,
            limits,
            priority,
            key,
            digest,
            inline,
            blob,
            planned,
            error,
            actor=asked.actor,
            writing=writing,
            traceparent=tracing.parent(),
            max_rows_per_second=(asked.options or {}).get("max_rows_per_second"),
        )
        try:
            # One with a blob locks rows of others: it goes alone.
            outcome = await (self._together.submit(submission) if blob is None else self._alone(submission))
        except Terminal:
            await self._drop(blob)
            raise
        # After anything else the job may be there, when only the answer to COMMIT was lost: its blob stays. If the job is not
        # there the blob is a stray, which retention finds.
        if outcome.replayed:
            await self._drop(blob)
        else:
            metrics.SUBMITTED.labels(kind.name).inc()
        return outcome

    async def _alone(self, submission: Submission) -> Stored:
        outcome = (await self._store.submit_all([submission]))[0]
        if isinstance(outcome, Conflict):
            raise outcome
        return outcome

    async def _drop(self, blob: Blob | None) -> None:
        """An inline input's blob belongs to its job alone; without the job it is an orphan."""
        if blob and blob.upload_id is None:
            await self._blobs.delete(blob.key)

    async def _copied(self, asked: Asked, key: str) -> Upload:
        if self._sources is None or asked.url is None:
            raise InvalidData("No place is configured to read sources from.")
        return await self._sources.take(asked.url, asked.owner_id, key, asked.actor)

    async def _upload(self, owner_id: str, name: str) -> Upload:
        upload = await self._store.upload(owner_id, name) if len(name) <= MAX_NAME and "\0" not in name else None
        if upload is None and (staged := await self._store.staged(owner_id, name[:MAX_NAME].replace("\0", ""))):
            raise UploadIncomplete(f"Of this upload {staged[0]:,} of {staged[1]:,} bytes are there; send the rest first.")
        if upload is None:
            raise NotFound(f"You have no upload called {name[:80]!r}. Upload the file first: POST /uploads.")
        return upload


def _surveyed(upload: Upload, kind: JobType, options: InputOptions) -> tuple[Plan | None, str | None]:
    """The plan, or why there is none, where the upload's survey tells; else an executor plans it."""
    seen = Survey.load(upload.survey) if upload.survey else None
    if seen is None or not seen.answers(options):
        return None, None
    try:
        return seen.plan(Contract.of(kind.contract), options, upload.plan_blob), None
    except StructureFault as fault:
        return None, f"{fault.fault}: {fault.message}"


def _split(asked: Asked, kind: JobType) -> tuple[bytes | None, str | None, bytes]:
    """Inline records, or an upload's name; and the arguments beside them.

    `data` is an array of records, one record, `{"fileName": …, args}` or `{"records": […], args}`.
    """
    if asked.data is None:
        return None, asked.file_name, b"{}"
    text = _text(asked.data)
    if text.lstrip(b" \t\r\n")[:1] != b"{":
        return text, None, b"{}"
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return text, None, b"{}"  # a record that only the file rules can judge
    columns = {column.name for column in Contract.of(kind.contract).columns}
    if "fileName" in members and "fileName" not in columns:
        try:
            name = msgspec.json.decode(members.pop("fileName"), type=str)
        except msgspec.MsgspecError as fault:
            raise InvalidData("fileName must be a text: the name or the id of an upload.") from fault
        return None, name, msgspec.json.encode(members)
    if "records" in members and "records" not in columns:
        return bytes(members.pop("records")), None, msgspec.json.encode(members)
    return text, None, b"{}"


def _text(data: bytes) -> bytes:
    """The JSON text in `data`, which is that text itself, or a JSON string that holds it.

    Raises InvalidData when it is not JSON. Its bytes are kept: numbers and duplicate keys are judged by the contract.
    """
    if data.lstrip(b" \t\r\n")[:1] == b'"':
        try:
            data = msgspec.json.decode(data, type=str).encode()
        except (msgspec.MsgspecError, UnicodeError) as fault:
            raise InvalidData(f"`data` is not JSON: {fault}") from fault
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        data.decode()
        msgspec.json.decode(data, type=msgspec.Raw)
    except RecursionError:
        pass  # too deep to check here; planning does not recurse, and the record is rejected for its depth
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        # msgspec refuses lone surrogates, which RFC 8259 section 8.2 lets pass as JSON; they are a reject, later.
        if not _is_json(data):
            raise InvalidData(f"`data` is not JSON: {fault}") from fault
    return data


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, UnicodeDecodeError):
        return False
    except RecursionError:
        return True
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


def _options(asked: Asked, settings: JobsSettings) -> tuple[InputOptions, Limits, int]:
    given = {key: value for key, value in (asked.options or {}).items() if value is not None}
    for later, name in (("run_at", "runAt"), ("webhook_url", "webhookUrl")):
        if given.get(later):
            raise InvalidData(f"The option {name} is not served by this version.")
    rate = given.get("max_rows_per_second")
    if rate is not None and rate < 1:
        raise InvalidData("maxRowsPerSecond must be at least 1; leave it out for as many rows as there is room for.")
    for single in ("delimiter", "quote"):
        value = given.get(single)
        if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
            raise InvalidData(f"The option {single} must be one ASCII character.")
    encoding = given.get("encoding", "utf-8")
    if canonical(encoding) is None:
        raise InvalidData(f"The option encoding must name one: utf-8, utf-16, windows-1252 …; {encoding[:40]!r} is none.")
    if given.get("delimiter", ",") == given.get("quote", '"'):
        raise InvalidData("delimiter and quote must differ.")
    errors, ratio = given.get("max_errors"), given.get("max_error_ratio")
    if errors is not None and errors < 0:
        raise InvalidData("maxErrors must be at least 0.")
    if ratio is not None and not 0 <= ratio <= 1:
        raise InvalidData("maxErrorRatio must be between 0 and 1.")
    mapping = given.get("mapping") or {}
    if not isinstance(mapping, dict) or not all(isinstance(value, str) for value in mapping.values()):
        raise InvalidData('mapping must be an object: {"<contract column>": "<input column>"}.')
    form = Format(given["format"]) if "format" in given else None
    if form and asked.format and form is not asked.format:
        raise InvalidData(f"The options say that it is {form}, the source that it is {asked.format}.")
    options = InputOptions(
        format=form or asked.format,
        compression=asked.compression,
        delimiter=given.get("delimiter", ","),
        quote=given.get("quote", '"'),
        encoding=encoding,
        mapping=mapping,
        batch_bytes=settings.batch_bytes,
        # What goes out at once is a batch: about a second's worth of rows.
        batch_rows=settings.batch_rows if rate is None else min(settings.batch_rows, max(rate, FEWEST)),
    )
    priority = {"LOW": 0, "NORMAL": 1, "HIGH": 2}[given.get("priority", "NORMAL")]
    return options, Limits(errors, ratio), priority


def _writing(kind: JobType, given: Mapping[str, Any]) -> Writing:
    """How the rows are written. Raises InvalidData."""
    mode, keys = WriteMode(given.get("mode") or "INSERT"), tuple(given.get("keys") or ())
    whole = given.get("atomicity") == "ALL_OR_NOTHING"
    if kind.target is None and (mode is not WriteMode.INSERT or whole):
        raise InvalidData(f"{kind.name} computes, and writes to no table: it has neither mode nor atomicity.")
    if mode is WriteMode.INSERT and keys:
        raise InvalidData("keys are for the modes UPSERT and UPDATE; INSERT makes a new row of every record.")
    if mode is not WriteMode.INSERT:
        columns = [column.name for column in Contract.of(TARGETS[kind.target or ""]).columns]
        if not keys or len(set(keys)) != len(keys) or not set(keys) <= set(columns):
            raise InvalidData(f"{mode} needs keys: columns that name a row, each once, of {', '.join(columns)}.")
    return Writing(mode=mode, keys=keys, dry_run=bool(given.get("dry_run")), whole=whole)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
