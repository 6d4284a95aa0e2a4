"""What dispatcher and executors do to the jobs schema, on real PostgreSQL."""

import asyncio

import pytest

from api.jobs.decide import UNSETTLED_LONGEST, Limits, lost
from api.jobs.dispatch import Dispatcher
from jobber.errors import InvalidState, NotFound, Unavailable
from jobber.ids import uuid7
from jobber.model import Receipt, State
from tests.integration.jobs_room import KINDS, OTHER, OWNER, ROWS, Room, receipt, room

__all__ = ["room"]


async def test_a_job_goes_from_submission_to_its_end(room: Room) -> None:
    job_id = await room.submit(2)
    dispatches = await room.dispatched()
    assert [key.batch_no for key, _ in dispatches] == [0, 1]
    claimed, specs = await room.work.claim(dispatches)
    assert [item.attempt for item in claimed] == [1, 1]
    assert specs[0].lookups == b'{"charges":{"Books":"1.50"}}'
    await room.work.acknowledge([receipt(claimed[0].key)])
    assert await room.state(job_id) is State.RUNNING
    await room.work.acknowledge([receipt(claimed[1].key, rejected=1)])
    job = await room.store.job(job_id, OWNER)
    assert job is not None
    assert (job.state, job.tally.loaded, job.tally.rejected, job.total) == (State.PARTIAL, 19, 1, 20)
    assert job.ended_at is not None


async def test_the_same_receipt_twice_counts_once_and_the_first_stays(room: Room) -> None:
    job_id = await room.submit(2)
    dispatches = await room.dispatched()
    await room.work.acknowledge([receipt(dispatches[0][0]), receipt(dispatches[0][0], rejected=3)])
    await room.work.acknowledge([receipt(dispatches[0][0], rejected=2)])
    job = await room.store.job(job_id, None)
    assert job is not None
    assert (job.state, job.tally.loaded, job.tally.rejected) == (State.RUNNING, ROWS, 0)


async def test_two_last_receipts_at_once_end_the_job(room: Room) -> None:
    jobs = [await room.submit(2) for _ in range(10)]
    dispatches = await room.dispatched()
    first = [receipt(key) for key, _ in dispatches if key.batch_no == 0]
    last = [receipt(key) for key, _ in dispatches if key.batch_no == 1]
    await asyncio.gather(room.work.acknowledge(first), room.work.acknowledge(list(reversed(last))))
    assert {await room.state(job) for job in jobs} == {State.SUCCEEDED}


async def test_a_terminal_job_never_changes(room: Room) -> None:
    job_id = await room.submit(1)
    dispatches = await room.dispatched()
    await room.work.acknowledge([receipt(dispatches[0][0])])
    await room.work.fail(dispatches[0][0], "too late")
    await room.work.record_fault(job_id, "too late")
    with pytest.raises(InvalidState):
        await room.store.cancel(job_id, OWNER)
    assert await room.state(job_id) is State.SUCCEEDED


async def test_a_superseded_dispatch_is_not_handed_out(room: Room) -> None:
    await room.submit(1)
    old = await room.dispatched()
    await room.later(5)
    await room.dispatcher.sweep()
    assert len(room.broker.messages) == 1
    assert await room.work.claim(old) == ([], [])
    new = [(key, number + 1) for key, number in old]
    claimed, _ = await room.work.claim(new)
    assert [item.attempt for item in claimed] == [1]


async def test_what_was_claimed_and_never_acknowledged_is_issued_again(room: Room) -> None:
    await room.submit(1)
    await room.work.claim(await room.dispatched())
    await room.later(20)
    await room.dispatcher.sweep()
    assert room.broker.messages == []
    await room.later(20)
    await room.dispatcher.sweep()
    assert len(room.broker.messages) == 1


async def test_a_broker_that_is_away_costs_a_second(room: Room) -> None:
    await room.submit(1)
    room.broker.away = True
    with pytest.raises(Unavailable):
        await room.dispatcher.round()
    room.broker.away = False
    await room.dispatcher.sweep()
    assert len(room.broker.messages) == 1


async def test_a_job_starts_only_with_its_charges_and_keeps_them(room: Room) -> None:
    room.products.away = True
    job_id = await room.submit(1)
    assert await room.dispatched() == []
    assert await room.state(job_id) is State.QUEUED
    room.products.away = False
    assert len(await room.dispatched()) == 1


async def test_no_job_has_more_batches_out_than_its_window(room: Room) -> None:
    await room.submit(10)
    first = await room.dispatched()
    assert [key.batch_no for key, _ in first] == [0, 1, 2, 3]
    assert await room.dispatched() == []
    await room.work.acknowledge([receipt(first[2][0])])
    assert [key.batch_no for key, _ in await room.dispatched()] == [4]


async def test_with_more_owners_than_room_all_have_a_turn_before_any_has_two(room: Room) -> None:
    owners = {await room.submit(1, owner=owner): owner for owner in (OWNER, OTHER, uuid7()) for _ in range(2)}
    room.dispatcher = Dispatcher(
        room.work, room.broker, room.products, KINDS, window=2, job_window=4, changed=room.changed.extend
    )
    order = []
    while found := await room.dispatched():
        order += [owners[key.job_id] for key, _ in found]
        await room.work.claim(found)
        await room.work.acknowledge([receipt(key) for key, _ in found])
    assert len(order) == 6
    assert set(order[:3]) == set(order[3:]) == set(owners.values())


