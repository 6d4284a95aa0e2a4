"""Load and CloseJob when things go wrong or happen at once: every batch is written exactly once all the same."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import psutil
import psycopg
import pytest

from api.database import open_pool
from api.products import load
from api.products.ledger import LOCK_SHARED, Ledger, lock_key
from api.products.rows import COPY_HEADER, PRODUCTS, copy_into
from jobber.errors import Unavailable
from jobber.ids import uuid7
from jobber.local.postgres import EmbeddedPostgres
from protos.jobber.products.v1 import products_pb2 as pb
from tests.support.products import (
    LOADS,
    METADATA,
    Products,
    Sent,
    code_of,
    connected,
    copies_held,
    frame,
    messages,
    serving,
    until,
    until_copying,
)


async def persist(products: Products, *batches: Sent) -> tuple[Sequence[pb.LoadOutcome], int]:
    """Load as the executor does: again, while that may help; how often it failed."""
    for failed in range(100):
        try:
            return await products.load(*batches), failed
        except grpc.aio.AioRpcError as fault:
            if fault.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.02)
    raise AssertionError("it never loads")


async def test_the_same_batch_from_two_sides_at_once_is_written_once(products: Products) -> None:
    async with serving(products.dsn) as replica, connected(products.address) as second, connected(replica.address) as third:
        for _ in range(15):
            sent = Sent.of(frame(200))
            stubs = [products.stub, second, replica.stub, third] * 2
            answers = await asyncio.gather(*(stub.Load(messages(sent), metadata=METADATA, timeout=30) for stub in stubs))
            assert all(answer == answers[0] for answer in answers)
            assert answers[0].outcomes[0].receipt.inserted == 200
            assert products.count(sent.job_id) == 200


async def test_groups_that_overlap_in_opposite_orders_do_not_deadlock(
    products: Products, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "TRIES", 1)  # so that a deadlock shows
    products.sql(
        """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
           CREATE TRIGGER slow BEFORE INSERT ON products.ledger FOR EACH ROW EXECUTE FUNCTION slow()"""
    )
    jobs = sorted(uuid7() for _ in range(8))
    group = [Sent.of(frame(5), job, number) for job in jobs for number in range(3)]
    async with serving(products.dsn) as replica:
        for _ in range(4):
            there, back = await asyncio.gather(products.load(*group), replica.load(*reversed(group)))
            assert list(there) == list(reversed(back))
            products.sql("DELETE FROM products.ledger")


async def test_a_killed_backend_is_unavailable_and_the_next_try_is_exact(products: Products) -> None:
    sent = Sent.of(frame(500))
    with copies_held(products):
        call = asyncio.create_task(products.load(sent))
        await until_copying(products)
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND query LIKE 'COPY%%'"
        assert products.sql(kill, LOADS) == [(True,)]
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
    assert code_of(failed) is grpc.StatusCode.UNAVAILABLE
    assert products.sql("SELECT count(*) FROM products.ledger") == [(0,)]
    (outcome,) = await products.load(sent)
    assert outcome.receipt.inserted == 500
    assert products.count(sent.job_id) == 500


async def test_backends_killed_at_random_lose_and_double_nothing(products: Products) -> None:
    chance, job = random.Random(2), uuid7()
    table = frame(3000)
    ended = asyncio.Event()

    async def kill() -> int:
        killed = 0
        # Not for ever: on a machine that has no time for it, no COPY would end before the next kill.
        while not ended.is_set() and killed < 80:
            await asyncio.sleep(chance.uniform(0.005, 0.04))
            killed += len(
                products.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = %s AND datname = current_database() AND state <> 'idle' LIMIT 1",
                    LOADS,
                )
            )
        return killed

    killer = asyncio.create_task(kill())
    answers = await asyncio.gather(*(persist(products, Sent.of(table, job, number)) for number in range(40)))
    ended.set()
    assert await killer > 0
    assert all(outcomes[0].receipt.inserted == 3000 for outcomes, _ in answers)
    assert products.sql("SELECT count(*), count(DISTINCT (batch_no, row_no)) FROM products.products") == [(120_000, 120_000)]
    (page,) = await products.close_job(job)
    assert [outcomes[0].receipt for outcomes, _ in answers] == list(page.receipts)


async def test_closing_waits_for_the_loads_of_the_job_and_for_no_others(products: Products) -> None:
    sent = Sent.of(frame(10))
    with copies_held(products):
        loading = asyncio.create_task(products.load(sent))
        await until_copying(products)
        closing = asyncio.create_task(products.close_job(sent.job_id))
        assert await products.close_job(uuid7())
        await asyncio.sleep(0.3)
        assert not closing.done()
    (outcome,) = await loading
    (page,) = await closing
    assert list(page.receipts) == [outcome.receipt]
    assert products.count(sent.job_id) == 10


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_a_load_that_waited_for_a_close_sees_it(clone: Callable[[str], str], isolation: str) -> None:
    """Whatever the database's default isolation is."""
    database = clone("template1")
    with psycopg.connect(database, autocommit=True) as session:
        name = session.info.dbname
        session.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'".encode())
    async with serving(database) as products:
        await a_load_that_waits(products)


async def a_load_that_waits(products: Products) -> None:
    sent = Sent.of(frame(10))
    with psycopg.connect(products.dsn) as closer:
        closer.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(sent.job_id)])
        closer.execute("INSERT INTO products.closed_jobs (job_id) VALUES (%s)", [sent.job_id])
        loading = asyncio.create_task(products.load(sent))
        waiting = "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await until(products, waiting)
    (outcome,) = await loading
    assert outcome.WhichOneof("result") == "closed"
    assert products.count(sent.job_id) == 0


