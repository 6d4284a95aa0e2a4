"""Replicas of the jobs service on one database: what one of them holds while it is stopped, and does when it goes on."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from api import database as bounds
from api.database import open_pool
from api.migrate import migrate
from jobber.errors import Unavailable
from jobber.model import BatchKey, State
from tests.integration.jobs_room import OWNER, Room, receipt


@pytest.fixture
async def replicas(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Room, Room]]:
    """Two, with connections of their own; a stopped one is given up after a second."""
    monkeypatch.setattr(bounds, "IDLE_TIMEOUT", 1.0)
    await migrate(database, "jobs", Path("api/jobs/sql"))
    pools = [await open_pool(database, name="test", size=4, timeout=10) for _ in range(2)]
    yield Room(pools[0]), Room(pools[1])
    for pool in pools:
        await pool.close()


async def test_a_replica_that_stops_in_a_round_does_not_stop_the_others(replicas: tuple[Room, Room]) -> None:
    frozen, living = replicas
    job_id = await frozen.submit(1)
    issued, awake = asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        async with frozen.work.dispatching() as turn:
            await turn.start({job_id: 1}, {})
            assert len(await turn.issue([(job_id, 0)])) == 1
            issued.set()
            await awake.wait()

    freezing = asyncio.create_task(freeze())
    await issued.wait()
    async with asyncio.timeout(10):
        dispatches = await living.dispatched()
    [(key, number)] = dispatches
    assert number == 1
    awake.set()
    with pytest.raises(Unavailable):
        await freezing
    # What it had numbered is undone: the batch is the other one's.
    [claimed], _ = await living.work.claim(dispatches)
    assert claimed.attempt == 1
    await living.work.acknowledge([receipt(key)])
    assert await living.state(job_id) is State.SUCCEEDED


async def test_a_replica_that_stops_in_a_claim_or_a_cancel_does_not_hold_the_job(replicas: tuple[Room, Room]) -> None:
    frozen, living = replicas
    job_id = await living.submit(1)
    dispatches = await living.dispatched()
    held, awake = asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        async with bounds.connection(frozen.pool) as session, session.transaction():
            await session.execute("SELECT 1 FROM jobs.jobs WHERE id = %s FOR UPDATE", [job_id])
            await session.execute("UPDATE jobs.batches SET attempts = attempts + 1, claimed_at = clock_timestamp()")
            held.set()
            await awake.wait()

    freezing = asyncio.create_task(freeze())
    await held.wait()
    async with asyncio.timeout(10):
        claimed, _ = await living.work.claim(dispatches)
        await living.store.cancel(job_id, OWNER)
    assert [item.attempt for item in claimed] == [1]
    awake.set()
    with pytest.raises(Unavailable):
        await freezing


async def test_a_late_publisher_changes_nothing(replicas: tuple[Room, Room]) -> None:
    """Stopped after its commit: by the time it publishes, another replica has issued the batch again."""
    late, living = replicas
    await late.submit(1)
    old = await late.dispatched()
    await living.later(5)
    await living.dispatcher.sweep()
    new = [(key, number + 1) for key, number in old]
    assert await living.work.claim(old) == ([], [])
    claimed, _ = await living.work.claim(new)
    assert [item.attempt for item in claimed] == [1]
    assert await late.work.claim(old) == ([], [])


async def test_two_that_dispatch_at_once_issue_each_batch_once_and_leave_none(replicas: tuple[Room, Room]) -> None:
    jobs = [await replicas[0].submit(7) for _ in range(5)]
    issued: Counter[bytes] = Counter()
    while True:
        await asyncio.gather(*(room.dispatcher.round() for room in replicas for _ in range(2)))
        messages = [message for room in replicas for message in room.broker.messages]
        if not messages:
            break
        issued.update(message.body for message in messages)
        for room in replicas:
            room.broker.messages.clear()
        taken = [msgspec.json.decode(message.body) for message in messages]
        tickets = [(receipt_key(item), int(item["dispatch_no"])) for item in taken]
        claimed, _ = await replicas[1].work.claim(tickets)
        halves = claimed[::2], claimed[1::2]
        await asyncio.gather(
            *(room.work.acknowledge([receipt(item.key) for item in half]) for room, half in zip(replicas, halves, strict=True))
        )
    assert len(issued) == 35
    assert set(issued.values()) == {1}
    assert {await replicas[1].state(job_id) for job_id in jobs} == {State.SUCCEEDED}


def receipt_key(item: dict[str, object]) -> BatchKey:
    return BatchKey(str(item["job_id"]), int(str(item["batch_no"])))
