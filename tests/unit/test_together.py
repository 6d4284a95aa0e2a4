"""Submissions share commits, and nothing else."""

import asyncio
from collections.abc import Sequence

import psycopg
import pytest

from api.jobs import together
from api.jobs.decide import Limits
from api.jobs.model import Submission
from api.jobs.submit import Stored
from api.jobs.together import Together
from jobber.errors import Conflict, RateLimited, Unavailable
from jobber.model import InputOptions


def asked(name: str) -> Submission:
    return Submission(name, "owner", "LoadProducts", b"{}", InputOptions(), Limits(), 1, None, b"", inline=b"[]")


class Database:
    """Stores when it may; refuses groups with a `bad` one, and says Conflict of a `used` one."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.may = asyncio.Event()
        self.away = False

    async def store(self, group: Sequence[Submission]) -> list[Stored | Conflict]:
        names = [item.job_id for item in group]
        self.groups.append(names)
        await self.may.wait()
        if self.away:
            raise Unavailable
        if any(name.startswith("bad") for name in names):
            raise psycopg.DataError("invalid")
        return [Conflict() if name.startswith("used") else Stored(name, False) for name in names]


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _all(desk: Together, *names: str) -> "list[asyncio.Task[Stored]]":
    tasks = [asyncio.create_task(desk.submit(asked(name))) for name in names]
    await _turns()
    return tasks


async def test_those_that_come_during_a_commit_share_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "LATE", 60)
    database = Database()
    desk = Together(database.store)
    tasks = await _all(desk, "a")
    tasks += await _all(desk, "b", "c", "d")
    assert database.groups == [["a"]]
    database.may.set()
    assert [stored.job_id for stored in await asyncio.gather(*tasks)] == ["a", "b", "c", "d"]
    assert database.groups == [["a"], ["b", "c", "d"]]
    # And the next one does not wait for a group that has ended.
    assert (await desk.submit(asked("e"))).job_id == "e"


async def test_a_bad_one_fails_alone() -> None:
    database = Database()
    database.may.set()
    outcomes = await asyncio.gather(*await _all(Together(database.store), "a", "bad", "used", "b"), return_exceptions=True)
    assert outcomes[0] == Stored("a", False)
    assert isinstance(outcomes[1], psycopg.DataError)
    assert isinstance(outcomes[2], Conflict)
    assert outcomes[3] == Stored("b", False)


async def test_while_the_database_is_away_nobody_is_told_that_a_job_is_stored() -> None:
    database = Database()
    database.may.set()
    database.away = True
    desk = Together(database.store)
    outcomes = await asyncio.gather(*await _all(desk, "a", "b"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    # Whether it was stored is not known: storing it again one by one could store it twice.
    assert database.groups == [["a", "b"]]
    database.away = False
    assert (await desk.submit(asked("c"))).job_id == "c"


async def test_a_group_that_hangs_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "LATE", 0.01)
    database = Database()
    desk = Together(database.store)
    tasks = await _all(desk, "a")
    tasks += await _all(desk, "b")
    async with asyncio.timeout(5):
        while len(database.groups) < 2:
            await asyncio.sleep(0.01)
    database.may.set()
    await asyncio.gather(*tasks)


async def test_who_leaves_before_the_turn_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "LATE", 60)
    database = Database()
    desk = Together(database.store)
    [first] = await _all(desk, "a")
    leaver, stayer = await _all(desk, "b", "c")
    leaver.cancel()
    await _turns()
    database.may.set()
    await asyncio.gather(first, stayer)
    assert database.groups == [["a"], ["c"]]


async def test_groups_and_the_line_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "LATE", 60)
    monkeypatch.setattr(together, "GROUP", 2)
    monkeypatch.setattr(together, "WAITING", 5)
    database = Database()
    desk = Together(database.store)
    tasks = await _all(desk, "a")
    tasks += await _all(desk, "b", "c", "d", "e", "f")
    with pytest.raises(RateLimited):
        await desk.submit(asked("g"))
    database.may.set()
    await asyncio.gather(*tasks)
    assert database.groups == [["a"], ["b", "c"], ["d", "e"], ["f"]]


async def test_the_bytes_of_a_group_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "GROUP_BYTES", 5)
    database = Database()
    database.may.set()
    await asyncio.gather(*await _all(Together(database.store), *"abcde"))
    assert database.groups == [["a", "b"], ["c", "d"], ["e"]]
