"""SIGKILL of PostgreSQL, all its processes at once, between a transaction's last row and the answer to its COMMIT.

Whether the commit made it is then not known to who asked for it; asked again, the answer is the same either way.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from api.database import open_pool
from api.jobs.store import Store
from api.migrate import migrate
from api.products.ids import Ids
from api.products.incoming import receive
from api.products.load import Budget, Loader
from api.products.main import open_room
from api.products.model import Batch
from jobber import faults
from jobber.errors import Unavailable
from jobber.ids import uuid7
from jobber.local.postgres import EmbeddedPostgres
from jobber.model import Receipt, State
from protos.jobber.products.v1 import products_pb2 as pb
from tests.integration.jobs_room import OWNER, Room, receipt
from tests.support.products import Sent, frame, messages, settings_for
from tests.support.system import alive

#: A commit waits so long before it is flushed: nothing of it is durable meanwhile.
SLOWLY = ("commit_delay=100000", "commit_siblings=0")
#: A commit is durable, and never answered: it waits for a standby that there is not.
WAITING = "synchronous_standby_names=nobody"
ROWS = 3000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One that may be killed."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("killed"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def dsn(server: EmbeddedPostgres) -> str:
    name = f"test_{uuid7().replace('-', '')}"
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}".encode())
    return server.dsn.rsplit("/", 1)[0] + f"/{name}"


def restart(server: EmbeddedPostgres, *settings: str) -> None:
    server.stop()
    server.start(*settings)


def tell(dsn: str, setting: str) -> None:
    """As of now, for all sessions."""
    name, value = setting.split("=")
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        session.execute("SELECT pg_reload_conf()")


def untell(server: EmbeddedPostgres) -> None:
    (server.data / "postgresql.auto.conf").write_text("")


async def kill_in_commit(server: EmbeddedPostgres, dsn: str, wait_event: str | None = None) -> None:
    """Kill it while a session of that database is at its COMMIT, and start it again."""
    query = """SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query = 'COMMIT'
                  AND (%s::text IS NULL OR wait_event = %s)"""
    with psycopg.connect(dsn, autocommit=True) as session:
        while not session.execute(query, [wait_event, wait_event]).fetchone():
            await asyncio.sleep(0.001)
    await killed(server)


async def killed(server: EmbeddedPostgres) -> None:
    server.kill()
    untell(server)
    await asyncio.to_thread(server.start)


@contextlib.asynccontextmanager
async def loading(dsn: str) -> AsyncIterator[Loader]:
    """The products service without gRPC, whose threads and the forks of a server's start do not go together."""
    room = await open_room(settings_for(dsn))
    yield room.loader
    await room.close()


async def batch(dsn: str) -> Batch:
    """One that was not loaded before."""

    async def arriving() -> AsyncIterator[pb.LoadRequest]:
        for message in messages(Sent.of(frame(ROWS))):
            yield message

    pool = await open_pool(dsn, name="ids", size=1, timeout=10)
    try:
        with Budget().share() as share:
            return (await receive(arriving(), Ids(pool), share))[0]
    finally:
        await pool.close()


async def persist(loader: Loader, wanted: Batch) -> int:
    """Load as the executor does; how often it failed."""
    for failed in range(200):
        try:
            [outcome] = await loader.load([wanted])
        except Unavailable:
            await asyncio.sleep(0.05)
        else:
            assert isinstance(outcome, Receipt)
            assert outcome.inserted == ROWS
            return failed
    raise AssertionError("it never loads")


def sql(dsn: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as session:
        return session.execute(query.encode(), parameters).fetchall()


def expect_once(dsn: str, wanted: Batch) -> None:
    job_id = wanted.key.job_id
    count = "SELECT count(*), count(DISTINCT row_no) FROM products.products WHERE job_id = %s"
    assert sql(dsn, count, job_id) == [(ROWS, ROWS)]
    assert sql(dsn, "SELECT inserted FROM products.ledger WHERE job_id = %s", job_id) == [(ROWS,)]


def test_a_kill_takes_every_process_of_the_server(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn) as session:
        row = session.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        assert server.process is not None
        family = [process.pid for process in psutil.Process(server.process.pid).children(recursive=True)]
        assert row[0] in family
        server.kill()
        assert alive(family) == []
        with contextlib.suppress(psycopg.OperationalError):
            session.rollback()
    server.start()


async def test_a_load_whose_commit_was_not_durable_is_written_by_the_next_try(server: EmbeddedPostgres, dsn: str) -> None:
    restart(server, *SLOWLY)
    async with loading(dsn) as loader:
        wanted = await batch(dsn)
        writing = asyncio.create_task(persist(loader, wanted))
        await kill_in_commit(server, dsn)
        assert await writing > 0
        expect_once(dsn, wanted)


async def test_a_load_whose_commit_was_durable_is_not_written_again(server: EmbeddedPostgres, dsn: str) -> None:
    async with loading(dsn) as loader:
        wanted = await batch(dsn)
        tell(dsn, WAITING)
        writing = asyncio.create_task(persist(loader, wanted))
        await kill_in_commit(server, dsn, "SyncRep")
        assert sql(dsn, "SELECT count(*) FROM products.ledger") == [(1,)]
        assert await writing > 0
        expect_once(dsn, wanted)


async def test_killed_at_any_moment_around_the_commit(
    server: EmbeddedPostgres, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(4)
    async with loading(dsn) as loader:
        for _ in range(4):
            reached = asyncio.Event()

            def at(name: str, reached: asyncio.Event = reached) -> None:
                if name == "products.before_commit":
                    reached.set()

            monkeypatch.setattr(faults, "point", at)
            wanted = await batch(dsn)
            writing = asyncio.create_task(persist(loader, wanted))
            await reached.wait()
            await asyncio.sleep(chance.uniform(0, 0.004))
            await killed(server)
            await writing
            expect_once(dsn, wanted)


@pytest.fixture
async def room(dsn: str) -> AsyncIterator[Room]:
    await migrate(dsn, "jobs", Path("api/jobs/sql"))
    pool = await open_pool(dsn, name="test", size=4, timeout=10)
    yield Room(pool)
    await pool.close()


async def test_what_jobs_committed_without_an_answer_is_found_by_the_next_try(
    server: EmbeddedPostgres, dsn: str, room: Room
) -> None:
    async def unanswered(act: Callable[[], Awaitable[object]]) -> None:
        """Let it commit and lose the answer."""
        tell(dsn, WAITING)
        acting = asyncio.ensure_future(act())
        await kill_in_commit(server, dsn, "SyncRep")
        with pytest.raises(Unavailable):
            await acting

    await unanswered(lambda: room.submit(1, key="k"))
    job_id = await room.submit(1, key="k")
    assert [job.id for job in await Store(room.pool).jobs(OWNER)] == [job_id]
    dispatches = await room.dispatched()
    [claimed], _ = await room.work.claim(dispatches)
    await unanswered(lambda: room.work.acknowledge([receipt(claimed.key)]))
    assert await room.work.acknowledge([receipt(claimed.key)]) == set()
    job = await room.store.job(job_id, OWNER)
    assert job is not None
    assert (job.state, job.tally.receipts, job.tally.loaded) == (State.SUCCEEDED, 1, 10)
