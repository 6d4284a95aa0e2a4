"""A table of its own for each job whose rows wait to become visible.

It is made in the transaction of the first batch and dropped in the one that publishes or closes the job: there is no moment at
which a killed process leaves one behind that its job's end does not take away.
"""

import hashlib

from psycopg import sql

from api.database import Connection


def table(job_id: str) -> str:
    """The job's table; `job_id` is a lowercase UUID."""
    return f"products.staged_{job_id.replace('-', '')}"


async def there(session: Connection, job_id: str) -> bool:
    """Whether the job has one."""
    row = await (await session.execute("SELECT to_regclass(%s) IS NOT NULL", [table(job_id)])).fetchone()
    return bool(row and row[0])


async def make(session: Connection, job_id: str) -> sql.Identifier:
    """The job's table, quoted, which is there from now on."""
    if not await there(session, job_id):
        # Two that make it at once would both find it missing: IF NOT EXISTS alone does not wait for the other's commit.
        key = int.from_bytes(hashlib.sha256(f"products staging {job_id}".encode()).digest()[:8], signed=True)
        await session.execute("SELECT pg_advisory_xact_lock(%s)", [key])
        query = "CREATE TABLE IF NOT EXISTS {} (LIKE products.staging INCLUDING CONSTRAINTS)"
        await session.execute(sql.SQL(query).format(named(job_id)))
    return named(job_id)


async def drop(session: Connection, job_id: str) -> None:
    """The job has none any more."""
    if await there(session, job_id):
        await session.execute(sql.SQL("DROP TABLE {}").format(named(job_id)))


def named(job_id: str) -> sql.Identifier:
    """The job's table, quoted."""
    return sql.Identifier(*table(job_id).split("."))
