"""What both processes of an executor share: how they stop, wait, and use memory."""

import ctypes
import faulthandler
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from jobber.errors import Unavailable
from jobber.log import event
from jobber.settings import ExecutorSettings

#: Threads of Polars. Batches of 8 MB do not use more, and each keeps memory of its own.
POLARS_THREADS = 4
#: glibc's mallopt(3): arenas at most.
M_ARENA_MAX = -8


def spare_memory() -> None:
    """Called before Polars is imported: bound what each thread keeps for itself. The environment's own settings win."""
    os.environ.setdefault("POLARS_MAX_THREADS", str(min(POLARS_THREADS, os.cpu_count() or 1)))
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


def executor_name() -> str:
    """Who claims, for people who look for it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def wait_until_reachable(what: str, addresses: str, stopping: threading.Event, settings: ExecutorSettings) -> None:
    """Answer once a TCP connection to one of the addresses is taken, or when the process stops.

    Raises Unavailable after start_timeout.
    """
    deadline, said = time.monotonic() + settings.start_timeout, False
    while not stopping.is_set():
        if any(_takes_connections(address) for address in addresses.split(",")):
            if said:
                event("found", f"{what} answers.", what=what)
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} at {addresses} did not answer within {settings.start_timeout:g} s.")
        if not said:
            event("waiting", f"Waiting for {what} at {addresses}.", what=what)
            said = True
        stopping.wait(0.2)


def _takes_connections(address: str) -> bool:
    host, _, port = address.strip().removeprefix("http://").removeprefix("grpc://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def limit_memory(size: int) -> None:
    """This process may have so many bytes more than it has now (0: any number). What is above fails to be had, and ends it."""
    if size and sys.platform == "linux":
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        most = int(status["VmData"].split()[0]) * 1024 + size
        # Who is not root cannot have more than its parent was given.
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def end_now() -> NoReturn:
    """As by kill -9: nothing that this process holds is acknowledged, and what it began counts as an attempt."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


class Watchdog:
    """Ends the process when its dataflow stands still: a step that never returns would hold its batch for ever.

    The timer runs in C, so that code which never lets go of the interpreter does not stop it (faulthandler); where each thread
    stood is written on standard error.
    """

    #: Seconds between two settings of the timer, at most: setting it starts a thread.
    EVERY = 1.0

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._every = min(self.EVERY, seconds / 4)
        self._set_at = -self.EVERY

    def beat(self) -> None:
        """The dataflow goes on."""
        now = self._clock()
        if self._seconds and now - self._set_at >= self._every:
            self._set_at = now
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=2)

    def stop(self) -> None:
        """Watch no longer."""
        faulthandler.cancel_dump_traceback_later()
