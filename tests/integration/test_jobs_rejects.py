"""A job's rejects in numbers and pages: what is read of them does not grow with how many there are."""

import asyncio
import io

import pytest

from api.jobs.rejects import Rejects
from api.jobs.store import Store
from jobber.model import BatchKey, Format, Receipt
from operators.frames import faults_of
from operators.rejects import concat, to_block
from tests.integration.jobs_room import ROWS, Room, room

__all__ = ["room"]

BATCHES = 30
#: Batches without a reject.
GOOD = (0, 11, 12, 29)


class Counting(Store):
    """Remembers which blocks were read."""

    def __init__(self, room: Room) -> None:
        super().__init__(room.pool)
        self.read: list[int] = []

    async def blocks_of(self, job_id: str, numbers: object) -> list[tuple[int, bytes]]:
        found = await super().blocks_of(job_id, numbers)  # type: ignore[arg-type]
        self.read += [number for number, _ in found]
        return found

    async def blocks(self, *asked: object) -> list[tuple[int, bytes]]:
        found = await super().blocks(*asked)  # type: ignore[arg-type]
        self.read += [number for number, _ in found]
        return found


def block_of(batch_no: int) -> bytes:
    """Every record has a price that is none; batch 17 a broken record besides, and one has two faults."""
    first = batch_no * ROWS + 1
    rows = [(row, "price", "TYPE", f"price of {row}") for row in range(first, first + ROWS)]
    if batch_no == 17:
        rows[3] = (first + 3, None, "QUOTE", "a stray quote")  # type: ignore[assignment]
        rows.append((first + 5, "stock", "RANGE", "stock"))
    return to_block(faults_of(list(rows)), lambda numbers: [f"raw {number}" for number in numbers])


@pytest.fixture
async def job_id(room: Room) -> str:
    room.dispatcher._job_window = BATCHES
    room.dispatcher._window = BATCHES
    job_id = await room.submit(BATCHES)
    await room.dispatched()
    receipts = [
        Receipt(BatchKey(job_id, number), ROWS, 0, 0, 0, b"", b"", None)
        if number in GOOD
        else Receipt(BatchKey(job_id, number), 0, 0, 0, ROWS, block_of(number), b"", None)
        for number in range(BATCHES)
    ]
    await room.work.acknowledge(receipts)
    return job_id


async def test_counts_and_groups_read_no_more_blocks_than_samples_are_in(room: Room, job_id: str) -> None:
    store = Counting(room)
    rejects = Rejects(store)
    assert await rejects.count(job_id) == 26 * ROWS + 1
    assert store.read == []
    groups = await rejects.groups(job_id)
    assert store.read == [1, 17]
    assert [(group.code, group.column, group.count) for group in groups] == [
        ("TYPE", "price", 26 * ROWS - 1),
        ("QUOTE", None, 1),
        ("RANGE", "stock", 1),
    ]
    assert [(group.sample.row, group.sample.raw, group.sample.message) for group in groups] == [
        (11, "raw 11", "price of 11"),
        (174, "raw 174", "a stray quote"),
        (176, "raw 176", "stock"),
    ]


async def test_a_page_reads_the_blocks_that_it_shows(room: Room, job_id: str) -> None:
    store = Counting(room)
    rejects = Rejects(store)
    page, more = await rejects.page(job_id, 5, None)
    assert ([fault.row for fault in page], more, store.read) == ([11, 12, 13, 14, 15], True, [1])
    store.read.clear()
    page, more = await rejects.page(job_id, 10, (10, 3))  # over two batches without a reject
    assert ([fault.row for fault in page], more) == ([105, 106, 107, 108, 109, 110, 131, 132, 133, 134], True)
    assert store.read == [10, 13]
    store.read.clear()
    page, more = await rejects.page(job_id, 5, (28, 4))
    assert ([fault.row for fault in page], more, store.read) == ([286, 287, 288, 289, 290], False, [28])
    store.read.clear()
    assert await rejects.page(job_id, 5, (28, 9)) == ([], False)
    assert await rejects.page(job_id, 0, None) == ([], True)
    assert store.read == []


@pytest.mark.parametrize("size", [1, 7, 10, 1000])
async def test_pages_come_one_behind_the_other_without_a_gap(room: Room, job_id: str, size: int) -> None:
    rejects, seen, after = Rejects(room.store), [], None
    while True:
        page, more = await rejects.page(job_id, size, after)
        seen += [(fault.row, fault.code) for fault in page]
        if not more:
            break
        assert len(page) == size
        after = (page[-1].batch_no, page[-1].index)
    batches = [number for number in range(BATCHES) if number not in GOOD]
    rows = [number * ROWS + row for number in batches for row in range(1, ROWS + 1)]
    expected = [(row, "QUOTE" if row == 174 else "TYPE") for row in rows]
    expected.insert(expected.index((176, "TYPE")) + 1, (176, "RANGE"))
    assert seen == expected


async def test_the_digest_of_a_download_is_made_once_when_the_job_has_ended(room: Room, job_id: str) -> None:
    import hashlib

    store = Counting(room)
    rejects = Rejects(store)
    whole = io.BytesIO()
    async for chunk in rejects.download(job_id, "rejects", Format.CSV):
        whole.write(chunk)
    store.read.clear()
    running = await rejects.sha256(job_id, "rejects", Format.CSV, ended=False)
    assert running == hashlib.sha256(whole.getvalue()).hexdigest()
    assert len(store.read) == 26
    assert await rejects.sha256(job_id, "rejects", Format.CSV, ended=True) == running
    assert await rejects.sha256(job_id, "rejects", Format.CSV, ended=True) == running
    assert len(store.read) == 2 * 26
    assert await rejects.sha256(job_id, "rejects", Format.NDJSON, ended=True) != running


async def test_who_asks_again_for_a_digest_does_not_have_it_made_again(room: Room, job_id: str) -> None:
    store = Counting(room)
    rejects = Rejects(store)

    def ask() -> "asyncio.Task[str]":
        return asyncio.create_task(rejects.sha256(job_id, "rejects", Format.CSV, ended=True))

    first, second = ask(), ask()
    while not store.read:
        await asyncio.sleep(0)
    first.cancel()
    digest = await second
    assert first.cancelled()
    assert await ask() == digest == await rejects.sha256(job_id, "rejects", Format.CSV, ended=False)
    assert len(store.read) == 2 * 26


async def test_blocks_that_were_put_together_count_as_one(room: Room) -> None:
    job_id = await room.submit(1)
    await room.dispatched()
    later = to_block(faults_of([(3, "name", "NOT_FOUND", "no product")]), lambda rows: ["raw 3"] * len(rows))
    await room.work.acknowledge([Receipt(BatchKey(job_id, 0), 0, 0, 0, ROWS, concat([block_of(0), later]), b"", None)])
    groups = await Rejects(room.store).groups(job_id)
    assert [(group.code, group.count, group.sample.row, group.sample.index) for group in groups] == [
        ("TYPE", ROWS, 1, 0),
        ("NOT_FOUND", 1, 3, 3),
    ]
