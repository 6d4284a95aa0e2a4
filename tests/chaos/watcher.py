"""Looks at the progress of all jobs again and again."""

import contextlib
import threading
from typing import Any, LiteralString

import psycopg

from jobber.model import State
from tests.chaos.database import Database
from tests.chaos.model import Model

#: Seconds between two looks.
LOOK = 0.5

PROGRESS: LiteralString = """
    SELECT j.id::text, j.state, j.error, j.total, coalesce(sum(r.inserted), 0)::bigint, coalesce(sum(r.rejected), 0)::bigint
      FROM jobs.jobs j LEFT JOIN jobs.receipts r ON r.job_id = j.id GROUP BY j.id
"""


class Watcher(threading.Thread):
    """Progress only grows, stays within the total, and ends for good (I6, I8)."""

    def __init__(self, database: Database, model: Model) -> None:
        super().__init__(name="watcher", daemon=True)
        self._database = database
        self._model = model
        self._seen: dict[str, tuple[Any, ...]] = {}
        self.enough = threading.Event()
        self.samples = 0

    def run(self) -> None:
        """Until told that it is enough."""
        while not self.enough.wait(LOOK):
            with contextlib.suppress(psycopg.Error):
                self.look()

    def look(self) -> None:
        """One sample."""
        for job_id, *now in self._database.rows(PROGRESS, patience=1):
            self._compare(job_id, self._seen.get(job_id), tuple(now))
            self._seen[job_id] = tuple(now)
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
