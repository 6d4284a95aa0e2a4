"""The ways in which a file is loaded."""

import json
import subprocess
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pgpq
import polars as pl
import psycopg

from jobber.local.postgres import binaries
from tests.support.system import System

FOLLOW = "subscription ($id: ID!) { jobProgress(id: $id) { state error } }"
ENDED = {"SUCCEEDED", "PARTIAL", "FAILED", "CANCELED"}

#: What LoadProducts does, in SQL: text to types, and the category's charge on the price.
WORK = """
INSERT INTO products.products ({columns})
SELECT s.name, s.category, (s.price::numeric(12,2) + coalesce(c.charge, 0))::numeric(12,2), s.stock::integer,
       s.rating::numeric(3,2), s.description
  FROM stage s LEFT JOIN products.categories c ON c.name = s.category
"""


def psql(dsn: str, csv: Path, columns: str) -> None:
    """A bare COPY."""
    _psql(dsn, f"\\copy products.products ({columns}) from '{csv}' with (format csv, header)")


def psql_work(dsn: str, csv: Path, columns: str) -> None:
    """The same work as Jobber's, but for the checks of each record."""
    psql_merge(dsn, csv, columns, WORK.format(columns=columns))


def psql_merge(dsn: str, csv: Path, columns: str, statement: str) -> None:
    """A COPY into a temporary table `stage` of text, then the statement."""
    stage = ", ".join(f"{name.strip()} text" for name in columns.split(","))
    _psql(
        dsn,
        f"CREATE TEMP TABLE stage ({stage})",
        f"\\copy stage from '{csv}' with (format csv, header)",
        statement,
    )


def _psql(dsn: str, *commands: str) -> None:
    arguments = [part for command in commands for part in ("-c", command)]
    subprocess.run([str(binaries() / "psql"), dsn, "-qX", "-v", "ON_ERROR_STOP=1", *arguments], check=True)


def by_hand(dsn: str, csv: Path, charges: Mapping[str, Decimal]) -> None:
    """What a good engineer would write in an hour, of the same parts."""
    types: dict[str, pl.DataType | type[pl.DataType]] = {
        "price": pl.Decimal(12, 2),
        "stock": pl.Int32,
        "rating": pl.Decimal(3, 2),
    }
    frame = pl.read_csv(csv, schema_overrides=types)
    charge = pl.col("category").replace_strict(dict(charges), default=Decimal(0), return_dtype=pl.Decimal(12, 2))
    table = frame.with_columns(price=(pl.col("price") + charge).cast(pl.Decimal(12, 2))).to_arrow()
    encoder = pgpq.ArrowToPostgresBinaryEncoder(table.schema)
    copy_of = f"COPY products.products ({', '.join(table.column_names)}) FROM STDIN (FORMAT binary)"
    with psycopg.connect(dsn) as session, session.cursor() as cursor, cursor.copy(copy_of.encode()) as copy:
        copy.write(encoder.write_header())
        for batch in table.to_batches(max_chunksize=50_000):
            copy.write(encoder.write_batch(batch))
        copy.write(encoder.finish())


def jobber(system: System, upload: str, options: Mapping[str, Any] | None = None) -> None:
    """From the submission to the event that tells its end."""
    job = system.client.execute("LoadProducts", {"fileName": upload}, options)
    headers = {"Authorization": f"Bearer {system.client.token}", "Accept": "text/event-stream"}
    question = {"query": FOLLOW, "variables": {"id": job.id}}
    with httpx.stream("POST", f"{system.client.jobs}/graphql", json=question, headers=headers, timeout=None) as events:
        for line in events.iter_lines():
            if line.startswith("data:") and (data := line.removeprefix("data:").strip()):
                seen = json.loads(data)["data"]["jobProgress"]
                if seen["state"] in ENDED:
                    assert seen["state"] == "SUCCEEDED", seen
                    return
    raise AssertionError("the events ended before the job did")
