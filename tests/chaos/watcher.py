"""Looks at the progress of all jobs again and again, and whether whole ones are seen in part."""

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
    SELECT j.id::text, j.state, j.error, j.total, coalesce(sum(r.inserted + r.updated + r.unchanged), 0)::bigint,
           coalesce(sum(r.rejected), 0)::bigint, coalesce(sum(r.staged), 0)::bigint
      FROM jobs.jobs j LEFT JOIN jobs.receipts r ON r.job_id = j.id GROUP BY j.id
"""
VISIBLE: LiteralString = "SELECT job_id::text, count(*) FROM products.products WHERE job_id = ANY (%s::uuid[]) GROUP BY 1"


class Watcher(threading.Thread):
    """Progress only grows, stays within the total, and ends for good (I6, I8); a whole job is not seen in part (I12)."""

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
        self._visible()
        for job_id, *now in self._database.rows(PROGRESS, patience=1):
            self._compare(job_id, self._seen.get(job_id), tuple(now))
            self._seen[job_id] = tuple(now)
        self.samples += 1

    def _visible(self) -> None:
        """Of whole jobs that were under way at the last look, all rows are there, or none."""
        whole = {job.id: len(job.good) for job in [*self._model.jobs] if job.writing.whole and self._goes_on(job.id)}
        if whole:
            for job_id, rows in self._database.rows(VISIBLE, list(whole), patience=1):
                if rows != whole[job_id]:
                    self._model.blame("I12", f"{rows} of {whole[job_id]} rows of the whole job {job_id} are visible")

    def _goes_on(self, job_id: str) -> bool:
        return job_id in self._seen and not State(self._seen[job_id][0]).terminal

    def _compare(self, job_id: str, before: tuple[Any, ...] | None, now: tuple[Any, ...]) -> None:
        state, error, total, loaded, rejected, staged = now
        if total is not None and loaded + rejected + staged > total:
            self._model.blame("I8", f"job {job_id}: {loaded} + {rejected} + {staged} of {total}")
        if before is None:
            return
        fewer = loaded < before[3] or rejected < before[4] or loaded + rejected + staged < sum(before[3:])
        if fewer or (before[2] is not None and total != before[2]):
            self._model.blame("I8", f"job {job_id} went from {before} to {now}")
        if State(before[0]).terminal and (state, error, loaded, rejected) != (before[0], before[1], before[3], before[4]):
            self._model.blame("I6", f"job {job_id} went from {before} to {now}")
