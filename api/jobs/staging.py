"""Uploads in pieces: an interrupted one goes on where it stopped, at any replica, whoever was killed meanwhile.

    create -> append, append, … -> complete: an upload as any other

A piece is durable, and then committed, before it is acknowledged. The last one is committed together with the upload: so the
offset is the length only once jobs may use the file, and who was not told asks, and sends the last piece again.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from api.audit import Actor
from api.jobs import metrics
from api.jobs.model import Upload
from api.jobs.pieces import Pieces
from api.jobs.staging_store import Staged, StagingStore, moved_on
from api.jobs.uploads import refuse_zip, tidy
from jobber.blobs.store import Blobs, Growing, Part
from jobber.errors import InvalidData, QuotaExceeded, Terminal, UnsupportedMedia
from jobber.ids import uuid7
from jobber.log import event

#: Bytes that may be lost by a kill while they come fast: a commit each of 16 MiB costs 2 % of the time.
SETTLE = 16 << 20
#: Digests of files under way that are kept in memory. One that is missing is made again from the blob.
DIGESTS = 100
#: What a client may have its pieces checked by (Upload-Checksum).
CHECKSUMS: Mapping[str, Any] = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "md5": hashlib.md5}


class ChecksumMismatch(Terminal):
    """The piece is not what its checksum says; nothing of it was kept. Send it again."""

    code = "INVALID_DATA"


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a piece's sender says of it."""

    algorithm: str
    digest: bytes


@dataclass(slots=True)
class _Writer:
    """A request that adds to an upload; one at a time in this process."""

    pieces: Pieces | None = None
    ended: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Progress:
    """How far a request has come."""

    staged: Staged
    parts: list[Part]
    #: Acknowledged; taken from the body.
    received: int
    at: int
    digest: Any

    def settled(self, parts: Any) -> None:
        """These are durable now: new ones, or the last one, grown."""
        for part in parts:
            if self.parts and self.parts[-1].key == part.key:
                self.parts[-1] = part
            else:
                self.parts.append(part)


