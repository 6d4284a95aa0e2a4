"""Keep processes running: start, see them end, start them again with a growing delay, stop them in order.

Nothing here polls: an ended process wakes the event loop.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jobber.errors import Unavailable
from jobber.local import child

#: Seconds before a part that ended is started again; doubled for each early end in a row.
FIRST_DELAY, LAST_DELAY = 0.1, 5.0
#: A part that ran so long, in seconds, did not end early: it was ready, which takes 2, and worked.
LONG_RUN = 5.0
#: A part that ends so often before the system was ever ready cannot start here.
TRIES_AT_START = 3
#: Bytes after which a log is rotated: at a start, to NAME.log.1.
LOG_BYTES = 16 << 20

Tell = Callable[[str], None]


class Part(Protocol):
    """Something that runs and may end."""

    name: str

    async def run(self, started: Callable[[], None]) -> str:
        """Start it, say so, wait until it ends, and answer how it ended."""

    async def stop(self, grace: float) -> None:
        """Ask it to end; make it end after `grace` seconds."""

    def kill(self) -> None:
        """Make it end now."""

    @property
    def pids(self) -> list[int]:
        """Its processes; empty when it does not run."""

    @property
    def log(self) -> Path:
        """Where it writes what happens."""


@dataclass(eq=False)
class Service:
    """One process of ours, `jobber auth` or the like, in a session of its own: Ctrl-C in a terminal is the supervisor's."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    logs: Path
    #: As of nice(1): how much it leaves the processor to others.
    nice: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        """Where its standard output and error go."""
        return self.logs / f"{self.name}.log"

    @property
    def pids(self) -> list[int]:
        """Its process; the processes that it starts are its own affair."""
        return [self.process.pid] if self.process and self.process.returncode is None else []

    async def run(self, started: Callable[[], None]) -> str:
        """Start it, say so, wait until it ends, and answer how it ended."""
        rotate(self.log)
        with self.log.open("ab") as sink:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "jobber.cli", *self.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**self.environment, "JOBBER_SUPERVISED": "1", child.SUPERVISOR: str(os.getpid())},
                start_new_session=True,
            )
        self._yield()
        started()
        code = await self.process.wait()
        # Whatever it left behind would work on beside its successor.
        self.kill()
        return how_it_ended(code)

    def _yield(self) -> None:
        """Before it starts anything itself: what it starts inherits it."""
        pid = self.pids[0] if self.nice and self.pids else None
        if pid is None:
            return
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, self.nice)
            # Linux shares the processor among sessions first, where autogroups are on, and each of ours is a session.
            Path(f"/proc/{pid}/autogroup").write_text(str(self.nice))

    async def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds."""
        if not self.process or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), grace)
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        """SIGKILL to it and to all that it started."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def how_it_ended(code: int | None) -> str:
    """In words."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def rotate(log: Path) -> None:
    """Begin a new log when the old one is large; one old one is kept."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


class Keeper:
    """Keeps one part running until it is told to stop."""

    def __init__(self, part: Part, tell: Tell, changed: Callable[[], None]) -> None:
        self.part = part
        self._tell = tell
        self._changed = changed
        self._stopping = asyncio.Event()
        #: Set once the whole system was ready: from then on an end is never final.
        self.settled = False
        self.task = asyncio.create_task(self._keep(), name=part.name)

    async def _keep(self) -> None:
        delay, ends = FIRST_DELAY, 0
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            began = clock()
            try:
                how = await self.part.run(self._changed)
            except Unavailable as fault:
                how = f"did not start: {fault.message}"
            except OSError as fault:
                # A full disk, a folder that somebody took away, no process to be had: all of it may pass.
                how = f"did not start: {fault}"
            if self._stopping.is_set():
                return
            ends += 1
            if not self.settled and ends >= TRIES_AT_START:
                raise Unavailable(f"{self.part.name} {how}, {ends} times in a row. {tail(self.part.log)}")
            if clock() - began > LONG_RUN:
                delay = FIRST_DELAY
            self._tell(f"{self.part.name} {how}; starting it again (log: {self.part.log})")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(delay * 2, LAST_DELAY)

    async def stop(self, grace: float) -> None:
        """Stop the part for good."""
        self._stopping.set()
        while not self.task.done():
            # More than once: it may be about to start just now.
            await self.part.stop(grace)
            await asyncio.wait({self.task}, timeout=0.2)

    def kill(self) -> None:
        """End the part at once, for good."""
        self._stopping.set()
        self.part.kill()


def tail(log: Path, lines: int = 12) -> str:
    """The end of a log, to be shown to a person."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return f"There is no log {log}."
    return f"{log} ends:\n" + "\n".join(text.splitlines()[-lines:])
