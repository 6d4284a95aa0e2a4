"""Compares the tables with what people remember: with a connection of its own, past all proxies."""

import contextlib
import io
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from jobber import errors
from jobber.cli.client import Client
from jobber.model import State
from tests.chaos.people import Known, Model

#: Seconds between two looks at the progress of all jobs.
LOOK = 0.5
#: Seconds that what is left over may take to go away by itself.
TIDY = 60.0

PROGRESS: LiteralString = """
    SELECT j.id::text, j.state, j.error, j.total, coalesce(sum(r.inserted), 0)::bigint, coalesce(sum(r.rejected), 0)::bigint
      FROM jobs.jobs j LEFT JOIN jobs.receipts r ON r.job_id = j.id GROUP BY j.id
"""


class Database:
    """The checker's own way to the database: it waits while the server is down."""

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


class Watcher(threading.Thread):
    """Samples the progress of all jobs: it only grows, stays within the total, and ends for good (I6, I8)."""

    def __init__(self, database: Database, model: Model) -> None:
        super().__init__(name="watcher", daemon=True)
        self._database = database
        self._model = model
        self.enough = threading.Event()
        self.samples = 0

    def run(self) -> None:
        """Until told that it is enough."""
        seen: dict[str, tuple[Any, ...]] = {}
        while not self.enough.wait(LOOK):
            with contextlib.suppress(psycopg.Error):
                for job_id, *now in self._database.rows(PROGRESS, patience=1):
                    self._compare(job_id, seen.get(job_id), tuple(now))
                    seen[job_id] = tuple(now)
                self.samples += 1

    def _compare(self, job_id: str, before: tuple[Any, ...] | None, now: tuple[Any, ...]) -> None:
        state, error, total, inserted, rejected = now
        if total is not None and inserted + rejected > total:
            self._model.blame("I8", f"job {job_id}: {inserted} + {rejected} of {total}")
        if before is None:
            return
        if inserted < before[3] or rejected < before[4] or (before[2] is not None and total != before[2]):
            self._model.blame("I8", f"job {job_id} went from {before} to {now}")
        if State(before[0]).terminal and (state, error, inserted, rejected) != (before[0], before[1], before[3], before[4]):
            self._model.blame("I6", f"job {job_id} went from {before} to {now}")


def compare(model: Model, database: Database, admin: Client) -> None:
    """Every job against the model, record by record; what does not hold is blamed on its promise."""
    by_id = {row[0]: row[1:] for row in database.rows(PROGRESS)}
    products: dict[str, dict[int, list[tuple[str, Decimal]]]] = defaultdict(lambda: defaultdict(list))
    for job_id, row, name, price in database.rows("SELECT job_id::text, row_no, name, price FROM products.products"):
        if job_id is not None:
            products[job_id][row].append((name, price))
    known = {job.id for job in model.jobs}
    for job in model.jobs:
        if job.id not in by_id:
            model.blame("I4", f"job {job.id} was answered and is not there")
            continue
        _compare(model, job, by_id[job.id], products.get(job.id, {}), admin)
    for job_id in products.keys() - by_id.keys():
        model.blame("I1", f"products has rows of job {job_id}, which is not there")
    # Submissions whose answer never came, and whose person had to stop: they end all the same.
    for job_id in by_id.keys() - known:
        if not State(by_id[job_id][0]).terminal:
            model.blame("I2", f"job {job_id} is {by_id[job_id][0]}")


