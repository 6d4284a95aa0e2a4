"""Uploads: a file goes to the blob store as it comes, and is remembered once it is durable."""

import logging
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from pathlib import PureWindowsPath

from api.audit import Actor
from api.jobs import metrics
from api.jobs.model import Upload
from api.jobs.store import Store
from jobber import faults
from jobber.blobs.store import Blobs
from jobber.errors import JobberError, UnsupportedMedia
from jobber.log import event

#: A zip archive begins like this; it holds files, and we load one.
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


class Uploads:
    """Takes files of users."""

    def __init__(self, store: Store, blobs: Blobs, limit: int) -> None:
        self._store = store
        self._blobs = blobs
        self._limit = limit

    async def receive(self, owner_id: str, file_name: str, chunks: AsyncIterable[bytes], actor: Actor) -> Upload:
        """Store the file durably; nothing of it is kept when that fails.

        Raises QuotaExceeded, DiskFull, UnsupportedMedia.
        """
        upload_id = str(uuid.uuid4())
        key = f"uploads/{upload_id}"
        faults.point("upload.before_blob")
        try:
            stored = await self._blobs.put(key, _checked(chunks), self._limit)
        except JobberError as fault:
            event("upload_refused", fault.message, level=logging.WARNING, upload=upload_id, code=fault.code, owner=owner_id)
            raise
        upload = Upload(upload_id, owner_id, tidy(file_name), key, stored.bytes, stored.sha256, datetime.now(UTC))
        faults.point("upload.after_blob")
        # Nothing is deleted when this fails: the answer to COMMIT may have been lost, and the row be there. What has no row is
        # a stray, which retention finds.
        await self._store.add_upload(upload, actor)
        faults.point("upload.after_commit")
        metrics.UPLOADS.inc()
        metrics.UPLOAD_BYTES.inc(upload.size)
        event("upload_stored", "An upload was stored.", upload=upload_id, size=upload.size, owner=owner_id)
        return upload


async def _checked(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    head = b""
    async for chunk in chunks:
        if len(head) < 4:
            head += chunk[:4]
            if head.startswith(ZIP):
                raise UnsupportedMedia
        yield chunk


def tidy(name: str) -> str:
    """A file name without folders and control characters, at most 255 characters. It names nothing on our disks."""
    last = PureWindowsPath(name).name
    return "".join(character for character in last if character.isprintable())[:255] or "upload"
