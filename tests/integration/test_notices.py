"""Replicas of the jobs service tell each other what changed, through a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import psycopg
import pytest

from api.database import Pool, open_pool
from api.jobs import notices as module
from api.jobs.notices import Notices

IDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(450)]


class Replica:
    """What one heard."""

    def __init__(self, pool: Pool, dsn: str) -> None:
        self.heard: list[str] = []
        self.connected = 0
        self.notices = Notices(pool, dsn, heard=self._hear, heard_too_little=self._connect)

    def _hear(self, ids: Iterable[str]) -> None:
        self.heard.extend(ids)

    def _connect(self) -> None:
        self.connected += 1


@pytest.fixture
async def replicas(database: str) -> AsyncIterator[list[Replica]]:
    pool = await open_pool(database, name="tests", size=4, timeout=10)
    made = [Replica(pool, database) for _ in range(2)]
    running = [asyncio.create_task(replica.notices.run()) for replica in made]
    await until(lambda: all(replica.connected for replica in made))
    yield made
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await pool.close()


async def until(holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_the_other_replica_hears_of_everything_in_few_messages(database: str, replicas: list[Replica]) -> None:
    one, other = replicas
    payloads: list[str] = []
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as listener:
        await listener.execute(f"LISTEN {module.CHANNEL}")
        for id in IDS:  # One by one, as jobs change.
            one.notices.tell([id])
        await until(lambda: len(other.heard) >= len(IDS))
        async for notice in listener.notifies(timeout=0.2):
            payloads.append(notice.payload)
    assert other.heard == IDS
    assert one.heard == []  # Its own it knows.
    assert len(payloads) == 3  # 200 ids each: they were gathered.
    assert all(len(payload) < 8000 for payload in payloads)


async def test_listening_goes_on_after_the_connection_was_lost(
    database: str, replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    one, other = replicas
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jobber-jobs-notices'"
        )
    await until(lambda: all(replica.connected == 2 for replica in replicas))
    one.notices.tell(IDS[:1])
    await until(lambda: other.heard == IDS[:1])
