"""Followers of jobs: who wakes, who reads, and when it ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from api.jobs import changes as module
from api.jobs.changes import Changes
from api.jobs.decide import Tally
from api.jobs.model import Job
from jobber.errors import Unauthenticated
from jobber.model import State

NOW = datetime(2026, 11, 24, tzinfo=UTC)
JOB = Job(
    *("a", 1, "owner", "LoadProducts", State.RUNNING, None, (), 10, 2, Tally(0, 0, 0, 0, 0), 1, 1, None, NOW, NOW, None),
    seconds=1.0,
)


class Rows:
    """Jobs by id, as the store has them; counts how often it was asked."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.asked = 0

    async def job(self, job_id: str, sees: str | None) -> Job | None:
        self.asked += 1
        await asyncio.sleep(0)
        job = self.jobs.get(job_id)
        return job if job and sees in (None, job.owner_id) else None

    async def jobs_by_id(self, ids: Sequence[str], sees: str | None) -> list[Job]:
        return [self.jobs[id] for id in ids if id in self.jobs and sees in (None, self.jobs[id].owner_id)]

    def set(self, job_id: str, **values: Any) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], **values)


async def good() -> None:
    """The session goes on."""


async def read_on(events: AsyncIterator[Job]) -> list[State]:
    return [job.state async for job in events]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long that a test in which somebody only finds it by looking for themselves does not end."""
    monkeypatch.setattr(module, "LOOK_EVERY", 1000.0)


async def test_a_thousand_followers_share_a_reading_and_all_see_the_end() -> None:
    rows, changes = Rows(JOB), Changes()
    store: Any = rows
    followers = [asyncio.create_task(read_on(changes.follow(store, "a", "owner", None, good))) for _ in range(1000)]
    while not rows.asked or len(changes._watches["a"].followers) < 1000:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    rows.set("a", state=State.SUCCEEDED, changes=2)
    changes.publish(["a"])
    async with asyncio.timeout(30):
        seen = await asyncio.gather(*followers)
    assert all(states[-1] is State.SUCCEEDED for states in seen)
    assert rows.asked <= 4
    assert changes._watches == {}


@pytest.mark.parametrize("after", [None, 0, 1, 2, 1000])
async def test_whoever_resumes_gets_the_final_state(after: int | None) -> None:
    store: Any = Rows(replace(JOB, state=State.FAILED, changes=2))
    assert await read_on(Changes().follow(store, "a", None, after, good)) == [State.FAILED]


async def test_what_was_seen_does_not_come_again() -> None:
    rows, changes = Rows(JOB), Changes()
    store: Any = rows
    follower = asyncio.create_task(read_on(changes.follow(store, "a", None, JOB.seq, good)))
    await asyncio.sleep(0.05)
    changes.publish(["a"])
    await asyncio.sleep(0.05)
    rows.set("a", state=State.CANCELED, changes=3)
    changes.publish(["a"])
    async with asyncio.timeout(10):
        assert await follower == [State.CANCELED]


async def test_following_ends_when_the_session_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    store: Any = Rows(JOB)
    ended = False

    async def check() -> None:
        if ended:
            raise Unauthenticated

    for follow in (Changes().follow(store, "a", None, None, check), Changes().follow_all(store, None, check)):
        ended = False
        follower = asyncio.create_task(read_on(follow))
        await asyncio.sleep(0.05)
        assert not follower.done()
        ended = True
        async with asyncio.timeout(10):
            with pytest.raises(Unauthenticated):
                await follower


async def test_followers_of_all_see_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    other = replace(JOB, id="b", owner_id="other")
    store: Any = Rows(JOB, other, *(replace(JOB, id=f"c{number}") for number in range(5)))
    changes = Changes()
    events = changes.follow_all(store, "owner", good)
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.01)
    changes.publish(["b"])
    changes.publish(["a", "a"])
    assert (await first).id == "a"
    # A slow follower keeps a bounded number waiting, the latest.
    changes.publish([f"c{number}" for number in range(5)])
    assert [(await anext(events)).id for _ in range(3)] == ["c2", "c3", "c4"]
    await events.aclose()  # type: ignore[attr-defined]
    assert not changes._inboxes


async def test_after_an_outage_everybody_looks() -> None:
    rows, changes = Rows(JOB), Changes()
    store: Any = rows
    follower = asyncio.create_task(read_on(changes.follow(store, "a", None, None, good)))
    await asyncio.sleep(0.05)
    rows.set("a", state=State.SUCCEEDED, changes=2)
    changes.heard_too_little()
    async with asyncio.timeout(10):
        assert (await follower)[-1] is State.SUCCEEDED
