"""What the model is made of: figures of this machine where they were measured, others where they were not."""

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROLES = ("executor", "products", "postgres", "jobs")

#: CPU seconds of a row, from CSV: two shared cores, Python 3.11, embedded PostgreSQL 18, 2026-11 (docs/operations.md).
FALLBACK_PER_ROW = {"executor": 1.2e-6, "products": 0.5e-6, "postgres": 1.4e-6, "jobs": 0.2e-6}
#: Of a bare structural scan with digests, CPU seconds of a million rows: `bench operators`, csv.
FALLBACK_PLAN = 0.3e-6
#: Bytes that PostgreSQL logs for a row of 130 bytes: `bench scale`.
FALLBACK_WAL = 272.0
#: Seconds of a load of a million rows on two cores, with one executor: `bench scale` on a quiet machine.
FALLBACK_WALL = 1.5

#: Bytes of the CSV of a row, and so rows of a batch of JOBBER_BATCH_BYTES.
ROW_BYTES = 130
BATCH_ROWS = (4 << 20) // ROW_BYTES


@dataclass(frozen=True, slots=True)
class Fit:
    """`fixed` seconds of a load and `slope` for each row of it; `error`: the largest relative one over what was measured."""

    fixed: float
    slope: float
    error: float


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU seconds and bytes; `sources` tells where each is from."""

    #: CPU seconds of a row, by role, from the submission on: what was uploaded is planned by then (ADR 14).
    per_row: Mapping[str, float]
    #: CPU seconds of a batch in the jobs service.
    per_batch: float
    plan: float
    wal: float
    #: Measured wall seconds of a load of `rows` rows, and the cores that all shared.
    rows: int
    wall: float
    cores: int
    #: Seconds to make a commit durable, and bytes a second that the disk takes.
    flush: float
    disk: float
    #: Rows a second by number of executors, measured on this machine: what the model is held against.
    measured: Mapping[int, float] = field(default_factory=dict)
    sources: Sequence[str] = ()


def fitted(points: Sequence[tuple[float, float]]) -> Fit:
    """The line through (rows, seconds) with the least relative errors, neither part of it below zero."""
    rows, seconds = (np.array(values, dtype=float) for values in zip(*points, strict=True))
    seconds = np.maximum(seconds, 1e-9)
    # Divided by what was measured: a per cent is as bad at a hundred thousand rows as at ten million.
    weighed = np.column_stack([1 / seconds, rows / seconds])
    ones = np.ones(len(rows))
    fixed, slope = np.linalg.lstsq(weighed, ones, rcond=None)[0]
    if len(points) == 1 or fixed < 0:
        fixed, slope = 0.0, float(np.linalg.lstsq(weighed[:, 1:], ones, rcond=None)[0][0])
    elif slope < 0:
        fixed, slope = float(np.linalg.lstsq(weighed[:, :1], ones, rcond=None)[0][0]), 0.0
    error = float(np.max(np.abs((fixed + slope * rows) / seconds - 1)))
    return Fit(float(fixed), float(slope), error)


def gathered(folder: Path, flush: float, disk: float) -> Figures:
    """From the JSON of `bench scale` and `bench operators` in the folder; what is not there is one of the constants above."""
    scale, operators = _read(folder / "scale.json"), _read(folder / "operators.json")
    sources = [f"flush {flush * 1000:.2f} ms, disk {disk / 1e6:,.0f} MB/s: measured just now"]
    sizes = [line for line in scale.get("rows", []) if all(f"{role} CPU s" in line for role in ROLES)]
    plan = next((line["plan"] / 1e6 for line in operators.get("cpu", []) if line["format"] == "csv"), FALLBACK_PLAN)
    sources.append(f"planning {plan * 1e6:.2f} CPU s a million rows: {_said(operators, 'operators')}")
    if sizes:
        fits = {role: fitted([(line["rows"], line[f"{role} CPU s"]) for line in sizes]) for role in ROLES}
        per_row = {role: fit.slope for role, fit in fits.items()}
        usual = min(sizes, key=lambda line: abs(line["rows"] - 1_000_000))
        rows, wall, wal = int(usual["rows"]), float(usual["s"]), float(usual["WAL B/row"])
        cores = int(scale["machine"]["cpus"])
        told = ", ".join(f"{role} {fit.slope * 1e6:.2f} ± {fit.error:.0%}" for role, fit in fits.items())
        sources.append(f"CPU s a million rows, fitted over {len(sizes)} sizes: {told}: {_said(scale, 'scale')}")
    else:
        per_row = dict(FALLBACK_PER_ROW)
        rows, wall, wal, cores = 1_000_000, FALLBACK_WALL, FALLBACK_WAL, 2
        sources.append("CPU by role, wall and WAL: the constants in benchmarks/simulate/figures.py; run `bench scale`")
    # All that jobs does in a long load, it does for a batch.
    per_batch = per_row.pop("jobs") * BATCH_ROWS
    measured = {int(line["executors"]): float(line["rows/s"]) for line in scale.get("executors", [])}
    return Figures(per_row, per_batch, plan, wal, rows, wall, cores, flush, disk, measured, tuple(sources))


def disk_of(folder: Path) -> tuple[float, float]:
    """Seconds of a small durable write, and bytes a second of a large one; in the folder, as /tmp may be memory."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        began = time.perf_counter()
        for _ in range(100):
            os.write(file.fileno(), bytes(8192))
            os.fsync(file.fileno())
        flush = (time.perf_counter() - began) / 100
        block, began = os.urandom(8 << 20), time.perf_counter()
        for _ in range(32):
            os.write(file.fileno(), block)
        os.fsync(file.fileno())
        return flush, 32 * len(block) / (time.perf_counter() - began)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _said(found: Mapping[str, Any], name: str) -> str:
    return f"`bench {name}` of {time.strftime('%Y-%m-%d %H:%M', time.localtime(found['at']))}" if found else "a constant"
