"""Loads of one file beside `psql \\copy`, with what they take."""

import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import report
from benchmarks.copy.__main__ import products
from benchmarks.end_to_end import ways
from benchmarks.end_to_end.__main__ import COLUMNS, emptied
from benchmarks.memory import Peaks
from tests.support.system import System

#: Rows that are made at once; larger files repeat them.
BLOCK = 1_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """One load by Jobber and one by psql."""

    wall: float
    psql: float
    #: CPU seconds and bytes of the largest process, by role.
    cpu: Mapping[str, float]
    peak: Mapping[str, int]
    #: Bytes that PostgreSQL wrote to its log.
    wal: int


def written(folder: Path, rows: int) -> Path:
    """A CSV of so many rows, which needs no more memory than a block of them."""
    path, block = folder / f"{rows}.csv", folder / "block.csv"
    frame = products(min(rows, BLOCK)).drop("row_no")
    with path.open("wb") as sink:
        sink.write((",".join(frame.columns) + "\n").encode())
        frame.write_csv(block, include_header=False)
        for _ in range(rows // BLOCK):
            with block.open("rb") as source:
                shutil.copyfileobj(source, sink, 8 << 20)
        if rest := rows % BLOCK:
            sink.write(frame.head(rest).write_csv(include_header=False).encode())
    block.unlink()
    os.chmod(path, 0o644)
    return path


def load(system: System, csv: Path, upload: str, rows: int) -> Load:
    """psql, then Jobber, each into an empty table. Raises AssertionError when rows are missing."""
    dsn = system.state["database"]
    emptied(system)
    began = time.perf_counter()
    ways.psql(dsn, csv, COLUMNS)
    psql = time.perf_counter() - began
    emptied(system)
    before, log = report.cpu_by_role(system), _wal(dsn)
    with Peaks(system) as peaks:
        began = time.perf_counter()
        ways.jobber(system, upload)
        wall = time.perf_counter() - began
    used, log = report.spent(before, report.cpu_by_role(system)), _wal(dsn) - log
    ((count,),) = system.rows("SELECT count(*) FROM products.products")
    assert count == rows, f"{count} of {rows} rows were loaded"
    return Load(wall, psql, used, peaks.bytes, log)


def line(what: str, value: int, rows: int, loads: Sequence[Load]) -> dict[str, float]:
    """Medians, and the highest peaks in MiB."""
    wall = statistics.median(load.wall for load in loads)
    roles = [role for role in loads[0].cpu if role != "total" and (loads[0].cpu[role] or loads[0].peak.get(role))]
    return {
        what: value,
        "s": wall,
        "rows/s": rows / wall,
        "x psql": statistics.median(load.psql / load.wall for load in loads),
        "CPU s/1M": statistics.median(load.cpu["total"] for load in loads) * 1e6 / rows,
        **{f"{role} CPU s": statistics.median(load.cpu[role] for load in loads) for role in roles},
        **{f"{role} MiB": max(load.peak.get(role, 0) for load in loads) / 2**20 for role in roles},
        "WAL B/row": statistics.median(load.wal for load in loads) / rows,
    }


def _wal(dsn: str) -> int:
    with psycopg.connect(dsn) as session:
        row = session.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        return int(row[0]) if row else 0
