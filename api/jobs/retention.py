"""What ended jobs leave, and when it goes: inputs and rejects after `retention_days`, blobs without a row after an hour.

    ended job      -> expired   its input, rejects and results are forgotten here and in products' ledger; its row, plan and
                                counts stay: who did what when, and which batch a product came from
    unused upload  -> deleted
    half an upload -> deleted, when it has not grown for `hours`
    stray blob     -> seen -> doomed -> deleted

A blob becomes a stray when a job or an upload lets go of it, or when a listing of the blob store shows one that nothing refers
to: a process was killed between the blob and its row. It is doomed only when it was a stray for STRAY_AGE and still nothing
refers to it, and deleted only once that is committed. Who commits a row for a new blob takes it off the list first, and is
refused when it is doomed (`Store`): a process that was frozen in between cannot refer to what was deleted.

Every step locks its rows and skips what is locked, so that any number of replicas may run it, and is small, so that it can be
killed anywhere. Only the database's clock decides.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import LiteralString, Protocol

from api.database import Pool
from api.database import connection as checkout
from jobber import faults
from jobber.blobs.store import Blobs
from jobber.errors import Transient
from jobber.log import event

#: Seconds between two rounds, and between two listings of the blob store, which in a bucket cost money.
ROUND_EVERY, LIST_EVERY = 60.0, 3600.0
#: Jobs, uploads and blobs that one transaction touches. A job of 20 GB has 5,000 receipts.
JOBS, UPLOADS, BLOBS = 20, 100, 100
#: Days after which it is forgotten that a blob was deleted. No writer is frozen for so long and goes on.
REMEMBERED = 30

#: What we name our blobs; anything else in the folder or the bucket is somebody else's.
OURS = re.compile(r"(uploads|inline|plans)/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

DUE: LiteralString = """
    SELECT id::text FROM jobs.jobs
     WHERE ended_at < clock_timestamp() - %(days)s * interval '1 day' AND expired_at IS NULL ORDER BY ended_at LIMIT %(most)s
"""
LOCK_JOBS: LiteralString = """
    SELECT id FROM jobs.jobs WHERE id = ANY (%(ids)s::uuid[]) AND expired_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED
"""
EXPIRE_JOBS: LiteralString = """
    WITH due AS (
        SELECT unnest(ARRAY[blob_key, plan_blob]) AS blob_key FROM jobs.jobs WHERE id = ANY (%(ids)s::uuid[])),
    strayed AS (
        INSERT INTO jobs.strays (blob_key, seen_at) SELECT DISTINCT blob_key, '-infinity'::timestamptz FROM due
         WHERE blob_key IS NOT NULL ORDER BY blob_key ON CONFLICT DO NOTHING),
    emptied AS (
        UPDATE jobs.receipts SET rejects = '', results = ''
         WHERE job_id = ANY (%(ids)s::uuid[]) AND (rejects <> '' OR results <> ''))
    UPDATE jobs.jobs SET inline_data = NULL, blob_key = NULL, plan_blob = NULL, upload_id = NULL, expired_at = clock_timestamp()
     WHERE id = ANY (%(ids)s::uuid[])
"""
#: A submission that uses an upload holds its row: it is skipped. Whether a job uses it is asked once the row is ours, in a
#: later statement, which sees what was committed meanwhile.
LOCK_UPLOADS: LiteralString = """
    SELECT id FROM jobs.uploads u
     WHERE created_at < clock_timestamp() - %(days)s * interval '1 day'
       AND NOT EXISTS (SELECT FROM jobs.jobs j WHERE j.upload_id = u.id)
     ORDER BY created_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
"""
EXPIRE_UPLOADS: LiteralString = """
    WITH gone AS (
        DELETE FROM jobs.uploads u
         WHERE id = ANY (%(ids)s) AND NOT EXISTS (SELECT FROM jobs.jobs j WHERE j.upload_id = u.id)
        RETURNING blob_key, plan_blob),
    blobs AS (SELECT DISTINCT unnest(ARRAY[blob_key, plan_blob]) AS blob_key FROM gone)
    INSERT INTO jobs.strays (blob_key, seen_at) SELECT blob_key, '-infinity'::timestamptz FROM blobs
     WHERE blob_key IS NOT NULL ORDER BY blob_key ON CONFLICT DO NOTHING
