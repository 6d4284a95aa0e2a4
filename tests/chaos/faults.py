"""The schedule of faults, told by the seed alone, and how each is inflicted on real processes."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from jobber.errors import Unavailable
from tests.chaos import toxiproxy
from tests.support.system import System

#: Seconds between two faults, on average; a freeze or a cut lasts beside the next ones.
PACE = 2.5
#: Seconds that a process stays frozen.
FROZEN = (20.0, 40.0)
#: Seconds that a network is bad, and that a disk is full.
CUT, FULL = (3.0, 12.0), (2.0, 6.0)
#: Seconds that a kill waits for somebody to kill.
COMES_BACK = 15.0
#: At once: more leave nothing that works.
FROZEN_AT_ONCE = 2

#: What is killed, and how often in a hundred kills. `child` is whatever an executor has started: a planner, an isolated reader.
KILLS = {"executor": 34, "jobs": 22, "products": 22, "auth": 6, "child": 6, "postgres": 5, "session": 5}
#: What else happens, and how often in a hundred others.
OTHERS = {"freeze": 40, "network": 35, "wipe": 10, "disk": 15}


@dataclass(frozen=True)
class Fault:
    """One fault: what, to whom, how long, and what else is left to chance."""

    kind: str
    target: str
    dice: float
    pause: float

    @property
    def name(self) -> str:
        """For counting."""
        return f"{self.kind} {self.target}".strip()


def schedule(seed: int, count: int, *, pulsar: bool) -> list[Fault]:
    """The campaign's faults; nine of ten are SIGKILLs, and with Pulsar eight or more of two hundred are its own."""
    dice = random.Random(f"faults {seed}")
    others = max(1, count // 11)
    kills = ["kill"] * (count - others)
    brokers = max(1, count // 20) if pulsar else 0
    # Each kind at least once, as far as there is room.
    once = dice.sample(list(OTHERS), min(others, len(OTHERS)))
    kinds = [*kills, *once, *dice.choices(list(OTHERS), list(OTHERS.values()), k=others - len(once))]
    dice.shuffle(kinds)
    made = []
    for kind in kinds:
        target = ""
        if kind == "kill":
            target = dice.choices(list(KILLS), list(KILLS.values()))[0]
        elif kind == "freeze":
            target = dice.choice(("executor", "jobs", "products", "auth"))
        made.append(Fault(kind, target, dice.random(), dice.expovariate(1 / PACE)))
    for place in dice.sample([index for index, fault in enumerate(made) if fault.kind == "kill"], brokers):
        made[place] = Fault("kill", "broker", made[place].dice, made[place].pause)
    return made


class Nemesis:
    """Inflicts faults on a running system."""

    def __init__(self, system: System, api: str | None, blobs: Path | None, tell: Callable[[str], None]) -> None:
        self._system = system
        self._api = api
        #: The small disk that inputs are on.
        self._blobs = blobs
        self._tell = tell
        self._timers: list[threading.Timer] = []
        self._frozen: set[int] = set()
        #: What was done, and what could not be.
        self.done: Counter[str] = Counter()
        self.kills = 0
        self.impossible: Counter[str] = Counter()

    def inflict(self, fault: Fault) -> None:
        """Do it; faults that last end by themselves, or with `heal`."""
        did = getattr(self, f"_{fault.kind}")(fault)
        (self.done if did else self.impossible)[fault.name] += 1
        self._tell(fault.name if did else f"could not {fault.name}")

    def heal(self) -> None:
        """End all that still lasts."""
        for timer in self._timers:
            timer.join()
        self._timers.clear()

    # Kills.

    def _kill(self, fault: Fault) -> bool:
        deadline = time.monotonic() + COMES_BACK
        while time.monotonic() < deadline:
            # Killed just before: it is about to be started again.
            pids = self._pids(fault.target)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(pids[int(fault.dice * len(pids))], signal.SIGKILL)
                self.kills += 1
                return True
            time.sleep(0.1)
        return False

    def _pids(self, target: str) -> list[int]:
        """Processes of the target now, in a stable order."""
        if target == "session":
            return self._children("postgres", lambda process: b"jobber" in _cmdline(process))
        if target == "child":
            return self._children("executor", lambda process: True)
        with contextlib.suppress(OSError, ValueError):
            return self._system.pids(target)
        return []

    def _children(self, role: str, wanted: Callable[[psutil.Process], bool]) -> list[int]:
        found = []
        for pid in self._pids(role):
            with contextlib.suppress(psutil.Error):
                found += [child.pid for child in psutil.Process(pid).children(recursive=True) if wanted(child)]
        return sorted(found)

    # What lasts.

    def _freeze(self, fault: Fault) -> bool:
        pids = [pid for pid in self._pids(fault.target) if pid not in self._frozen]
        if not pids or len(self._frozen) >= FROZEN_AT_ONCE:
            return False
        pid = pids[int(fault.dice * len(pids))]
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        self._frozen.add(pid)

        def thaw() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self._frozen.discard(pid)

        self._later(_between(FROZEN, fault.dice), thaw)
        return True

    def _network(self, fault: Fault) -> bool:
        if self._api is None:
            return False
        names = toxiproxy.proxies(self._api)
        name = names[int(fault.dice * len(names))]
        kind = int(fault.dice * 1000) % 5
        try:
            if kind == 0:
                toxiproxy.switch(self._api, name, on=False)
            elif kind == 1:
                toxiproxy.poison(self._api, name, "latency", {"latency": 400, "jitter": 300})
            elif kind == 2:
                toxiproxy.poison(self._api, name, "slicer", {"average_size": 512, "size_variation": 400, "delay": 200})
            elif kind == 3:
                toxiproxy.poison(self._api, name, "reset_peer", {"timeout": 150})
            else:
                # Nothing comes back any more, and nobody is told.
                toxiproxy.poison(self._api, name, "timeout", {"timeout": 0})
        except Unavailable:
            return False
        api = self._api
        self._later(_between(CUT, fault.dice), lambda: toxiproxy.heal(api))
        return True

    def _wipe(self, fault: Fault) -> bool:
        """The transport loses all that it holds."""
        if self._system.state["transport"].startswith("pulsar"):
            # Its keeper starts it again on an empty folder.
            killed = self._kill(Fault("kill", "broker", fault.dice, 0))
            shutil.rmtree(self._system.folder / "pulsar", ignore_errors=True)
            return killed
        try:
            with psycopg.connect(self._system.state["database"], connect_timeout=3, autocommit=True) as connection:
                connection.execute("SET lock_timeout = '2s'")
                connection.execute("TRUNCATE transport.messages")
        except psycopg.Error:
            return False
        return True

    def _disk(self, fault: Fault) -> bool:
        if self._blobs is None:
            return False
        filler = self._blobs / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
        self._later(_between(FULL, fault.dice), lambda: filler.unlink(missing_ok=True))
        return True

    def _later(self, seconds: float, end: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)


def rest(faults: Sequence[Fault]) -> float:
    """Seconds that the schedule takes."""
    return sum(fault.pause for fault in faults)


def _between(span: tuple[float, float], dice: float) -> float:
    return span[0] + (span[1] - span[0]) * dice


def _cmdline(process: psutil.Process) -> bytes:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).encode()
    return b""


def wait(seconds: float) -> None:
    """Between two faults."""
    time.sleep(seconds)
