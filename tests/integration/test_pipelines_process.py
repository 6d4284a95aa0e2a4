"""The executor as processes: starting, planning, stopping, and what a kill in mid-load leaves."""

import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import psutil
import pytest

from jobber.digest import digest_of
from jobber.local.ports import free_port
from jobber.model import InputOptions, Layout
from operators.pack import unpack
from protos.jobber.jobs.v1 import jobs_pb2
from tests.integration.peers import Peers, csv_of, peers, until


@pytest.fixture
def around(database: str, tmp_path: Path) -> Iterator[Peers]:
    with peers(database, tmp_path) as made:
        yield made


class Executor:
    """`python -m pipelines.main`; its log as it comes."""

    def __init__(self, environment: dict[str, str]) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("JOBBER_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.main"], env=kept | environment, stderr=subprocess.PIPE, text=True
        )
        self.log: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(json.loads(line) if line.startswith("{") else {"message": line})

    def said(self, action: str, service: str = "executor") -> list[dict[str, Any]]:
        return [line for line in self.log if (line.get("action"), line.get("service")) == (action, service)]

    def ready(self) -> "Executor":
        until(lambda: self.process.poll() is not None or bool(self.said("ready") and self.said("ready", "planner")), 30)
        assert self.process.poll() is None, self.log
        return self

    def children(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        self._reader.join(10)
        if self.process.stderr:
            self.process.stderr.close()
        return code


@contextlib.contextmanager
def executor(around: Peers, **more: str) -> Iterator[Executor]:
    process = Executor(around.environment(**more))
    try:
        yield process
    finally:
        process.end(signal.SIGKILL)


def inline(data: bytes) -> jobs_pb2.Source:
    return jobs_pb2.Source(inline=data)


def in_blob(key: str) -> jobs_pb2.Source:
    return jobs_pb2.Source(blob=jobs_pb2.BlobRange(key=key))


def test_inputs_are_planned(around: Peers) -> None:
    data = csv_of(1000)
    with executor(around) as process:
        small = around.ask_plan(inline(b'[{"name": "A", "price": 1}]'))
        large = around.ask_plan(in_blob(around.store(data)), InputOptions(batch_rows=300))
        compressed = around.ask_plan(in_blob(around.store(gzip.compress(data))), InputOptions(batch_rows=300))
        cut = around.ask_plan(in_blob(around.store(gzip.compress(data)[:-5])), InputOptions(batch_rows=300))
        empty = around.ask_plan(in_blob(around.store(gzip.compress(b"name,price\n"))))
        broken = around.ask_plan(inline(b"nothing,like,it\n1,2,3\n"))
        missing = around.ask_plan(in_blob("not-there"))
        unknown = around.ask_plan(inline(b"[]"))
        around.jobs.specs[unknown].name = "Gone"
        odd = around.ask_plan(inline(b"[]"))
        around.jobs.specs[odd].layout = b'{"format": 7}'
        until(lambda: len(around.jobs.plans) == 9 and around.waiting() == 0, 30)
        assert process.end() == 0
    made = around.jobs.plans[large].plan
    assert [batch.rows for batch in made.batches] == [300, 300, 300, 100]
    assert [batch.first_row for batch in made.batches] == [1, 301, 601, 901]
    assert msgspec.json.decode(made.layout, type=Layout).columns == ("name", "category", "price", "stock")
    assert [batch.rows for batch in around.jobs.plans[small].plan.batches] == [1]
    codes = [around.jobs.plans[job].failure.code for job in (broken, missing, unknown, odd, cut)]
    assert codes == ["HEADER", "INPUT_MISSING", "UNKNOWN_JOB", "INTERNAL", "CORRUPT"]
    # What was compressed is planned alike, as a blob of its own; nothing is left of those that failed, or had no record.
    packed = around.jobs.plans[compressed].plan
    assert [(batch.first_row, batch.rows) for batch in packed.batches] == [
        (batch.first_row, batch.rows) for batch in made.batches
    ]
    assert not around.jobs.plans[empty].plan.HasField("blob_key")
    assert [f"plans/{path.name}" for path in (around.folder / "plans").iterdir()] == [packed.blob_key]
    blob = (around.folder / packed.blob_key).read_bytes()
    parts = [blob[batch.offset : batch.offset + batch.length] for batch in packed.batches]
    assert [digest_of(part) for part in parts] == [batch.digest for batch in packed.batches]
    assert data.endswith(b"".join(map(unpack, parts)))
    assert not list((around.folder / ".incoming").iterdir())


def test_a_plan_whose_reply_is_lost_or_whose_service_is_away_is_recorded_once(around: Peers) -> None:
    around.jobs.faults.lost.update(RecordPlan=2)
    around.jobs_served.stop()
    with executor(around) as process:
        job = around.ask_plan(inline(csv_of(3)))
        around.send("LoadProducts.plan", b"garbage", json.dumps({"job_id": job, "batch_no": 0, "dispatch_no": 1}).encode())
        until(lambda: bool(process.said("waiting") and process.said("waiting", "planner")), 30)
        around.jobs_served.start()
        until(lambda: job in around.jobs.plans and around.waiting() == 0, 30)
        assert len(process.said("message_refused", "planner")) == 2
    assert around.jobs.faults.calls["RecordPlan"] == 3


@pytest.mark.parametrize("method", ["ClaimPlan", "RecordPlan"])
def test_a_plan_that_could_not_be_stored_comes_again(around: Peers, method: str) -> None:
    around.jobs.faults.status[method] = grpc.StatusCode.INTERNAL
    with executor(around) as process:
        job = around.ask_plan(inline(csv_of(3)))
        until(lambda: bool(process.said("handed_back", "planner")), 30)
        assert around.waiting() == 1
        around.jobs.faults.status.clear()
        until(lambda: job in around.jobs.plans and around.waiting() == 0, 30)


def test_a_dead_planner_is_started_again_and_its_plan_made(around: Peers) -> None:
    with executor(around) as process:
        process.ready()
        around.jobs.faults.held["RecordPlan"] = held = threading.Event()
        job = around.ask_plan(inline(csv_of(3)))
        until(lambda: around.jobs.faults.calls["RecordPlan"] == 1)
        process.children()[0].kill()
        held.set()
        around.jobs.plans.clear()
        until(lambda: job in around.jobs.plans and around.waiting() == 0, 30)
        assert process.said("child_died")
        assert process.end() == 0


def test_the_planner_ends_with_a_killed_executor(around: Peers) -> None:
    with executor(around) as process:
        children = process.ready().children()
        assert len(children) == 1
        process.end(signal.SIGKILL)
        psutil.wait_procs(children, 5)
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_a_kill_in_mid_load_loses_and_doubles_nothing(around: Peers) -> None:
    around.products.counting = True
    keys = around.submit(csv_of(20_000), topic="LoadProducts.bulk", inline=False, options=InputOptions(batch_rows=200))
    assert len(keys) == 100
    for after in (5, 40, 70):
        with executor(around, JOBBER_IN_FLIGHT="4") as process:
            until(lambda after=after: len(around.products.ledger) >= after, 30)  # type: ignore[misc]
            process.end(signal.SIGKILL)
    with executor(around) as process:
        until(lambda: around.settled(keys), 30)
        assert process.end() == 0
    assert around.exact(keys, 20_000)
    assert set(around.jobs.receipts) == set(keys)
    assert sum(receipt.inserted for receipt in around.jobs.receipts.values()) == 20_000


@pytest.mark.parametrize("point", ["load.after_claim", "load.before_write", "load.after_write", "load.after_acknowledge"])
def test_a_kill_between_two_steps_loses_and_doubles_nothing(around: Peers, point: str) -> None:
    keys = around.submit(csv_of(10))
    with executor(around, JOBBER_FAIL=f"{point}:1:kill") as process:
        assert process.process.wait(30) == -signal.SIGKILL
        assert around.waiting() == 1
    with executor(around):
        until(lambda: around.settled(keys), 30)
    assert around.exact(keys, 10)


@pytest.mark.parametrize("point", ["load.before_claim", "load.after_claim", "load.before_write", "load.after_write"])
def test_an_error_between_two_steps_is_tried_again(around: Peers, point: str) -> None:
    keys = around.submit(csv_of(10))
    with executor(around, JOBBER_FAIL=f"{point}:1:error"):
        until(lambda: around.settled(keys), 30)
    assert around.exact(keys, 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_brings_what_is_in_flight_to_its_end(around: Peers, number: signal.Signals) -> None:
    around.products.faults.held["Load"] = held = threading.Event()
    keys = around.submit(csv_of(10))
    with executor(around) as process:
        process.ready()
        children = process.children()
        until(lambda: around.products.faults.calls["Load"] == 1)
        process.process.send_signal(number)
        threading.Timer(0.5, held.set).start()
        assert process.end(number) == 0
        assert not any(child.is_running() for child in children)
        assert process.said("stopped")
    assert around.settled(keys)


def test_a_frozen_service_does_not_keep_it_beyond_its_grace(around: Peers) -> None:
    around.products.faults.held["Load"] = held = threading.Event()
    around.submit(csv_of(10))
    with executor(around, JOBBER_GRACE="4") as process:
        until(lambda: around.products.faults.calls["Load"] == 1, 30)
        assert process.end() == 0
    held.set()
    assert around.waiting() == 1


def test_it_says_how_it_is_and_what_it_waits_for(around: Peers) -> None:
    around.products_served.stop()
    port = free_port()
    with executor(around, JOBBER_HTTP_PORT=str(port)) as process:
        url = f"http://127.0.0.1:{port}"
        until(lambda: bool(process.said("waiting")), 30)
        assert process.said("waiting")[0]["what"] == "the products service"
        assert httpx.get(f"{url}/health/live").status_code == 200
        assert httpx.get(f"{url}/health/ready").status_code == 503
        around.products_served.start()
        process.ready()
        until(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
        keys = around.submit(csv_of(10))
        until(lambda: around.settled(keys))
        until(lambda: 'jobber_executor_records_total{outcome="loaded"} 10.0' in httpx.get(f"{url}/metrics").text)
        assert httpx.get(f"{url}/other").status_code == 404
        assert process.end() == 0


def test_it_does_not_wait_for_ever(around: Peers) -> None:
    around.jobs_served.stop()
    with executor(around, JOBBER_START_TIMEOUT="0.5") as process:
        assert process.process.wait(30) == 1
        process.end()
        assert "did not answer" in process.said("failed")[0]["message"]


def test_it_stops_while_it_waits(around: Peers) -> None:
    around.jobs_served.stop()
    with executor(around) as process:
        until(lambda: bool(process.said("waiting") and process.said("waiting", "planner")), 30)
        assert process.end() == 0


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"JWT_SECRET": "short"}, "JWT_SECRET"),
        ({"JOBBER_TRANSPORT": "pulsar"}, "PULSAR_SERVICE_URL"),
        ({"JOBBER_ONLY_JOBS": "LoadProduct"}, "no job type 'LoadProduct'"),
    ],
)
def test_wrong_settings_are_said(around: Peers, environment: dict[str, str], why: str) -> None:
    with executor(around, **environment) as process:
        assert process.process.wait(30) == 1
        process.end()
        assert why in process.said("failed")[0]["message"]
        assert "short" not in process.said("failed")[0]["message"]


def test_a_bug_is_said_with_its_cause(around: Peers) -> None:
    with executor(around, JOBBER_JOB_MODULES="no_such_module") as process:
        assert process.process.wait(30) == 1
        process.end()
        assert "no_such_module" in process.said("bug")[0]["error"]


def test_a_taken_port_is_said(around: Peers) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        executor(around, JOBBER_HTTP_PORT=str(taken.getsockname()[1])) as process,
    ):
        assert process.process.wait(30) == 1
        process.end()
        assert "cannot be used" in process.said("failed")[0]["message"]


def test_it_works_only_for_the_jobs_it_was_told(around: Peers) -> None:
    loads = around.submit(csv_of(1))
    numbers = around.submit(b'[{"iterations": 3}]', name="Fibonacci", topic="Fibonacci.fast")
    with executor(around, JOBBER_ONLY_JOBS="FIBONACCI"):
        until(lambda: bool(around.jobs.acknowledged[numbers[0]]) and around.waiting() == 1, 30)
    assert not around.jobs.acknowledged[loads[0]]
