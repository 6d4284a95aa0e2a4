"""maxRowsPerSecond: batches of a job are let out no faster, whoever does it, and nobody else waits for it.

Time is the database's; here it goes on when a test says so.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from api.jobs.dispatch import Dispatcher
from api.jobs.replay import JOB as REPLAYED
from api.jobs.retry import retry
from api.jobs.work import Work
from tests.integration.jobs_room import KINDS, OTHER, OWNER, ROWS, Room, receipt, room

__all__ = ["room"]


async def submitted(room: Room, batches: int, rate: int | None, owner: str = OWNER) -> str:
    return (await room.store.submit(replace(room.asked(batches, owner=owner), max_rows_per_second=rate)))[0]


async def later(room: Room, seconds: float) -> None:
    """The database's clock has gone on, as far as rates can tell."""
    async with room.pool.connection() as connection:
        await connection.execute("UPDATE jobs.jobs SET paced_until = paced_until - %s * interval '1 s'", [seconds])


async def numbers(room: Room) -> list[int]:
    return [key.batch_no for key, _ in await room.dispatched()]


async def test_a_batch_is_let_out_when_the_rows_before_it_have_had_their_time(room: Room) -> None:
    await submitted(room, 4, 1)  # ten rows a batch: ten seconds
    assert await numbers(room) == [0]
    assert await numbers(room) == []
    await later(room, 9)
    assert await numbers(room) == []
    await later(room, 1)
    assert await numbers(room) == [1]
    # What was not made use of is not made up for.
    await later(room, 1000)
    assert await numbers(room) == [2]
    assert await numbers(room) == []


async def test_nobody_waits_for_a_job_with_a_rate(room: Room) -> None:
    slow = [await submitted(room, 4, 1) for _ in range(25)]
    # They would fill the window, and the list of candidates.
    assert len(await room.dispatched()) == 20
    assert len(await room.dispatched()) == 0
    for job_id in slow:
        await room.store.pause(job_id, None)
    for job_id in slow:
        await room.store.resume(job_id, None)
    async with room.pool.connection() as connection:
        await connection.execute("UPDATE jobs.batches SET settled = true WHERE dispatch_no > 0")
    quick = await submitted(room, 3, None)
    others = await submitted(room, 2, None, OTHER)
    found = await room.dispatched()
    assert {key.job_id for key, _ in found} & {quick, others} == {quick, others}
    assert [key.batch_no for key, _ in found if key.job_id == quick] == [0, 1, 2]


async def test_it_holds_over_replicas_and_restarts(room: Room) -> None:
    await submitted(room, 4, 1)
    replicas = [
        Dispatcher(Work(room.pool), room.broker, room.products, KINDS, window=20, job_window=4, changed=lambda ids: None)
        for _ in range(4)
    ]
    assert sorted(await asyncio.gather(*(replica.round() for replica in replicas))) == [0, 0, 0, 1]
    await later(room, 10)
    assert sum(await asyncio.gather(*(replica.round() for replica in replicas))) == 1


async def test_what_is_issued_again_is_no_further_batch(room: Room) -> None:
    job_id = await submitted(room, 2, 1)
    (first,) = await room.dispatched()
    await room.later(60)
    await room.dispatcher.sweep()
    assert [message.body for message in room.broker.messages] != []
    room.broker.messages.clear()
    await room.work.acknowledge([receipt(first[0])])
    assert await numbers(room) == []
    await later(room, 10)
    assert await numbers(room) == [1]
    # A pause gives nothing for free.
    await room.store.pause(job_id, None)
    await room.store.resume(job_id, None)
    assert await numbers(room) == []


async def test_the_next_batch_is_woken_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only by the sweep, which is too rare for batches that take less than its second."""
    await submitted(room, 4, 1000)
    asked: list[float] = []
    woken = asyncio.Event()
    loop = asyncio.get_running_loop()
    shipped = loop.call_later

    def call_later(seconds: float, callback: Callable[..., Any], *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        if callback == room.dispatcher._awake.set:
            asked.append(seconds)
            woken.set()
        return shipped(seconds, callback, *arguments, **options)

    monkeypatch.setattr(loop, "call_later", call_later)
    running: Coroutine[Any, Any, None] = room.dispatcher._dispatch_for_ever()
    task = asyncio.create_task(running)
    room.dispatcher.wake()
    await woken.wait()
    task.cancel()
    assert len(asked) == 1
    assert 0 < asked[0] <= ROWS / 1000


async def test_children_have_the_rate_of_their_parent(room: Room) -> None:
    job_id = await submitted(room, 2, 7)
    await room.store.cancel(job_id, None)
    await room.dispatcher.close_jobs()
    child, _ = await retry(room.pool, job_id, None)
    async with room.pool.connection() as connection:
        cursor = await connection.execute("SELECT max_rows_per_second FROM jobs.jobs WHERE id = %s", [child])
        assert await cursor.fetchone() == (7,)
    assert REPLAYED.count("max_rows_per_second") == 2
