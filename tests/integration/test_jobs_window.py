"""The window counts what is with executors, and nothing that is with nobody."""

from tests.integration.jobs_room import OWNER, Room, room

__all__ = ["room"]


async def test_jobs_that_were_closed_leave_their_place_in_the_window(room: Room) -> None:
    # Five jobs of four batches each fill the window of twenty.
    jobs = [await room.submit(4) for _ in range(5)]
    assert len(await room.dispatched()) == 20
    waiting = await room.submit(1)
    assert await room.dispatched() == []
    await room.store.cancel(jobs[0], OWNER)
    await room.dispatcher.close_jobs()
    assert [key.job_id for key, _ in await room.dispatched()] == [waiting]


async def test_jobs_that_are_paused_leave_their_place_in_the_window(room: Room) -> None:
    jobs = [await room.submit(4) for _ in range(5)]
    assert len(await room.dispatched()) == 20
    waiting = await room.submit(1)
    await room.store.pause(jobs[0], OWNER)
    assert [key.job_id for key, _ in await room.dispatched()] == [waiting]


async def test_a_closed_job_leaves_no_batch_that_seems_to_be_with_an_executor(room: Room) -> None:
    job_id = await room.submit(4)
    await room.dispatched()
    await room.store.cancel(job_id, OWNER)
    await room.dispatcher.close_jobs()
    async with room.pool.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM jobs.batches WHERE dispatch_no > 0 AND NOT settled")
        assert await cursor.fetchone() == (0,)
