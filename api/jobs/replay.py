"""A job's rejects once more, as a child job: corrected in a file, or as they were, when what was wrong lay elsewhere.

The child is the parent in all but its input: type, arguments, how rows are written, limits. A corrected file is read as the
download is written: comma, double quote, UTF-8, in the input's own columns; the further ones (row, code, message) are ignored.
"""

import csv
import hashlib
import io
from collections.abc import AsyncIterator
from typing import Any, LiteralString

import msgspec
from psycopg.rows import dict_row

from api import audit
from api.audit import Act, Actor
from api.database import connection as checkout
from api.jobs.model import Blob
from api.jobs.rejects import Rejects
from api.jobs.store import Store
from api.jobs.upload_store import claim_blob
from jobber import tracing
from jobber.blobs.store import Blobs
from jobber.errors import InvalidState, NotFound, UploadIncomplete
from jobber.ids import is_id, uuid7
from jobber.model import Format, InputOptions, Layout, State

#: Whoever replays the same twice gets the same child. Attempts beyond the first are those of `jobRetry`.
SAME: LiteralString = """
    SELECT id::text FROM jobs.jobs WHERE parent_id = %(id)s AND attempt = 1 AND payload_sha256 = %(payload)s
     ORDER BY number LIMIT 1
"""
LOCK: LiteralString = """
    SELECT state, input_options, layout, expired_at IS NOT NULL AS expired,
           (SELECT coalesce(sum(rejected), 0) FROM jobs.receipts r WHERE r.job_id = j.id)::bigint AS rejected
      FROM jobs.jobs j WHERE id = %(id)s AND (%(owner)s::uuid IS NULL OR owner_id = %(owner)s)
"""
JOB: LiteralString = """
    INSERT INTO jobs.jobs (id, owner_id, name, args, input_options, payload_sha256, upload_id, blob_key, blob_bytes, max_errors,
                           max_error_ratio, max_rows_per_second, priority, mode, keys, dry_run, whole, state, parent_id,
                           traceparent)
    SELECT %(child)s, owner_id, name, args, %(options)s, %(payload)s, %(upload_id)s, %(key)s, %(bytes)s, max_errors,
           max_error_ratio, max_rows_per_second, priority, mode, keys, dry_run, whole, 'QUEUED', id, %(traceparent)s::text
      FROM jobs.jobs WHERE id = %(id)s
"""
NOTHING = "There is no such job, or it is not yours."


