"""What a failed or cancelled job left is run by a child, each record by one of the two; on real PostgreSQL."""

import pytest

from api.jobs.retry import retry
from jobber.errors import InvalidState, NotFound
from jobber.model import BatchKey, State
from tests.integration.jobs_room import OTHER, OWNER, ROWS, Room, plan_of, receipt, room

__all__ = ["room"]


async def left_with_two_of_four(room: Room) -> str:
    """A job of four batches that was cancelled when the second and the fourth had ended."""
    job_id = await room.submit(4)
    assert {key for key, _ in await room.dispatched()} >= {BatchKey(job_id, number) for number in range(4)}
    await room.work.acknowledge([receipt(BatchKey(job_id, number)) for number in (1, 3)])
    await room.store.cancel(job_id, OWNER)
    await room.dispatcher.close_jobs()
    assert await room.state(job_id) is State.CANCELED
    return job_id


async def batches(room: Room, job_id: str) -> list[tuple[int, int, int]]:
    async with room.pool.connection() as session:
        query = "SELECT batch_no, first_row, rows FROM jobs.batches WHERE job_id = %s ORDER BY batch_no"
        return [(row[0], row[1], row[2]) for row in await (await session.execute(query, [job_id])).fetchall()]


async def test_the_child_has_the_batches_without_a_receipt(room: Room) -> None:
    parent = await left_with_two_of_four(room)
    child, known = await retry(room.pool, parent, OWNER)
    assert not known
    assert await batches(room, child) == [(0, 1, ROWS), (1, 2 * ROWS + 1, ROWS)]
    job = await room.store.job(child, OWNER)
    assert job is not None
    assert (job.state, job.total, job.batches, job.attempt, job.parent_id) == (State.QUEUED, 2 * ROWS, 2, 2, parent)
    dispatched = await room.dispatched()
    assert [key for key, _ in dispatched] == [BatchKey(child, 0), BatchKey(child, 1)]
    claimed, specs = await room.work.claim(dispatched)
    assert len(claimed) == 2
    assert specs[0].inline == b"[]"
    await room.work.acknowledge([receipt(BatchKey(child, number)) for number in (0, 1)])
    assert await room.state(child) is State.SUCCEEDED


async def test_a_job_is_retried_once_and_its_child_after_that(room: Room) -> None:
    parent = await left_with_two_of_four(room)
    child, _ = await retry(room.pool, parent, OWNER)
    assert await retry(room.pool, parent, OWNER) == (child, True)
    with pytest.raises(InvalidState):
        await retry(room.pool, child, OWNER)
    await room.store.cancel(child, OWNER)
    await room.dispatcher.close_jobs()
    grandchild, known = await retry(room.pool, child, OWNER)
    assert not known
    assert await batches(room, grandchild) == await batches(room, child)


async def test_what_was_never_planned_is_planned_anew(room: Room) -> None:
    parent = await room.submit(None)
    await room.dispatcher.round()
    await room.work.record_fault(parent, "HEADER: no price")
    child, _ = await retry(room.pool, parent, OWNER)
    await room.dispatcher.round()
    assert await room.state(child) is State.VALIDATING
    await room.work.record_plan(child, plan_of(1))
    assert await room.state(child) is State.QUEUED


async def test_a_child_reads_the_blob_of_its_parents_plan(room: Room) -> None:
    parent = await left_with_two_of_four(room)
    async with room.pool.connection() as session:
        await session.execute("UPDATE jobs.jobs SET plan_blob = 'plans/1' WHERE id = %s", [parent])
    child, _ = await retry(room.pool, parent, OWNER)
    _, specs = await room.work.claim(await room.dispatched())
    assert [(spec.job_id, spec.blob_key, spec.inline) for spec in specs] == [(child, "plans/1", None)]


async def test_what_cannot_be_retried_says_why(room: Room) -> None:
    running = await room.submit(1)
    with pytest.raises(InvalidState, match="QUEUED"):
        await retry(room.pool, running, OWNER)
    parent = await left_with_two_of_four(room)
    with pytest.raises(NotFound):
        await retry(room.pool, parent, OTHER)
    async with room.pool.connection() as session:
        await session.execute("UPDATE jobs.jobs SET expired_at = clock_timestamp() WHERE id = %s", [parent])
    with pytest.raises(InvalidState, match="expired"):
        await retry(room.pool, parent, OWNER)


async def test_where_every_record_ended_nothing_is_left(room: Room) -> None:
    job_id = await room.submit(1)
    await room.dispatched()
    everything_rejected = receipt(BatchKey(job_id, 0), rejected=ROWS)
    await room.work.acknowledge([everything_rejected])
    assert await room.state(job_id) is State.FAILED
    with pytest.raises(InvalidState, match="nothing is left"):
        await retry(room.pool, job_id, OWNER)
