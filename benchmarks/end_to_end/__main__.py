"""python -m benchmarks.end_to_end --rows 1000000 --rounds 5 [--broker pulsar] [--only csv,parquet]

How long a load takes as a client sees it, from `executeJob` to the event that says SUCCEEDED: checked, enriched, exactly once.
Each round runs, in turn, on one PostgreSQL, into one table with its indexes, sequence cache and lineage columns:

    psql        `\\copy` of the CSV as it is: nothing is checked, nothing is added
    psql work   `\\copy` into a temporary table of text, then INSERT ... SELECT with LoadProducts' casts and join
    by hand     Polars -> join -> Arrow -> pgpq -> COPY BINARY, in one process and one transaction
    csv, csv.gz, ndjson, json, parquet    Jobber, the file uploaded before

and prints medians, ratios to psql, and the CPU seconds of each. What was loaded is compared after each run (count, sums of
price and stock). Where walls differ by less than 10 %, judge by CPU.

`--profile` compares nothing: it loads each format so many times, and draws a flame graph of each process (py-spy, installed
into a virtualenv under .cache), and what PostgreSQL's sessions were at.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl
import psutil
import psycopg

from benchmarks import report
from benchmarks.chart import bars
from benchmarks.end_to_end import ways
from benchmarks.end_to_end.inputs import FORMATS, written
from benchmarks.profile import profiled
from tests.support.system import System, start

#: Set for all ways alike.
CHARGES = {"Books": Decimal("1.50"), "Toys": Decimal("0.10")}
COLUMNS = "name, category, price, stock, rating, description"
BASE = "psql"
#: At least so many times as fast as psql.
BARS = {"csv": 1.0, "ndjson": 0.95, "json": 0.8, "parquet": 1.05}
#: CSV, as psql doing the same work.
BAR_WORK = 1.5


@dataclass(frozen=True, slots=True)
class Run:
    """One load."""

    wall: float
    cpu: float


def checked(system: System, expected: tuple[int, Decimal, int]) -> None:
    """Raises AssertionError when other rows are in the table."""
    ((count, price, stock),) = system.rows("SELECT count(*), sum(price), sum(stock) FROM products.products")
    assert (count, price, stock) == expected, f"loaded {(count, price, stock)}, not {expected}"


def emptied(system: System) -> None:
    """An empty table, and nothing left to write for what was done before."""
    with psycopg.connect(system.state["database"], autocommit=True) as session:
        session.execute("TRUNCATE products.products")
        session.execute("CHECKPOINT")


def cpu(system: System) -> float:
    """CPU seconds of the whole system, and of this process's ended children."""
    children = psutil.Process().cpu_times()
    own: float = time.process_time() + children.children_user + children.children_system
    return own + report.cpu_of(system.process.pid)


def expectations(frame: pl.DataFrame) -> dict[bool, tuple[int, Decimal, int]]:
    """Count and sums, without and with charges."""
    price, stock = sum(frame["price"].to_list(), Decimal(0)), int(frame["stock"].sum())
    per = dict(frame.group_by("category").len().iter_rows())
    charged = price + sum((per.get(name, 0) * charge for name, charge in CHARGES.items()), Decimal(0))
    return {False: (frame.height, price, stock), True: (frame.height, charged, stock)}