"""
#: What has not grown for so long is not waited for.
EXPIRE_STAGED: LiteralString = """
    WITH due AS (
        SELECT id FROM jobs.staged WHERE touched_at < clock_timestamp() - %(hours)s * interval '1 hour'
         ORDER BY touched_at LIMIT %(most)s FOR UPDATE SKIP LOCKED),
    parts AS (SELECT blob_key FROM jobs.parts WHERE upload_id IN (SELECT id FROM due)),
    strayed AS (
        INSERT INTO jobs.strays (blob_key, seen_at) SELECT blob_key, '-infinity'::timestamptz FROM parts ORDER BY blob_key
            ON CONFLICT DO NOTHING)
    DELETE FROM jobs.staged WHERE id IN (SELECT id FROM due)
"""
UNUSED: LiteralString = """
       NOT EXISTS (SELECT FROM jobs.uploads u WHERE u.blob_key = s.blob_key)
   AND NOT EXISTS (SELECT FROM jobs.uploads u WHERE u.plan_blob = s.blob_key)
   AND NOT EXISTS (SELECT FROM jobs.jobs j WHERE j.blob_key = s.blob_key)
   AND NOT EXISTS (SELECT FROM jobs.jobs j WHERE j.plan_blob = s.blob_key)
   AND NOT EXISTS (SELECT FROM jobs.parts p WHERE p.blob_key = s.blob_key)
"""
SEEN: LiteralString = f"""
    INSERT INTO jobs.strays (blob_key) SELECT blob_key FROM unnest(%(keys)s::text[]) AS s(blob_key) WHERE {UNUSED}
     ORDER BY blob_key ON CONFLICT DO NOTHING
