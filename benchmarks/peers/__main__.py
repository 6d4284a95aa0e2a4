"""python -m benchmarks.peers --rows 1000000 --rounds 5 [--only "duckdb adbc,per record"] [--broker pulsar]

The same CSV through Jobber (executeJob to SUCCEEDED, uploaded before), `psql \\copy`, and what else people load with. Each
writes to a table with the same columns, checks, index and sequence cache, in the same PostgreSQL with fsync on; each is started
before, so that imports and connections cost it nothing. Slow ones load a part of the rows and are compared by rows a second.
Wall and CPU seconds (of the peer, its broker, its workers and PostgreSQL) of each round, in turn; what was loaded is compared
after each. Only Jobber checks every record, adds the charges, keeps what it rejects with its reason, and loads exactly once.

`--broker pulsar` runs Jobber, and the imitation of the per-record design, on a real Pulsar.
"""

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl
import psycopg

from benchmarks import report
from benchmarks.chart import bars
from benchmarks.copy.__main__ import products
from benchmarks.end_to_end import ways as own_ways
from benchmarks.end_to_end.__main__ import COLUMNS, expectations, set_up
from benchmarks.peers.ways import PEERS, Company
from tests.support.system import System, start

JOBBER, PSQL = "jobber", "psql copy"


@dataclass(frozen=True, slots=True)
class Way:
    """One of those that are compared."""

    rows: int
    table: str
    load: Callable[[], None]
    expected: tuple[int, Decimal, int]


@dataclass(frozen=True, slots=True)
class Run:
    """One load: seconds, and CPU seconds of everything."""

    rows: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.wall


def run(way: Way, dsn: str) -> Run:
    """One load into an empty table of an idle server. Raises AssertionError when other rows are in it afterwards."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(f"TRUNCATE {way.table}".encode())
        session.execute("CHECKPOINT")
        used, began = report.cpu_of(os.getpid()), time.perf_counter()
        way.load()
        done = Run(way.rows, time.perf_counter() - began, report.cpu_of(os.getpid()) - used)
        found = session.execute(f"SELECT count(*), sum(price), sum(stock) FROM {way.table}".encode()).fetchone()
        assert found == way.expected, f"loaded {found}, not {way.expected}"
        return done


def measure(ways: Mapping[str, Way], dsn: str, rounds: int) -> dict[str, list[Run]]:
    """All in turn, after a round that warms up; every other round backwards."""
    found: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in sorted(ways, key=list(ways).index, reverse=bool(number % 2)):
            done = run(ways[name], dsn)
            told = f"{done.wall:7.2f} s {done.rate:>10,.0f} rows/s {done.cpu:7.2f} CPU s"
            print(f"round {number} {name:17} {told}{'' if number else '   (warm-up)'}", flush=True)
            if number:
                found[name].append(done)
    return found


def summary(found: Mapping[str, Sequence[Run]]) -> list[dict[str, object]]:
    """A line for each; how many times as fast Jobber is, is the median over the rounds."""
    known = {peer.name: peer for peer in PEERS}
    made: list[dict[str, object]] = []
    for name, runs in found.items():
        peer = known.get(name)
        ratio = statistics.median(ours.rate / run.rate for ours, run in zip(found[JOBBER], runs, strict=True))
        bar = peer.bar if peer else 0
        made.append(
            {
                "way": name,
                "rows": runs[0].rows,
                "s": statistics.median(run.wall for run in runs),
                "rows/s": statistics.median(run.rate for run in runs),
                "CPU s/1M rows": statistics.median(run.cpu for run in runs) * 1e6 / runs[0].rows,
                "jobber is x": round(ratio, 2) if ratio < 100 else round(ratio),
                "bar": "" if not bar else f"{bar:,.0f} {'met' if ratio >= bar else 'MISSED'}",
                "checks": "yes" if name == JOBBER else "no",
                "lacks": peer.lacks if peer else "" if name == JOBBER else "one transaction; no ledger",
            }
        )
    return made


def prepared(system: System, company: Company, folder: Path, rows: int) -> dict[str, Way]:
    """Files of as many rows as each takes, and what must be in the table afterwards."""
    frame = products(rows).drop("row_no")
    dsn, files = system.state["database"], dict[int, Path]()
    for count in {rows, *(peer.rows(rows) for peer in company.running)}:
        files[count] = folder / f"{count}.csv"
        frame.head(count).write_csv(files[count])
        files[count].chmod(0o644)
    upload = system.client.upload(files[rows])["id"]
    sums = expectations(frame)
    ways = {
        JOBBER: Way(rows, "products.products", lambda: own_ways.jobber(system, upload), sums[True]),
        PSQL: Way(rows, "products.products", lambda: own_ways.psql(dsn, files[rows], COLUMNS), sums[False]),
    }
    for peer, runner in company.running.items():
        count = peer.rows(rows)
        load = functools.partial(runner.load, files[count])
        ways[peer.name] = Way(count, f"{peer.schema}.products", load, _raw(frame.head(count)))
    return ways


def _raw(frame: pl.DataFrame) -> tuple[int, Decimal, int]:
    return expectations(frame)[False]


def main() -> int:
    """Measure and print; 3 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(peer.name for peer in PEERS), help="peers, separated by commas")
    parser.add_argument("--broker", choices=("embedded", "pulsar"), default="embedded")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    names = asked.only.split(",")
    if unknown := set(names) - {peer.name for peer in PEERS}:
        parser.error(f"there is no peer {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        folder = Path(place)
        system = start(folder / "up", "--broker", asked.broker)
        try:
            dsn = system.state["database"]
            set_up(dsn)
            pulsar = system.state["transport"] if asked.broker == "pulsar" else ""
            company = Company(names, dsn, folder, pulsar)
            try:
                found = measure(prepared(system, company, folder, asked.rows), dsn, asked.rounds)
            finally:
                company.stop()
        finally:
            system.stop()
    lines = summary(found)
    broker = "Pulsar" if asked.broker == "pulsar" else "Redis"
    print(f"\n{report.table(lines)}\nCelery's broker is Redis; the messages of `per record` go through {broker}.")
    runs = {name: [[run.rows, run.wall, run.cpu] for run in runs] for name, runs in found.items()}
    file = report.write("peers", {"rows": asked.rows, "broker": asked.broker, "ways": lines, "runs": runs}, asked.json)
    title = f"{asked.rows:,} rows of CSV, rows a second"
    rates = {str(line["way"]): float(str(line["rows/s"])) for line in lines}
    print(report.draw(file, bars(title, rates, set(found) - {JOBBER})))
    return 3 if any("MISSED" in str(line["bar"]) for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
