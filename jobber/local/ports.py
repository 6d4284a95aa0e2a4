"""The ports that `jobber up` listens on: the documented ones, or whatever is free."""

import contextlib
import socket
from collections.abc import Iterable, Mapping

from jobber.errors import InvalidState

#: Role -> its documented ports, HTTP and gRPC.
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "auth": {"HTTP": 3000, "gRPC": 5000},
    "jobs": {"HTTP": 3001, "gRPC": 5002},
    "executor": {"HTTP": 3002},
    "products": {"HTTP": 3003, "gRPC": 5001},
}


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
                    wanted = 0 if automatic or number else documented
                    try:
                        # All are held until all are found, so that none is found twice.
                        ports[kind] = held.enter_context(_listening(host, wanted)).getsockname()[1]
                    except OSError:
                        taken.append(f"{wanted} ({role} {kind})")
                allotted[role].append(ports)
        if taken:
            raise InvalidState(_sentence(taken))
        return allotted


def _sentence(taken: Iterable[str]) -> str:
    names = ", ".join(taken)
    return f"Taken by another program: port {names}. End that program, or let Jobber choose free ports: jobber up --ports auto"


def is_free(host: str, port: int) -> bool:
    """Whether one could listen there now."""
    try:
        _listening(host, port).close()
    except OSError:
        return False
    return True


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
