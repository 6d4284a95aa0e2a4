"""pandas: `to_sql` as it is (SQLAlchemy sends many rows at once), and with the COPY callable of its documentation."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy

from benchmarks.peers.programs.served import DSN, SCHEMA, serve

# psycopg 3: three times as fast here as psycopg 2.
ENGINE = sqlalchemy.create_engine(DSN.replace("postgresql://", "postgresql+psycopg://"))


def copy(table: Any, session: Any, keys: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """As pandas' user guide has it."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    into = f"COPY {table.schema}.{table.name} ({', '.join(keys)}) FROM STDIN (FORMAT csv)"
    with session.connection.driver_connection.cursor() as cursor, cursor.copy(into) as sink:
        sink.write(text.getvalue())


def load(csv_file: Path) -> None:
    """For COPY, decimals stay text; INSERT wants numbers, and PostgreSQL rounds those floats to their cents."""
    method, size = {"insert": (None, 10_000), "copy": (copy, 50_000)}[sys.argv[1]]
    frame = pd.read_csv(csv_file, dtype={"price": str, "rating": str} if method else None)
    frame.to_sql("products", ENGINE, schema=SCHEMA, if_exists="append", index=False, method=method, chunksize=size)


if __name__ == "__main__":
    serve(load)
