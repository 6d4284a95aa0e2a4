"""What only the PostgreSQL transport can be asked: a database restarted, killed or frozen under it, and what it costs idle."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from jobber.errors import Unavailable
from jobber.local.postgres import EmbeddedPostgres
from jobber.transport import Delivery, Group, Message, postgres_session, postgres_settlement
from jobber.transport import postgres as adapter
from jobber.transport.postgres import PostgresConsumer, PostgresPublisher

FAST = [Group(("a.fast",), 10)]
HOLDER = """
import sys, time
from jobber.transport import Group
from jobber.transport.postgres import PostgresConsumer
consumer = PostgresConsumer(sys.argv[1], [Group(("a.fast",), 10)])
print(len(consumer.receive(10)), flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server of this module's own, to be mistreated."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("own-postgres"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own(server: EmbeddedPostgres) -> EmbeddedPostgres:
    """With an empty queue."""
    with psycopg.connect(server.dsn) as session:
        session.execute("DROP SCHEMA IF EXISTS transport CASCADE")
    return server


def publish(dsn: str, *bodies: bytes) -> None:
    async def run() -> None:
        publisher = PostgresPublisher(dsn)
        try:
            await publisher.publish([Message("a.fast", body) for body in bodies])
        finally:
            await publisher.close()

    asyncio.run(run())


def receive(consumer: PostgresConsumer, count: int = 1, patience: float = 15) -> list[Delivery]:
    """Until there are `count`, over any outage."""
    found: list[Delivery] = []
    deadline = time.monotonic() + patience
    while len(found) < count and time.monotonic() < deadline:
        try:
            found += consumer.receive(0.5)
        except Unavailable:
            time.sleep(0.1)
    return found


def test_a_clean_restart_loses_nothing_and_gives_nothing_twice(own: EmbeddedPostgres) -> None:
    one, two = PostgresConsumer(own.dsn, FAST), PostgresConsumer(own.dsn, FAST)
    assert one.receive(0) == []
    publish(own.dsn, b"held", b"done")
    held, done = sorted(receive(one, 2), key=lambda item: item.body, reverse=True)
    assert two.receive(0) == []
    own.stop()
    with pytest.raises(Unavailable):
        one.receive(0.1)
    # The database is away: it is told when it is back.
    one.acknowledge([done])
    with pytest.raises(Unavailable):
        publish(own.dsn, b"lost")
    own.start()
    publish(own.dsn, b"next")
    # Long enough for either to look for dead consumers: the living one keeps what it holds.
    later = [item.body for _ in range(3) for consumer in (one, two) for item in receive(consumer, 1, 0.5)]
    assert later == [b"next"]
    one.hand_back([held], 0)
    assert [item.body for item in receive(two)] == [b"held"]
    for consumer in (one, two):
        consumer.close()
    with psycopg.connect(own.dsn) as session:
        assert {row[0] for row in session.execute("SELECT body FROM transport.messages")} == {b"held", b"next"}


def test_after_a_crash_it_begins_anew(own: EmbeddedPostgres) -> None:
    async def run() -> None:
        publisher = PostgresPublisher(own.dsn)
        await publisher.publish([Message("a.fast", b"1")])
        old = await asyncio.to_thread(receive, consumer)
        await asyncio.to_thread(own.kill)
        with pytest.raises(Unavailable):
            await publisher.publish([Message("a.fast", b"2")])
        await asyncio.to_thread(own.start)
        await publisher.publish([Message("a.fast", b"3")])
        # The acknowledgement of a message that is gone does not hit a new one.
        consumer.acknowledge(old)
        assert [item.body for item in await asyncio.to_thread(receive, consumer)] == [b"3"]
        await publisher.close()

    consumer = PostgresConsumer(own.dsn, FAST)
    assert consumer.receive(0) == []
    asyncio.run(run())
    consumer.close()


def test_a_frozen_database_is_unavailable(own: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_session, "ANSWER_WITHIN", 1.0)
    consumer = PostgresConsumer(own.dsn, FAST)
    assert consumer.receive(0) == []
    publish(own.dsn, b"1")
    held = receive(consumer)
    assert own.process
    server = psutil.Process(own.process.pid)
    server.suspend()
    frozen = [server, *server.children()]
    for process in frozen:
        process.suspend()
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            # It sleeps until it looks for what nothing told of.
            consumer.receive(5)
        with pytest.raises(Unavailable):
            publish(own.dsn, b"2")
        consumer.acknowledge(held)
        assert time.monotonic() - began < 30
    finally:
        for process in frozen:
            process.resume()
    publish(own.dsn, b"3")
    assert [item.body for item in receive(consumer)] == [b"3"]
    consumer.close()


def test_a_living_consumer_keeps_what_it_holds_and_a_frozen_one_does_not(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (adapter, postgres_settlement):
        monkeypatch.setattr(module, "VISIBILITY", 2)
    with subprocess.Popen([sys.executable, "-c", HOLDER, database], stdout=subprocess.PIPE, text=True) as frozen:
        assert frozen.stdout
        publish(database, b"frozen")
        assert frozen.stdout.readline() == "1\n"
        frozen.send_signal(signal.SIGSTOP)
        try:
            # Its own visibility time is the long one; as if it had passed.
            with psycopg.connect(database, autocommit=True) as session:
                session.execute("UPDATE transport.messages SET visible_at = clock_timestamp() + interval '1 s'")
            monkeypatch.setattr(postgres_settlement, "RENEW_EVERY", 0.5)
            living, other = PostgresConsumer(database, FAST), PostgresConsumer(database, FAST)
            assert [item.body for item in receive(living)] == [b"frozen"]
            assert receive(other, 1, 3) == []
        finally:
            frozen.kill()
    living.close()
    assert [item.body for item in receive(other)] == [b"frozen"]
    other.close()


def test_what_another_one_holds_by_now_can_be_acknowledged_but_not_handed_back(database: str) -> None:
    frozen, other = PostgresConsumer(database, FAST), PostgresConsumer(database, FAST)
    publish(database, b"1", b"2")
    for late in receive(frozen, 2):
        with psycopg.connect(database, autocommit=True) as session:
            session.execute("UPDATE transport.messages SET visible_at = '-infinity' WHERE id = %s", [late.handle.id])
        assert [item.body for item in receive(other)] == [late.body]
        frozen.hand_back([late], 0)
        assert other.receive(0.5) == []
        frozen.acknowledge([late])
    with psycopg.connect(database) as session:
        assert session.execute("SELECT 1 FROM transport.messages").fetchall() == []
    frozen.close()
    other.close()


def test_a_new_message_is_visible_whatever_the_clock_says(database: str) -> None:
    consumer = PostgresConsumer(database, FAST)
    consumer.receive(0)
    publish(database, b"1")
    with psycopg.connect(database) as session:
        assert session.execute("SELECT visible_at = '-infinity' FROM transport.messages").fetchall() == [(True,)]
    consumer.close()


def test_several_make_the_schema_at_once(database: str) -> None:
    script = "import sys; from jobber.transport.postgres_session import connect; connect(sys.argv[1], 'x').close()"
    processes = [subprocess.Popen([sys.executable, "-c", script, database]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]


def test_who_waits_for_the_schema_keeps_what_another_made(database: str) -> None:
    with psycopg.connect(database) as first:
        first.execute("SELECT pg_advisory_xact_lock(%s)", [postgres_session.SCHEMA_LOCK])
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(postgres_session.connect, database, "test")
            time.sleep(0.5)
            first.execute((Path(postgres_session.__file__).parent / "sql" / "schema.sql").read_bytes())
            first.execute("INSERT INTO transport.messages (topic, id, body) VALUES ('a', gen_random_uuid(), '1')")
            first.commit()
            with waiting.result(10) as second:
                assert second.execute("SELECT count(*) FROM transport.messages").fetchone() == (1,)


def test_what_a_closed_consumer_held_is_there_at_once(database: str) -> None:
    consumer = PostgresConsumer(database, FAST)
    publish(database, b"1")
    assert len(receive(consumer)) == 1
    consumer.close()
    with psycopg.connect(database) as session:
        assert session.execute("SELECT holder, visible_at = '-infinity' FROM transport.messages").fetchall() == [(None, True)]


def test_a_queue_of_another_version_is_made_anew(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as session:
        session.execute("CREATE SCHEMA transport; CREATE TABLE transport.messages (id bigint, body text)")
    publish(database, b"1")
    consumer = PostgresConsumer(database, FAST)
    assert [item.body for item in receive(consumer)] == [b"1"]
    # Dropped under a living consumer: away for a moment, like a database that was restored from a backup.
    with psycopg.connect(database, autocommit=True) as session:
        session.execute("DROP SCHEMA transport CASCADE")
    publish(database, b"2")
    assert [item.body for item in receive(consumer)] == [b"2"]
    consumer.close()


def test_an_idle_consumer_asks_little(database: str) -> None:
    consumer = PostgresConsumer(database, [Group(("a.fast", "b.fast"), 10), Group(("a.bulk", "b.bulk"), 1)])
    consumer.receive(1.5)

    def statements() -> int:
        with psycopg.connect(database, autocommit=True) as session:
            row = session.execute(
                "SELECT pg_stat_force_next_flush(), xact_commit FROM pg_stat_database WHERE datname = current_database()"
            )
            return int(row.fetchall()[0][1])

    before, used = statements(), time.process_time()
    for _ in range(400):
        consumer.receive(0.005)
    assert time.process_time() - used < 0.5
    # Three a second: for dead consumers, and for each group. Without a pause it would be thousands.
    assert statements() - before < 25
    consumer.close()


def test_the_queue_is_read_by_its_index_and_updated_in_place(database: str) -> None:
    consumer = PostgresConsumer(database, FAST)
    consumer.receive(0)
    publish(database, *(b"%d" % number for number in range(500)))
    for delivery in receive(consumer, 500):
        consumer.hand_back([delivery], 60)
    # Its sessions tell their figures at their end.
    consumer.close()
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'messages'"
    deadline = time.monotonic() + 10
    updated = hot = 0
    while updated < 1000 and time.monotonic() < deadline:
        time.sleep(0.1)
        with psycopg.connect(database) as session:
            updated, hot = session.execute(query).fetchall()[0]
    assert updated >= 1000
    assert hot > updated * 0.6