async def test_closing_in_the_midst_of_loads_is_final_and_tells_all(products: Products) -> None:
    chance = random.Random(3)
    async with serving(products.dsn) as replica:
        for _ in range(8):
            job = uuid7()
            sides = [products, replica]
            loads = [asyncio.create_task(sides[n % 2].load(Sent.of(frame(400), job, n))) for n in range(12)]
            await asyncio.sleep(chance.uniform(0, 0.08))
            pages = await replica.close_job(job)
            told = {receipt.key.batch_no: receipt for page in pages for receipt in page.receipts}
            rows = products.count(job)
            assert rows == 400 * len(told)
            for (outcome,) in await asyncio.gather(*loads):
                if outcome.WhichOneof("result") == "receipt":
                    assert told.pop(outcome.receipt.key.batch_no) == outcome.receipt
                else:
                    assert outcome.WhichOneof("result") == "closed"
            assert not told
            assert products.count(job) == rows


async def test_a_copy_whose_process_was_stopped_is_ended(database: str) -> None:
    """The kernel answers for a process that gets SIGSTOP, and no timeout fires in a COPY: closing has to end it."""
    async with serving(database) as products:
        job = uuid7()
        pool = await open_pool(database, name=LOADS, size=2, timeout=10)
        try:
            patient = Ledger(pool, lock_timeout=0.1, stalled_after=60)
            with (
                psycopg.connect(database, application_name=LOADS) as zombie,
                zombie.cursor() as cursor,
                contextlib.suppress(psycopg.OperationalError),
            ):
                cursor.execute(LOCK_SHARED, [[lock_key(job)]])
                with cursor.copy(copy_into(PRODUCTS)) as copy:
                    copy.write(COPY_HEADER)
                    copy.write(b"\x00")
                    with pytest.raises(Unavailable):
                        await patient.close(job)
                    assert await Ledger(pool, lock_timeout=0.2, stalled_after=0.3).close(job)
            assert zombie.broken
        finally:
            await pool.close()
        assert products.sql("SELECT count(*) FROM products.closed_jobs") == [(1,)]


async def test_a_transaction_that_the_database_undoes_is_tried_again(
    products: Products, monkeypatch: pytest.MonkeyPatch
) -> None:
    products.sql(
        """CREATE SEQUENCE tries;
           CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF nextval('tries') < 3 THEN RAISE EXCEPTION 'undone' USING ERRCODE = '40P01'; END IF;
               RETURN NEW;
             END $$;
           CREATE TRIGGER undo BEFORE INSERT ON products.ledger FOR EACH ROW EXECUTE FUNCTION undo()"""
    )
    sent = Sent.of(frame(10))
    (outcome,) = await products.load(sent)
    assert outcome.receipt.inserted == 10
    assert products.sql("SELECT last_value FROM tries") == [(3,)]
    assert products.count(sent.job_id) == 10
    products.sql("ALTER SEQUENCE tries RESTART")
    monkeypatch.setattr(load, "TRIES", 2)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await products.load(Sent.of(frame(10)))
    assert code_of(failed) is grpc.StatusCode.UNAVAILABLE


async def test_small_groups_that_wait_together_are_committed_together(products: Products) -> None:
    with copies_held(products):
        first = []
        for sessions in (1, 2):  # one after the other: at once they would share a session
            first.append(asyncio.create_task(products.load(Sent.of(frame(10)))))
            await until_copying(products, sessions)
        bad = Sent.of(frame(10, stock=[-1] * 10))
        rest = [asyncio.create_task(products.load(sent)) for sent in [*(Sent.of(frame(10)) for _ in range(40)), bad]]
        while len(products.room.loader._small) < len(rest):
            await asyncio.sleep(0.01)
    outcomes = [outcome for (outcome,) in await asyncio.gather(*first, *rest)]
    assert [outcome.WhichOneof("result") for outcome in outcomes] == ["receipt"] * 42 + ["refused"]
    assert products.sql("SELECT count(*) FROM products.products") == [(420,)]
    # Two that held the sessions, and the parts into which 41 were cut to find one.
    assert products.sql("SELECT count(DISTINCT xmin::text) < 12 FROM products.ledger") == [(True,)]


async def test_a_database_that_is_away_is_unavailable_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.database.CHECKOUT_TIMEOUT", 1)
    server = EmbeddedPostgres(tmp_path / "postgres")
    server.start()
    try:
        async with serving(server.dsn) as products:
            sent, later = Sent.of(frame(100)), Sent.of(frame(100))
            await products.load(sent)
            assert server.process
            backends = psutil.Process(server.process.pid).children(recursive=True)
            server.kill()
            # They notice a little later, and go on committing until then.
            await asyncio.to_thread(psutil.wait_procs, backends, 10)
            calls = (
                products.load(later),
                products.close_job(sent.job_id),
                products.call("ListCategories", pb.ListCategoriesRequest()),
            )
            for fault in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(fault, grpc.aio.AioRpcError)
                assert fault.code() is grpc.StatusCode.UNAVAILABLE
            server.start()
            (again, new), _ = await persist(products, sent, later)
            assert (again.receipt.inserted, new.receipt.inserted) == (100, 100)
            assert products.sql("SELECT count(*) FROM products.products") == [(200,)]
    finally:
        server.stop()
