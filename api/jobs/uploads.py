"""Uploads: a file goes to the blob store as it comes, and is remembered once it is durable."""

import logging
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from pathlib import PureWindowsPath

from api.audit import Actor
from api.jobs import metrics
from api.jobs.model import Upload
from api.jobs.store import Store
from api.jobs.surveys import Surveyor
from api.jobs.upload_store import over
from jobber import faults
from jobber.blobs.store import Blobs
from jobber.errors import JobberError, QuotaExceeded, RateLimited, UnsupportedMedia
from jobber.ids import uuid7
from jobber.log import event

#: A zip archive begins like this; it holds files, and we load one.
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


#: A form has more bytes than the file in it; its boundaries and headers stay below this.
FORM = 8 << 10


class Uploads:
    """Takes files of users."""

    def __init__(
        self, store: Store, blobs: Blobs, limit: int, *, quota: int = 0, most: int = 100, surveyor: Surveyor | None = None
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._limit = limit
        self._quota = quota
        self._most = most
        self._surveyor = surveyor
        self._coming: Counter[str] = Counter()

    async def receive(
        self, owner_id: str, file_name: str, chunks: AsyncIterable[bytes], actor: Actor, announced: int = 0
    ) -> Upload:
        """Store the file durably; nothing of it is kept when that fails. `announced` are those of its request.

        Raises QuotaExceeded, RateLimited, DiskFull, UnsupportedMedia.
        """
        limit = await self._room(owner_id, announced)
        if self._coming[owner_id] >= self._most:
            raise RateLimited(f"{self._most} uploads of yours are under way; wait for one to end.", retry_after=5)
        self._coming[owner_id] += 1
        try:
            return await self._receive(owner_id, file_name, chunks, actor, limit)
        finally:
            self._coming[owner_id] -= 1
            if not self._coming[owner_id]:
                del self._coming[owner_id]

    async def _room(self, owner_id: str, announced: int) -> int:
        """The most bytes that the file may have. What is announced and does not fit is refused before it is sent."""
        if announced > self._limit + FORM:
            raise QuotaExceeded(f"The file has more than {self._limit:,} bytes.")
        if not self._quota:
            return self._limit
        left = self._quota - await self._store.used(owner_id)
        if announced > left + FORM:
            raise over(self._quota)
        return min(self._limit, max(left, 0))

    async def _receive(self, owner_id: str, file_name: str, chunks: AsyncIterable[bytes], actor: Actor, limit: int) -> Upload:
        upload_id = uuid7()
        key = f"uploads/{upload_id}"
        faults.point("upload.before_blob")
        looking = self._surveyor.begin() if self._surveyor else None
        try:
            coming = checked(chunks)
            stored = await self._blobs.put(key, looking.along(coming) if looking else coming, limit)
            seen = await looking.found() if looking else None
        except JobberError as fault:
            event("upload_refused", fault.message, level=logging.WARNING, upload=upload_id, code=fault.code, owner=owner_id)
            if isinstance(fault, QuotaExceeded) and limit < self._limit:
                raise over(self._quota) from None
            raise
        finally:
            if looking:
                looking.close()
        upload = Upload(
            upload_id,
            owner_id,
            tidy(file_name),
            key,
            stored.bytes,
            stored.sha256,
            datetime.now(UTC),
            survey=seen.survey.dump() if seen else None,
            plan_blob=seen.plan_blob if seen else None,
        )
        faults.point("upload.after_blob")
        # Nothing is deleted when this fails: the answer to COMMIT may have been lost, and the row be there. What has no row is
        # a stray, which retention finds.
        try:
            upload = await self._store.add_upload(upload, actor, self._quota)
        except QuotaExceeded:
            for made in filter(None, (key, upload.plan_blob)):
                await self._blobs.delete(made)
            raise
        faults.point("upload.after_commit")
        metrics.UPLOADS.inc()
        metrics.UPLOAD_BYTES.inc(upload.size)
        event("upload_stored", "An upload was stored.", upload=upload_id, size=upload.size, owner=owner_id)
        return upload


async def checked(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The chunks. Raises UnsupportedMedia when they begin like a zip archive."""
    head = b""
    async for chunk in chunks:
        if len(head) < 4:
            head += chunk[:4]
            refuse_zip(head)
        yield chunk


def refuse_zip(head: bytes) -> None:
    """Raises UnsupportedMedia for the first bytes of a zip archive."""
    if head.startswith(ZIP):
        raise UnsupportedMedia


def tidy(name: str) -> str:
    """A file name without folders and control characters, at most 255 characters. It names nothing on our disks."""
    last = PureWindowsPath(name).name
    return "".join(character for character in last if character.isprintable())[:255] or "upload"
