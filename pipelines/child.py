"""The planning process: a child of the executor, started again when it dies, and never left behind."""

import logging
import os
import subprocess
import sys
import threading
import time

from jobber.local.child import SUPERVISOR
from jobber.log import event

#: Seconds between the end of a planning process and the start of the next, at first and at most.
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
#: A process that ran so long, in seconds, did not die of its start.
LONG_RUN = 20.0
#: Seconds between two looks at it.
LOOK = 0.25


def keep_planning(stopping: threading.Event, grace: float) -> None:
    """Run the planning process, again when it dies, until `stopping`; then give it `grace` seconds.

    The kernel ends it when the thread that runs this ends, however that happens (jobber/local/child.py).
    """
    delay = FIRST_DELAY
    while not stopping.is_set():
        began = time.monotonic()
        child = subprocess.Popen([sys.executable, "-P", "-m", "pipelines.planner"], env=_environment())
        while child.poll() is None and not stopping.wait(LOOK):
            pass
        if child.poll() is None:
            _end(child, grace)
            return
        if stopping.is_set():
            return
        event("child_died", f"The planning process ended with {child.returncode}.", level=logging.WARNING)
        delay = FIRST_DELAY if time.monotonic() - began > LONG_RUN else min(delay * 2, LONGEST_DELAY)
        stopping.wait(delay)


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
