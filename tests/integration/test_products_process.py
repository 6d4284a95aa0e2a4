"""The products service as a process: health, metrics, stopping, and what a kill or a stop in mid-load leaves."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import psutil
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from api.products import ledger
from api.products.main import SERVICE
from jobber.ids import uuid7
from protos.jobber.products.v1 import products_pb2 as pb
from tests.support.products import METADATA, SECRET, Sent, connected, frame, messages

#: The service, more impatient than it is shipped: who closes a job waits for less long, and ends a stalled COPY earlier.
IMPATIENT = """
from api.products.ledger import Ledger
from api.products.main import main

Ledger.__init__.__kwdefaults__.update(lock_timeout=0.5, stalled_after=1.5)
main()
"""


class Process:
    """`python -m api.products.main` on free ports."""

    def __init__(self, dsn: str, *program: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("JOBBER_")}
        ports = {"JOBBER_HTTP_PORT": "0", "JOBBER_GRPC_PORT": "0", "JOBBER_GRACE": "5"}
        self.process = subprocess.Popen(
            [sys.executable, *(program or ("-m", "api.products.main"))],
            env=kept | ports | {"DATABASE_URL": dsn, "JWT_SECRET": SECRET},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""
        assert self.process.stderr
        for line in self.process.stderr:
            self.log += line
            said: dict[str, Any] = json.loads(line)
            if said["action"] == "ready":
                self.grpc, self.http = f"127.0.0.1:{said['grpc_port']}", f"http://127.0.0.1:{said['http_port']}"
                return
        raise AssertionError(self.log)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        if self.process.stderr and not self.process.stderr.closed:
            self.log += self.process.stderr.read()
            self.process.stderr.close()
        return code


@contextlib.contextmanager
def running(dsn: str, *program: str) -> Iterator[Process]:
    process = Process(dsn, *program)
    try:
        yield process
    finally:
        process.process.send_signal(signal.SIGCONT)
        process.end(signal.SIGKILL)


def sql(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as session:
        return session.execute(query.encode()).fetchall()


async def waiting_for_lock(dsn: str) -> None:
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(10):
        while not sql(dsn, query):
            await asyncio.sleep(0.02)


async def test_it_serves_tells_and_stops_well(database: str) -> None:
    with running(database) as service:
        assert httpx.get(f"{service.http}/health/live").status_code == 200
        assert httpx.get(f"{service.http}/health/ready").json() == {"ready": True}
        async with grpc.aio.insecure_channel(service.grpc) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            for name in ("", SERVICE):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with connected(service.grpc) as stub:
            await stub.Load(messages(Sent.of(frame(10))), metadata=METADATA)
        metrics = httpx.get(f"{service.http}/metrics").text
        for line in (
            'jobber_products_batches_total{outcome="receipt"} 1.0',
            "jobber_products_rows_total 10.0",
            "jobber_products_commit_seconds_count 1.0",
            "jobber_products_waiting_bytes 0.0",
        ):
            assert line in metrics
        assert service.end() == 0
        assert '"action":"stopped"' in service.log
        assert SECRET not in service.log
        assert database.split(":")[2].split("@")[0] not in service.log


async def test_idle_it_does_next_to_nothing(database: str) -> None:
    with running(database) as service:
        process = psutil.Process(service.process.pid)
        await asyncio.sleep(0.5)
        before = process.cpu_times()
        await asyncio.sleep(2)
        after = process.cpu_times()
        assert after.user + after.system - before.user - before.system <= 0.04


async def test_what_is_in_flight_is_finished_before_it_stops(database: str) -> None:
    sent = Sent.of(frame(100))
    with running(database) as service:
        async with connected(service.grpc) as stub:
            with psycopg.connect(database) as session:
                session.execute("LOCK TABLE products.products IN SHARE ROW EXCLUSIVE MODE")
                call = stub.Load(messages(sent), metadata=METADATA, timeout=20)
                await waiting_for_lock(database)
                service.process.terminate()
                await asyncio.sleep(0.3)
            answer = await call
        assert answer.outcomes[0].receipt.inserted == 100
        assert await asyncio.to_thread(service.process.wait, 20) == 0
        assert sql(database, "SELECT count(*) FROM products.products") == [(100,)]


async def test_kill_9_in_mid_load_leaves_nothing_behind_and_the_next_try_is_exact(database: str) -> None:
    sent = Sent.of(frame(100))
    with running(database) as service:
        async with connected(service.grpc) as stub:
            with psycopg.connect(database) as session:
                session.execute("LOCK TABLE products.products IN SHARE ROW EXCLUSIVE MODE")
                call = stub.Load(messages(sent), metadata=METADATA, timeout=20)
                await waiting_for_lock(database)
                service.process.kill()
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await call
                assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    with running(database) as service:
        async with connected(service.grpc) as stub:
            for _ in range(2):
                answer = await stub.Load(messages(sent), metadata=METADATA, timeout=20)
                assert answer.outcomes[0].receipt.inserted == 100
    assert sql(database, "SELECT count(*), count(DISTINCT row_no) FROM products.products") == [(100, 100)]


@pytest.mark.timeout(60)
async def test_a_replica_that_is_stopped_in_mid_load_does_not_hold_up_a_close_for_ever(database: str) -> None:
    """SIGSTOP: its transaction was waiting for the lock and gets it; its COPY then waits for rows that never come."""
    job = uuid7()
    assert ledger.LOCK_TIMEOUT * ledger.CLOSE_TRIES > ledger.STALLED_AFTER
    with running(database) as zombie, running(database, "-c", IMPATIENT) as healthy:
        async with connected(zombie.grpc) as stub, connected(healthy.grpc) as other:
            with psycopg.connect(database) as session:
                session.execute("LOCK TABLE products.products IN SHARE ROW EXCLUSIVE MODE")
                call = stub.Load(messages(Sent.of(frame(30_000), job)), metadata=METADATA, timeout=50)
                await waiting_for_lock(database)
                zombie.process.send_signal(signal.SIGSTOP)
            pages = [page async for page in other.CloseJob(pb.CloseJobRequest(job_id=job), metadata=METADATA, timeout=30)]
            assert not any(page.receipts for page in pages)
            zombie.process.send_signal(signal.SIGCONT)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            answer = await stub.Load(messages(Sent.of(frame(30_000), job)), metadata=METADATA, timeout=20)
            assert answer.outcomes[0].WhichOneof("result") == "closed"
    assert sql(database, "SELECT count(*) FROM products.products") == [(0,)]