class Staging:
    """Takes files in pieces."""

    def __init__(self, store: StagingStore, blobs: Blobs, limit: int) -> None:
        self._store = store
        self._blobs = blobs
        self._limit = limit
        self._writers: dict[str, _Writer] = {}
        self._digests: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    async def create(
        self,
        owner_id: str,
        file_name: str,
        size: int,
        actor: Actor,
        *,
        sha256: bytes | None = None,
        format: str | None = None,
        metadata: str = "",
    ) -> Staged:
        """Make room for a file. An empty one is there at once. Raises QuotaExceeded, RateLimited, InvalidData."""
        if size < 0:
            raise InvalidData("A file cannot have fewer than 0 bytes.")
        if size > self._limit:
            raise QuotaExceeded(f"The file has more than {self._limit:,} bytes.")
        staged = Staged(uuid7(), owner_id, tidy(file_name), size, sha256, format, metadata, 0, datetime.now(UTC))
        await self._store.create(staged)
        if not size:
            key = _key()
            await self._blobs.put(key, _nothing(), 0)
            await self._complete(_Progress(staged, [Part(key, 0)], 0, 0, hashlib.sha256()), actor)
        return await self._store.find(owner_id, staged.id)

    async def find(self, owner_id: str, staged_id: str) -> Staged:
        """Where the upload is. Raises NotFound."""
        return await self._store.find(owner_id, staged_id)

    async def settle(self, owner_id: str, staged_id: str) -> Staged:
        """Where the upload is, once nobody adds to it any more: who asks this wants to go on. Raises NotFound."""
        await self._store.find(owner_id, staged_id)
        await self._end(staged_id)
        return await self._store.find(owner_id, staged_id)

    async def delete(self, owner_id: str, staged_id: str, actor: Actor) -> None:
        """Forget the upload. Raises NotFound; InvalidState when a job uses it."""
        await self._store.delete(owner_id, staged_id, actor)
        await self._end(staged_id)

    async def append(
        self,
        owner_id: str,
        staged_id: str,
        offset: int,
        chunks: AsyncIterator[bytes],
        actor: Actor,
        checksum: Checksum | None = None,
    ) -> Staged:
        """Add the chunks at the offset. When they end early, what has come is kept; with a checksum all or nothing is.

        Raises NotFound; InvalidState when the upload is not there; ChecksumMismatch; QuotaExceeded for more than was
        announced; UnsupportedMedia and InvalidData when the file can never be an upload: then nothing is left of it.
        """
        writer = self._writers[staged_id] = _Writer()
        try:
            staged = await self._at(owner_id, staged_id, offset)
            if staged.complete:
                return staged
            growing = self._blobs.growing(staged.parts[-1] if staged.parts else None, _key)
            try:
                await growing.hold()
                # Another one may have gone on until we held it.
                staged = await self._at(owner_id, staged_id, offset)
                await self._take(staged, growing, chunks, writer, checksum, actor)
            finally:
                await growing.close()
        finally:
            if self._writers.get(staged_id) is writer:
                del self._writers[staged_id]
            writer.done.set()
        return await self._store.find(owner_id, staged_id)

    async def _take(
        self,
        staged: Staged,
        growing: Growing,
        chunks: AsyncIterator[bytes],
        writer: _Writer,
        checksum: Checksum | None,
        actor: Actor,
    ) -> None:
        at, digest = self._digests.pop(staged.id, (-1, None))
        known = hashlib.sha256() if not staged.received else digest if at == staged.received else None
        progress = _Progress(staged, list(staged.parts), staged.received, staged.received, known)
        sum_ = CHECKSUMS[checksum.algorithm](usedforsecurity=False) if checksum else None
        clock = asyncio.get_running_loop().time
        settled = clock()
        pieces = writer.pieces = Pieces(chunks, growing.piece, growing.patience)
        if writer.ended:
            pieces.end()
        try:
            while piece := await pieces.next():
                await self._add(progress, growing, piece, sum_)
                due = progress.at - progress.received >= SETTLE or clock() - settled > growing.patience
                if due and sum_ is None and progress.at < staged.size:
                    await self._advance(progress, growing)
                    settled = clock()
        finally:
            await pieces.close()
        if checksum and sum_ and (pieces.cut or sum_.digest() != checksum.digest):
            await growing.drop()
            raise ChecksumMismatch
        if progress.at == staged.size:
            progress.settled(await growing.settle())
            await self._complete(progress, actor)
        elif progress.at > progress.received:
            await self._advance(progress, growing)

    async def _add(self, progress: _Progress, growing: Growing, piece: bytes, sum_: Any) -> None:
        staged = progress.staged
        if progress.at + len(piece) > staged.size:
            raise QuotaExceeded(f"The file was announced with {staged.size:,} bytes, and this is more.")
        if not progress.at and len(piece) >= 4:
            await self._refuse_zip(staged, piece, progress.parts)

        def digest() -> None:
            for each in filter(None, (progress.digest, sum_)):
                each.update(piece)

        await asyncio.gather(growing.add(piece), asyncio.to_thread(digest))
        progress.at += len(piece)

    async def _advance(self, progress: _Progress, growing: Growing) -> None:
        progress.settled(await growing.settle())
        await self._store.advance(progress.staged, progress.parts, progress.received, progress.at)
        progress.received = progress.at
        progress.staged = replace(progress.staged, parts=tuple(progress.parts))
        if progress.digest is not None:
            self._digests[progress.staged.id] = (progress.at, progress.digest)
            if len(self._digests) > DIGESTS:
                self._digests.popitem(last=False)

    async def _complete(self, progress: _Progress, actor: Actor) -> None:
        """All bytes are durable: one blob of them, looked at as a whole, and an upload."""
        staged, parts = progress.staged, progress.parts
        self._digests.pop(staged.id, None)
        key = await self._blobs.join(parts, _key())
        whole = [*parts, Part(key, staged.size)]
        if staged.size:
            await self._refuse_zip(staged, await asyncio.to_thread(self._blobs.read, key, 0, min(4, staged.size)), whole)
        sha256 = progress.digest.digest() if progress.digest else await asyncio.to_thread(self._sha256, key, staged.size)
        if staged.sha256 and sha256 != staged.sha256:
            await self._store.refuse(staged, whole)
            raise InvalidData(f"What came has the sha256 {sha256.hex()}, not the one announced; nothing of it was kept.")
        upload = Upload(
            staged.id, staged.owner_id, staged.file_name, key, staged.size, sha256, datetime.now(UTC), staged.format
        )
        await self._store.complete(staged, upload, parts, progress.received, actor)
        metrics.UPLOADS.inc()
        metrics.UPLOAD_BYTES.inc(upload.size)
        event("upload_stored", "An upload was stored.", upload=upload.id, size=upload.size, owner=upload.owner_id)

    async def _refuse_zip(self, staged: Staged, head: bytes, parts: Sequence[Part]) -> None:
        try:
            refuse_zip(head)
        except UnsupportedMedia:
            await self._store.refuse(staged, parts)
            raise

    def _sha256(self, key: str, size: int) -> bytes:
        """Read again: other processes had a part in it."""
        digest = hashlib.sha256()
        for window in self._blobs.windows(key):
            digest.update(window)
        return digest.digest()

    async def _at(self, owner_id: str, staged_id: str, offset: int) -> Staged:
        """The upload, if it is there. Raises NotFound, InvalidState."""
        staged = await self._store.find(owner_id, staged_id)
        if staged.received != offset:
            raise moved_on()
        return staged

    async def _end(self, staged_id: str) -> None:
        """Let the request that adds to it in this process, on a connection that may be dead, come to its end."""
        while writer := self._writers.get(staged_id):
            writer.ended = True
            if writer.pieces:
                writer.pieces.end()
            await writer.done.wait()


def _key() -> str:
    return f"uploads/{uuid7()}"


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
