"""The schedule of faults, told by the seed alone, and how each is inflicted on real processes."""

import contextlib
import itertools
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
#: Toxiproxy's toxics; `cut` is none: the proxy is off. With `timeout` nothing comes back any more, and nobody is told.
NETWORK: dict[str, dict[str, int]] = {
    "cut": {},
    "latency": {"latency": 400, "jitter": 300},
    "slicer": {"average_size": 512, "size_variation": 400, "delay": 200},
    "reset_peer": {"timeout": 150},
    "timeout": {"timeout": 0},
}
#: Seconds that a kill waits for somebody to kill.
COMES_BACK = 15.0
#: At once: more leave nothing that works.
FROZEN_AT_ONCE = 2

#: What is killed, and how often in a hundred kills. `child` is what an executor has started: its planner, an isolated reader.
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

    def __init__(self, system: System, api: str, disks: Sequence[Path], tell: Callable[[str], None]) -> None:
        self._system = system
        self._api = api
        #: Small ones, that inputs and the database are on; none where they cannot be mounted.
        self._disks = disks
        self._tell = tell
        self._timers: list[threading.Timer] = []
        self._frozen: set[int] = set()
        #: What was done, and what could not be.
        self.done: Counter[str] = Counter()
        self.kills = 0
        self.impossible: Counter[str] = Counter()

    def inflict(self, fault: Fault) -> None:
        """Do it; faults that last end by themselves, or with `heal`."""
        hit = getattr(self, f"_{fault.kind}")(fault)
        (self.done if hit else self.impossible)[f"{fault.kind} {hit or fault.target}"] += 1
        self._tell(f"{fault.kind} {hit}" if hit else f"could not {fault.name}")

    def heal(self) -> None:
        """End all that still lasts."""
        for timer in self._timers:
            timer.join()
        self._timers.clear()

    # Kills.

    def _kill(self, fault: Fault) -> str:
        """Like the other faults, it answers who was hit; an empty text when nobody could be."""
        deadline = time.monotonic() + COMES_BACK
        while time.monotonic() < deadline:
            # Killed just before: it is about to be started again.
            pids = self._pids(fault.target)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(pids[int(fault.dice * len(pids))], signal.SIGKILL)
                self.kills += 1
                return fault.target
            time.sleep(0.1)
        return ""

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

    def _freeze(self, fault: Fault) -> str:
        pids = [pid for pid in self._pids(fault.target) if pid not in self._frozen]
        if not pids or len(self._frozen) >= FROZEN_AT_ONCE:
            return ""
        pid = pids[int(fault.dice * len(pids))]
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return ""
        self._frozen.add(pid)

        def thaw() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self._frozen.discard(pid)

        self._later(_between(FROZEN, fault.dice), thaw)
        return fault.target

    def _network(self, fault: Fault) -> str:
        names = toxiproxy.proxies(self._api)
        name = names[int(fault.dice * len(names))]
        kind, toxic = list(NETWORK.items())[int(fault.dice * 1000) % len(NETWORK)]
        try:
            if toxic:
                toxiproxy.poison(self._api, name, kind, toxic)
            else:
                toxiproxy.switch(self._api, name, on=False)
        except Unavailable:
            return ""
        self._later(_between(CUT, fault.dice), lambda: toxiproxy.heal(self._api))
        return f"{kind} {name}"

    def _wipe(self, fault: Fault) -> str:
        """The transport loses all that it holds."""
        if self._system.state["transport"].startswith("pulsar"):
            # Away with the folder before the kill: the keeper starts it again at once.
            folder = self._system.folder / "pulsar"
            wiped = folder.with_name(f"pulsar.wiped.{time.monotonic_ns()}")
            with contextlib.suppress(OSError):
                folder.rename(wiped)
            killed = self._kill(Fault("kill", "broker", fault.dice, 0))
            shutil.rmtree(wiped, ignore_errors=True)
            return killed
        try:
            with psycopg.connect(self._system.state["database"], connect_timeout=3, autocommit=True) as connection:
                connection.execute("SET lock_timeout = '2s'")
                connection.execute("TRUNCATE transport.messages")
        except psycopg.Error:
            return ""
        return "transport"

    def _disk(self, fault: Fault) -> str:
        """No room for inputs, or none for PostgreSQL, which ends then, and is started until it finds some again."""
        if not self._disks:
            return ""
        disk = self._disks[int(fault.dice * 1000) % len(self._disks)]
        filler = disk / "filler"
        if filler.exists():
            return ""
        with contextlib.suppress(OSError), filler.open("wb") as file:
            for place in itertools.count():
                os.posix_fallocate(file.fileno(), place << 20, 1 << 20)
        self._later(_between(FULL, fault.dice), lambda: filler.unlink(missing_ok=True))
        return disk.name

    def _later(self, seconds: float, end: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)


def _between(span: tuple[float, float], dice: float) -> float:
    return span[0] + (span[1] - span[0]) * dice


def _cmdline(process: psutil.Process) -> bytes:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).encode()
    return b""


def wait(seconds: float) -> None:
    """Between two faults."""
    time.sleep(seconds)