class Replays:
    """Makes children of jobs with rejects."""

    def __init__(self, store: Store, blobs: Blobs, rejects: Rejects, limit: int) -> None:
        self._store = store
        self._blobs = blobs
        self._rejects = rejects
        self._limit = limit

    async def replay(
        self, job_id: str, sees: str | None, caller_id: str, actor: Actor, upload_id: str | None
    ) -> tuple[str, bool]:
        """Store the child, durably; answer its id, and whether it was there before.

        Raises NotFound (the job, or the caller's upload); InvalidState when there is nothing to replay; UploadIncomplete.
        """
        parent = await self._parent(job_id, sees)
        payload = hashlib.sha256(f"replay {job_id} {upload_id or ''}".encode()).digest()
        known = await self._known(job_id, payload)
        if known is not None:
            return known, True
        child = uuid7()
        told: InputOptions = msgspec.json.decode(parent["input_options"], type=InputOptions)
        options = InputOptions(mapping=told.mapping, batch_bytes=told.batch_bytes, batch_rows=told.batch_rows)
        if upload_id is not None:
            blob = await self._upload(caller_id, upload_id)
        else:
            layout: Layout = msgspec.json.decode(parent["layout"], type=Layout)
            stored = await self._blobs.put(f"inline/{child}", self._again(job_id, layout), self._limit)
            blob = Blob(f"inline/{child}", stored.bytes)
            options = msgspec.structs.replace(options, format=layout.format, delimiter=layout.delimiter, quote=layout.quote)
        return await self._insert(job_id, child, payload, options, blob, actor)

    async def _parent(self, job_id: str, sees: str | None) -> dict[str, Any]:
        async with checkout(self._store.pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(LOCK, {"id": job_id, "owner": sees})
            parent = await cursor.fetchone()
        if parent is None:
            raise NotFound(NOTHING)
        if not State(parent["state"]).terminal:
            raise InvalidState("The job has not ended; its rejects are not complete yet.")
        if parent["expired"]:
            raise InvalidState("The job's rejects are not kept any more.")
        if not parent["rejected"]:
            raise InvalidState("Nothing of the job was rejected.")
        return parent

    async def _known(self, job_id: str, payload: bytes) -> str | None:
        async with checkout(self._store.pool) as connection:
            row = await (await connection.execute(SAME, {"id": job_id, "payload": payload})).fetchone()
            return str(row[0]) if row else None

    async def _upload(self, caller_id: str, upload_id: str) -> Blob:
        upload = await self._store.upload(caller_id, upload_id) if is_id(upload_id) else None
        if upload is None and is_id(upload_id) and (staged := await self._store.staged(caller_id, upload_id)):
            raise UploadIncomplete(f"Of this upload {staged[0]:,} of {staged[1]:,} bytes are there; send the rest first.")
        if upload is None:
            raise NotFound("You have no such upload.")
        return Blob(upload.blob_key, upload.size, upload.id)

    async def _again(self, job_id: str, layout: Layout) -> AsyncIterator[bytes]:
        """The rejected records as they stood in the input, each once. Raises InvalidState when one is not kept as it stood."""
        if layout.format is Format.PARQUET:
            raise InvalidState("The rejects of a Parquet file have no text; download, correct and upload them.")
        if layout.format is Format.CSV:
            out = io.StringIO(newline="")
            csv.writer(out, delimiter=layout.delimiter, quotechar=layout.quote, lineterminator="\n").writerow(layout.columns)
            yield out.getvalue().encode()
        first = True
        async for texts in self._rejects.whole_texts(job_id):
            if layout.format is Format.JSON:
                yield (("[" if first else ",") + ",\n".join(texts)).encode()
            else:
                yield "".join(f"{text}\n" for text in texts).encode()
            first = False
        if layout.format is Format.JSON:
            yield b"]"

    async def _insert(
        self, job_id: str, child: str, payload: bytes, options: InputOptions, blob: Blob, actor: Actor
    ) -> tuple[str, bool]:
        given = {
            "id": job_id,
            "child": child,
            "payload": payload,
            "options": msgspec.json.encode(options),
            "upload_id": blob.upload_id,
            "key": blob.key,
            "bytes": blob.size,
            "traceparent": tracing.parent(),
        }
        async with checkout(self._store.pool) as connection, connection.transaction():
            # Two at once: the second one finds the first one's child.
            await connection.execute("SELECT FROM jobs.jobs WHERE id = %s FOR UPDATE", [job_id])
            known = await (await connection.execute(SAME, given)).fetchone()
            if known is not None:
                if blob.upload_id is None:
                    await connection.execute(STRAY, [blob.key])
                return str(known[0]), True
            if blob.upload_id is None:
                await claim_blob(connection, blob.key)
            else:
                held = await connection.execute("SELECT FROM jobs.uploads WHERE id = %s FOR KEY SHARE", [blob.upload_id])
                if not held.rowcount:
                    raise NotFound("The upload has expired; upload the file again.")
            await connection.execute(JOB, given)
            act = Act(actor, "job.replay", f"job:{child}", {"parent": job_id})
            await audit.record(connection, "jobs", act)
        return child, False


STRAY: LiteralString = "INSERT INTO jobs.strays (blob_key, seen_at) VALUES (%s, '-infinity') ON CONFLICT DO NOTHING"
