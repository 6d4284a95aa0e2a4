"""The loader's turns, sharing, halving and retries, without a database; the budget; the pages of receipts."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.products import ledger, load
from api.products.load import Budget, Loader
from api.products.model import Batch, Closed, DataRefused, GroupTooLarge, Header, Overloaded, Refused, TryAgain
from jobber.errors import Unavailable
from jobber.model import BatchKey, Receipt

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = "01a20ce3-d2c9-7e29-8df6-c77b24f29b09"
SMALL, LARGE = 10, load.SMALL_BYTES + 1


def batch(number: int, size: int = SMALL, job_id: str = JOB) -> Batch:
    return Batch(Header(BatchKey(job_id, number), 1, 0, b""), number * 100_000 + 1, [bytes(size)])


class Database:
    """Takes what is written, one transaction at a time, each when it is let through."""

    def __init__(self, *guilty: int) -> None:
        self.transactions: list[list[int]] = []
        self.guilty = set(guilty)
        self.faults: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, batches: Sequence[Batch]) -> dict[BatchKey, Receipt | Closed]:
        numbers = [batch.key.batch_no for batch in batches]
        self.transactions.append(numbers)
        await self.open.wait()
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        if self.guilty & set(numbers):
            raise DataRefused("bad price")
        return {batch.key: Receipt(batch.key, 1, 0, 0, 0, b"", b"", NOW) for batch in batches}


def loader(database: Database, sessions: int = 1) -> Loader:
    return Loader(database, sessions)  # type: ignore[arg-type]  # a Ledger in all that matters


async def queued(loads: Loader, *groups: Sequence[Batch]) -> "list[asyncio.Task[list[object]]]":
    """The groups in this order, all waiting."""
    tasks = []
    for group in groups:
        tasks.append(asyncio.create_task(loads.load(group)))
        await asyncio.sleep(0)
    return tasks  # type: ignore[return-value]


async def test_small_groups_share_a_transaction_and_take_turns_with_large_ones() -> None:
    database = Database()
    database.open.clear()
    loads = loader(database)
    tasks = await queued(
        loads, [batch(0, LARGE)], [batch(1, LARGE)], [batch(2)], [batch(3, LARGE)], [batch(4), batch(5)], [batch(6)]
    )
    database.open.set()
    await asyncio.gather(*tasks)
    assert database.transactions == [[0], [2, 4, 5, 6], [1], [3]]


async def test_a_small_group_waits_for_one_large_one_at_most() -> None:
    database = Database()
    database.open.clear()
    loads = loader(database)
    tasks = await queued(loads, *([batch(number, LARGE)] for number in range(10)), [batch(99)])
    database.open.set()
    await asyncio.gather(*tasks)
    assert database.transactions.index([99]) <= 2


async def test_large_groups_do_not_starve_behind_small_ones() -> None:
    """Though small ones come all the time, also while a transaction is under way."""
    loads = loader(Database())
    flood, large = [], None
    for number in range(1, 60):
        flood.append(asyncio.create_task(loads.load([batch(number)])))
        if number == 20:
            large = asyncio.create_task(loads.load([batch(0, LARGE)]))
        await asyncio.sleep(0)
    assert large is not None
    assert large.done()
    await asyncio.gather(large, *flood)


async def test_a_transaction_of_small_groups_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    size = batch(0).size
    monkeypatch.setattr(load, "COMBINED_BYTES", 3 * size)
    monkeypatch.setattr(load, "SMALL_BYTES", size)
    database = Database()
    database.open.clear()
    loads = loader(database)
    tasks = await queued(loads, *([batch(number)] for number in range(8)))
    database.open.set()
    await asyncio.gather(*tasks)
    assert database.transactions == [[0], [1, 2, 3], [4, 5, 6], [7]]


async def test_no_more_transactions_at_once_than_sessions_and_none_when_nothing_waits() -> None:
    database = Database()
    database.open.clear()
    loads = loader(database, 2)
    tasks = await queued(loads, *([batch(number, LARGE)] for number in range(5)))
    assert database.transactions == [[0], [1]]
    database.open.set()
    await asyncio.gather(*tasks)
    await loads.drain()
    assert not loads._workers


async def test_a_group_that_comes_as_the_last_worker_leaves_is_not_forgotten() -> None:
    database = Database()
    loads = loader(database)
    for number in range(50):
        async with asyncio.timeout(1):
            await loads.load([batch(number)])
            # Called back in the very step in which the worker ended.
            await asyncio.gather(loads.load([batch(1000 + number)]), loads.load([batch(2000 + number)]))


@given(st.sets(st.integers(0, 30), max_size=6))
def test_the_guilty_are_found_and_all_others_loaded(guilty: set[int]) -> None:
    async def run() -> None:
        database = Database(*guilty)
        outcomes = await loader(database).load([batch(number) for number in range(31)])
        assert [outcome.key.batch_no for outcome in outcomes] == list(range(31))
        assert {outcome.key.batch_no for outcome in outcomes if isinstance(outcome, Refused)} == guilty
        assert all("bad price" in outcome.message for outcome in outcomes if isinstance(outcome, Refused))
        written = [n for numbers in database.transactions if not guilty & set(numbers) for n in numbers]
        assert sorted(written) == sorted(set(range(31)) - guilty)

    asyncio.run(run())


async def test_each_call_gets_its_own_outcomes_though_another_shares_its_transaction() -> None:
    database = Database(2)
    database.open.clear()
    loads = loader(database)
    tasks = await queued(loads, [batch(0)], [batch(1)], [batch(2)], [batch(3), batch(1)])
    database.open.set()
    _, one, two, three = await asyncio.gather(*tasks)
    assert isinstance(one[0], Receipt)
    assert isinstance(two[0], Refused)
    assert three[1] is one[0]


async def test_what_was_undone_is_tried_again_and_what_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0)
    database = Database()
    database.faults = [TryAgain("40P01")] * (load.TRIES - 1)
    assert isinstance((await loader(database).load([batch(0)]))[0], Receipt)
    database.faults = [TryAgain("40001")] * load.TRIES
    with pytest.raises(Unavailable):
        await loader(database).load([batch(0)])
    database.faults = [Unavailable()]
    loads = loader(database)
    with pytest.raises(Unavailable):
        await loads.load([batch(0)])
    assert isinstance((await loads.load([batch(0)]))[0], Receipt)


async def test_who_has_gone_is_not_loaded_and_who_goes_in_his_turn_disturbs_nobody() -> None:
    database = Database()
    database.open.clear()
    loads = loader(database)
    first, second, large, last = await queued(loads, [batch(0)], [batch(1)], [batch(2, LARGE)], [batch(3)])
    for gone in (first, second, large):
        gone.cancel()
    await asyncio.sleep(0)
    database.open.set()
    assert isinstance((await last)[0], Receipt)
    await loads.drain()
    assert database.transactions == [[0], [3]]


def test_the_budget_is_given_back() -> None:
    budget = Budget(limit=100, group=60)
    with budget.share() as one, budget.share() as two:
        one.add(60)
        with pytest.raises(GroupTooLarge):
            one.add(1)
        two.add(40)
        with pytest.raises(Overloaded):
            two.add(1)
        one.add(-50)
        two.add(20)
        assert budget.used == 70
    assert budget.used == 0


@given(st.lists(st.integers(0, 3 << 20), max_size=60), st.integers(1, 10))
def test_pages_cover_every_receipt_once(sizes: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "PAGE_RECEIPTS", most)
        numbered = [(number * 3, size) for number, size in enumerate(sizes)]
        pages = list(ledger.pages(numbered))
        there = [[(n, size) for n, size in numbered if first <= n <= last] for first, last in pages]
        assert [item for page in there for item in page] == numbered
        for page in there:
            assert len(page) <= most
            assert len(page) == 1 or sum(size for _, size in page) <= ledger.PAGE_BYTES
