"""What can never be loaded is kept with its reason, counted, bounded, and shown to admins."""

import json

import pytest

from api.jobs import dead_letters as module
from api.jobs.dead_letters import BATCH, UNKNOWN, DeadLetters, Letter
from api.jobs.grpc_door import JobsDoor
from jobber.ids import uuid7
from protos.jobber.jobs.v1 import jobs_pb2 as pb
from protos.jobber.v1 import receipt_pb2
from tests.integration.jobs_room import Room, room

__all__ = ["room"]


@pytest.fixture
def letters(room: Room) -> DeadLetters:
    return DeadLetters(room.pool)


@pytest.fixture
def door(room: Room, letters: DeadLetters) -> JobsDoor:
    return JobsDoor(room.work, room.dispatcher, lambda _: None, letters, batch_bytes=1, batch_rows=1)


async def kept(letters: DeadLetters) -> list[tuple[str, bytes, str, int]]:
    return [(item.topic, item.body, item.reason, item.count) for item in await letters.page(100, None)]


async def test_equal_ones_are_counted_and_long_ones_are_cut(letters: DeadLetters) -> None:
    long = Letter("t\0opic", b"x" * 5000, "a reason\0" * 1000)
    await letters.keep([Letter("topic", b"\xff", "No."), long, Letter("topic", b"\xff", "No.")])
    await letters.keep([Letter("topic", b"\xff", "Still no.")])
    await letters.keep([])
    (first, second) = sorted(await kept(letters), key=lambda item: len(item[1]))
    assert first == ("topic", b"\xff", "Still no.", 3)
    assert (second[0], len(second[1]), len(second[2]), second[3]) == ("topic", module.BODY_BYTES, module.TEXT_CHARS, 1)


async def test_their_number_is_bounded_and_the_latest_stay(letters: DeadLetters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    for number in range(6):
        await letters.keep([Letter("topic", f"{number}".encode(), "No.")])
    assert [body for _, body, _, _ in await kept(letters)] == [b"5", b"4", b"3"]
    assert [item.body for item in await letters.page(2, (await letters.page(1, None))[0].number)] == [b"4", b"3"]


async def test_what_names_nothing_is_kept_and_what_is_only_late_is_not(
    room: Room, letters: DeadLetters, door: JobsDoor
) -> None:
    job_id, forged = await room.submit(1), uuid7()
    old = await room.dispatched()
    await room.later(5)
    await room.dispatcher.sweep()
    asked = [(job_id, 0), (job_id, 7), (forged, 0)]
    assert old[0][0].job_id == job_id
    request = pb.ClaimRequest(
        dispatches=[pb.Dispatch(key=receipt_pb2.BatchKey(job_id=job, batch_no=no), dispatch_no=1) for job, no in asked]
    )
    answer = await door.Claim(request, None)  # type: ignore[arg-type]
    assert not answer.batches
    assert sorted(await kept(letters)) == sorted(
        (UNKNOWN, f"{job}:{no}".encode(), "There is no such batch.", 1) for job, no in asked[1:]
    )
    for job in (job_id, forged):
        assert not (await door.ClaimPlan(pb.ClaimPlanRequest(job_id=job, dispatch_no=1), None)).HasField("task")  # type: ignore[arg-type]
    assert [item for item in await kept(letters) if b":" not in item[1]] == [
        (UNKNOWN, forged.encode(), "There is no such job.", 1)
    ]


async def test_a_batch_that_fails_its_job_is_kept_with_its_reason(room: Room, letters: DeadLetters, door: JobsDoor) -> None:
    job_id = await room.submit(1)
    [(key, _)] = await room.dispatched()
    failure = pb.BatchFailure(
        key=receipt_pb2.BatchKey(job_id=job_id, batch_no=key.batch_no), code="CHANGED", message="it is another one"
    )
    await door.Acknowledge(pb.AcknowledgeRequest(failures=[failure]), None)  # type: ignore[arg-type]
    assert await kept(letters) == [(BATCH, f"{job_id}:0".encode(), "CHANGED: it is another one", 1)]


async def test_what_an_executor_refuses_is_kept(letters: DeadLetters, door: JobsDoor) -> None:
    garbage = json.dumps({"job_id": "no"}).encode()
    await door.Refuse(
        pb.RefuseRequest(messages=[pb.RefusedMessage(topic="LoadProducts.fast", body=garbage, reason="It is no dispatch.")]),
        None,  # type: ignore[arg-type]
    )
    assert await kept(letters) == [("LoadProducts.fast", garbage, "It is no dispatch.", 1)]
