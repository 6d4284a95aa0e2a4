"""python -m benchmarks.followers --followers 1000

One job that waits, followed over server-sent events by so many connections; then it is cancelled. Printed: memory of the jobs
service for a follower, how many saw the final state, and after how long.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil
import uvloop

from benchmarks import drive, report
from benchmarks.chart import bars
from tests.support.live import PROGRESS
from tests.support.system import System, start

BAR_BYTES = 100_000
#: Seconds that the final event may take to get to everybody.
PATIENCE = 60.0


def main() -> int:
    """Print the figures; 1 when somebody missed the end, 3 when the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.followers", description=__doc__)
    parser.add_argument("--followers", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        system = start(Path(place) / "data", environment={"JOBBER_LOG_LEVEL": "WARNING"})
        try:
            results = uvloop.run(follow(system, asked.followers))
        finally:
            system.stop()
    print(report.table([results]))
    file = report.write("followers", results, asked.json)
    shown = {name: results[name] for name in ("bytes each", "p50 ms", "last ms")}
    print(report.draw(file, bars(f"{asked.followers:,} followers of one job", shown)))
    if results["saw the end"] < asked.followers:
        return 1
    return 0 if results["bytes each"] <= BAR_BYTES else 3


async def follow(system: System, count: int) -> dict[str, float]:
    """Follow, cancel, and wait for what comes."""
    jobs = psutil.Process(system.pids("jobs")[0])
    # Room for the service's own caches, so that they are not counted as followers.
    job_id = await asyncio.to_thread(waiting_job, system)
    warm = [await follower(system, job_id) for _ in range(20)]
    before = jobs.memory_info().rss
    cpu = report.cpu_of(jobs.pid)
    streams = [await follower(system, job_id) for _ in range(count)]
    await asyncio.sleep(3)  # every stream has its first event, and has looked again by itself
    each = (jobs.memory_info().rss - before) / count
    began = time.perf_counter()
    await asyncio.to_thread(system.client.ask, f'mutation {{ jobCancel(id: "{job_id}") {{ userErrors {{ code }} }} }}')
    ends = [asyncio.create_task(end_of(reader, began)) for reader, _ in streams]
    await asyncio.wait(ends, timeout=PATIENCE)
    ended = [task.result() for task in ends if task.done() and not task.exception()]
    seconds = [moment for moment in ended if moment is not None]
    for _, writer in (*warm, *streams):
        writer.close()
    return {
        "followers": count,
        "bytes each": each,
        "saw the end": len(seconds),
        "p50 ms": report.quantile(seconds, 0.5) * 1000,
        "last ms": max(seconds, default=float("nan")) * 1000,
        "CPU s": report.cpu_of(jobs.pid) - cpu,
    }


def waiting_job(system: System) -> str:
    """A job that is paused before its batch is dispatched, or soon after: it waits until it is cancelled."""
    for _ in range(50):
        job = system.client.execute("LoadProducts", drive.records(10) * 2000)
        answer = system.client.ask(f'mutation {{ jobPause(id: "{job.id}") {{ job {{ state }} }} }}')
        if (answer["jobPause"]["job"] or {}).get("state") == "PAUSED":
            return job.id
    raise AssertionError("every job was faster than its pause")


async def follower(system: System, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One that has had its first event."""
    parts = urlsplit(system.state["jobs"])
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    body = msgspec.json.encode({"query": PROGRESS, "variables": {"id": job_id}})
    asked = drive.request(system.state["jobs"], system.client.token, body)
    writer.write(asked.replace(b"\r\n\r\n", b"\r\nAccept: text/event-stream\r\n\r\n", 1))
    await reader.readuntil(b"event: next")
    return reader, writer


async def end_of(reader: asyncio.StreamReader, began: float) -> float | None:
    """Seconds until the final state came; None when the stream ended without it."""
    seen = b""
    while chunk := await reader.read(1 << 16):
        seen += chunk
        if b"event: complete" in seen:
            return time.perf_counter() - began if b'"CANCELED"' in seen else None
    return None


if __name__ == "__main__":
    sys.exit(main())
