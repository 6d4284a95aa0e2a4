"""DuckDB reads the CSV; ADBC (binary COPY from Arrow), or DuckDB's own extension, writes it."""

import shutil
import sys
from pathlib import Path

import duckdb

from benchmarks.peers.programs.served import COLUMNS, DSN, SCHEMA, TABLE, serve

TYPES = ("VARCHAR", "VARCHAR", "DECIMAL(12,2)", "INTEGER", "DECIMAL(3,2)", "VARCHAR")
#: Rows of an Arrow batch: 50,000 to 100,000 were equally fast, the default of a million slower.
BATCH = 100_000


def reading(csv_file: Path) -> str:
    """With the types of the table: what is guessed is a float."""
    types = ", ".join(f"'{name}': '{kind}'" for name, kind in zip(COLUMNS, TYPES, strict=True))
    return f"SELECT * FROM read_csv('{csv_file}', header = true, columns = {{{types}}})"


def with_adbc(csv_file: Path) -> None:
    """One transaction."""
    from adbc_driver_postgresql import dbapi

    batches = duckdb.connect().execute(reading(csv_file)).to_arrow_reader(BATCH)
    with dbapi.connect(DSN) as session, session.cursor() as cursor:
        cursor.adbc_ingest("products", batches, mode="append", db_schema_name=SCHEMA)
        session.commit()


def with_extension(csv_file: Path) -> None:
    """One transaction."""
    import duckdb_extension_postgres

    # The wheel calls it postgres; DuckDB takes the name of its entry point from that of the file.
    folder = Path(duckdb_extension_postgres.__file__).parent
    extension = folder / "postgres_scanner.duckdb_extension"
    if not extension.exists():
        shutil.copy(next(folder.rglob("postgres.duckdb_extension")), extension)
    session = duckdb.connect()
    session.execute(f"LOAD '{extension}'")
    session.execute(f"ATTACH '{DSN}' AS target (TYPE postgres)")
    session.execute(f"INSERT INTO target.{TABLE} ({', '.join(COLUMNS)}) {reading(csv_file)}")


if __name__ == "__main__":
    serve({"adbc": with_adbc, "extension": with_extension}[sys.argv[1]])
