"""A running `jobber up`, as the tests and benchmarks drive it: from outside, through its contracts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg

from jobber.cli.client import Client, Job
from jobber.local import child
from protos.client import OPTIONS, credential, target
from protos.jobber.products.v1 import products_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
#: Seconds; Pulsar takes the longer part of it.
START, STOP = 150, 60


class System:
    """One `jobber up`; `state` is its line of JSON."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]", state: dict[str, Any]) -> None:
        self.folder, self.process, self.state = folder, process, state
        self._clients: list[Client] = []
        self.client = self.login(state["admin"]["email"], state["admin"]["password"])

    def login(self, email: str, password: str) -> Client:
        """A client of that user."""
        client = Client(self.state["jobs"], self.state["auth"])
        self._clients.append(client)
        client.login(email, password)
        return client

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with psycopg.connect(self.state["database"]) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def loaded(self, job: Job) -> list[tuple[Any, ...]]:
        """The job's products in the order of its input: row_no, name, category, price, stock, rating, description."""
        return self.rows(
            "SELECT row_no, name, category, price, stock, rating, description"
            " FROM products.products WHERE job_id = %s ORDER BY row_no",
            job.id,
        )

    @contextmanager
    def products(self) -> Iterator[tuple[Any, Any]]:
        """The products service over gRPC: its stub, and the metadata that it wants."""
        with grpc.insecure_channel(target(self.state["grpc"]["products"]), options=OPTIONS) as channel:
            yield products_pb2_grpc.ProductsServiceStub(channel), credential(self.state["serviceToken"])

    def pids(self, role: str) -> list[int]:
        """The processes of a role now: they change when they are started again."""
        state = json.loads((self.folder / "up.json").read_text())
        return list(state["pids"][role])

    def kill(self, role: str) -> None:
        """SIGKILL to every process of a role."""
        for pid in self.pids(role):
            os.kill(pid, signal.SIGKILL)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Tell `up` to stop; answer its exit code."""
        self.process.send_signal(with_signal)
        try:
            return self.process.wait(STOP)
        finally:
            self.kill_up()

    def kill_up(self) -> None:
        """SIGKILL to `up` itself, unless it has ended; let go of what is held for it."""
        for client in self._clients:
            client.close()
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def said(self) -> str:
        """What `up` wrote on standard error."""
        return (self.folder.parent / f"{self.folder.name}.stderr").read_text()


def start(
    folder: Path,
    *options: str,
    ports: str = "auto",
    environment: dict[str, str] | None = None,
    program: Sequence[str] = (),
) -> System:
    """Start `jobber up` (or `program`, which does the same) and wait until it is ready. It ends with this process."""
    stderr = folder.parent / f"{folder.name}.stderr"
    with stderr.open("w") as sink:
        process = subprocess.Popen(
            [*(program or command("up")), "--json", "--ports", ports, "--data-dir", str(folder), *options],
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            env={**surroundings(), **(environment or {}), child.SUPERVISOR: str(os.getpid())},
        )
    line = _line(process)
    if not line:
        process.kill()
        process.communicate()
        raise AssertionError(f"jobber up did not start: {stderr.read_text()}")
    return System(folder, process, json.loads(line))


def command(*arguments: str) -> list[str]:
    """The command line of this checkout."""
    return [sys.executable, "-P", "-m", "jobber.cli", *arguments]


def surroundings() -> dict[str, str]:
    """The environment of a person: nothing of it configures Jobber."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBBER_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def run(*arguments: str, environment: dict[str, str] | None = None, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run a command of the command line."""
    surrounding = {**surroundings(), **(environment or {})}
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=surrounding, timeout=timeout)


def ended(client: Client, job: Job, seconds: float = 60) -> Job:
    """The job, once it has ended."""
    deadline = time.monotonic() + seconds
    for seen in client.follow(job.id):
        if time.monotonic() > deadline and not seen.state.terminal:
            raise AssertionError(f"not ended after {seconds} s: {seen}")
    return seen


def until(holds: Callable[[], bool], seconds: float = 30, what: str = "it") -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


def alive(pids: Sequence[int]) -> list[int]:
    """Those of the processes that live; a zombie does not."""
    living = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            living.append(pid)
    return living


def _line(process: "subprocess.Popen[str]") -> str:
    """Its first line; empty when it ends or takes too long."""
    got: list[str] = []
    assert process.stdout
    stdout = process.stdout
    reader = threading.Thread(target=lambda: got.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(START)
    return got[0] if got else ""
