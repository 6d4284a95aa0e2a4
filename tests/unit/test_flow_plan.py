"""The planning dataflow's steps: a planner tells jobs that it lives, and stops when nobody waits for its plan."""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from jobber.job import discover, find
from jobber.model import InputOptions
from jobber.transport import Delivery
from pipelines.opened import Planner
from pipelines.plan import PlanSteps
from pipelines.signs import RENEW_EVERY
from pipelines.work import Planned, Planning, PlanTask, Source

if TYPE_CHECKING:
    from pipelines.isolation import Isolation

JOB = "00000000-0000-7000-8000-000000000001"


class Jobs:
    """Counts signs of life; `held` is what it answers."""

    def __init__(self, *, held: bool) -> None:
        self.held = held
        self.told = 0

    def renew_plan(self, task: PlanTask) -> bool:
        assert task.dispatch_no == 7
        self.told += 1
        return self.held


class Blobs:
    """A file of eight windows; reading each takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.read = 0

    def clock(self) -> float:
        return self.now

    def windows(self, key: str) -> Iterator[bytes]:
        for number in range(8):
            self.now += self.seconds
            self.read += 1
            yield b"name,price\n" if number == 0 else b"x,1\n"


def scanned(jobs: Any, blobs: Any) -> Planning:
    discover(())
    task = PlanTask(JOB, 7, 1, find("LoadProducts"), Source(blob_key="b"), InputOptions())
    steps = PlanSteps(jobs, Planner(blobs, 1 << 30), threading.Event(), cast("Isolation", None), blobs.clock)
    return steps.scan(Planning(Delivery("t", b"", None), task))


@pytest.mark.parametrize(("seconds", "told"), [(0.1, 0), (RENEW_EVERY * 0.6, 4), (RENEW_EVERY * 2, 8)])
def test_a_planner_that_reads_on_says_so_now_and_then(seconds: float, told: int) -> None:
    jobs = Jobs(held=True)
    planning = scanned(jobs, Blobs(seconds))
    assert isinstance(planning.item, Planned)
    assert planning.item.plan.rows == 7
    assert jobs.told == told


def test_a_planner_stops_reading_when_nobody_waits_for_its_plan() -> None:
    blobs = Blobs(RENEW_EVERY * 2)
    planning = scanned(Jobs(held=False), blobs)
    assert (planning.item, planning.returned, blobs.read) == (None, False, 1)
