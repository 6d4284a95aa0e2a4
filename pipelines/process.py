"""What both processes of an executor share: settings, stopping, and dying with the parent."""

import ctypes
import os
import signal
import socket
import threading
import time

from jobber.errors import Unavailable
from jobber.log import event
from jobber.settings import ExecutorSettings

#: prctl(2): send this signal when the parent dies.
PR_SET_PDEATHSIG = 1


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


def die_with_parent(parent: int) -> None:
    """SIGTERM when the process `parent` ends, also when it ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def executor_name() -> str:
    """Who claims, for people who look for it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def wait_until_reachable(what: str, addresses: str, stopping: threading.Event, settings: ExecutorSettings) -> None:
    """Answer once a TCP connection to one of the addresses is taken. Raises Unavailable after start_timeout."""
    deadline, said = time.monotonic() + settings.start_timeout, False
    while not stopping.is_set():
        for address in addresses.split(","):
            host, _, port = address.strip().rpartition(":")
            try:
                socket.create_connection((host.removeprefix("http://").removeprefix("grpc://"), int(port)), 1).close()
            except OSError:
                continue
            if said:
                event("found", f"{what} answers.", what=what)
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} at {addresses} did not answer within {settings.start_timeout:g} s.")
        if not said:
            event("waiting", f"Waiting for {what} at {addresses}.", what=what)
            said = True
        stopping.wait(0.2)
