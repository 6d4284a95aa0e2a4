"""How submissions are stored: once a key, together with their neighbours, on real PostgreSQL."""

import asyncio
from dataclasses import replace

import psycopg
import pytest

from api.jobs.decide import Limits
from api.jobs.submit import Stored
from api.jobs.together import Together
from jobber.errors import Conflict
from jobber.model import Plan, State, Writing
from tests.integration.jobs_room import OTHER, Room, plan_of, room

__all__ = ["room"]


async def test_the_same_key_is_the_same_job_for_its_owner_alone(room: Room) -> None:
    first = await room.submit(key="k")
    assert await room.submit(key="k") == first
    assert await room.submit(key="k", owner=OTHER) != first
    with pytest.raises(Conflict):
        await room.submit(key="k", payload=b"other")


async def test_the_same_key_at_once_is_one_job(room: Room) -> None:
    assert len(set(await asyncio.gather(*(room.submit(key="k") for _ in range(8))))) == 1


async def test_a_group_is_stored_together_and_answered_apart(room: Room) -> None:
    earlier = await room.submit(key="earlier")
    group = [
        room.asked(1),
        room.asked(3, key="k"),
        room.asked(1, key="k"),
        room.asked(1, key="k", payload=b"other"),
        room.asked(1, key="earlier"),
        room.asked(1, key="earlier", payload=b"other"),
        room.asked(1, key="k", owner=OTHER),
        room.asked(0),
        room.asked(None),
    ]
    outcomes = await room.store.submit_all(group)
    assert [isinstance(item, Conflict) or item.replayed for item in outcomes] == [False, False, *[True] * 4, *[False] * 3]
    assert [isinstance(item, Conflict) for item in outcomes] == [place in (3, 5) for place in range(9)]
    same, before = outcomes[2], outcomes[4]
    assert isinstance(same, Stored)
    assert isinstance(before, Stored)
    assert (same.job_id, before.job_id) == (group[1].job_id, earlier)
    for asked, outcome in zip(group, outcomes, strict=True):
        stored = await room.store.job(asked.job_id, None)
        if isinstance(outcome, Conflict) or outcome.replayed:
            assert stored is None
            continue
        assert stored is not None
        assert outcome.job is not None
        # What is answered is the row as reading it would give it, but for how long ago that was.
        assert replace(stored, seconds=0.0) == replace(outcome.job, seconds=0.0)
    async with room.pool.connection() as connection:
        cut = await connection.execute("SELECT job_id::text, count(*)::int FROM jobs.batches GROUP BY 1")
        wanted = {group[0].job_id: 1, group[1].job_id: 3, group[6].job_id: 1, earlier: 1}
        assert dict(await cut.fetchall()) == wanted
        noted = await connection.execute("SELECT subject FROM jobs.audit")
        made = [earlier, *(group[place].job_id for place in (0, 1, 6, 7, 8))]
        assert sorted(row[0] for row in await noted.fetchall()) == sorted(f"job:{job_id}" for job_id in made)


async def test_warnings_of_neighbours_are_not_mixed_up(room: Room) -> None:
    plan = plan_of(1)
    group = [
        replace(room.asked(1), plan=Plan(plan.layout, plan.batches, ("one", 'two, "quoted"'))),
        room.asked(1),
        replace(
            room.asked(1),
            plan=Plan(plan.layout, plan.batches, ("three",)),
            writing=Writing(keys=("name", "category"), dry_run=True),
        ),
    ]
    await room.store.submit_all(group)
    found = [await room.store.job(asked.job_id, None) for asked in group]
    assert [job and job.warnings for job in found] == [("one", 'two, "quoted"'), (), ("three",)]
    async with room.pool.connection() as connection:
        written = await connection.execute("SELECT keys, dry_run FROM jobs.jobs ORDER BY number")
        assert await written.fetchall() == [([], False), ([], False), (["name", "category"], True)]


async def test_the_database_refuses_one_of_a_group_alone(room: Room) -> None:
    desk = Together(room.store.submit_all)
    group = [room.asked(1), room.asked(1, limits=Limits(1 << 70)), room.asked(1)]
    outcomes = await asyncio.gather(*(desk.submit(asked) for asked in group), return_exceptions=True)
    assert isinstance(outcomes[1], psycopg.DataError)
    assert [await room.state(group[place].job_id) for place in (0, 2)] == [State.QUEUED] * 2
    assert await room.store.job(group[1].job_id, None) is None
