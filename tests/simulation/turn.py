"""The dispatcher's turn in memory: what the SQL of api/jobs/turn.py does, by the same names."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from api.jobs.decide import Hungry, Outstanding
from api.jobs.turn import Candidate, Ticket
from jobber.model import State
from tests.simulation.database import Transaction
from tests.simulation.rows import BatchRow, JobRow, plan_is_due

if TYPE_CHECKING:
    from tests.simulation.jobs import Jobs


class Turn:
    """As api.jobs.turn.Turn."""

    def __init__(self, jobs: "Jobs", session: Transaction) -> None:
        self._jobs = jobs
        self._session = session
        self._kernel = jobs.database.kernel

    def _rows(self) -> list[JobRow]:
        rows = (self._session.get(("job", job_id)) for job_id in self._jobs.ids)
        return [row for row in rows if row is not None]

    def _out(self, row: JobRow) -> list[tuple[int, BatchRow]]:
        found = ((number, self._session.get(("batch", row.id, number))) for number in range(row.batches or 0))
        return [(number, batch) for number, batch in found if batch.dispatch_no > 0 and not batch.settled]

    def _rows_of(self, row: JobRow, upto: int) -> int:
        return sum(self._session.get(("batch", row.id, number)).rows for number in range(row.next_batch, upto))

    async def candidates(self, most: int) -> tuple[list[Candidate], int]:
        """As Turn.candidates."""
        self._kernel.step()
        self._session.check()
        rows = self._rows()
        hungry = [
            row
            for row in rows
            if row.state in (State.QUEUED, State.RUNNING) and row.batches is not None and row.next_batch < row.batches
            if row.paced_until is None or row.paced_until <= self._kernel.now
        ]
        found = [
            Candidate(
                Hungry(
                    *(row.id, row.owner, row.priority, row.number, row.next_batch, row.batches or 0, len(self._out(row))),
                    row.max_rows_per_second is not None,
                ),
                row.name,
                row.lane,
                row.lookups is not None,
            )
            for row in hungry
        ]
        return found, sum(len(self._out(row)) for row in rows if row.state is State.RUNNING) if found else 0

    async def start(self, upto: Mapping[str, int], lookups: Mapping[str, int]) -> dict[str, float]:
        """As Turn.start."""
        started = {}
        for job_id in sorted(upto):
            self._session.lock(("job", job_id))
            row = self._session.get(("job", job_id))
            if row.state not in (State.QUEUED, State.RUNNING):
                continue
            changed = replace(
                row,
                next_batch=upto[job_id],
                lookups=row.lookups if row.lookups is not None else lookups.get(job_id),
                changes=row.changes + (row.state is not State.RUNNING),
                state=State.RUNNING,
                started_at=row.started_at if row.started_at is not None else self._kernel.now,
                paced_until=None
                if row.max_rows_per_second is None
                else self._kernel.now + self._rows_of(row, upto[job_id]) / row.max_rows_per_second,
            )
            self._session.put(("job", job_id), changed)
            started[job_id] = 0.0 if changed.paced_until is None else changed.paced_until - self._kernel.now
        return started

    async def issue(self, batches: Sequence[tuple[str, int]]) -> list[Ticket]:
        """As Turn.issue."""
        tickets = []
        for job_id, number in batches:
            job, slot = self._session.get(("job", job_id)), ("batch", job_id, number)
            self._session.lock(slot)
            row = self._session.get(slot)
            if row.settled or job.state is not State.RUNNING:
                continue
            changed = replace(row, dispatch_no=row.dispatch_no + 1, dispatched_at=self._kernel.now, claimed_at=None)
            self._session.put(slot, changed)
            tickets.append(Ticket(job_id, number, changed.dispatch_no, job.name, job.lane))
        return tickets

    async def issue_plans(self, most: int) -> list[Ticket]:
        """As Turn.issue_plans."""
        tickets: list[Ticket] = []
        for row in self._rows():
            if len(tickets) == most or not plan_is_due(row, self._kernel.now):
                continue
            # SKIP LOCKED: somebody is changing it; the next turn sees to it.
            if self._jobs.database.holders.get(("job", row.id), self._session) is not self._session:
                continue
            changed = replace(
                row,
                plan_no=row.plan_no + 1,
                plan_dispatched_at=self._kernel.now,
                plan_claimed_at=None,
                changes=row.changes + (row.state is not State.VALIDATING),
                state=State.VALIDATING,
            )
            self._session.put(("job", row.id), changed)
            tickets.append(Ticket(row.id, -1, changed.plan_no, row.name, "plan"))
        return tickets

    async def outstanding(self) -> list[Outstanding]:
        """As Turn.outstanding."""
        self._kernel.step()
        self._session.check()
        now = self._kernel.now
        return [
            Outstanding(
                row.id,
                number,
                batch.dispatch_no,
                min(now - batch.dispatched_at, 1e9),
                None if batch.claimed_at is None else now - batch.claimed_at,
            )
            for row in self._rows()
            if row.state is State.RUNNING
            for number, batch in self._out(row)
        ]

    async def keep_lookups(self, sha256: bytes, body: bytes) -> int:
        """As Turn.keep_lookups."""
        return 1
