"""python -m benchmarks.mechanisms --rows 1000000

What exactly-once costs: CPU seconds of a load, of all processes and PostgreSQL together, with the mechanisms and without them
(see bare/sitecustomize.py for what is taken away). Two systems run side by side and load the same file in turn.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg

from benchmarks import report
from benchmarks.chart import bars
from benchmarks.copy.__main__ import products
from jobber.model import State
from tests.support.system import System, ended, start

BARE = Path(__file__).parent / "bare"
#: CPU with the mechanisms, over that without.
BAR = 1.05


def cpu(system: System) -> float:
    """CPU seconds that a system has used, with all processes that it started and that ended."""
    root = psutil.Process(system.process.pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def load(system: System, upload: str, rows: int) -> float:
    """CPU seconds of one load; the table is empty before it."""
    with psycopg.connect(system.state["database"], autocommit=True) as connection:
        connection.execute("TRUNCATE products.products")
        connection.execute("CHECKPOINT")
    before = cpu(system)
    job = ended(system.client, system.client.execute("LoadProducts", {"fileName": upload}), 600)
    assert (job.state, job.loaded) == (State.SUCCEEDED, rows), job
    return cpu(system) - before


def main() -> int:
    """Print the medians and their ratio; 3 when the mechanisms cost too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mechanisms", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        folder = Path(place)
        csv = folder / "products.csv"
        products(asked.rows).drop("row_no").write_csv(csv)
        both = {
            "with": start(folder / "with"),
            "without": start(folder / "without", environment={"PYTHONPATH": f"{BARE}{os.pathsep}{Path.cwd()}"}),
        }
        try:
            uploads = {name: system.client.upload(csv)["id"] for name, system in both.items()}
            seconds: dict[str, list[float]] = {name: [] for name in both}
            for number in range(asked.rounds + 1):
                for name in sorted(both, reverse=bool(number % 2)):
                    used = load(both[name], uploads[name], asked.rows)
                    print(f"round {number} {name:8} {used:6.2f} CPU s{'   (to warm up)' if not number else ''}", flush=True)
                    if number:
                        seconds[name].append(used)
        finally:
            for system in both.values():
                system.stop()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["with"] / medians["without"]
    print(f"{asked.rows:,} rows: with {medians['with']:.2f}, without {medians['without']:.2f} CPU s; ratio {ratio:.3f}")
    results = {"rows": asked.rows, "CPU s": medians, "ratio": ratio, "rounds": seconds}
    file = report.write("mechanisms", results, asked.json)
    print(report.draw(file, bars(f"{asked.rows:,} rows, CPU seconds", medians, {"without"})))
    return 0 if ratio <= BAR else 3


if __name__ == "__main__":
    sys.exit(main())
