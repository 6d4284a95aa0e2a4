"""What the processes of a running `jobber up` hold: memory, descriptors, connections to the database."""

import contextlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.system import System


@dataclass(slots=True)
class Holds:
    """What one process holds, or all of a kind together."""

    #: Bytes that are its own: shared buffers and mapped files are not.
    memory: int = 0
    descriptors: int = 0
    #: To PostgreSQL.
    connections: int = 0
    processes: int = 0


def holdings(system: System) -> dict[str, Holds]:
    """By process: `jobs`, `jobs-2`, …, `up`; children of the executors by what they are; PostgreSQL's processes together."""
    found: dict[str, Holds] = defaultdict(Holds)
    port = int(system.state["database"].rpartition(":")[2].split("/")[0])
    _add(found["up"], system.process.pid, port)
    for role in ("auth", "jobs", "executor", "products", "postgres", "broker"):
        for number, pid in enumerate(system.pids(role), 1):
            name = role if number == 1 else f"{role}-{number}"
            _add(found[name], pid, port)
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(pid).children(recursive=True):
                    _add(found[name if role == "postgres" else f"{name}'s {_module(child)}"], child.pid, port)
    # What had ended when it was looked at.
    return {name: holds for name, holds in found.items() if holds.processes}


def _module(process: psutil.Process) -> str:
    """The last part of the module that it runs, like `planner`."""
    with contextlib.suppress(psutil.Error, ValueError, IndexError):
        line = process.cmdline()
        return str(line[line.index("-m") + 1].rpartition(".")[2])
    return "child"


def _add(holds: Holds, pid: int, database_port: int) -> None:
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        memory = _anonymous(pid)
        connections = sum(
            bool(connection.raddr) and connection.raddr.port == database_port and connection.status == psutil.CONN_ESTABLISHED
            for connection in process.net_connections("tcp")
        )
        holds.descriptors += process.num_fds()
        holds.memory += memory
        holds.connections += connections
        holds.processes += 1


def _anonymous(pid: int) -> int:
    """Bytes in anonymous pages. Of a process that is made by fork it counts its share of what it has in common."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) << 10
    raise OSError(f"/proc/{pid}/smaps_rollup says nothing of anonymous pages")
