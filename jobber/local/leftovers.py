"""End what a killed `jobber up` left running on a data folder."""

import contextlib
import os
import time
from pathlib import Path

import psutil

from jobber.local import child
from jobber.local.processes import Tell

#: Seconds in which PostgreSQL may shut down by itself: it was told to when its supervisor ended.
SHUTDOWN = 10.0


def end_leftovers(folder: Path, tell: Tell) -> None:
    """End every process that a former `up` started on `folder`, its descendants included. The caller holds the folder."""
    left = _processes_of(folder)
    if not left:
        return
    names = ", ".join(f"{process.pid}" for process in left)
    tell(f"ending what an earlier `jobber up` left running on {folder}: {names}")
    servers = [process for process in left if _is_database(process)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate() if process in servers else process.kill()
    for process in _alive_after(left, SHUTDOWN):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _alive_after(left, SHUTDOWN)
    # The kernel frees sockets and shared memory a moment after the process.
    time.sleep(0.1)


def _alive_after(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run then; answers earlier when none does. A zombie has ended, though nobody took note yet."""
    deadline = time.monotonic() + seconds
    while True:
        alive = [process for process in processes if _runs(process)]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that carry the folder's mark in their environment, or are the PostgreSQL server on it; never our own line."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in mine and process.environ().get(child.HOME) == str(folder):
                found[process.pid] = process
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        data = folder / "postgres" / "data"
        server = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
        if str(data) in server.cmdline():
            found[server.pid] = server
    return list(found.values())


def _is_database(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return str(process.name()) == "postgres"
    return False
