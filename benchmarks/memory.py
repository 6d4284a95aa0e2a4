"""How much memory each process takes that is its own: anonymous pages, not shared buffers and not the disk's cache."""

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.system import System

#: Seconds between two looks; one costs some 2 ms.
EVERY = 0.05


class Peaks:
    """The most that a process of each role had at once, while this is entered."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        #: Bytes, by role; of a role with several processes (PostgreSQL's backends, a planner's child) those of the largest.
        self.bytes: dict[str, int] = {}
        #: Of all of its processes together, at once.
        self.together: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        roles = {role: self._system.pids(role) for role in self._system.state["pids"]}
        while True:
            for role, pids in roles.items():
                all_of_them = [anonymous(pid) for root in pids for pid in family(root)]
                self.bytes[role] = max(self.bytes.get(role, 0), *all_of_them, 0)
                self.together[role] = max(self.together.get(role, 0), sum(all_of_them))
            if self._done.wait(EVERY):
                return


def family(pid: int) -> Iterable[int]:
    """A process and all below it."""
    yield pid
    found: set[int] = set()
    # Linux lists them for each thread; psutil would read every process of the machine.
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found.update(map(int, _read(f"/proc/{pid}/task/{task}/children").split()))
    for child in found:
        yield from family(child)


def anonymous(pid: int) -> int:
    """Bytes; where Linux does not tell, what is resident. 0 when it has ended."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
