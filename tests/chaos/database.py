"""The checker's own way to the database, past all proxies."""

import time
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg


class Database:
    """It waits while the server is down."""

    def __init__(self, dsn: Callable[[], str]) -> None:
        self._dsn = dsn

    def rows(self, query: LiteralString, *parameters: object, patience: float = 90) -> list[tuple[Any, ...]]:
        """What the query answers. Raises psycopg.Error when the server is away for longer."""
        deadline = time.monotonic() + patience
        while True:
            try:
                with psycopg.connect(self._dsn(), connect_timeout=5, options="-c statement_timeout=60s") as connection:
                    return connection.execute(query, parameters).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def count(self, job_id: str) -> int:
        """Products of a job."""
        return int(self.rows("SELECT count(*) FROM products.products WHERE job_id = %s", job_id)[0][0])
