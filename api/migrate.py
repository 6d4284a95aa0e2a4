"""Migrations: plain SQL files, `0001_name.sql` and up, one folder and one schema a service.

Several replicas may start at once, and any of them may be killed at any time: one session holds an advisory lock and applies
the files, each in one transaction with its row in `<schema>.migrations`. The lock ends with the session, so that nothing
stays locked after SIGKILL.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from api.database import SESSION, Connection, place
from api.waiting import wait_for
from jobber import faults
from jobber.errors import Terminal, Unavailable
from jobber.log import event

FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
#: Seconds that a replica waits for another one to finish its migrations.
LOCK_TIMEOUT = 600.0


class MigrationFault(Terminal):
    """The migrations in the checkout and in the database do not fit together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    body: str

    @property
    def sha256(self) -> str:
        """Of the text, so that a file that changed after it was applied is noticed."""
        return hashlib.sha256(self.body.encode()).hexdigest()


async def migrate(dsn: str, schema: str, folder: Path) -> None:
    """Bring `schema` up to date with the files in `folder`. Makes the schema itself.

    Raises MigrationFault when an applied file was changed, or when a file cannot be applied; nothing of that file stays.
    """
    migrations = read(folder)
    async with await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, application_name=f"jobber-migrate-{schema}", **SESSION
    ) as session:
        # The server ends a statement whose client is gone, instead of holding the lock until it is done.
        await session.execute("SET client_connection_check_interval = '1s'")
        await _lock(session, schema, place(dsn))
        applied = await _applied(session, schema)
        for migration in migrations:
            if migration.number not in applied:
                event("migrating", f"Applying {schema}/{migration.name}.", schema=schema, migration=migration.name)
                await _apply(session, schema, migration)
            elif applied[migration.number] != migration.sha256:
                raise MigrationFault(
                    f"{schema}/{migration.name} was changed after it was applied. Applied files are final: "
                    "put the change into a new file."
                )
        event("migrated", f"Schema {schema} is up to date.", schema=schema, migrations=len(migrations))


def read(folder: Path) -> list[Migration]:
    """The migrations in order.

    Raises MigrationFault when a file is misnamed or a number is missing or double.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        named = FILE.fullmatch(path.name)
        if not named:
            raise MigrationFault(f"{path.name} is no name for a migration; use 0001_name.sql.")
        found.append(Migration(int(named[1]), path.name, path.read_text(encoding="utf-8")))
    numbers = [migration.number for migration in found]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise MigrationFault(f"Migrations in {folder.name} must be numbered from 0001 without gaps, not {numbers}.")
    return found


async def _lock(session: Connection, schema: str, where: str) -> None:
    """Take the schema's lock, which lives as long as the session."""

    async def taken() -> None:
        # Tried again and again instead of one blocking call, so that the wait shows in the log and SIGTERM ends it.
        cursor = await session.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [f"jobber migrate {schema}"])
        row = await cursor.fetchone()
        if not row or not row[0]:
            raise Unavailable("another process is migrating")

    await wait_for(f"the migrations of {schema} in {where}", taken, LOCK_TIMEOUT)


async def _applied(session: Connection, schema: str) -> dict[int, str]:
    await session.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    await session.execute(
        sql.SQL(
            "CREATE TABLE IF NOT EXISTS {} (number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        ).format(sql.Identifier(schema, "migrations"))
    )
    cursor = await session.execute(sql.SQL("SELECT number, sha256 FROM {}").format(sql.Identifier(schema, "migrations")))
    return {int(number): str(sha256) for number, sha256 in await cursor.fetchall()}


async def _apply(session: Connection, schema: str, migration: Migration) -> None:
    try:
        async with session.transaction():
            before = await _transaction(session)
            # Without parameters psycopg sends the text as it is, all statements of the file at once.
            await session.execute(migration.body.encode())
            if await _transaction(session) != before:
                raise MigrationFault(f"{schema}/{migration.name} ends its own transaction; remove COMMIT and ROLLBACK.")
            await session.execute(
                sql.SQL("INSERT INTO {} (number, name, sha256) VALUES (%s, %s, %s)").format(
                    sql.Identifier(schema, "migrations")
                ),
                [migration.number, migration.name, migration.sha256],
            )
            faults.point("migrate.before_commit")
        faults.point("migrate.after_commit")
    except psycopg.OperationalError:
        raise
    except psycopg.Error as fault:
        raise MigrationFault(f"{schema}/{migration.name} cannot be applied: {fault}") from fault


async def _transaction(session: Connection) -> object:
    row = await (await session.execute("SELECT pg_current_xact_id()::text")).fetchone()
    return row and row[0]
