"""How a program takes orders: it stays, so that imports and connections cost it nothing."""

import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

READY, DONE = "peer is ready", "peer is done"
COLUMNS = ("name", "category", "price", "stock", "rating", "description")
DSN = os.environ.get("DATABASE_URL", "")
SCHEMA = os.environ.get("PEER_SCHEMA", "")
TABLE = f"{SCHEMA}.products"


def serve(load: Callable[[Path], None]) -> None:
    """Load the file of each line of standard input."""
    print(READY, flush=True)
    for line in sys.stdin:
        load(Path(line.strip()))
        print(DONE, flush=True)


@contextmanager
def records(csv_file: Path) -> Iterator[Iterator[list[str]]]:
    """The file's records, without its head."""
    with csv_file.open(newline="") as source:
        rows = csv.reader(source)
        next(rows)
        yield rows
