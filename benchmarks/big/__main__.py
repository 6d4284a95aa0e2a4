"""python -m benchmarks.big --csv 5 --gzip 1.5 --json-array 2

How much memory of their own (RssAnon; children count, planning is one) executor, jobs and products
have while a small and a large file of each kind go from the upload to the end of their job. The sizes are gigabytes of the
file as it is sent; 0 leaves a kind out.

Each must stay within 400 MiB, and a large file must need no more than a small one: within 1.25 times as much and 16 MiB. So
must the jobs service while a tenth of `--rejects` and all of them are downloaded; 99 of 100 others are answered within 250 ms
meanwhile.
"""

import argparse
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import report
from benchmarks.big.rejects import P99, downloads
from benchmarks.chart import bars
from benchmarks.copy.__main__ import products
from benchmarks.memory import Peaks
from jobber.cli.tus import Upload
from jobber.model import State
from tests.support.system import System, ended, start

#: Bytes that a service may have at once, and the roles that are held to it.
MOST = 400 << 20
ROLES = ("executor", "jobs", "products")
#: Gigabytes of the file that a large one is compared with.
SMALL = 0.1
#: Rows of a block, of which a file has as many as it needs.
BLOCK = 50_000
GB = 1_000_000_000


def csv(size: int) -> Iterator[bytes]:
    """Rows until there are so many bytes."""
    frame = products(BLOCK).drop("row_no")
    block = frame.write_csv(include_header=False).encode()
    yield ",".join(frame.columns).encode() + b"\n"
    for _ in range(max(size // len(block), 1)):
        yield block


def gzip(size: int) -> Iterator[bytes]:
    """A CSV that has so many bytes once it is compressed, as one member."""
    packer, made = zlib.compressobj(6, zlib.DEFLATED, 31), 0
    for block in csv(1 << 50):
        packed = packer.compress(block)
        made += len(packed)
        yield packed
        if made >= size:
            break
    yield packer.flush()


def json_array(size: int) -> Iterator[bytes]:
    """An array of so many bytes."""
    frame = products(BLOCK).drop("row_no").with_columns(pl.col("price", "rating").cast(pl.Float64))
    block = b",\n".join(frame.write_ndjson().encode().splitlines())
    for number in range(max(size // len(block), 1)):
        yield b",\n" if number else b"["
        yield block
    yield b"]"


KINDS: Mapping[str, Callable[[int], Iterator[bytes]]] = {"csv": csv, "gzip": gzip, "json_array": json_array}


def load(system: System, path: Path, seconds: float, *, dry: bool) -> tuple[dict[str, int], int, float]:
    """Upload and run it: the most bytes that each role had, the records, and the seconds it took."""
    began = time.perf_counter()
    with Peaks(system) as peaks:
        sent = Upload(system.client, path)
        options = {"dryRun": True} if dry else {}
        job = ended(system.client, system.client.execute("LoadProducts", {"fileName": sent.send()}, options), seconds)
        sent.forget()
    if job.state is not State.SUCCEEDED or job.loaded != job.total:
        raise SystemExit(f"{path.name}: {job}")
    return {role: peaks.together[role] for role in ROLES}, job.loaded, time.perf_counter() - began


def main() -> int:
    """Load and print; 3 when something takes too much, or more for more."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.big", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for kind, size in (("csv", 5.0), ("gzip", 1.5), ("json-array", 2.0)):
        parser.add_argument(f"--{kind}", type=float, default=size, metavar="GB")
    parser.add_argument("--rejects", type=int, default=1_000_000, metavar="ROWS", help="0: none")
    parser.add_argument("--small", type=float, default=SMALL, metavar="GB")
    parser.add_argument("--dry-run", action="store_true", help="without writing the rows: for small disks")
    parser.add_argument("--seconds", type=float, default=3600, help="that a job may take")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobber-bench-") as place:
        folder = Path(place)
        os.chmod(folder, 0o755)
        lines = files(folder, asked)
        rejected = rejects(folder, asked) if asked.rejects else []
    print(report.table(lines))
    if rejected:
        print(report.table(rejected))
    file = report.write("big", {"lines": lines, "rejects": rejected}, asked.json)
    told = {f"{line['GB']} GB {line['kind']}, {role}": float(line[f"{role} MiB"]) for line in lines for role in ROLES}
    told |= {f"{line['rows']:,} rejects of {line['rejects of']} as {line['as']}": float(line["jobs MiB"]) for line in rejected}
    print(report.draw(file, bars("MiB of their own, at the most", told)))
    return 0 if all(line["says"] == "fine" for line in (*lines, *rejected)) else 3


def files(folder: Path, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each file that is loaded."""
    lines: list[dict[str, Any]] = []
    for kind, pieces in KINDS.items():
        if not getattr(asked, kind):
            continue
        # Each begins with services that have seen nothing yet.
        system = start(folder / f"up-{kind}")
        try:
            had: dict[str, int] = {}
            for size in (asked.small, getattr(asked, kind)):
                path = folder / f"{size}.{kind}"
                with path.open("wb") as sink:
                    sink.writelines(pieces(int(size * GB)))
                most, rows, seconds = load(system, path, asked.seconds, dry=asked.dry_run)
                line = {"kind": kind, "GB": round(path.stat().st_size / GB, 2), "rows": rows, "s": round(seconds, 1)}
                line |= {f"{role} MiB": most[role] >> 20 for role in ROLES}
                lines.append(line | {"says": verdict(most, had)})
                had = most
                print(report.table([lines[-1]]), flush=True)
                path.unlink()
        finally:
            system.stop()
    return lines


def rejects(folder: Path, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each download."""
    lines: list[dict[str, Any]] = []
    system = start(folder / "up-rejects")
    try:
        had: dict[tuple[str, str], int] = {}
        for kind, rows in ((kind, rows) for kind in ("csv", "ndjson") for rows in (asked.rejects // 10, asked.rejects)):
            for line in downloads(system, folder, kind, rows, asked.seconds):
                now = line["jobs MiB"] << 20
                before = had.setdefault((kind, line["as"]), now)
                says = verdict({"jobs": now}, {"jobs": before})
                lines.append(line | {"says": says if line["p99 ms"] <= P99 * 1000 else "SLOW MEANWHILE"})
                print(report.table([lines[-1]]), flush=True)
    finally:
        system.stop()
    return lines


def verdict(most: Mapping[str, int], had: Mapping[str, int]) -> str:
    """What bytes by role say beside those that a smaller file took."""
    flat = all(bytes_ <= 1.25 * had.get(role, bytes_) + (16 << 20) for role, bytes_ in most.items())
    within = all(bytes_ <= MOST for bytes_ in most.values())
    return " ".join([*(["TOO MUCH"] * (not within)), *(["NOT FLAT"] * (not flat))]) or "fine"


if __name__ == "__main__":
    sys.exit(main())
