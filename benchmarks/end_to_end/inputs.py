"""The same rows as a file of each format."""

import gzip
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import polars as pl

from benchmarks.copy.__main__ import products


def _csv_gz(frame: pl.DataFrame, path: Path) -> None:
    plain = path.with_suffix("")
    if not plain.exists():
        frame.write_csv(plain)
    with plain.open("rb") as source, gzip.open(path, "wb", compresslevel=6) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """As JSON has them: numbers, not texts."""
    return frame.with_columns(pl.col("price", "rating").cast(pl.Float64))


def _json(frame: pl.DataFrame, path: Path) -> None:
    with path.open("wb") as sink:
        for number, part in enumerate(frame.iter_slices(100_000)):
            sink.write(b"[" if not number else b",")
            sink.write(b",".join(_numbers(part).write_ndjson().encode().splitlines()))
        sink.write(b"]")


FORMATS: Mapping[str, Callable[[pl.DataFrame, Path], None]] = {
    "csv": lambda frame, path: frame.write_csv(path),
    "csv.gz": _csv_gz,
    "ndjson": lambda frame, path: _numbers(frame).write_ndjson(path),
    "json": _json,
    "parquet": lambda frame, path: frame.write_parquet(path),
}


def written(folder: Path, rows: int, formats: Collection[str]) -> tuple[pl.DataFrame, dict[str, Path]]:
    """The rows, and a file of them in each of the formats, for others to read."""
    frame = products(rows).drop("row_no")
    files = {name: folder / f"products.{name}" for name in FORMATS if name in formats}
    for name, path in files.items():
        FORMATS[name](frame, path)
        os.chmod(path, 0o644)
    return frame, files
