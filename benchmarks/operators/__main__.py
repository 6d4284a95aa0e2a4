"""python -m benchmarks.operators --rows 1000000 --rounds 5 [--only csv,parquet] [--broken 0.01]

CPU seconds of each step for a million rows, by format, in one process and without sockets:

    plan     find where records begin, cut it into batches, digest them; compressed inputs and Parquet are packed anew
    read     get the batches' bytes back from the blob
    digest   see that they are those that were planned
    unpack   expand packed batches
    decode   take records apart, as text
    check    hold them against the contract, and cast
    enrich   add the category's charge, and hold rows against the target
    arrow    rows as Arrow, as they go over the wire; rejects as their block
    encode   in products: Arrow as rows of COPY BINARY

Walls are in the JSON: several steps use more than one thread. `--broken`: that share of the records has a price that is none.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from api.products.model import Header
from api.products.rows import encode
from benchmarks import report
from benchmarks.chart import bars
from benchmarks.end_to_end.inputs import FORMATS, written
from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.digest import digest_of
from jobber.ids import uuid7
from jobber.job import discover, find
from jobber.model import BatchKey, InputOptions
from operators import arrow, rejects
from operators.enrich import enrich
from operators.pack import unpack
from pipelines.opened import Planner
from pipelines.prepare import meet, take
from pipelines.work import Batch, Read, Source, Spec

STEPS = ("plan", "read", "digest", "unpack", "decode", "check", "enrich", "arrow", "encode")
LOOKUPS = {"charges": {"Books": "1.50", "Toys": "0.10"}}
KEY = "inputs/bench"


class Clock:
    """CPU and wall seconds by step."""

    def __init__(self) -> None:
        self.cpu = dict.fromkeys(STEPS, 0.0)
        self.wall = dict.fromkeys(STEPS, 0.0)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """All threads of this process count."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu[step] += time.process_time() - cpu
        self.wall[step] += time.perf_counter() - wall


async def _bytes_of(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(8 << 20):
            yield chunk


def one(blobs: Blobs, expected: tuple[int, int]) -> Clock:
    """Every step over all of an input. Raises AssertionError when rows or rejects are not as many as they should be."""
    kind, clock = find("LoadProducts"), Clock()
    job_id = uuid7()
    with clock.timed("plan"):
        planner = Planner(blobs, 1 << 40, isolated=True)
        plan = planner.plan(Source(blob_key=KEY), Contract.of(kind.contract), InputOptions(), lambda: None)
    spec = Spec(job_id, kind, kind.args(), plan.layout, LOOKUPS)
    rows = rejected = 0
    for number, planned in enumerate(plan.batches):
        with clock.timed("read"):
            data = blobs.read(plan.blob_key or KEY, planned.offset, planned.length)
        with clock.timed("digest"):
            assert digest_of(data) == planned.digest
        if plan.layout.packed:
            with clock.timed("unpack"):
                data = unpack(data)
        key = BatchKey(job_id, number)
        batch = Batch(key, 1, spec, Source(), planned.first_row, planned.rows, planned.digest, planned.plain)
        with clock.timed("decode"):
            taken = take(Read(batch, data))
        with clock.timed("check"):
            met = meet(taken)
        with clock.timed("enrich"):
            enriched = enrich(met.kept, spec.args, spec.lookups)
        with clock.timed("arrow"):
            broken = pl.concat([met.faults, enriched.faults])
            block = rejects.to_block(broken, met.raw)
            stream = arrow.to_ipc(enriched.kept)
        header = Header(key, enriched.kept.height, broken["row_no"].n_unique(), block)
        with clock.timed("encode"):
            encode(bytes(stream), header, 1)
        rows, rejected = rows + header.rows, rejected + header.rejected
    assert (rows, rejected) == expected, f"{rows} rows and {rejected} rejects, not {expected}"
    return clock


def measure(folder: Path, rows: int, names: list[str], rounds: int, broken: float) -> dict[str, list[Clock]]:
    """All formats in turn, after a round that warms up."""
    _, files = written(folder, rows, names)
    bad = int(rows * broken)
    if bad:
        spoilt(files, rows, bad)
    places = {}
    for name, path in files.items():
        places[name] = Blobs((folder / f"blobs-{name}").as_uri())
        asyncio.run(places[name].put(KEY, _bytes_of(path), 1 << 40))
    found: dict[str, list[Clock]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in sorted(names, reverse=bool(number % 2)):
            clock = one(places[name], (rows - bad, bad))
            if number:
                found[name].append(clock)
    return found


def spoilt(files: Mapping[str, Path], rows: int, bad: int) -> None:
    """Every so many prices below zero. In texts only what is written there is replaced; Parquet is written anew."""
    for name, path in files.items():
        if name not in ("csv", "parquet"):
            raise SystemExit("--broken goes with csv and parquet")
        frame = pl.read_csv(path, infer_schema=False) if name == "csv" else pl.read_parquet(path)
        place = pl.int_range(pl.len())
        every = rows // bad
        hit = (place % every == 0) & (place < every * bad)
        worse = pl.lit("-1.00").cast(frame.schema["price"])
        frame = frame.with_columns(price=pl.when(hit).then(worse).otherwise("price"))
        frame.write_csv(path) if name == "csv" else frame.write_parquet(path)


def summary(found: Mapping[str, list[Clock]], rows: int, what: str) -> list[dict[str, Any]]:
    """A line for each format: medians, for a million rows."""
    made = []
    for name, clocks in found.items():
        steps = {step: statistics.median(getattr(clock, what)[step] for clock in clocks) * 1e6 / rows for step in STEPS}
        made.append({"format": name, **steps, "total": sum(steps.values())})
    return made


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="formats, separated by commas")
    parser.add_argument("--broken", type=float, default=0.0, help="share of records that are rejected; csv and parquet")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else ["csv", "parquet"] if asked.broken else list(FORMATS)
    discover()
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        found = measure(Path(place), asked.rows, names, asked.rounds, asked.broken)
    cpu, wall = (summary(found, asked.rows, what) for what in ("cpu", "wall"))
    print(f"CPU seconds for a million rows\n{report.table(cpu)}")
    file = report.write("operators", {"rows": asked.rows, "broken": asked.broken, "cpu": cpu, "wall": wall}, asked.json)
    drawn = {f"{line['format']} {step}": line[step] for line in cpu for step in STEPS if line[step] >= 0.005}
    print(report.draw(file, bars("CPU seconds for a million rows", drawn)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
