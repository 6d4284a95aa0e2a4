"""Questions are shared, and no answer is older than who gets it."""

import asyncio

import pytest

from api.sharing import Shared


class Oracle:
    """Answers what is true when it is asked, and not before it may."""

    def __init__(self) -> None:
        self.truth = 0
        self.asked: list[str] = []
        self.may = asyncio.Event()

    async def ask(self, key: str) -> int:
        self.asked.append(key)
        truth = self.truth
        await self.may.wait()
        if truth < 0:
            raise LookupError(key)
        return truth


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_comes_at_once_shares_a_question() -> None:
    oracle = Oracle()
    shared = Shared(oracle.ask)
    waiting = [asyncio.create_task(shared.get("a")) for _ in range(5)] + [asyncio.create_task(shared.get("b"))]
    await _turns()
    oracle.may.set()
    assert await asyncio.gather(*waiting) == [0] * 6
    assert oracle.asked == ["a", "b"]


async def test_an_answer_is_never_older_than_the_request() -> None:
    oracle = Oracle()
    shared = Shared(oracle.ask)
    early = asyncio.create_task(shared.get("a"))
    await _turns()
    oracle.truth = 1  # A logout, say: whoever asks from now on must hear of it.
    late = [asyncio.create_task(shared.get("a")) for _ in range(3)]
    await _turns()
    assert oracle.asked == ["a"]
    oracle.may.set()
    assert await early == 0
    assert await asyncio.gather(*late) == [1, 1, 1]
    assert oracle.asked == ["a", "a"]
    assert not shared._next
    assert not shared._sent


async def test_one_who_leaves_ends_nothing() -> None:
    oracle = Oracle()
    shared = Shared(oracle.ask)
    leaver, stayer = (asyncio.create_task(shared.get("a")) for _ in range(2))
    await _turns()
    leaver.cancel()
    oracle.may.set()
    assert await stayer == 0
    with pytest.raises(asyncio.CancelledError):
        await leaver


async def test_a_refusal_is_everybodys_and_is_not_remembered() -> None:
    oracle = Oracle()
    shared = Shared(oracle.ask)
    oracle.truth = -1
    oracle.may.set()
    outcomes = await asyncio.gather(*(shared.get("a") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, LookupError) for outcome in outcomes)
    oracle.truth = 2
    assert await shared.get("a") == 2


async def test_a_question_that_hangs_does_not_hold_up_the_next() -> None:
    oracle = Oracle()
    shared = Shared(oracle.ask)
    first = asyncio.create_task(shared.get("a"))
    await _turns()
    second = asyncio.create_task(shared.get("a"))
    async with asyncio.timeout(5):
        while len(oracle.asked) < 2:
            await asyncio.sleep(0.01)
    oracle.may.set()
    await asyncio.gather(first, second)
