"""DuckDB as an independent judge: it reads the same input and says by SQL of its own what must have become of every record."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

COLUMNS = ("name", "category", "price", "stock", "rating", "description")

#: Each kind of file becomes the table `input`: row_no, the text of each column (null where absent), `shape` for a record that
#: is not as wide as its header, and `<column>_kind`: whether JSON had text or a number there.
CSV = """
CREATE TABLE lines AS
    SELECT row_number() OVER () AS row_no, line
    FROM read_csv(?, columns = {'line': 'VARCHAR'}, delim = '\x01', quote = '', escape = '', header = false, skip = 1);
CREATE TABLE input AS
    SELECT row_no, len(fields) <> 6 AS shape, {columns}
    FROM (SELECT row_no, string_split(line, ',') AS fields FROM lines)
"""
JSON = """
CREATE TABLE input AS
    SELECT row_number() OVER () AS row_no, false AS shape, {columns}
    FROM read_json(?, format = '{format}', columns = {{{types}}})
"""

#: What a record must meet, by column; each says when it is broken.
RULES: Mapping[str, str] = {
    "name": "name IS NULL OR name = '' OR name_kind <> 'text'",
    "category": "category_kind <> 'text'",
    "description": "description_kind <> 'text'",
    "price": r"""
        price IS NULL OR price_kind <> 'number' OR NOT regexp_full_match(trim(price), '-?[0-9]+(\.[0-9]+)?')
        OR TRY_CAST(trim(price) AS DECIMAL(30, 6)) IS NULL
        OR CAST(TRY_CAST(trim(price) AS DECIMAL(30, 6)) AS DECIMAL(30, 2)) <> TRY_CAST(trim(price) AS DECIMAL(30, 6))
        OR NOT TRY_CAST(trim(price) AS DECIMAL(30, 6)) BETWEEN 0 AND 9999999999.99
        OR TRY_CAST(trim(price) AS DECIMAL(30, 6)) + charge > 9999999999.99
    """,
    "stock": r"""
        stock IS NOT NULL AND (stock_kind <> 'number' OR NOT regexp_full_match(trim(stock), '-?[0-9]+')
        OR TRY_CAST(trim(stock) AS HUGEINT) IS NULL OR NOT TRY_CAST(trim(stock) AS HUGEINT) BETWEEN 0 AND 2147483647)
    """,
    "rating": r"""
        rating IS NOT NULL AND (rating_kind <> 'number' OR NOT regexp_full_match(trim(rating), '-?[0-9]+(\.[0-9]+)?')
        OR TRY_CAST(trim(rating) AS DECIMAL(30, 6)) IS NULL
        OR CAST(TRY_CAST(trim(rating) AS DECIMAL(30, 6)) AS DECIMAL(30, 2)) <> TRY_CAST(trim(rating) AS DECIMAL(30, 6))
        OR NOT TRY_CAST(trim(rating) AS DECIMAL(30, 6)) BETWEEN 0 AND 5)
    """,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What must have become of an input."""

    #: row_no, name, category, price, stock, rating, description; by row_no.
    loaded: list[tuple[Any, ...]]
    #: Row and column of everything that is wrong; the column is empty where the record as a whole is.
    faults: list[tuple[int, str]]

    @property
    def rejected(self) -> list[int]:
        """Rows that must have been rejected."""
        return sorted({row for row, _ in self.faults})


def judge(path: Path, charges: Mapping[str, Decimal]) -> Verdict:
    """Judge a file of products; a CSV file has no quotes, and the columns in their usual order."""
    with duckdb.connect(config={"threads": 1}) as database:
        _read(database, path)
        database.execute("CREATE TABLE charges (category VARCHAR, charge DECIMAL(12, 2))")
        database.executemany("INSERT INTO charges VALUES (?, ?)", [[name, charge] for name, charge in charges.items()])
        database.execute(
            "CREATE TABLE judged AS SELECT input.*, coalesce(charge, 0) AS charge FROM input LEFT JOIN charges USING (category)"
        )
        found = " UNION ALL ".join(
            ["SELECT row_no, '' FROM judged WHERE shape"]
            + [
                f"SELECT row_no, '{column}' FROM judged WHERE NOT shape AND coalesce({rule}, false)"
                for column, rule in RULES.items()
            ]
        )
        database.execute(f"CREATE TABLE faults AS {found}")
        loaded = database.execute(
            """
            SELECT row_no, name, category, CAST(trim(price) AS DECIMAL(14, 2)) + charge, CAST(trim(stock) AS INTEGER),
                CAST(trim(rating) AS DECIMAL(5, 2)), description
            FROM judged WHERE row_no NOT IN (SELECT row_no FROM faults) ORDER BY row_no
            """
        ).fetchall()
        faults = database.execute("SELECT * FROM faults ORDER BY ALL").fetchall()
    return Verdict([tuple(row) for row in loaded], [(int(row), str(column)) for row, column in faults])


def _read(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    if path.suffix == ".csv":
        columns = ", ".join(
            f"nullif(fields[{number}], '') AS {name}, '{_wanted(name)}' AS {name}_kind"
            for number, name in enumerate(COLUMNS, 1)
        )
        script = CSV.replace("{columns}", columns)
    else:
        columns = ", ".join(
            f"json_extract_string({name}, '$') AS {name}, CASE WHEN coalesce(json_type({name}), 'NULL') = 'NULL' THEN NULL"
            f" WHEN json_type({name}) = 'VARCHAR' THEN 'text'"
            f" WHEN json_type({name}) IN ('UBIGINT', 'BIGINT', 'DOUBLE', 'HUGEINT') THEN 'number'"
            f" ELSE 'other' END AS {name}_kind"
            for name in COLUMNS
        )
        types = ", ".join(f"'{name}': 'JSON'" for name in COLUMNS)
        script = JSON.format(columns=columns, types=types, format="newline_delimited" if path.suffix == ".ndjson" else "array")
    for statement in script.split(";"):
        database.execute(statement, [str(path)] if "?" in statement else [])


def _wanted(column: str) -> str:
    return "text" if column in ("name", "category", "description") else "number"
