"""python -m benchmarks.simulate [--postgres-cores 4] [--loads 4] [--figures FOLDER]

What n executors, m replicas of products and p installations of PostgreSQL would load together, by a model: a closed queueing
network of the measured CPU seconds, log bytes and commits (model.py). The figures are those that `bench scale` and
`bench operators` left in .cache/bench, else constants, and it says which; the disk is measured now. It prints how far the model
is from what this machine did, what it assumes, the first wall that the smallest deployment meets, and every one after it.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.chart import lines
from benchmarks.simulate import model
from benchmarks.simulate.figures import Figures, disk_of, gathered
from benchmarks.simulate.model import Deployment

ASSUMPTIONS = (
    "Every service has machines of its own, each with cores like this machine's; PostgreSQL has a disk like this one.",
    "Loads are long, all of CSV with rows of 130 bytes, in batches of 4 MiB; inputs can be read as fast as they are wanted.",
    "PostgreSQL's disk takes its log and, by checkpoints, about as many bytes of pages.",
    "Files keep coming, each planned by one thread while it comes, with a core of its own.",
    "The broker costs nothing; the network has 10 Gbit/s and no latency.",
    "COPY into one table scales with its sessions up to PostgreSQL's cores: two were measured, no more."
    " Locks that extend the table may be the wall before that.",
    "What jobs and the transport do in PostgreSQL is done by the same installation, as it was measured.",
    "Installations of PostgreSQL share nothing: each has its own jobs service and tables, and loads are shared out evenly.",
    "What the model does not know costs a deployment the share that it cost this machine (the efficiency).",
)
EXECUTORS = (1, 2, 4, 8, 16, 32)
PARTITIONS = (1, 2, 4)


def held_against(figures: Figures, share: float) -> list[dict[str, object]]:
    """The model's rate of this machine beside what was measured: one executor was fitted, the others are predicted."""
    expected = model.on_one_machine(figures) * share
    rates = {1: figures.rows / figures.wall, **{count: rate for count, rate in figures.measured.items() if count > 1}}
    return [
        {
            "executors": count,
            "measured rows/s": rate,
            "model rows/s": expected,
            "error": f"{expected / rate - 1:+.0%}",
            "": "fitted" if count == 1 else "predicted",
        }
        for count, rate in rates.items()
    ]


def main() -> int:
    """Compute and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description="A model of larger deployments.")
    parser.add_argument("--postgres-cores", type=int, default=4, help="of each installation")
    parser.add_argument("--loads", type=int, default=4, help="at once, for each installation")
    parser.add_argument("--figures", type=Path, default=report.FOLDER, help="where other benchmarks left their JSON")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    figures = gathered(asked.figures, *disk_of(report.FOLDER))
    share = model.efficiency(figures)
    told = held_against(figures, share)
    sizes = {"postgres_cores": asked.postgres_cores}
    matrix, series = [], dict[str, list[tuple[float, float]]]()
    for partitions in PARTITIONS:
        for executors in EXECUTORS:
            # As much of products as can be of use: its sessions are PostgreSQL's cores.
            products = max(partitions * asked.postgres_cores // model.COPY_SESSIONS, 1)
            deployment = Deployment(executors, products, partitions, asked.loads * partitions, **sizes)
            found = model.predicted(figures, deployment, share)
            series.setdefault(f"{partitions} PostgreSQL", []).append((executors, found.rate / 1e6))
            matrix.append(
                {
                    "PostgreSQL": partitions,
                    "products": products,
                    "executors": executors,
                    "rows/s": found.rate,
                    "wall": found.wall,
                    "executor CPU": f"{found.busy['executor CPU']:.0%}",
                }
            )
    path = model.grown(figures, Deployment(loads=asked.loads, **sizes), share)
    steps = [
        {
            "executors": deployment.executors,
            "products": deployment.products,
            "PostgreSQL": deployment.partitions,
            "loads": deployment.loads,
            "rows/s": found.rate,
            "wall": found.wall,
        }
        for deployment, found in path
    ]
    print("Figures:", *figures.sources, sep="\n  ")
    print(f"\nThis machine ({figures.cores} cores for everything), efficiency {share:.2f}:\n{report.table(told)}")
    print("\nAssumed:", *ASSUMPTIONS, sep="\n  ")
    print(f"\nInstallations of PostgreSQL with {asked.postgres_cores} cores each:\n{report.table(matrix)}")
    print(f"\nFrom one of each on, always twice of what is the wall:\n{report.table(steps)}")
    print(f"\nThe first wall of one of each: {path[0][1].wall}, at {path[0][1].rate:,.0f} rows/s.")
    results = {
        "assumptions": ASSUMPTIONS,
        "sources": figures.sources,
        "efficiency": share,
        "held against": told,
        "deployments": matrix,
        "walls": steps,
    }
    file = report.write("simulate", results, asked.json)
    print(report.draw(file, lines("Model: millions of rows a second", "executors of two cores", series)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
