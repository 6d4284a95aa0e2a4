"""How much of its time a process has used: a record is not guilty because its reader was stopped, or the machine is busy."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: The most that one look may add, in seconds: who looks may have been stopped as well.
MOST = 0.5
#: One that is not let run, stopped for one, has so many times its time by the clock on the wall, and so many seconds.
WALL, WALL_SECONDS = 10.0, 60.0


class Allowance:
    """Counts the seconds in which a process computed, or waited of its own accord; not those in which it was not let run."""

    def __init__(self, pid: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid = pid
        self._seconds = seconds
        self._clock = clock
        self._began = self._looked = clock()
        self._computed, _ = _seen(pid)
        self._used = 0.0

    @property
    def over(self) -> bool:
        """Whether its time is over, looking now."""
        now, (computed, asleep) = self._clock(), _seen(self._pid)
        passed, busy = min(now - self._looked, MOST), computed - self._computed
        self._looked, self._computed = now, computed
        self._used += passed if asleep else max(min(busy, passed), 0.0)
        return self._used > self._seconds or now - self._began > self._seconds * WALL + WALL_SECONDS


def _seen(pid: int) -> tuple[float, bool]:
    """Seconds of computing time of a process, and whether all its threads sleep. Where there is no telling, it sleeps."""
    if sys.platform != "linux":
        return 0.0, True
    own = Path(f"/proc/{pid}")
    try:
        # proc_pid_stat(5): state is the 3rd field, utime and stime the 14th and 15th.
        fields = _fields(own)
        asleep = all(_fields(thread)[0] == "S" for thread in (own / "task").iterdir())
    except OSError:  # It, or one of its threads, has just ended.
        return 0.0, False
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), asleep


def _fields(process: Path) -> list[str]:
    """What comes after the name, which may hold anything."""
    return (process / "stat").read_text().rpartition(")")[2].split()
