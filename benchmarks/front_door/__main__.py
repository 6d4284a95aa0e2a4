"""python -m benchmarks.front_door --seconds 20 --clients 64

Submissions of ten inline records, as variables, against a whole `jobber up` which executes them meanwhile: accepted a second,
p50 and p99 of the answers, CPU of each process for 1,000 of them. In turn with the least that a Python service does for such a
request (bare.py), in the same run. Afterwards every answered id must be in the database, with its records, and nothing beside.
`--without-executor`: the door alone.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import drive, report
from benchmarks.chart import bars
from jobber.local.ports import free_port
from tests.support.system import System, alive, start, until

BAR_PER_SECOND, BAR_P99 = 1500, 0.150


def main() -> int:
    """Print the table; 1 when anything was lost or answered wrongly, 3 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.front_door", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--records", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-executor", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        system = start(Path(place) / "data", environment={"JOBBER_LOG_LEVEL": "WARNING"})
        try:
            rounds, wrong = measure(system, asked)
        finally:
            system.stop()
    print(report.table(rounds))
    mine = [row for row in rounds if row["what"] == "jobber"]
    bare = [row for row in rounds if row["what"] == "bare"]
    accepted = statistics.median(row["accepted/s"] for row in mine)
    p99 = statistics.median(row["p99 ms"] for row in mine) / 1000
    ratio = accepted / statistics.median(row["accepted/s"] for row in bare)
    cpu = statistics.median(row["CPU s/1000"] for row in mine)
    print(f"accepted {accepted:,.0f}/s ({ratio:.2f} of bare), p99 {p99 * 1000:.0f} ms, {cpu:.2f} CPU s for 1,000")
    results = {
        "accepted_per_second": accepted,
        "p99_s": p99,
        "of_bare": ratio,
        "cpu_per_1000": cpu,
        "rounds": rounds,
        "wrong": wrong,
    }
    file = report.write("front_door", results, asked.json)
    rates = {f"{row['what']} {number // 2 + 1}": row["accepted/s"] for number, row in enumerate(rounds)}
    print(report.draw(file, bars("Submissions accepted a second, by round", rates, [name for name in rates if "bare" in name])))
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        return 1
    return 0 if accepted >= BAR_PER_SECOND and p99 <= BAR_P99 else 3


def measure(system: System, asked: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """Rounds of both, and what was wrong."""
    if asked.without_executor:
        # Stopped, not killed: it would be started again.
        for pid in system.pids("executor"):
            os.kill(pid, signal.SIGSTOP)
    port = free_port()
    bare = subprocess.Popen([sys.executable, "-m", "benchmarks.front_door.bare", system.state["database"], str(port)])
    peer = f"http://127.0.0.1:{port}/graphql"
    body = drive.submission(asked.records)
    rounds: list[dict[str, Any]] = []
    wrong: list[str] = []
    try:
        until(lambda: answers(peer, body), what="the peer")
        for number in range(asked.rounds + 1):
            for what, url in (("jobber", system.state["jobs"]), ("bare", peer)):
                seconds = asked.seconds if number else 3.0
                row, faults = one_round(system, bare.pid, what, url, body, asked, seconds)
                wrong += faults
                if number:
                    rounds.append(row)
    finally:
        bare.terminate()
        bare.wait()
        for pid in alive(system.pids("executor")):
            os.kill(pid, signal.SIGCONT)
    return rounds, wrong


def answers(url: str, body: bytes) -> bool:
    """Whether it is there."""
    try:
        return bool(uvloop.run(drive.flood(url, drive.request(url, "", body), 1, 0)).ids)
    except OSError:
        return False


def one_round(
    system: System, bare: int, what: str, url: str, body: bytes, asked: argparse.Namespace, seconds: float
) -> tuple[dict[str, Any], list[str]]:
    """One flood, and whether all that was answered is there."""
    before, own, began = report.cpu_by_role(system), time.process_time(), time.perf_counter()
    peer_before = report.cpu_of(bare)
    answers = uvloop.run(drive.flood(url, drive.request(url, system.client.token, body), asked.clients, seconds))
    took = time.perf_counter() - began
    used = report.spent(before, report.cpu_by_role(system))
    own, peer = time.process_time() - own, report.cpu_of(bare) - peer_before
    wrong = [f"{what}: {line}" for line in answers.wrong[:5]]
    count = len(answers.ids)
    if what == "jobber":
        found = system.rows(
            "SELECT count(*), count(*) FILTER (WHERE total = %s) FROM jobs.jobs WHERE id = ANY (%s::uuid[])",
            asked.records,
            answers.ids,
        )[0]
        if found != (count, count):
            wrong.append(f"{count} submissions were answered, and the database has {found}")
        if not asked.without_executor:
            wrong += finished(system, answers.ids, asked.records)
    scale = 1000 / max(count, 1)
    row = {
        "what": what,
        "accepted/s": count / took,
        "p50 ms": report.quantile(answers.seconds, 0.5) * 1000,
        "p99 ms": report.quantile(answers.seconds, 0.99) * 1000,
        "max ms": max(answers.seconds, default=float("nan")) * 1000,
        "429/503": sum(answers.refused.values()),
        "CPU s/1000": (used["total"] + peer) * scale,
        **{role: used[role] * scale for role in ("jobs", "auth", "executor", "products", "postgres")},
        "peer": peer * scale,
        "clients": own * scale,
    }
    return row, wrong


def finished(system: System, ids: list[str], records: int) -> list[str]:
    """Wait until all have ended, and compare."""
    left = "SELECT count(*) FROM jobs.jobs WHERE ended_at IS NULL"
    until(lambda: system.rows(left)[0][0] == 0, 600, "the end of all jobs")
    bad = system.rows(
        "SELECT j.id::text, j.state FROM jobs.jobs j LEFT JOIN products.ledger l ON l.job_id = j.id"
        " WHERE j.id = ANY (%s::uuid[]) AND (j.state <> 'SUCCEEDED' OR l.inserted IS DISTINCT FROM %s)",
        ids,
        records,
    )
    return [f"{len(bad)} jobs did not load their {records} records: {bad[:3]}"] if bad else []


if __name__ == "__main__":
    sys.exit(main())