def measure(
    system: System,
    runs: Mapping[str, tuple[Callable[[], None], bool]],
    expected: Mapping[bool, tuple[int, Decimal, int]],
    rounds: int,
) -> dict[str, list[Run]]:
    """Every way in turn, `rounds` times after one that warms up."""
    found: dict[str, list[Run]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        order = sorted(runs, key=list(runs).index, reverse=not number % 2)
        for name in order:
            load, charged = runs[name]
            emptied(system)
            used, began = cpu(system), time.perf_counter()
            load()
            run = Run(time.perf_counter() - began, cpu(system) - used)
            checked(system, expected[charged])
            print(
                f"round {number} {name:10} {run.wall:7.2f} s {run.cpu:7.2f} CPU s{'' if number else '   (warm-up)'}", flush=True
            )
            if number:
                found[name].append(run)
    return found


def summary(found: Mapping[str, list[Run]], rows: int) -> list[dict[str, object]]:
    """A row for each way, with the medians of its ratios, round by round."""
    made: list[dict[str, object]] = []
    for name, runs in found.items():
        wall, used = (statistics.median(getattr(run, what) for run in runs) for what in ("wall", "cpu"))
        ratio = statistics.median(base.wall / run.wall for base, run in zip(found[BASE], runs, strict=True))
        work = statistics.median(base.wall / run.wall for base, run in zip(found["psql work"], runs, strict=True))
        made.append(
            {
                "way": name,
                "s": wall,
                "rows/s": rows / wall,
                "CPU s": used,
                "x psql": round(ratio, 2),
                "x psql work": round(work, 2),
                "bar": barred(name, ratio, work),
            }
        )
    return made


def barred(name: str, ratio: float, work: float) -> str:
    """The format's bar, and whether it is met."""
    if name not in BARS:
        return ""
    met = ratio >= BARS[name] and (name != "csv" or work >= BAR_WORK)
    both = f"{BARS[name]}, {BAR_WORK}" if name == "csv" else str(BARS[name])
    return f"{both} {'met' if met else 'MISSED'}"


def uploaded(system: System, files: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, float]]:
    """Ids by format, and seconds: what an upload tells is planned while it comes, and the load need not do it."""
    ids, seconds = {}, {}
    for name, path in files.items():
        began = time.perf_counter()
        ids[name] = system.client.upload(path)["id"]
        seconds[name] = time.perf_counter() - began
    return ids, seconds


def profile(system: System, uploads: Mapping[str, str], rounds: int) -> None:
    """A flame graph of each process, for each format."""
    for name, upload in uploads.items():

        def load(upload: str = upload) -> None:
            emptied(system)
            ways.jobber(system, upload)

        for file in profiled(system, report.FOLDER / "profile", name, load, rounds):
            print(f"written: {os.path.relpath(file)}", flush=True)


def main() -> int:
    """Measure and print; 3 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--broker", choices=("embedded", "pulsar"), default="embedded")
    parser.add_argument("--executors", type=int, default=1)
    parser.add_argument("--only", default=",".join(FORMATS), help="formats, separated by commas")
    parser.add_argument("--profile", action="store_true", help="flame graphs instead of figures")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    formats = asked.only.split(",")
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        folder = Path(place)
        frame, files = written(folder, asked.rows, {"csv", *formats})
        system = start(folder / "up", "--broker", asked.broker, "--executors", str(asked.executors))
        try:
            dsn = system.state["database"]
            set_up(dsn)
            uploads, uploading = uploaded(system, {name: files[name] for name in formats})
            if asked.profile:
                profile(system, uploads, asked.rounds)
                return 0
            runs: dict[str, tuple[Callable[[], None], bool]] = {
                BASE: (lambda: ways.psql(dsn, files["csv"], COLUMNS), False),
                "psql work": (lambda: ways.psql_work(dsn, files["csv"], COLUMNS), True),
                "by hand": (lambda: ways.by_hand(dsn, files["csv"], CHARGES), True),
            }
            for name in formats:
                runs[name] = ((lambda upload: lambda: ways.jobber(system, upload))(uploads[name]), True)
            found = measure(system, runs, expectations(frame), asked.rounds)
        finally:
            system.stop()
    lines = [{**line, "upload s": uploading.get(str(line["way"]), "")} for line in summary(found, asked.rows)]
    print(report.table(lines))
    file = report.write(
        "end_to_end",
        {
            "rows": asked.rows,
            "broker": asked.broker,
            "ways": lines,
            "runs": {name: [[run.wall, run.cpu] for run in runs] for name, runs in found.items()},
        },
        asked.json,
    )
    rates = {str(line["way"]): float(str(line["rows/s"])) for line in lines}
    print(report.draw(file, bars(f"{asked.rows:,} rows, rows a second", rates, set(runs) - set(formats))))
    return 3 if any("MISSED" in str(line["bar"]) for line in lines) else 0


def set_up(dsn: str) -> None:
    """The charges that every way adds, and the sequence cache that every table has."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("DELETE FROM products.categories")
        for name, charge in CHARGES.items():
            session.execute("INSERT INTO products.categories (name, charge) VALUES (%s, %s)", [name, charge])
        session.execute("ALTER SEQUENCE products.product_ids CACHE 1000")


if __name__ == "__main__":
    sys.exit(main())
