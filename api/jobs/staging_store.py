"""The SQL of uploads that come in pieces: announced, growing, whole.

    jobs.staged + jobs.parts  ->  jobs.uploads, with the same id

What is acknowledged is what is committed here: `received` moves only from where the writer found it, so that of two writers at
the same place one is refused. Only the database's clock decides what has expired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import dict_row

from api.audit import Act, Actor, record
from api.database import Pool
from api.database import connection as checkout
from api.jobs.model import Upload
from api.jobs.upload_store import claim_blob, keep, let_go, lock_owner, over, used
from jobber import faults
from jobber.blobs.store import Part
from jobber.errors import InvalidState, NotFound, RateLimited


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that comes in pieces, or has come."""

    id: str
    owner_id: str
    file_name: str
    #: As announced.
    size: int
    #: As announced, if it was.
    sha256: bytes | None
    format: str | None
    #: Upload-Metadata as it was given.
    metadata: str
    #: Bytes that are durable; all of them only once the upload is there.
    received: int
    expires_at: datetime
    parts: tuple[Part, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it is an upload that jobs may use."""
        return self.received == self.size


FIND: LiteralString = """
    SELECT s.id::text, s.owner_id::text, s.file_name, s.bytes AS size, s.sha256, s.format, s.metadata, s.received,
           s.touched_at + %(hours)s * interval '1 hour' AS expires_at,
           coalesce(p.keys, '{}') AS keys, coalesce(p.lengths, '{}') AS lengths
      FROM jobs.staged s CROSS JOIN LATERAL (
           SELECT array_agg(blob_key ORDER BY start) AS keys, array_agg(length ORDER BY start) AS lengths
             FROM jobs.parts WHERE upload_id = s.id) p
     WHERE s.id = %(id)s AND s.owner_id = %(owner)s AND s.touched_at > clock_timestamp() - %(hours)s * interval '1 hour'
    UNION ALL
    SELECT id::text, owner_id::text, file_name, bytes, sha256, format, '', bytes, created_at + %(days)s * interval '1 day',
           '{}', '{}'
      FROM jobs.uploads WHERE id = %(id)s AND owner_id = %(owner)s
"""
COUNT: LiteralString = "SELECT count(*) FROM jobs.staged WHERE owner_id = %s"
CREATE: LiteralString = """
    INSERT INTO jobs.staged (id, owner_id, file_name, bytes, sha256, format, metadata) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
MOVE: LiteralString = """
    UPDATE jobs.staged SET received = %(to)s, touched_at = clock_timestamp() WHERE id = %(id)s AND received = %(at)s
"""
PART: LiteralString = """
    INSERT INTO jobs.parts (upload_id, start, length, blob_key) VALUES (%s, %s, %s, %s)
        ON CONFLICT (upload_id, start) DO UPDATE SET length = excluded.length WHERE parts.blob_key = excluded.blob_key
"""
UNUSED: LiteralString = """
    DELETE FROM jobs.uploads u WHERE id = %(id)s AND owner_id = %(owner)s
        AND NOT EXISTS (SELECT FROM jobs.jobs j WHERE j.upload_id = u.id) RETURNING blob_key, plan_blob
"""


class StagingStore:
    """Uploads in pieces, in the `jobs` schema."""

    def __init__(self, pool: Pool, *, quota: int, most: int, hours: float, days: float) -> None:
        self._pool = pool
        self._quota = quota
        self._most = most
        self._ages = {"hours": hours, "days": days}

    async def create(self, staged: Staged) -> None:
        """Make room for it. Raises QuotaExceeded; RateLimited when the owner has too many that are unfinished."""
        async with checkout(self._pool) as connection, connection.transaction():
            await lock_owner(connection, staged.owner_id)
            row = await (await connection.execute(COUNT, [staged.owner_id])).fetchone()
            if row and row[0] >= self._most:
                raise RateLimited(f"You have {self._most} uploads that are not finished; finish or delete some first.")
            if self._quota and await used(connection, staged.owner_id) + staged.size > self._quota:
                raise over(self._quota)
            values = [staged.id, staged.owner_id, staged.file_name, staged.size, staged.sha256, staged.format, staged.metadata]
            await connection.execute(CREATE, values)

    async def find(self, owner_id: str, staged_id: str) -> Staged:
        """The owner's upload of that id, whole or not. Raises NotFound."""
        async with checkout(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(FIND, {"id": staged_id, "owner": owner_id, **self._ages})
            row = await cursor.fetchone()
        if row is None:
            raise NotFound("There is no such upload, or it is not yours, or it has expired.")
        parts = tuple(Part(key, length) for key, length in zip(row.pop("keys"), row.pop("lengths"), strict=True))
        return Staged(**row, parts=parts)

    async def advance(self, staged: Staged, parts: Sequence[Part], at: int, to: int) -> None:
        """Acknowledge bytes `at` to `to`. `parts` are all parts so far. Raises InvalidState when another writer was there."""
        known = {part.key: part.size for part in staged.parts}
        async with checkout(self._pool) as connection, connection.transaction():
            moved = await connection.execute(MOVE, {"id": staged.id, "at": at, "to": to})
            if moved.rowcount == 0:
                raise moved_on()
            start = 0
            for part in parts:
                if known.get(part.key) != part.size:
                    await claim_blob(connection, part.key)
                    await connection.execute(PART, [staged.id, start, part.size, part.key])
                start += part.size
            faults.point("stage.before_commit")
        faults.point("stage.after_commit")

    async def complete(self, staged: Staged, upload: Upload, parts: Sequence[Part], at: int, actor: Actor) -> Upload:
        """Make it an upload. Raises InvalidState when another writer was there."""
        async with checkout(self._pool) as connection, connection.transaction():
            await lock_owner(connection, staged.owner_id)
            gone = await connection.execute("DELETE FROM jobs.staged WHERE id = %s AND received = %s", [staged.id, at])
            if gone.rowcount == 0:
                raise moved_on()
            # The quota was asked when it was announced.
            kept = await keep(connection, upload, actor, quota=0)
            await let_go(connection, [part.key for part in parts if part.key not in (upload.blob_key, kept.blob_key)])
            faults.point("stage.before_complete")
        faults.point("stage.after_complete")
        return kept

    async def refuse(self, staged: Staged, parts: Sequence[Part]) -> None:
        """Forget what has come: it can never be an upload."""
        async with checkout(self._pool) as connection, connection.transaction():
            await connection.execute("DELETE FROM jobs.staged WHERE id = %s", [staged.id])
            await let_go(connection, [part.key for part in parts])

    async def delete(self, owner_id: str, staged_id: str, actor: Actor) -> None:
        """Forget the owner's upload, whole or not. Raises NotFound; InvalidState when a job uses it."""
        staged = await self.find(owner_id, staged_id)
        given = {"id": staged_id, "owner": owner_id}
        async with checkout(self._pool) as connection, connection.transaction():
            await lock_owner(connection, owner_id)
            # Whether a job uses it is asked in a later statement, which sees what was committed while we waited for the row.
            await connection.execute("SELECT FROM jobs.uploads WHERE id = %(id)s AND owner_id = %(owner)s FOR UPDATE", given)
            parts = await connection.execute("SELECT blob_key FROM jobs.parts WHERE upload_id = %s", [staged_id])
            keys = [row[0] for row in await parts.fetchall()]
            if not (await connection.execute("DELETE FROM jobs.staged WHERE id = %s", [staged_id])).rowcount:
                gone = await (await connection.execute(UNUSED, given)).fetchall()
                keys = [key for row in gone for key in row if key is not None]
                if not keys:
                    raise InvalidState("A job uses this upload; it goes with the job.")
            await let_go(connection, keys)
            act = Act(actor, "upload.delete", f"upload:{staged_id}", {"fileName": staged.file_name, "bytes": staged.size})
            await record(connection, "jobs", act)


def moved_on() -> InvalidState:
    """Another request has gone on with the upload, or ended it."""
    return InvalidState("Another request has gone on with this upload. Ask where it is (HEAD), and go on from there.")
