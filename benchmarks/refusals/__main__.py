"""python -m benchmarks.refusals --rounds 30

How long a whole `jobber up` takes to refuse requests that would cost it much, each with names no cache has seen: median and
worst, of both services, beside a request that is answered. The bar: 50 ms. Afterwards both services must still be the same
processes. Bodies go over loopback, so that their sending counts, too.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks import report
from benchmarks.chart import bars
from benchmarks.refusals.documents import Attack, attacks
from tests.support.system import System, start

BAR = 0.050
#: What is answered well, as a measure of the machine.
PEER = Attack("an ordinary request", b'{"query": "{ __typename }"}', (200,))


def main() -> int:
    """Print the table; 1 when something was answered that must not be, 3 when the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refusals", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--mode", choices=("development", "production"), default="development")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    environment = {"JOBBER_LOG_LEVEL": "ERROR", "JOBBER_MODE": asked.mode}
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        system = start(Path(place) / "data", environment=environment)
        try:
            rows, wrong = measure(system, asked.rounds)
        finally:
            system.stop()
    print(report.table(rows))
    worst = max(row["median ms"] for row in rows) / 1000
    print(f"the slowest refusal takes {worst * 1000:.1f} ms (median of {asked.rounds})")
    file = report.write("refusals", {"slowest_s": worst, "rows": rows, "wrong": wrong}, asked.json)
    shown = {f"{row['request']}, {row['of']}": row["median ms"] for row in rows}
    print(report.draw(file, bars("Milliseconds until a refusal", shown, [name for name in shown if PEER.name in name])))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0 if worst <= BAR else 3


def measure(system: System, rounds: int) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each attack on each service, and what was answered wrongly."""
    before = {role: system.pids(role) for role in ("auth", "jobs")}
    seconds: dict[tuple[str, str], list[float]] = {}
    statuses: dict[tuple[str, str], set[int]] = {}
    wrong = []
    headers = {"Authorization": f"Bearer {system.client.token}", "Content-Type": "application/json"}
    with httpx.Client(headers=headers, timeout=30, trust_env=False) as client:
        for number in range(rounds):
            for attack in (PEER, *attacks(number)):
                for service in ("jobs", "auth"):
                    began = time.perf_counter()
                    answer = client.post(system.state[service], content=attack.body)
                    key = (attack.name, service)
                    seconds.setdefault(key, []).append(time.perf_counter() - began)
                    statuses.setdefault(key, set()).add(answer.status_code)
                    if fault := judge(attack, answer):
                        wrong.append(f"{service}, {attack.name}: {fault}")
    for role, pids in before.items():
        if system.pids(role) != pids:
            wrong.append(f"{role} has ended and was started again")
    rows = [
        {
            "request": name,
            "of": service,
            "status": "/".join(map(str, sorted(statuses[name, service]))),
            "median ms": statistics.median(taken) * 1000,
            "worst ms": max(taken) * 1000,
        }
        for (name, service), taken in seconds.items()
    ]
    return rows, sorted(set(wrong))


def judge(attack: Attack, answer: httpx.Response) -> str | None:
    """What is wrong with the answer."""
    if answer.status_code not in attack.statuses:
        return f"status {answer.status_code}: {answer.text[:200]}"
    if attack is PEER or answer.status_code != 200:
        return None
    body = answer.json()
    ran = [value for value in (body.get("data") or {}).values() if value is not None]
    return None if body.get("errors") and not ran else f"it was answered: {answer.text[:200]}"


if __name__ == "__main__":
    sys.exit(main())
