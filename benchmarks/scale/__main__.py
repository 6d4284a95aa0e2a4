"""python -m benchmarks.scale [--rows 100000,1000000,10000000] [--long] [--executors 1,2,4] [--jobs 10000] [--write]

    rows        loads of CSV files of growing size, each beside `psql \\copy` of the same file: rows a second, CPU seconds,
                and the most anonymous memory that a process of each role had. `--long` adds 50 M rows (25 GB of disk)
    executors   the same load with 1, 2 and 4 executors at work; on one machine they share its cores
    queue       10,000 jobs of ten records from 1,000 users, submitted user by user while no executor works: how long the last
                user's first job waits beside the first one's, and how soon the job of one who comes late is dispatched

Each part can be left out with `--rows ''`, `--executors ''`, `--jobs 0`. What was loaded is compared. `--write` puts what one
core of each service gets through, at a million rows, into docs/operations.md.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import report
from benchmarks.chart import lines
from benchmarks.scale import figures, loads, queue
from tests.support.system import System, start

LONG = 50_000_000
#: The size that the others are compared with, where it is among them.
USUAL = 1_000_000
#: Loads before the first that counts: what is done once does not count.
WARM = 20_000
#: Rows a second within this share of the usual size's are flat; memory may be so much more.
BAR_RATE, BAR_MEMORY = 0.9, 1.25
#: The last first job may take so many times what it would in turns; the window was filled when only the first users had come.
BAR_FAIR = 3.0


def prepared(system: System) -> None:
    """As in the other benchmarks."""
    with psycopg.connect(system.state["database"], autocommit=True) as session:
        session.execute("ALTER SEQUENCE products.product_ids CACHE 1000")


def by_rows(system: System, folder: Path, sizes: Sequence[int], rounds: int) -> list[dict[str, float]]:
    """Growing, as a process seldom gives memory back."""

    def measured(rows: int, times: int) -> dict[str, float]:
        csv = loads.written(folder, rows)
        upload = system.client.upload(csv)["id"]
        found = [loads.load(system, csv, upload, rows) for _ in range(times)]
        csv.unlink()
        return loads.line("rows", rows, rows, found)

    measured(WARM, 1)
    made = []
    for rows in sorted(sizes):
        made.append(measured(rows, 3 if rows >= LONG else rounds))
        print(report.table(shown(made[-1:])), flush=True)
    return made


def by_executors(system: System, folder: Path, counts: Sequence[int], rows: int, rounds: int) -> list[dict[str, float]]:
    """All are there; those that are not needed are stopped, so that the numbers take turns."""
    executors = system.pids("executor")
    csv = loads.written(folder, rows)
    upload = system.client.upload(csv)["id"]
    found: dict[int, list[loads.Load]] = {count: [] for count in counts}
    for number in range(rounds + 1):
        for count in sorted(counts, reverse=bool(number % 2)):
            for pid in executors[count:]:
                os.kill(pid, signal.SIGSTOP)
            try:
                done = loads.load(system, csv, upload, rows)
            finally:
                for pid in executors[count:]:
                    os.kill(pid, signal.SIGCONT)
            if number:
                found[count].append(done)
    return [loads.line("executors", count, rows, runs) for count, runs in found.items()]


def shown(part: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without the CPU seconds by role, which are in the JSON."""
    return [{name: value for name, value in line.items() if not name.endswith(" CPU s")} for line in part]


def flat(sizes: Sequence[Mapping[str, float]]) -> list[str]:
    """What is not flat: sizes that are slower than the usual one, or take more memory."""
    base = next((line for line in sizes if line["rows"] == USUAL), None)
    told = []
    for line in sizes if base else []:
        assert base
        if line["rows"] <= base["rows"]:
            continue
        if line["rows/s"] < BAR_RATE * base["rows/s"]:
            told.append(f"{line['rows']:,} rows: {line['rows/s'] / base['rows/s']:.2f} of the rows a second of {USUAL:,}")
        told += [
            f"{line['rows']:,} rows: {role.removesuffix(' MiB')} {line[role]:.0f} MiB, with {USUAL:,} {base[role]:.0f}"
            for role in line
            if role.endswith(" MiB") and line[role] > BAR_MEMORY * base[role] + 16
        ]
    return told


def unfair(queues: Sequence[Mapping[str, float]]) -> list[str]:
    """Whether somebody's first job waited for others' later ones."""
    return [
        f"{line['users']:,} users: the last first job took {line['slowest first s']:.1f} s;"
        f" in turns {line['fair would be s']:.1f}"
        for line in queues
        if line["slowest first s"] > BAR_FAIR * line["fair would be s"]
    ]


def main() -> int:
    """Measure and print; 3 when it is not flat, or not fair."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=numbers, default=[100_000, USUAL, 10_000_000])
    parser.add_argument("--long", action="store_true", help="50 M rows, too")
    parser.add_argument("--executors", type=numbers, default=[1, 2, 4])
    parser.add_argument("--executor-rows", type=int, default=USUAL, help="rows of a load by several executors")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    sizes = [*asked.rows, *([LONG] if asked.long else [])]
    results: dict[str, Any] = {}
    quiet = {"JOBBER_LOG_LEVEL": "WARNING"}
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        folder = Path(place)
        if sizes or asked.jobs:
            system = start(folder / "one", environment=quiet)
            try:
                prepared(system)
                results["rows"] = by_rows(system, folder, sizes, asked.rounds) if sizes else []
                results["queue"] = [queue.measure(system, asked.jobs, asked.users)] if asked.jobs else []
            finally:
                system.stop()
        if asked.executors:
            system = start(folder / "many", "--executors", str(max(asked.executors)), environment=quiet)
            try:
                prepared(system)
                rows = asked.executor_rows
                results["executors"] = by_executors(system, folder, asked.executors, rows, asked.rounds)
            finally:
                system.stop()
    print("", *(report.table(shown(part)) for part in results.values() if part), sep="\n\n")
    told = flat(results.get("rows", []))
    told += unfair(results.get("queue", []))
    print("Bars that are missed:" if told else "Flat and fair.", *told, sep="\n  ")
    file = report.write("scale", results | {"missed": told, "executor rows": asked.executor_rows}, asked.json)
    if results.get("rows"):
        rates = {"1000 rows/s": [(line["rows"], line["rows/s"] / 1000) for line in results["rows"]]}
        memory = {
            role.removesuffix(" MiB"): [(line["rows"], line[role]) for line in results["rows"]]
            for role in results["rows"][0]
            if role.endswith(" MiB")
        }
        print(report.draw(file, lines("Thousands of rows a second, and MiB of the largest process", "rows", rates | memory)))
        usual = next((line for line in results["rows"] if line["rows"] == USUAL), None)
        if usual:
            text = figures.figures(USUAL, {role: usual[f"{role} CPU s"] for role in figures.ROLES})
            print(f"\n{text}")
            if asked.write:
                figures.write(text)
    return 3 if told else 0


def numbers(text: str) -> list[int]:
    """Of a list with commas; none of an empty text."""
    return [int(part) for part in text.split(",") if part]


if __name__ == "__main__":
    sys.exit(main())
