"""Connections of the PostgreSQL transport: bounded in time, cheap while idle, with the schema made when it is missing."""

from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from jobber.errors import Unavailable

#: Seconds that the database may take to answer. One that is frozen keeps its connections: without a limit a call never returns.
ANSWER_WITHIN = 5.0
#: Guards the making of the schema; any number that nothing else in the database locks.
SCHEMA_LOCK = 0x4A0B0002

#: Of the table, as sql/schema.sql makes it.
COLUMNS = "topic id body properties visible_at holder"

#: What means that the database, or the transport's table in it, is away for now. All else is a bug or a wrong set-up.
LOST = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.UndefinedTable,
    psycopg.errors.ReadOnlySqlTransaction,
    OSError,
)

#: A lost answer of a commit is no loss here, and a queue is read by its index, whatever the statistics of its empty table say.
_OPTIONS = "-c synchronous_commit=off -c enable_seqscan=off -c enable_bitmapscan=off -c jit=off"

T = TypeVar("T")


class Session(psycopg.Connection[TupleRow]):
    """A blocking connection whose every statement ends within ANSWER_WITHIN, with OperationalError if need be."""

    def wait(self, gen: Generator[Any, Any, T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's, with a limit."""
        return super().wait(gen, interval, timeout or ANSWER_WITHIN)


class AsyncSession(psycopg.AsyncConnection[TupleRow]):
    """The same for an event loop."""

    async def wait(self, gen: Generator[Any, Any, T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's, with a limit."""
        return await super().wait(gen, interval, timeout or ANSWER_WITHIN)


def connect(dsn: str, name: str) -> Session:
    """A connection, named for pg_stat_activity, in a database that has the schema. Raises what LOST names."""
    session = Session.connect(dsn, **_arguments(dsn, name))
    try:
        _make_schema(session)
    except BaseException:
        session.close()
        raise
    return session


async def connect_async(dsn: str, name: str) -> AsyncSession:
    """The same for an event loop; the schema is the affair of `connect`."""
    return await AsyncSession.connect(dsn, **_arguments(dsn, name))


def unavailable(fault: BaseException) -> Unavailable:
    """What users of the port get to see; the cause tells more."""
    reason = str(fault).strip().partition("\n")[0]
    return Unavailable(f"The transport's database does not answer: {reason or type(fault).__name__}")


def _arguments(dsn: str, name: str) -> dict[str, Any]:
    own = conninfo_to_dict(dsn).get("options") or ""
    return {
        "autocommit": True,
        "connect_timeout": 3,
        "application_name": f"jobber-transport {name}".strip(),
        "options": f"{own} {_OPTIONS}".strip(),
        # A host that vanished without a word is noticed within about 30 s, not after the kernel's two hours.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }


def _make_schema(session: Session) -> None:
    """Make the table unless it is there; safe when several processes do it at once."""
    if _columns(session) == COLUMNS:
        return
    with session.transaction():
        session.execute("SELECT pg_advisory_xact_lock(%s)", [SCHEMA_LOCK])
        if _columns(session) != COLUMNS:
            # One of another version goes: what it holds is issued again.
            session.execute("DROP TABLE IF EXISTS transport.messages")
            session.execute((Path(__file__).parent / "sql" / "schema.sql").read_bytes())


def _columns(session: Session) -> str | None:
    # Not to_regclass: within one transaction it goes on saying no, out of its cache, when another has made the table meanwhile.
    # It would then be dropped with what is in it.
    row = session.execute(
        "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute"
        " JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'transport' AND relname = 'messages' AND attnum > 0 AND NOT attisdropped"
    ).fetchone()
    return row[0] if row else None
