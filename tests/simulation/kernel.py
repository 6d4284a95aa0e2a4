"""A deterministic scheduler: processes of green threads, a clock of its own, and every choice from one seed.

Code under simulation is the shipped code; it gives way at `step`, `sleep` and `wait`, which the simulated database, broker and
network call, and at every named fault point. Between two of those nothing else runs. A killed process's threads end where they
stand (greenlet's GreenletExit, which no `except Exception` sees), a frozen one's stand still.
"""

import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

T = TypeVar("T")

#: Seconds, about, that the clock goes on between two steps.
TICK = 0.0004


class Deadlock(AssertionError):
    """Every thread waits for another."""


class Process:
    """What is killed and frozen as one."""

    def __init__(self, kernel: "Kernel", name: str, start: "Callable[[Process], None]") -> None:
        self.kernel = kernel
        self.name = name
        self.start = start
        self.alive = False
        self.frozen = False
        #: Grows with every start: who waits for an answer sees that it will not come.
        self.life = 0
        self.threads: list[Thread] = []
        #: Called when it dies: the database ends its transactions, the broker gives its messages to others.
        self.died: list[Callable[[Process], None]] = []

    def boot(self) -> None:
        """Start, or start again."""
        self.life += 1
        self.alive, self.frozen = True, False
        self.start(self)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        if not self.alive:
            return
        self.alive = False
        threads, self.threads = self.threads, []
        for thread in threads:
            thread.end()
        for tell in self.died:
            tell(self)

    def die(self) -> None:
        """The thread that calls this ends its own process."""
        self.kill()
        raise GreenletExit

    def spawn(self, work: Callable[[], Any]) -> "Thread":
        """A thread of this process."""
        return self.kernel.spawn(self, work)


class Thread:
    """A green thread."""

    __slots__ = ("answer", "asked", "done", "fault", "green", "process", "waits", "wake")

    def __init__(self, process: Process, work: Callable[[], Any], parent: greenlet) -> None:
        self.process = process
        self.wake = 0.0
        #: When set, it runs once this is so.
        self.waits: Callable[[], bool] | None = None
        self.done = False
        #: Somebody waits for its answer, and gets its fault; otherwise a fault is a bug.
        self.asked = False
        self.answer: Any = None
        self.fault: Exception | None = None
        self.green = greenlet(lambda: self._run(work), parent)

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.answer = work()
        except GreenletExit:
            pass
        except Exception as fault:
            self.fault = fault
        self.done = True

    def end(self) -> None:
        """Kill it, unless it is the one that asks."""
        if not self.done and self.green is not getcurrent():
            if self.green:
                # When it has ended, control comes back to who killed it.
                self.green.parent = getcurrent()
                self.green.throw(GreenletExit)
            self.done = True


class Kernel:
    """Runs threads one step at a time, in an order that only the seed decides."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self.processes: list[Process] = []
        self._threads: list[Thread] = []
        self._current: Thread | None = None
        self._main = getcurrent()
        #: Moments at which a wait ends: something must move the clock on to them when all else stands still.
        self._alarms: list[float] = []

    def process(self, name: str, start: Callable[[Process], None]) -> Process:
        """A process, started."""
        made = Process(self, name, start)
        self.processes.append(made)
        made.boot()
        return made

    def spawn(self, process: Process, work: Callable[[], Any]) -> Thread:
        """A thread that runs from the next choice on."""
        thread = Thread(process, work, self._main)
        thread.wake = self.now
        process.threads.append(thread)
        self._threads.append(thread)
        return thread

    @property
    def current(self) -> Process:
        """The process whose code runs."""
        assert self._current is not None
        return self._current.process

    def clock(self) -> float:
        """Seconds since the beginning."""
        return self.now

    def step(self) -> None:
        """Give way: anything may happen before the next line."""
        self._main.switch()

    def sleep(self, seconds: float) -> None:
        """Give way for at least so long."""
        assert self._current is not None
        self._current.wake = self.now + seconds
        self._main.switch()

    def wait(self, holds: Callable[[], bool], seconds: float | None = None) -> bool:
        """Give way until it is so; False when it is not after `seconds`."""
        if holds():
            return True
        thread = self._current
        assert thread is not None
        deadline = None if seconds is None else self.now + seconds
        thread.waits = holds if deadline is None else lambda: holds() or self.now >= deadline
        if deadline is not None:
            self._alarms.append(deadline)
        self._main.switch()
        thread.waits = None
        return holds()

    def run(self, until: Callable[[], bool], most: float) -> bool:
        """Run until it is so; False when it is not at `most` seconds on the clock."""
        while not until():
            if self.now >= most:
                return False
            self._turn(most)
        return True

    def _turn(self, most: float) -> None:
        self._threads = [thread for thread in self._threads if not thread.done]
        ready = []
        soonest = most
        for thread in self._threads:
            if thread.process.frozen:
                continue
            if thread.waits is not None:
                if thread.waits():
                    ready.append(thread)
            elif thread.wake <= self.now:
                ready.append(thread)
            elif thread.wake < soonest:
                soonest = thread.wake
        if not ready:
            self._alarms = [alarm for alarm in self._alarms if alarm > self.now]
            self.now = max(min([soonest, *self._alarms]), self.now + TICK)
            return
        thread = ready[int(self.random.random() * len(ready))]
        self.now += TICK * self.random.random()
        self.steps += 1
        self._current = thread
        thread.green.switch()
        self._current = None
        if thread.done:
            if thread in thread.process.threads:
                thread.process.threads.remove(thread)
            if thread.fault is not None and not thread.asked:
                raise thread.fault


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of shipped code in a green thread: what it awaits gives way by itself, so that it never suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    finally:
        work.close()
    raise AssertionError("simulated code waited for a real event loop")
