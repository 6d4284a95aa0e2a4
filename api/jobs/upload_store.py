"""The SQL that keeps a whole upload: within its owner's quota, and once however often the same bytes come.

Everything that changes what an owner keeps holds the owner's lock, so that two uploads at once do not both find room.
"""

from dataclasses import replace
from typing import LiteralString

from api import audit
from api.audit import Act, Actor
from api.database import Connection
from api.jobs.model import Upload
from jobber.errors import QuotaExceeded, Unavailable

#: First half of the key of advisory locks by owner; the second is the owner's hash.
OWNER_LOCK = 0x0B10B5

#: Bytes kept, each blob once, and bytes announced that are still to come.
USED: LiteralString = """
    SELECT (SELECT coalesce(sum(bytes), 0)::bigint FROM
                   (SELECT DISTINCT blob_key, bytes FROM jobs.uploads WHERE owner_id = %(owner)s) kept)
         + (SELECT coalesce(sum(bytes), 0)::bigint FROM jobs.staged WHERE owner_id = %(owner)s)
"""
#: Of the same survey the batches are the same, with their digests, and so is what they are ranges of.
SAME: LiteralString = """
    SELECT blob_key, CASE WHEN survey = %(survey)b THEN plan_blob END FROM jobs.uploads
     WHERE owner_id = %(owner)s AND sha256 = %(sha256)b AND bytes = %(bytes)s
     ORDER BY survey = %(survey)b DESC NULLS LAST, created_at LIMIT 1 FOR KEY SHARE
"""
INSERT: LiteralString = """
    INSERT INTO jobs.uploads (id, owner_id, file_name, blob_key, bytes, sha256, format, survey, plan_blob)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
STRAYED: LiteralString = """
    INSERT INTO jobs.strays (blob_key, seen_at) SELECT DISTINCT key, '-infinity'::timestamptz FROM unnest(%s::text[]) AS k(key)
     ORDER BY key ON CONFLICT DO NOTHING
"""


async def lock_owner(connection: Connection, owner_id: str) -> None:
    """Within a transaction: nobody else changes what the owner keeps until it ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [OWNER_LOCK, owner_id])


async def used(connection: Connection, owner_id: str) -> int:
    """Bytes that the owner keeps, and has announced."""
    row = await (await connection.execute(USED, {"owner": owner_id})).fetchone()
    assert row is not None
    return int(row[0])


async def keep(connection: Connection, upload: Upload, actor: Actor, quota: int) -> Upload:
    """Within a transaction that holds the owner's lock: remember a file that the blob store holds.

    The same bytes of the same owner are kept once: the answer names the older blobs, and the new ones are let go of.
    Raises QuotaExceeded; Unavailable when a blob may be gone.
    """
    known = {"owner": upload.owner_id, "sha256": upload.sha256, "bytes": upload.size, "survey": upload.survey}
    same = await (await connection.execute(SAME, known)).fetchone()
    if same is None and quota and await used(connection, upload.owner_id) + upload.size > quota:
        raise over(quota)
    older = replace(upload, blob_key=same[0], plan_blob=same[1] or upload.plan_blob) if same is not None else upload
    for new, kept in ((upload.blob_key, older.blob_key), (upload.plan_blob, older.plan_blob)):
        if new is not None and new != kept:
            await let_go(connection, [new])
        elif new is not None:
            await claim_blob(connection, new)
    upload = older
    act = Act(actor, "upload.create", f"upload:{upload.id}", {"fileName": upload.file_name, "bytes": upload.size})
    await audit.record(connection, "jobs", act)
    values = [upload.id, upload.owner_id, upload.file_name, upload.blob_key, upload.size, upload.sha256, upload.format]
    await connection.execute(INSERT, [*values, upload.survey, upload.plan_blob])
    return upload


async def let_go(connection: Connection, keys: list[str]) -> None:
    """Nothing refers to these blobs any more, once this is committed: retention deletes them."""
    await connection.execute(STRAYED, [keys])


async def claim_blob(connection: Connection, key: str) -> None:
    """Take a new blob off the list of strays, where it is when we were slow.

    Raises Unavailable when it is doomed: it may be gone by now.
    """
    cursor = await connection.execute("SELECT doomed_at FROM jobs.strays WHERE blob_key = %s FOR UPDATE", [key])
    row = await cursor.fetchone()
    if row is None:
        return
    if row[0] is not None:
        raise Unavailable("Storing this took too long, and nothing of it was kept; send it again.")
    await connection.execute("DELETE FROM jobs.strays WHERE blob_key = %s", [key])


def over(quota: int) -> QuotaExceeded:
    """The owner would keep more than the quota."""
    return QuotaExceeded(
        f"With this file you would keep more than {quota:,} bytes of uploads."
        " Delete some that no job uses, or wait until they expire."
    )
