"""The ports that `jobber up` listens on: the documented ones, or whatever is free."""

import contextlib
import errno
import random
import socket
import sys
from collections.abc import Iterable, Mapping

from jobber.errors import InvalidState

#: Role -> its documented ports, HTTP and gRPC.
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "auth": {"HTTP": 3000, "gRPC": 5000},
    "jobs": {"HTTP": 3001, "gRPC": 5002},
    "executor": {"HTTP": 3002},
    "products": {"HTTP": 3003, "gRPC": 5001},
}

#: Where free ports are looked for: below those from which systems take the ports of outgoing connections. One of those may be
#: somebody's connection by the time that a service which ended is started again, and then the service cannot have it back.
FREE = range(20_000, 32_768)

#: Of ports that were found: sockets by which other processes know, for as long as this one lives.
_marks: list[int] = []


def allot(replicas: Mapping[str, int], *, automatic: bool, host: str) -> dict[str, list[dict[str, int]]]:
    """For each role the ports of its replicas. The first replica has the documented ones, unless `automatic`.

    Raises InvalidState, naming every documented port that is taken.
    """
    with contextlib.ExitStack() as held:
        allotted: dict[str, list[dict[str, int]]] = {}
        taken: list[str] = []
        for role, count in replicas.items():
            allotted[role] = []
            for number in range(count):
                ports = {}
                for kind, documented in DEFAULTS[role].items():
                    try:
                        # All are held until all are found, so that none is found twice.
                        listening = _anywhere(host) if automatic or number else _listening(host, documented)
                        ports[kind] = held.enter_context(listening).getsockname()[1]
                    except OSError:
                        taken.append(f"{documented} ({role} {kind})")
                allotted[role].append(ports)
        if taken:
            raise InvalidState(_sentence(taken))
        return allotted


def _sentence(taken: Iterable[str]) -> str:
    names = ", ".join(taken)
    return f"Taken by another program: port {names}. End that program, or let Jobber choose free ports: jobber up --ports auto"


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on."""
    with _anywhere(host) as probe:
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Whether one could listen there now."""
    try:
        _listening(host, port).close()
    except OSError:
        return False
    return True


def _anywhere(host: str) -> socket.socket:
    """Listening on a free port. Raises OSError when `host` is no address of this machine, or all are taken."""
    ports = random.sample(FREE, len(FREE))
    while True:
        port = ports.pop()
        try:
            found = _listening(host, port)
            try:
                _mark(port)
            except OSError:
                found.close()
                raise
            return found
        except OSError as fault:
            if fault.errno != errno.EADDRINUSE or not ports:
                raise


def _mark(port: int) -> None:
    """Let no other process find this port: its service listens there only later, and not while it is started again.

    A name that no file has, which goes with the process (unix(7)); only Linux has those. Raises OSError when there is one.
    """
    if sys.platform != "linux":
        return
    with socket.socket(socket.AF_UNIX) as mark:
        mark.bind(f"\0jobber port {port}")
        _marks.append(mark.detach())


def _listening(host: str, port: int) -> socket.socket:
    probe = socket.socket()
    try:
        # As servers do: a port whose last connections are in TIME_WAIT is not taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)
    except OSError:
        probe.close()
        raise
    return probe