"""
#: What was doomed and not deleted comes first: its deleter was killed, or is at it; to delete it twice does no harm.
DOOM: LiteralString = f"""
    WITH due AS (
        SELECT blob_key FROM jobs.strays s
         WHERE deleted_at IS NULL AND seen_at < clock_timestamp() - %(age)s * interval '1 second' AND {UNUSED}
         ORDER BY doomed_at NULLS LAST, seen_at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
    UPDATE jobs.strays s SET doomed_at = coalesce(doomed_at, clock_timestamp()) FROM due WHERE s.blob_key = due.blob_key
    RETURNING s.blob_key
"""
DELETED: LiteralString = "UPDATE jobs.strays SET deleted_at = clock_timestamp() WHERE blob_key = ANY (%(keys)s)"
#: Forget what is used after all, and what was deleted long ago.
TIDY: LiteralString = f"""
    DELETE FROM jobs.strays s
     WHERE (doomed_at IS NULL AND NOT ({UNUSED})) OR deleted_at < clock_timestamp() - %(days)s * interval '1 day'
"""


#: When this database was made, in milliseconds. What is older than it belongs to another one: a service that was pointed at an
#: empty database by mistake must not take everybody's inputs for strays.
SINCE: LiteralString = "SELECT extract(epoch FROM min(applied_at)) * 1000 - 60000 FROM jobs.migrations"


def made_at(key: str) -> int:
    """When a blob of ours was named, in milliseconds of its process' clock: its id is a UUIDv7."""
    return int(key.rpartition("/")[2].replace("-", "")[:12], 16)


class Products(Protocol):
    """What retention needs of the products service."""

    async def forget_jobs(self, job_ids: Sequence[str]) -> None:
        """Empty what the ledger keeps of the jobs' rejects. Raises Unavailable."""


class Retention:
    """Lets go of what nobody may need any more."""

    def __init__(
        self, pool: Pool, blobs: Blobs, products: Products, *, days: float, stray_age: float, hours: float = 24
    ) -> None:
        self._pool = pool
        self._blobs = blobs
        self._products = products
        self._days = days
        self._stray_age = stray_age
        #: For files that come in pieces.
        self._hours = hours

    async def run(self) -> None:
        """Rounds until cancelled. What fails is logged and tried again."""
        clock = asyncio.get_running_loop().time
        # A short age asks for frequent looks; a round that finds nothing costs three index scans.
        pause = min(ROUND_EVERY, max(self._stray_age / 4, 0.2))
        listed = clock() - LIST_EVERY
        while True:
            try:
                if clock() - listed >= min(LIST_EVERY, self._stray_age):
                    await self.look_for_strays()
                    listed = clock()
                await self.round()
            except Transient as fault:
                event("unavailable", f"retention has to wait: {fault}", level=logging.WARNING, step="retention")
            except Exception as fault:
                event("bug", "retention failed.", level=logging.ERROR, error=fault, step="retention")
            await asyncio.sleep(pause)

    async def round(self) -> None:
        """Let go of all that is due now. Raises Unavailable."""
        jobs = await self._all(self._expire_jobs)
        uploads = await self._all(self._expire_uploads) + await self._all(self._expire_staged)
        blobs = await self._all(self._delete_strays)
        async with checkout(self._pool) as session:
            await session.execute(TIDY, {"days": REMEMBERED})
        if jobs or uploads or blobs:
            event("swept", "What had expired was deleted.", jobs=jobs, uploads=uploads, blobs=blobs)

    async def look_for_strays(self) -> None:
        """List blobs that nothing refers to, and delete what killed writers left half-written. Raises Unavailable."""
        await self._blobs.tidy()
        async with checkout(self._pool) as session:
            row = await (await session.execute(SINCE)).fetchone()
        since = int(row[0]) if row and row[0] is not None else 0
        async for keys in self._blobs.keys(BLOBS):
            ours = [key for key in keys if OURS.fullmatch(key) and made_at(key) >= since]
            async with checkout(self._pool) as session:
                await session.execute(SEEN, {"keys": ours})

    async def _all(self, step: Callable[[], Awaitable[int]]) -> int:
        total = 0
        while done := await step():
            total += done
        return total

    async def _expire_jobs(self) -> int:
        wanted: dict[str, object] = {"days": self._days, "most": JOBS}
        async with checkout(self._pool) as session:
            ids = [row[0] for row in await (await session.execute(DUE, wanted)).fetchall()]
        if not ids:
            return 0
        # First where the second copy is: a kill in between leaves the job due.
        await self._products.forget_jobs(ids)
        async with checkout(self._pool) as session, session.transaction():
            locked = [row[0] for row in await (await session.execute(LOCK_JOBS, {"ids": ids})).fetchall()]
            await session.execute(EXPIRE_JOBS, {"ids": locked})
            faults.point("expire.before_commit")
        faults.point("expire.after_commit")
        return len(locked)

    async def _expire_uploads(self) -> int:
        async with checkout(self._pool) as session, session.transaction():
            wanted: dict[str, object] = {"days": self._days, "most": UPLOADS}
            locked = [row[0] for row in await (await session.execute(LOCK_UPLOADS, wanted)).fetchall()]
            if not locked:
                return 0
            expired = await session.execute(EXPIRE_UPLOADS, {"ids": locked})
            faults.point("expire_uploads.before_commit")
        faults.point("expire_uploads.after_commit")
        return expired.rowcount

    async def _expire_staged(self) -> int:
        async with checkout(self._pool) as session, session.transaction():
            expired = await session.execute(EXPIRE_STAGED, {"hours": self._hours, "most": UPLOADS})
            faults.point("expire_staged.before_commit")
        return expired.rowcount

    async def _delete_strays(self) -> int:
        async with checkout(self._pool) as session:
            doomed = await session.execute(DOOM, {"age": self._stray_age, "most": BLOBS})
            keys = [row[0] for row in await doomed.fetchall()]
        if not keys:
            return 0
        faults.point("stray.before_delete")
        for key in keys:
            await self._blobs.delete(key)
        faults.point("stray.after_delete")
        async with checkout(self._pool) as session:
            await session.execute(DELETED, {"keys": keys})
        return len(keys)
