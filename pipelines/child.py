"""The planning process: a child of the executor, started again when it dies, and never left behind."""

import logging
import os
import subprocess
import sys
import threading
import time
from typing import IO

import msgspec

from jobber.local.child import SUPERVISOR
from jobber.log import event
from pipelines import metrics

#: Seconds between the end of a planning process and the start of the next, at first and at most.
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
#: A process that ran so long, in seconds, did not die of its start.
LONG_RUN = 20.0
#: Seconds between two looks at it.
LOOK = 0.25


class Scanned(msgspec.Struct, frozen=True, tag="scanned"):
    """What became of the scan of an input, and after how long."""

    #: planned, fault or returned.
    outcome: str
    seconds: float


def keep_planning(stopping: threading.Event, grace: float) -> None:
    """Run the planning process, again when it dies, until `stopping`; then give it `grace` seconds.

    The kernel ends it when the thread that runs this ends, however that happens (jobber/local/child.py).
    """
    delay = FIRST_DELAY
    while not stopping.is_set():
        began = time.monotonic()
        child = subprocess.Popen([sys.executable, "-P", "-m", "pipelines.planner"], env=_environment(), stdout=subprocess.PIPE)
        metrics.PLANNER_STARTS.inc()
        event("child_started", "The planning process was started.", pid=child.pid)
        threading.Thread(target=_listen, args=(child.stdout,), name="planner-said", daemon=True).start()
        while child.poll() is None and not stopping.wait(LOOK):
            pass
        if child.poll() is None:
            _end(child, grace)
            event("child_stopped", "The planning process was stopped.", pid=child.pid)
            return
        if stopping.is_set():
            return
        event("child_died", f"The planning process ended with {child.returncode}.", level=logging.WARNING)
        delay = FIRST_DELAY if time.monotonic() - began > LONG_RUN else min(delay * 2, LONGEST_DELAY)
        stopping.wait(delay)


def tell(outcome: str, seconds: float) -> None:
    """In the planning process: a scan has ended. Its executor serves the metrics of both."""
    sys.stdout.buffer.write(msgspec.json.encode(Scanned(outcome, seconds)) + b"\n")
    sys.stdout.buffer.flush()


def _listen(said: IO[bytes]) -> None:
    """Take in what the planning process tells, until its end. What anything else prints there goes on to where it was to go."""
    with said:
        for line in said:
            try:
                scanned = msgspec.json.decode(line, type=Scanned)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            else:
                metrics.PLANNER_SECONDS.labels(scanned.outcome).observe(scanned.seconds)


def _environment() -> dict[str, str]:
    """It finds every module that this process finds, job types' too."""
    return {
        **os.environ,
        SUPERVISOR: str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        # glibc reads it at start: each arena of a thread keeps what it had at its largest.
        "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
    }


def _end(child: "subprocess.Popen[bytes]", grace: float) -> None:
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
