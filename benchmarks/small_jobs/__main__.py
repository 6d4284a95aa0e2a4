"""python -m benchmarks.small_jobs --records 1,10,100 --clients 1,16,64

Against a whole `jobber up`:

    lone        one job after another on an idle system, followed over server-sent events: what a person waits, p50 and p99
    sustained   each client submits, waits until the database says that its job has ended, and submits the next: jobs finished
                a second, time from submission to end by the database's clock, CPU of each process for 1,000 jobs

Afterwards every job must have loaded exactly its records.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from benchmarks import drive, report
from benchmarks.chart import bars
from tests.support.live import PROGRESS, Live
from tests.support.system import System, start

BAR_PER_SECOND, BAR_P50, BAR_P99 = 1000, 0.025, 0.080
#: On Pulsar a message alone takes 12 ms.
BAR_P50_PULSAR = 0.050
#: Seconds between two looks of the waiting clients, all of them in one query.
LOOK_EVERY = 0.01


def main() -> int:
    """Print the tables; 1 when anything was lost, 3 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_jobs", description=__doc__)
    parser.add_argument("--records", type=numbers, default=[1, 10, 100])
    parser.add_argument("--clients", type=numbers, default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=15, help="of each sustained round")
    parser.add_argument("--lone", type=int, default=100, help="jobs one after another")
    parser.add_argument("--broker", choices=["embedded", "pulsar"], default="embedded")
    parser.add_argument("--executors", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    lone: list[dict[str, Any]] = []
    sustained: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        options = ("--broker", asked.broker, "--executors", str(asked.executors))
        system = start(Path(place) / "data", *options, environment={"JOBBER_LOG_LEVEL": "WARNING"})
        try:
            for records in asked.records:
                one_by_one(system, records, 10)
                if asked.lone:
                    lone.append(one_by_one(system, records, asked.lone))
            for records in asked.records:
                for clients in asked.clients:
                    sustained.append(uvloop.run(sustain(system, records, clients, asked.seconds)))
            wrong = compare(system)
        finally:
            system.stop()
    print(report.table(lone), report.table(sustained), sep="\n\n")
    results = {"broker": asked.broker, "lone": lone, "sustained": sustained, "wrong": wrong}
    file = report.write("small_jobs", results, asked.json)
    rates = {f"{row['records']} records, {row['clients']} clients": row["finished/s"] for row in sustained}
    print(report.draw(file, bars("Jobs finished a second", rates)))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 3 if missed(lone, sustained, asked.broker) else 0


def numbers(text: str) -> list[int]:
    """Of a list with commas."""
    return [int(part) for part in text.split(",")]


def missed(lone: Iterable[dict[str, Any]], sustained: Iterable[dict[str, Any]], broker: str) -> bool:
    """Whether a bar is missed, of those that were measured."""
    p50 = BAR_P50_PULSAR if broker == "pulsar" else BAR_P50
    late = any(row["p50 ms"] > p50 * 1000 or row["p99 ms"] > BAR_P99 * 1000 for row in lone if row["records"] == 10)
    return late or any(row["finished/s"] < BAR_PER_SECOND for row in sustained if (row["records"], row["clients"]) == (10, 64))


def one_by_one(system: System, records: int, count: int) -> dict[str, Any]:
    """Submit, follow to the end, submit the next."""
    data = drive.records(records)
    waited, accepted = [], []
    for _ in range(count):
        # Not in step with anything that happens every so often.
        time.sleep(0.05 + 0.1 * (hash(time.perf_counter()) % 97) / 97)
        began = time.perf_counter()
        job = system.client.execute("LoadProducts", data)
        accepted.append(time.perf_counter() - began)
        live = Live(system.state["jobs"], system.client.token, PROGRESS, id=job.id)
        events = live.rest()
        waited.append(time.perf_counter() - began)
        live.close()
        if events[-1]["data"]["jobProgress"]["state"] != "SUCCEEDED":
            raise AssertionError(events[-1])
    server = system.rows(
        "SELECT extract(epoch FROM ended_at - created_at)::float8 FROM jobs.jobs ORDER BY number DESC LIMIT %s", count
    )
    return {
        "records": records,
        "jobs": count,
        "accepted p50 ms": report.quantile(accepted, 0.5) * 1000,
        "p50 ms": report.quantile(waited, 0.5) * 1000,
        "p99 ms": report.quantile(waited, 0.99) * 1000,
        "stored to ended p50 ms": report.quantile([row[0] for row in server], 0.5) * 1000,
    }


async def sustain(system: System, records: int, clients: int, seconds: float) -> dict[str, Any]:
    """Each client has one job at a time."""
    asked = drive.request(system.state["jobs"], system.client.token, drive.submission(records))
    answers = drive.Answers()
    waiting: dict[str, drive.Connection] = {}
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take(connection: drive.Connection, status: int, body: bytes) -> None:
        made = answers.take(status, body, time.perf_counter() - connection.began)
        if made is None:
            loop.call_later(0.5, connection.send, asked)
        else:
            waiting[made] = connection
            answered.set()

    before, own = report.cpu_by_role(system), time.process_time()
    began = time.perf_counter()
    connections = await drive.connect(system.state["jobs"], clients, take)
    left = clients
    for connection in connections:
        connection.send(asked)
    async with (
        asyncio.timeout(seconds + drive.PATIENCE),
        await psycopg.AsyncConnection.connect(system.state["database"], autocommit=True) as session,
    ):
        while left:
            await answered.wait()
            cursor = await session.execute(
                "SELECT id::text FROM jobs.jobs WHERE id = ANY (%s::uuid[]) AND ended_at IS NOT NULL", [list(waiting)]
            )
            for (job_id,) in await cursor.fetchall():
                connection = waiting.pop(job_id)
                if time.perf_counter() - began < seconds:
                    connection.send(asked)
                else:
                    connection.close()
                    left -= 1
            if not waiting:
                answered.clear()
            if clients > 1 or waiting:
                await asyncio.sleep(LOOK_EVERY)
    took = time.perf_counter() - began
    used, own = report.spent(before, report.cpu_by_role(system)), time.process_time() - own
    ended = [
        row[0]
        for row in system.rows(
            "SELECT extract(epoch FROM ended_at - created_at)::float8 FROM jobs.jobs WHERE id = ANY (%s::uuid[])", answers.ids
        )
    ]
    if answers.wrong:
        raise AssertionError(answers.wrong[:3])
    scale = 1000 / max(len(ended), 1)
    return {
        "records": records,
        "clients": clients,
        "finished/s": len(ended) / took,
        "accepted p50 ms": report.quantile(answers.seconds, 0.5) * 1000,
        "p50 ms": report.quantile(ended, 0.5) * 1000,
        "p99 ms": report.quantile(ended, 0.99) * 1000,
        "CPU s/1000": used["total"] * scale,
        **{role: used[role] * scale for role in ("jobs", "auth", "executor", "products", "postgres")},
        "harness": own * scale,
    }


def compare(system: System) -> list[str]:
    """Every job, its ledger, its receipt and its rows."""
    bad = system.rows(
        """SELECT j.id::text, j.state, j.total, l.inserted, r.inserted, p.rows
             FROM jobs.jobs j LEFT JOIN products.ledger l ON l.job_id = j.id LEFT JOIN jobs.receipts r ON r.job_id = j.id
             LEFT JOIN (SELECT job_id, count(*) AS rows FROM products.products GROUP BY job_id) p ON p.job_id = j.id
            WHERE j.state <> 'SUCCEEDED' OR (l.inserted, r.inserted, p.rows) IS DISTINCT FROM (j.total, j.total, j.total)"""
    )
    return [f"{len(bad)} jobs are not as they should be: {bad[:3]}"] if bad else []


if __name__ == "__main__":
    sys.exit(main())