def _compare(
    model: Model, job: Known, found: tuple[Any, ...], rows: dict[int, list[tuple[str, Decimal]]], admin: Client
) -> None:
    state, error, total, loaded, rejected = found
    where = f"job {job.id} ({job.name}, {job.total} records, {state}: {error})"
    if not State(state).terminal:
        model.blame("I2", where)
        return
    if total is not None and total != job.total:
        model.blame("I1", f"{where} has {total} records instead")
    if total is None and state != State.CANCELED and job.total:
        model.blame("I1", f"{where} was never planned")
    twice = [row for row, found in rows.items() if len(found) > 1]
    if twice:
        model.blame("I1", f"{where}: rows {twice[:5]} are there more than once")
    if job.name != "Fibonacci":
        wrong = [row for row, found in rows.items() if not _same(found[0], job.good.get(row))]
        if wrong:
            model.blame("I1", f"{where}: rows {wrong[:5]} are not what was submitted")
        if len(rows) != loaded:
            model.blame("I1", f"{where}: {len(rows)} rows, and receipts say {loaded}")
    rejects = _rejects(admin, job)
    if len(rejects) != rejected:
        model.blame("I11", f"{where}: {len(rejects)} rejects, and receipts say {rejected}")
    for row, codes in rejects.items():
        if codes != job.bad.get(row):
            poison = "POISON" in codes and "POISON" not in job.bad.get(row, set())
            model.blame("I9" if poison else "I11", f"{where}: row {row} was rejected as {codes}, not {job.bad.get(row)}")
            break
    complete = loaded + rejected == job.total
    if state in (State.SUCCEEDED, State.PARTIAL) and not complete:
        model.blame("I1", f"{where}: {loaded} loaded and {rejected} rejected")
    _check_verdict(model, job, State(state), where, loaded, rejected)
    if job.rows_at_cancel is not None and job.name != "Fibonacci" and len(rows) != job.rows_at_cancel:
        model.blame("I5", f"{where}: {job.rows_at_cancel} rows when the cancel was answered, {len(rows)} now")


def _check_verdict(model: Model, job: Known, state: State, where: str, loaded: int, rejected: int) -> None:
    if state is State.CANCELED:
        if not job.canceled:
            model.blame("I1", f"{where} was never cancelled")
        return
    if job.max_errors is not None and len(job.bad) > job.max_errors:
        wanted = State.FAILED
    elif not job.bad:
        wanted = State.SUCCEEDED
    else:
        wanted = State.PARTIAL if job.good else State.FAILED
    if state is not wanted:
        model.blame("I1", f"{where} should be {wanted}: {loaded} loaded, {rejected} rejected")


def _same(found: tuple[str, Decimal], wanted: tuple[str, str] | None) -> bool:
    return wanted is not None and found[0] == wanted[0] and found[1] == Decimal(wanted[1])


def _rejects(admin: Client, job: Known) -> dict[int, set[str]]:
    into = io.BytesIO()
    for _ in range(20):
        try:
            into = io.BytesIO()
            admin.download(f"/jobs/{job.id}/rejects.ndjson", into)
            break
        except errors.Transient:
            time.sleep(0.5)
    found: dict[int, set[str]] = defaultdict(set)
    for line in into.getvalue().splitlines():
        reject = json.loads(line)
        found[int(reject["row"])].add(reject["code"])
    return found


#: What may be left over of a campaign in the database, and how it is counted: nothing of it may stay.
LEFT: dict[str, LiteralString] = {
    "batches with executors": """
        SELECT count(*) FROM jobs.batches b JOIN jobs.jobs j ON j.id = b.job_id
         WHERE b.dispatch_no > 0 AND NOT b.settled AND j.state NOT IN ('CANCELED', 'FAILED')""",
    "messages of the transport": "SELECT count(*) FROM transport.messages",
    "prepared transactions": "SELECT count(*) FROM pg_prepared_xacts",
    "temporary tables": "SELECT count(*) FROM pg_class WHERE relpersistence = 't'",
    "transactions that are open for 10 s": """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '10 s'""",
    "advisory locks": """
        SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE l.locktype = 'advisory' AND a.xact_start < clock_timestamp() - interval '10 s'""",
}


def left_over(database: Database, blobs: Path | None, *, pulsar: bool) -> dict[str, int]:
    """What is still there after TIDY seconds; empty when all is tidy."""
    deadline = time.monotonic() + TIDY
    while True:
        found = {}
        for what, query in LEFT.items():
            if pulsar and what.startswith("messages"):
                continue
            count = int(database.rows(query)[0][0])
            if count:
                found[what] = count
        if blobs is not None and (orphans := _orphans(database, blobs)):
            found["orphan blobs"] = orphans
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _orphans(database: Database, blobs: Path) -> int:
    """Files of inputs that no upload and no job refers to."""
    named = {
        row[0]
        for row in database.rows(
            "SELECT blob_key FROM jobs.uploads UNION SELECT blob_key FROM jobs.jobs WHERE blob_key IS NOT NULL"
        )
    }
    files = {str(path.relative_to(blobs)) for path in blobs.rglob("*") if path.is_file()}
    return len(files - named)