async def test_replicas_dispatch_each_batch_once(room: Room) -> None:
    await room.submit(4)
    await room.submit(4)
    await asyncio.gather(*(room.dispatcher.round() for _ in range(4)))
    assert len(room.broker.messages) == 8
    assert len({message.body for message in room.broker.messages}) == 8


async def test_cancel_waits_for_products_and_keeps_what_was_loaded(room: Room) -> None:
    job_id = await room.submit(3)
    dispatches = await room.dispatched()
    loaded = receipt(dispatches[0][0])
    room.products.ledger[loaded.key] = loaded
    room.products.away = True
    assert await room.store.cancel(job_id, OWNER) is State.CANCELING
    await room.dispatcher.close_jobs()
    assert await room.state(job_id) is State.CANCELING
    assert await room.work.claim(dispatches) == ([], [])
    room.products.away = False
    await room.dispatcher.close_jobs()
    job = await room.store.job(job_id, OWNER)
    assert job is not None
    assert (job.state, job.tally.loaded, job.unprocessed) == (State.CANCELED, ROWS, 2 * ROWS)
    await room.work.acknowledge([receipt(dispatches[1][0])])
    job = await room.store.job(job_id, OWNER)
    assert job is not None
    assert (job.state, job.tally.loaded) == (State.CANCELED, ROWS)


async def test_too_many_rejects_close_the_job_as_failed(room: Room) -> None:
    job_id = await room.submit(3, limits=Limits(max_errors=2))
    dispatches = await room.dispatched()
    await room.work.acknowledge([receipt(dispatches[0][0], rejected=3)])
    assert await room.state(job_id) is State.CANCELING
    await room.dispatcher.close_jobs()
    job = await room.store.job(job_id, OWNER)
    assert job is not None
    assert (job.state, job.unprocessed) == (State.FAILED, 20)
    assert "at most 2 were allowed" in (job.error or "")


async def test_paused_jobs_hand_nothing_out_and_go_on_when_resumed(room: Room) -> None:
    job_id = await room.submit(2)
    dispatches = await room.dispatched()
    await room.store.pause(job_id, OWNER)
    assert await room.work.claim(dispatches) == ([], [])
    await room.store.resume(job_id, OWNER)
    await room.dispatcher.sweep()
    assert len(room.broker.messages) == 2
    claimed, _ = await room.work.claim([(key, number + 1) for key, number in dispatches])
    assert len(claimed) == 2


async def test_attempts_at_planning_and_at_batches_are_counted_and_never_end_a_job(room: Room) -> None:
    unplanned = await room.submit(None)
    await room.dispatcher.round()
    for attempt in range(1, 41):
        claimed = await room.work.claim_plan(unplanned, 1)
        assert claimed is not None
        assert claimed[1] == attempt
    job_id = await room.submit(1)
    dispatches = [item for item in await room.dispatched() if item[0].job_id == job_id]
    for attempt in range(1, 41):
        handed_out, _ = await room.work.claim(dispatches)
        assert [item.attempt for item in handed_out] == [attempt]
    assert await room.state(unplanned) is State.VALIDATING
    assert await room.state(job_id) is State.RUNNING


async def test_who_works_at_a_batch_for_long_keeps_it_until_nobody_waits_for_it(room: Room) -> None:
    job_id = await room.submit(2)
    first, second = await room.dispatched()
    assert not await room.work.renew([first]), "not claimed yet"
    await room.work.claim([first, second])
    for _ in range(3):
        await unheard(room, UNSETTLED_LONGEST + 1)
        assert await room.work.renew([first])
        assert not await room.work.renew([(first[0], first[1] + 1)]), "another dispatch"
        async with room.work.dispatching() as turn:
            assert lost(await turn.outstanding()) == [(job_id, second[0].batch_no)]
    await room.work.acknowledge([Receipt(first[0], ROWS, 0, 0, 0, b"", b"", None)])
    assert not await room.work.renew([first]), "it is settled"
    await room.store.pause(job_id, OWNER)
    assert await room.work.renew([first, second])
    await room.store.cancel(job_id, OWNER)
    assert not await room.work.renew([first, second])


async def unheard(room: Room, seconds: float) -> None:
    """Nothing was heard of any claimed batch for so many seconds."""
    async with room.pool.connection() as connection:
        await connection.execute("UPDATE jobs.batches SET claimed_at = claimed_at - %s * interval '1 s'", [seconds])


async def test_nobody_sees_or_touches_anothers_job(room: Room) -> None:
    job_id = await room.submit()
    assert await room.store.job(job_id, OTHER) is None
    assert await room.store.jobs(OTHER) == []
    for act in (room.store.cancel, room.store.pause, room.store.resume):
        with pytest.raises(NotFound):
            await act(job_id, OTHER)
    assert await room.state(job_id) is State.QUEUED


async def test_only_the_databases_clock_says_when_computed_records_were_stored(room: Room) -> None:
    await room.submit(1)
    [(key, _)] = await room.dispatched()
    await room.work.acknowledge([Receipt(key, ROWS, 0, 0, 0, b"", b"results", None)])
    async with room.pool.connection() as connection:
        cursor = await connection.execute("SELECT clock_timestamp() - committed_at < interval '1 minute' FROM jobs.receipts")
        assert await cursor.fetchone() == (True,)
