"""What a process is charged: what it computed, and how long it waited of its own accord."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from pipelines.allowance import MOST, WALL, WALL_SECONDS, Allowance

if sys.platform != "linux":
    pytest.fail("/proc is where processes are seen: these tests are of Linux")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def process(*command: str) -> Iterator[psutil.Process]:
    with subprocess.Popen(command) as made:
        try:
            yield psutil.Process(made.pid)
        finally:
            made.kill()


def looks(allowance: Allowance, clock: Clock, seconds: float) -> bool:
    """Whether it is over after so many seconds, looked at ten times a second."""
    for _ in range(round(seconds * 10)):
        clock.now += 0.1
        if allowance.over:
            return True
    return False


def until_state(seen: psutil.Process, state: str) -> None:
    while seen.status() != state:
        pass


def test_a_process_that_sleeps_uses_its_time() -> None:
    clock = Clock()
    with process("sleep", "100") as seen:
        until_state(seen, psutil.STATUS_SLEEPING)
        assert not looks(Allowance(seen.pid, 3.0, clock), clock, 2.9)
        assert looks(Allowance(seen.pid, 3.0, clock), clock, 3.2)


def test_a_process_that_computes_uses_what_it_computed() -> None:
    clock = Clock()
    with process(sys.executable, "-S", "-c", "while True: pass") as seen:
        allowance = Allowance(seen.pid, 0.2, clock)
        while not looks(allowance, clock, 0.1):
            time.sleep(0.01)
        assert seen.cpu_times().user + seen.cpu_times().system > 0.15


def test_a_process_that_is_stopped_uses_nothing_and_is_not_waited_for_for_ever() -> None:
    clock = Clock()
    with process("sleep", "100") as seen:
        seen.suspend()
        until_state(seen, psutil.STATUS_STOPPED)
        allowance = Allowance(seen.pid, 3.0, clock)
        assert not looks(allowance, clock, 3.0 * WALL + WALL_SECONDS - 1)
        assert looks(allowance, clock, 1.2)


def test_who_looks_may_have_been_stopped_as_well() -> None:
    clock = Clock()
    with process("sleep", "100") as seen:
        until_state(seen, psutil.STATUS_SLEEPING)
        allowance = Allowance(seen.pid, MOST + 1.0, clock)
        clock.now += 40
        assert not allowance.over


def test_who_has_ended_uses_nothing() -> None:
    clock = Clock()
    with process("true") as seen:
        pass
    assert not looks(Allowance(seen.pid, 1.0, clock), clock, 5)
