"""dlt's PostgreSQL destination: as its documentation begins (rows), and with Arrow tables through its faster loaders."""

import csv
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Files of a load are written and read once: compressing them only costs.
os.environ["DATA_WRITER__DISABLE_COMPRESSION"] = "true" if sys.argv[1:] != ["rows"] else "false"
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"

import dlt
import pyarrow as pa
import pyarrow.csv

from benchmarks.peers.programs.served import DSN, SCHEMA, serve

TYPES = {
    "name": pa.string(),
    "category": pa.string(),
    "price": pa.decimal128(12, 2),
    "stock": pa.int32(),
    "rating": pa.decimal128(3, 2),
    "description": pa.string(),
}
PIPELINE = dlt.pipeline(
    SCHEMA, pipelines_dir=tempfile.mkdtemp(prefix="dlt-"), destination=dlt.destinations.postgres(DSN), dataset_name=SCHEMA
)


def rows(csv_file: Path) -> Iterator[dict[str, Any]]:
    """One by one, as dictionaries."""
    with csv_file.open(newline="") as source:
        yield from csv.DictReader(source)


def tables(csv_file: Path) -> Iterator[pa.Table]:
    """As Arrow."""
    options = pa.csv.ConvertOptions(column_types=TYPES)
    with pa.csv.open_csv(csv_file, read_options=pa.csv.ReadOptions(block_size=8 << 20), convert_options=options) as batches:
        for batch in batches:
            yield pa.Table.from_batches([batch])


def load(csv_file: Path) -> None:
    """Extract, normalize, load."""
    way = sys.argv[1]
    data = rows(csv_file) if way == "rows" else tables(csv_file)
    options = {} if way == "rows" else {"loader_file_format": way}
    PIPELINE.run(data, table_name="products", write_disposition="append", **options).raise_on_failed_jobs()


if __name__ == "__main__":
    serve(load)
