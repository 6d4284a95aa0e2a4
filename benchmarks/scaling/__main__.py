"""python -m benchmarks.scaling [--rows 1000000] [--write]

Loads so many rows with `jobber up`, and divides them by the CPU seconds that each role used meanwhile: rows a second of one
core, whatever else the machine does. `--write` puts the table into docs/operations.md, between its marks.
"""

import argparse
import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.report import cpu_by_role, spent
from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.system import ROOT, ended

GUIDE = ROOT / "docs" / "operations.md"
MARKS = re.compile(r"<!-- figures -->\n.*?<!-- /figures -->", re.DOTALL)
#: Rows that are loaded before: what is done once does not count.
WARM = 20_000


def measure(rows: int) -> Mapping[str, float]:
    """CPU seconds by role."""
    with tempfile.TemporaryDirectory() as folder:
        system = running.start(Path(folder) / "data")
        try:
            for count in (WARM, rows):
                stored = system.client.upload(write_csv(Path(folder) / f"{count}.csv", count, broken=False))
                before = cpu_by_role(system)
                job = ended(system.client, system.client.execute("LoadProducts", {"fileName": stored["id"]}), 1800)
                if job.loaded != count:
                    raise AssertionError(f"{job.loaded} of {count} rows were loaded")
            return spent(before, cpu_by_role(system))
        finally:
            system.stop()


def figures(rows: int, used: Mapping[str, float]) -> str:
    """The table, with what follows from it."""
    speed = {role: rows / max(used[role], 0.01) for role in ("executor", "products", "postgres", "jobs")}
    lines = [f"| {role} | {used[role]:.1f} | {speed[role]:,.0f} |" for role in speed]
    ratio = speed["postgres"] / speed["executor"]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return "\n".join(
        [
            f"{rows:,} rows of a CSV file, embedded PostgreSQL and transport, on {machine}:",
            "",
            "| role | CPU seconds | rows a second of one core |",
            "|---|---|---|",
            *lines,
            "",
            f"So one core of PostgreSQL keeps up with {ratio:.1f} cores of executors and"
            f" {speed['postgres'] / speed['products']:.1f} of products;",
            f"four cores of PostgreSQL take {4 * speed['postgres']:,.0f} rows a second, if its disk does, from"
            f" {-(-4 * ratio // 2):.0f} executors of two cores each.",
        ]
    )


def main() -> int:
    """Measure, print, and write when asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    told = figures(asked.rows, measure(asked.rows))
    print(told)
    if asked.write:
        GUIDE.write_text(MARKS.sub(lambda _: f"<!-- figures -->\n{told}\n<!-- /figures -->", GUIDE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
