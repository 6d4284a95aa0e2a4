"""python -m benchmarks.upsert --rows 1000000 --rounds 3

UPSERT by name of as many rows as the table has, all of them changed, in turn by

    psql     `\\copy` into a temporary table, then INSERT ... SELECT ... ON CONFLICT (name) DO UPDATE, over a unique index
    jobber   executeJob with mode UPSERT and keys ["name"], from the submission to the event that says SUCCEEDED

Before each round the table is filled anew. Prints medians, the ratio and CPU seconds; compares what is in the table afterwards.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import polars as pl
import psycopg

from benchmarks import report
from benchmarks.chart import bars
from benchmarks.copy.__main__ import products
from benchmarks.end_to_end import ways
from benchmarks.end_to_end.__main__ import COLUMNS, cpu
from tests.support.system import System, start

INDEX = "products_by_name"
MERGE = f"""
INSERT INTO products.products ({COLUMNS})
SELECT s.name, s.category, s.price::numeric(12,2), s.stock::integer, s.rating::numeric(3,2), s.description FROM stage s
ON CONFLICT (name) DO UPDATE SET category = excluded.category, price = excluded.price, stock = excluded.stock,
                                 rating = excluded.rating, description = excluded.description
"""


def filled(system: System, csv: Path, *, unique: bool) -> None:
    """The table as it was before, and for psql the index that ON CONFLICT needs."""
    dsn = system.state["database"]
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(f"DROP INDEX IF EXISTS products.{INDEX}".encode())
        session.execute("TRUNCATE products.products")
    ways.psql(dsn, csv, COLUMNS)
    with psycopg.connect(dsn, autocommit=True) as session:
        if unique:
            session.execute(f"CREATE UNIQUE INDEX {INDEX} ON products.products (name)".encode())
        session.execute("VACUUM ANALYZE products.products")
        session.execute("CHECKPOINT")


def main() -> int:
    """Measure and print; 3 when Jobber is slower than psql."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upsert", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        os.chmod(place, 0o755)
        folder = Path(place)
        before, after = folder / "before.csv", folder / "after.csv"
        frame = products(asked.rows).drop("row_no")
        frame.write_csv(before)
        changed = frame.with_columns(
            stock=pl.col("stock") + 1, price=(pl.col("price") + Decimal("1.00")).cast(pl.Decimal(12, 2))
        )
        changed.write_csv(after)
        for path in (before, after):
            os.chmod(path, 0o644)
        expected = (asked.rows, sum(changed["price"].to_list(), Decimal(0)), int(changed["stock"].sum()))
        system = start(folder / "up")
        seconds: dict[str, list[float]] = {"psql": [], "jobber": []}
        used: dict[str, list[float]] = {"psql": [], "jobber": []}
        try:
            dsn = system.state["database"]
            with psycopg.connect(dsn, autocommit=True) as session:
                session.execute("DELETE FROM products.categories")
            upload = system.client.upload(after)["id"]
            for number in range(asked.rounds + 1):
                for way in sorted(seconds, reverse=bool(number % 2)):
                    filled(system, before, unique=way == "psql")
                    spent, began = cpu(system), time.perf_counter()
                    if way == "psql":
                        ways.psql_merge(dsn, after, COLUMNS, MERGE)
                    else:
                        ways.jobber(system, upload, {"mode": "UPSERT", "keys": ["name"]})
                    wall, spent = time.perf_counter() - began, cpu(system) - spent
                    ((count, price, stock),) = system.rows("SELECT count(*), sum(price), sum(stock) FROM products.products")
                    assert (count, price, stock) == expected, (way, count, price, stock)
                    print(
                        f"round {number} {way:7} {wall:6.2f} s {spent:6.2f} CPU s{'' if number else '   (warm-up)'}", flush=True
                    )
                    if number:
                        seconds[way].append(wall)
                        used[way].append(spent)
        finally:
            system.stop()
    ratio = statistics.median(psql / ours for psql, ours in zip(seconds["psql"], seconds["jobber"], strict=True))
    lines = [
        {"way": way, "s": statistics.median(seconds[way]), "CPU s": statistics.median(used[way])} for way in ("psql", "jobber")
    ]
    print(report.table(lines))
    print(f"{asked.rows:,} rows: {ratio:.2f} x psql")
    file = report.write("upsert", {"rows": asked.rows, "ways": lines, "ratio": ratio, "rounds": seconds}, asked.json)
    rates = {way: asked.rows / statistics.median(seconds[way]) for way in seconds}
    print(report.draw(file, bars(f"UPSERT of {asked.rows:,} rows, rows a second", rates, {"psql"})))
    return 0 if ratio >= 1 else 3


if __name__ == "__main__":
    sys.exit(main())
