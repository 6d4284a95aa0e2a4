"""What planners do to the jobs schema: one plan a job, one planner at a time, on real PostgreSQL."""

from dataclasses import replace

import pytest

from api.jobs.turn import PLAN_LEASE
from jobber.errors import Unavailable
from jobber.model import State
from tests.integration.jobs_room import OWNER, Room, plan_of, room

__all__ = ["room"]


async def test_a_plan_is_recorded_once(room: Room) -> None:
    job_id = await room.submit(None)
    await room.dispatcher.round()
    assert await room.state(job_id) is State.VALIDATING
    assert await room.work.claim_plan(job_id, 2) is None
    assert await room.work.claim_plan(job_id, 1) is not None
    await room.work.record_plan(job_id, plan_of(2))
    await room.work.record_plan(job_id, plan_of(3))
    await room.work.record_fault(job_id, "HEADER: too late")
    job = await room.store.job(job_id, OWNER)
    assert job is not None
    assert (job.state, job.batches, job.total) == (State.QUEUED, 2, 20)


async def blob_of(room: Room, job_id: str) -> list[str | None]:
    """Where the batches of the job's specs are."""
    async with room.pool.connection() as session:
        await session.execute("UPDATE jobs.jobs SET inline_data = NULL, blob_key = 'uploads/1' WHERE id = %s", [job_id])
    dispatches = await room.dispatched()
    _, specs = await room.work.claim(dispatches)
    return [spec.blob_key for spec in specs]


async def test_batches_are_ranges_of_the_blob_that_the_first_plan_was_made_with(room: Room) -> None:
    job_id = await room.submit(None)
    await room.work.record_plan(job_id, replace(plan_of(2), blob_key="plans/1"))
    await room.work.record_plan(job_id, replace(plan_of(2), blob_key="plans/2"))
    assert await blob_of(room, job_id) == ["plans/1"]


async def test_a_plan_whose_blob_may_be_deleted_is_not_recorded(room: Room) -> None:
    async with room.pool.connection() as session:
        await session.execute("INSERT INTO jobs.strays (blob_key, doomed_at) VALUES ('plans/1', clock_timestamp())")
        await session.execute("INSERT INTO jobs.strays (blob_key) VALUES ('plans/2')")
    job_id = await room.submit(None)
    with pytest.raises(Unavailable):
        await room.work.record_plan(job_id, replace(plan_of(1), blob_key="plans/1"))
    job = await room.store.job(job_id, OWNER)
    assert job is not None
    assert job.batches is None
    await room.work.record_plan(job_id, replace(plan_of(1), blob_key="plans/2"))
    assert await blob_of(room, job_id) == ["plans/2"]
    async with room.pool.connection() as session:
        cursor = await session.execute("SELECT blob_key FROM jobs.strays")
        assert await cursor.fetchall() == [("plans/1",)]


async def test_a_file_level_fault_fails_the_job_with_nothing_planned(room: Room) -> None:
    job_id = await room.submit(None)
    await room.dispatcher.round()
    await room.work.record_fault(job_id, "HEADER: no price")
    job = await room.store.job(job_id, OWNER)
    assert job is not None
    assert (job.state, job.error, job.total) == (State.FAILED, "HEADER: no price", None)


async def silent(room: Room, seconds: float) -> None:
    """The planner's last sign of life was so many seconds ago."""
    async with room.pool.connection() as connection:
        await connection.execute("UPDATE jobs.jobs SET plan_claimed_at = plan_claimed_at - %s * interval '1 s'", [seconds])


async def test_a_planner_that_gives_signs_of_life_keeps_its_job(room: Room) -> None:
    job_id = await room.submit(None)
    await room.dispatcher.round()
    assert await room.work.claim_plan(job_id, 1) is not None
    for _ in range(3):
        await silent(room, PLAN_LEASE - 1)
        assert await room.work.renew_plan(job_id, 1)
        assert await room.dispatcher.round() == 0


async def test_a_silent_planner_loses_its_job_to_another_however_often(room: Room) -> None:
    job_id = await room.submit(None)
    for number in range(1, 5):
        assert await room.dispatcher.round() == 1
        assert await room.work.claim_plan(job_id, number) is not None
        await silent(room, PLAN_LEASE + 1)
    assert await room.dispatcher.round() == 1
    # It thaws: the job is not its any more, and its silence is not ended by it.
    assert not await room.work.renew_plan(job_id, 4)
    assert await room.work.renew_plan(job_id, 5)


async def test_an_empty_plan_succeeds_at_once(room: Room) -> None:
    planned = await room.submit(0)
    assert await room.state(planned) is State.SUCCEEDED
    unplanned = await room.submit(None)
    await room.work.record_plan(unplanned, plan_of(0))
    assert await room.state(unplanned) is State.SUCCEEDED
