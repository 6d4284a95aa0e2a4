"""Connections to PostgreSQL: a pool that waits for the database at start and comes back after it was gone."""

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from api import metrics
from api.waiting import wait_for
from jobber.errors import Unavailable

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

#: Seconds that a request waits for a free connection. Under a limit of 10 s a client learns that the database is gone.
CHECKOUT_TIMEOUT = 8.0

#: Seconds after which the pool gives up to connect. It doubles its delay between attempts: after a minute's outage it would
#: sleep for another. When it gives up early, the next request starts a new attempt at once.
RECONNECT = 2.0

#: Seconds that a transaction of ours may sit between two statements, and that one statement may take, waiting for locks
#: included. What is slower is a process that was stopped: it must not hold for long what others wait for, and finds its
#: transaction undone when it goes on.
IDLE_TIMEOUT, STATEMENT_TIMEOUT = 10.0, 60.0

SESSION: dict[str, Any] = {
    "connect_timeout": 5,
    # A host that vanished without a word is noticed within about 30 s, not after the kernel's two hours.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


async def open_pool(dsn: str, *, name: str, size: int, timeout: float) -> Pool:
    """A pool of at most `size` connections in autocommit, named `name` in pg_stat_activity; waits for the database.

    Raises Unavailable when it does not answer within `timeout` seconds.
    """

    async def probe() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, **SESSION):
            pass

    async def lend() -> None:
        async with pool.connection(RECONNECT):
            pass

    await wait_for(place(dsn), probe, timeout)
    pool: Pool = AsyncConnectionPool(
        dsn,
        kwargs={"autocommit": True, "application_name": name, **SESSION},
        min_size=min(2, size),
        max_size=size,
        timeout=CHECKOUT_TIMEOUT,
        name=name,
        open=False,
        check=_alive,
        configure=_bound,
        reconnect_timeout=RECONNECT,
    )
    # Not with `wait`: when the database has gone since the probe, the pool gives up and nobody's request starts a new attempt.
    await pool.open(wait=False)
    try:
        await wait_for(place(dsn), lend, timeout)
    except BaseException:
        await pool.close()
        raise
    metrics.watch(pool)
    return pool


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """One connection of the pool; what the database's absence raises becomes Unavailable."""
    try:
        async with pool.connection() as session:
            yield session
    except (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout) as fault:
        raise Unavailable("The database does not answer; try again in a moment.") from fault


def place(dsn: str) -> str:
    """Where the database is, for people: `PostgreSQL at host:port/name`, never a user or a password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "PostgreSQL"
    return f"PostgreSQL at {parts.get('host') or 'localhost'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


async def _bound(session: Connection) -> None:
    """Bound what a stopped process holds up. Not by connection options, which poolers in between do not pass on."""
    await session.execute(
        "SELECT set_config('idle_in_transaction_session_timeout', %s, false), set_config('statement_timeout', %s, false)",
        [f"{IDLE_TIMEOUT * 1000:.0f}ms", f"{STATEMENT_TIMEOUT * 1000:.0f}ms"],
    )


async def _alive(session: Connection) -> None:
    """Refuse a connection that the server has closed since it was last used.

    Looks at what has arrived on the socket, without a round trip: microseconds, where `SELECT 1` takes 0.1 ms.
    """
    # The first read gets the server's last words, the next one the end of the connection.
    arrived = select.poll()
    arrived.register(session.fileno(), select.POLLIN)
    while arrived.poll(0):
        session.pgconn.consume_input()
