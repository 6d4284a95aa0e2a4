"""The shipped classes of jobs and products on one database, and a transport that does what it likes."""

import asyncio
import itertools
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from api.database import Pool
from api.jobs.dispatch import Dispatcher
from api.jobs.store import Store
from api.jobs.work import Work
from api.migrate import migrate
from api.products.ledger import Ledger
from api.products.model import MAX_BATCH_ROWS, DataRefused
from api.products.publish import Publication, Publisher
from jobber.errors import Unavailable
from jobber.job import Args, JobType
from jobber.model import Receipt, Writing
from jobber.targets import ProductRow
from jobber.transport import Message
from tests.state_machine.session import Cut, Session, interleave, under

T = TypeVar("T")

#: Small, so that a few jobs fill them.
WINDOW, JOB_WINDOW = 4, 2

TABLES = (
    *("jobs.receipts", "jobs.batches", "jobs.jobs", "jobs.uploads", "jobs.lookups", "jobs.audit"),
    *("products.products", "products.ledger", "products.closed_jobs"),
)

STAGED = "SELECT tablename FROM pg_tables WHERE schemaname = 'products' AND tablename LIKE 'staged\\_%'"

#: Durability is not what is tested here. A deadlock is found at once. The clock stands still until it is told to go on, so that
#: a slow machine finds what a fast one finds: the shipped SQL calls `clock_timestamp()`, and ours is found first.
SETTINGS = ("synchronous_commit = off", "deadlock_timeout = '20ms'", "jit = off", "search_path = clock, pg_catalog, public")
CLOCK = """
    CREATE SCHEMA clock;
    CREATE SEQUENCE clock.seconds MINVALUE 0;
    CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        $$ SELECT timestamptz '2026-01-01' + last_value * interval '1 s' FROM clock.seconds $$
"""


class LoadProducts(Args, frozen=True):
    """Rows go to products."""

    contract = ProductRow
    target = "products"
    lookups = ("charges",)


class Compute(Args, frozen=True):
    """Rows go nowhere: the results are in the receipt."""


KINDS = {
    "LoadProducts": JobType("LoadProducts", (), "", "1", LoadProducts),
    "Compute": JobType("Compute", (), "", "1", Compute),
}


def migrated(dsn: str) -> None:
    """Make a database what the services make of it."""
    with asyncio.Runner() as runner:
        for schema in ("jobs", "products"):
            runner.run(migrate(dsn, schema, Path(__file__).parents[2] / "api" / schema / "sql"))
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(CLOCK)
        for setting in SETTINGS:
            session.execute(f"ALTER DATABASE {session.info.dbname} SET {setting}".encode())


class Transport:
    """A list: messages may be taken in any order, kept, forgotten, and come again for ever."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.history: list[Message] = []
        #: None, or how many messages get through before it fails.
        self.fails_after: int | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        """The port's."""
        taken = messages if self.fails_after is None else messages[: self.fails_after]
        self.messages.extend(taken)
        self.history.extend(taken)
        if self.fails_after is not None:
            raise Unavailable("the transport is away")

    async def close(self) -> None:
        """Nothing is held."""


class Products:
    """What the dispatcher needs of products, without the wire in between."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.away = False
        self.loses_answer = False

    async def charges(self) -> dict[str, str]:
        """The dispatcher's port."""
        if self.away:
            raise Unavailable("products is away")
        return {"Books": "0.50"}

    async def close_job(self, job_id: str) -> list[Receipt]:
        """The dispatcher's port."""
        if self.away:
            raise Unavailable("products is away")
        await self._ledger.close(job_id)
        receipts = [receipt async for page in self._ledger.receipts(job_id) for receipt in page]
        if self.loses_answer:
            raise Unavailable("the answer was lost")
        return receipts

    async def publish_job(
        self, job_id: str, writing: Writing, columns: Sequence[str], allowed: int | None
    ) -> list[Receipt] | str:
        """The dispatcher's port."""
        if self.away:
            raise Unavailable("products is away")
        asked = Publication(job_id, writing.mode, writing.keys, columns, allowed, writing.dry_run)
        try:
            await Publisher(self._ledger).publish(asked)
        except DataRefused as fault:
            return str(fault)
        receipts = [receipt async for page in self._ledger.receipts(job_id) for receipt in page]
        if self.loses_answer:
            raise Unavailable("the answer was lost")
        return receipts


class World:
    """One database with one replica of everything; whoever acts twice at once is two replicas."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.watch = psycopg.connect(dsn, autocommit=True)
        self.pool: Pool = self.run(_pool(dsn, "jobber-jobs"))
        self._products_pool: Pool = self.run(_pool(dsn, "jobber-products"))
        self.store, self.work = Store(self.pool), Work(self.pool)
        self.ledger = Ledger(self._products_pool)
        #: Ids of loaded rows, in the steps of the sequence.
        self.first_ids = itertools.count(MAX_BATCH_ROWS, MAX_BATCH_ROWS)
        #: Since the campaign began.
        self.runs = self.steps = 0
        self.begin()

    def begin(self) -> None:
        """Forget everything."""
        self.runs += 1
        self.watch.execute("; ".join(f"DELETE FROM {table}" for table in TABLES).encode())
        for (table,) in self.watch.execute(STAGED).fetchall():
            self.watch.execute(f"DROP TABLE products.{table}".encode())
        self.watch.execute("SELECT setval('clock.seconds', 0)")
        self.transport, self.products = Transport(), Products(self.ledger)
        self.dispatcher = Dispatcher(
            self.work, self.transport, self.products, KINDS, window=WINDOW, job_window=JOB_WINDOW, changed=lambda ids: None
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it to its end."""
        return self._loop.run_until_complete(work)

    def do(self, work: Coroutine[Any, Any, T], cut: Cut | None = None) -> T | Exception:
        """Do it, perhaps with a cut connection; answer what came of it, errors too."""
        try:
            return self.run(work if cut is None else under(cut, work))
        except Exception as fault:
            return fault
        finally:
            if cut is not None and cut.pid is not None:
                self._gone(cut.pid)

    def _gone(self, pid: int) -> None:
        """Wait until the server has noticed: until then it holds its locks."""
        while self.watch.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
            time.sleep(0.0005)

    def race(self, works: Sequence[Coroutine[Any, Any, Any]], turns: Sequence[int]) -> list[Any]:
        """Do them at once, in the order of `turns`."""
        return self.run(interleave(works, turns, self._blocked))

    def later(self, seconds: int) -> None:
        """Let the database's clock have gone on."""
        self.watch.execute("SELECT setval('clock.seconds', last_value + %s) FROM clock.seconds", [seconds])

    def _blocked(self, pids: Sequence[int]) -> set[int]:
        query = "SELECT pid FROM unnest(%s::integer[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0"
        return {row[0] for row in self.watch.execute(query, [list(pids)])}

    def idle_in_transaction(self) -> int:
        """Sessions that have left something open."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        row = self.watch.execute(query).fetchone()
        return int(row[0]) if row else 0

    def staged(self) -> int:
        """Tables of rows that wait to become visible."""
        return len(self.watch.execute(STAGED).fetchall())

    def close(self) -> None:
        """Let go of the database."""
        for pool in (self.pool, self._products_pool):
            self.run(pool.close())
        self.watch.close()
        self._loop.close()


async def _pool(dsn: str, name: str) -> Pool:
    pool: AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]] = AsyncConnectionPool(
        dsn,
        connection_class=Session,
        kwargs={"autocommit": True, "application_name": name},
        min_size=4,
        max_size=8,
        open=False,
    )
    await pool.open(wait=True, timeout=20)
    return pool
