"""What dispatcher and executors do to the jobs schema, on real PostgreSQL."""

import asyncio
from dataclasses import replace

import psycopg
import pytest

from api.jobs.decide import UNSETTLED_LONGEST, Limits, lost
from api.jobs.dispatch import Dispatcher
from api.jobs.submit import Stored
from api.jobs.together import Together
from api.jobs.turn import PLAN_LEASE
from jobber.errors import Conflict, InvalidState, NotFound, Unavailable
from jobber.ids import uuid7
from jobber.model import Plan, Receipt, State, Writing
from tests.integration.jobs_room import KINDS, OTHER, OWNER, ROWS, Room, plan_of, receipt, room

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


async def test_an_empty_plan_succeeds_at_once(room: Room) -> None:
    planned = await room.submit(0)
    assert await room.state(planned) is State.SUCCEEDED
    unplanned = await room.submit(None)
    await room.work.record_plan(unplanned, plan_of(0))
    assert await room.state(unplanned) is State.SUCCEEDED


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
