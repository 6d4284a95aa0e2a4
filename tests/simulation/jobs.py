"""The jobs schema in memory: what the SQL of api/jobs does to its rows, by the same names and with the same locks.

The rules that are Python there are the shipped ones here (api/jobs/decide.py). What is SQL there is written again here;
tests/simulation/test_mirror.py holds the two together by doing the same to both.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from api.jobs.decide import Hungry, Limits, Outstanding, Tally, Verdict, verdict
from api.jobs.model import lane_of
from api.jobs.turn import PLAN_LEASE, Candidate, Ticket
from jobber import faults
from jobber.errors import Conflict, InvalidState, NotFound
from jobber.model import BatchKey, Receipt, State
from tests.simulation.database import Database, Transaction

#: As in api/jobs/turn.py.
DISPATCH_LOCK = ("advisory", "dispatch")
OPEN = (State.QUEUED, State.VALIDATING, State.RUNNING, State.PAUSED)
UNPLANNED = (State.QUEUED, State.VALIDATING, State.PAUSED)

#: Batches of a plan, as (first_row, rows).
Cut = tuple[tuple[int, int], ...]


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of jobs.jobs."""

    id: str
    number: int
    owner: str
    name: str = "LoadProducts"
    key: str | None = None
    payload: str = ""
    state: State = State.QUEUED
    closing: str | None = None
    error: str | None = None
    limits: Limits = Limits()
    priority: int = 1
    total: int | None = None
    batches: int | None = None
    lane: str = "fast"
    lookups: int | None = None
    next_batch: int = 0
    plan_no: int = 0
    plan_dispatched_at: float | None = None
    plan_claimed_at: float | None = None
    plan_attempts: int = 0
    changes: int = 0
    started_at: float | None = None


class BatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of jobs.batches."""

    first_row: int
    rows: int
    dispatch_no: int = 0
    dispatched_at: float = 0.0
    claimed_at: float | None = None
    attempts: int = 0
    settled: bool = False


class Claimed(msgspec.Struct, frozen=True):
    """A batch that was handed out."""

    key: BatchKey
    attempt: int
    first_row: int
    rows: int


class Jobs:
    """Store and Work of api/jobs."""

    def __init__(self, database: Database) -> None:
        self.database = database
        #: Ids in the order of submission, committed or not.
        self.ids: list[str] = []

    # What people do.

    def submit(self, asked: JobRow, cut: Cut | None) -> tuple[str, bool]:
        """As Store.submit. Raises Conflict."""
        with self.database.transaction() as session:
            if asked.key is not None:
                slot = ("idempotency", asked.owner, asked.key)
                session.lock(slot)
                if (known := session.get(slot)) is not None:
                    if session.get(("job", known)).payload != asked.payload:
                        raise Conflict
                    return known, True
                session.put(slot, asked.id)
            row = asked if cut is None else _planned(asked, cut)
            if cut is not None and not cut:
                row = replace(row, state=State.SUCCEEDED, started_at=self.database.kernel.now)
            session.put(("job", row.id), row)
            self._insert(session, row.id, cut or ())
            self.ids.append(row.id)
            faults.point("submit.before_commit")
        faults.point("submit.after_commit")
        return asked.id, False

    def cancel(self, job_id: str) -> State:
        """As Store.cancel. Raises InvalidState."""
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.state in (State.CANCELING, State.CANCELED):
                return row.state
            if row.state.terminal:
                raise InvalidState
            changed = replace(row, state=State.CANCELING, closing="CANCELED", error="", changes=row.changes + 1)
            session.put(("job", job_id), changed)
            return State.CANCELING

    def pause(self, job_id: str) -> None:
        """As Store.pause. Raises InvalidState."""
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.state is State.PAUSED:
                return
            if row.state not in (State.QUEUED, State.VALIDATING, State.RUNNING):
                raise InvalidState
            session.put(("job", job_id), replace(row, state=State.PAUSED, changes=row.changes + 1))

    def resume(self, job_id: str) -> None:
        """As Store.resume. Raises InvalidState."""
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.state is not State.PAUSED:
                raise InvalidState
            for number in range(row.batches or 0):
                batch = session.get(("batch", job_id, number))
                if batch.dispatch_no > 0 and not batch.settled:
                    session.lock(("batch", job_id, number))
                    batch = session.get(("batch", job_id, number))
                    session.put(("batch", job_id, number), replace(batch, dispatched_at=float("-inf"), claimed_at=None))
            state = State.QUEUED if row.started_at is None else State.RUNNING
            session.put(("job", job_id), replace(row, state=state, changes=row.changes + 1, plan_dispatched_at=None))

    # What the dispatcher does.

    @asynccontextmanager
    async def dispatching(self) -> AsyncIterator["Turn"]:
        """As Work.dispatching."""
        with self.database.transaction() as session:
            session.lock(DISPATCH_LOCK)
            yield Turn(self, session)

    async def unpublished(self, tickets: Sequence[Ticket]) -> None:
        """As Work.unpublished."""
        with self.database.transaction() as session:
            for item in tickets:
                if item.batch_no < 0:
                    session.lock(("job", item.job_id))
                    job = session.get(("job", item.job_id))
                    if job.plan_claimed_at is None:
                        session.put(("job", item.job_id), replace(job, plan_dispatched_at=None))
                    continue
                key = ("batch", item.job_id, item.batch_no)
                session.lock(key)
                row = session.get(key)
                if row.dispatch_no == item.dispatch_no and row.claimed_at is None:
                    session.put(key, replace(row, dispatched_at=float("-inf")))

    async def closing(self) -> list[tuple[str, str, bool]]:
        """As Work.closing."""
        self.database.kernel.step()
        rows = [row for row in self.rows() if row.state is State.CANCELING]
        return [(row.id, row.name, row.next_batch > 0) for row in rows]

    async def closed(self, job_id: str, receipts: Sequence[Receipt]) -> bool:
        """As Work.closed."""
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.state is not State.CANCELING:
                return False
            self._store(session, receipts)
            for number in range(row.batches or 0):
                slot = ("batch", job_id, number)
                if session.get(slot).dispatch_no > 0 and not session.get(slot).settled:
                    session.lock(slot)
                    session.put(slot, replace(session.get(slot), settled=True))
            self._end(session, job_id, Verdict(State(row.closing or ""), row.error))
            faults.point("close.before_commit")
        faults.point("close.after_commit")
        return True

    # What executors do.

    def claim_plan(self, job_id: str, plan_no: int) -> bool:
        """As Work.claim_plan: whether the job is to be planned."""
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.plan_no != plan_no or row.batches is not None or row.state not in UNPLANNED:
                return False
            now = self.database.kernel.now
            session.put(("job", job_id), replace(row, plan_claimed_at=now, plan_attempts=row.plan_attempts + 1))
        return True

    def record_plan(self, job_id: str, cut: Cut) -> None:
        """As Work.record_plan."""
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.batches is not None or row.state not in UNPLANNED:
                return
            state = State.QUEUED if row.state is State.VALIDATING else row.state
            session.put(("job", job_id), replace(_planned(row, cut), state=state, changes=row.changes + 1))
            self._insert(session, job_id, cut)
            if not cut:
                self._end(session, job_id, Verdict(State.SUCCEEDED))
            faults.point("record_plan.before_commit")
        faults.point("record_plan.after_commit")

    def claim(self, dispatches: Sequence[tuple[BatchKey, int]]) -> list[Claimed]:
        """As Work.claim."""
        claimed = []
        with self.database.transaction() as session:
            for key, dispatch_no in sorted(set(dispatches), key=lambda item: (item[0].job_id, item[0].batch_no)):
                job, slot = session.get(("job", key.job_id)), ("batch", key.job_id, key.batch_no)
                if job is None or job.state is not State.RUNNING or session.get(slot) is None:
                    continue
                session.lock(slot)
                row = session.get(slot)
                if row.dispatch_no != dispatch_no or row.settled:
                    continue
                session.put(slot, replace(row, attempts=row.attempts + 1, claimed_at=self.database.kernel.now))
                claimed.append(Claimed(key, row.attempts + 1, row.first_row, row.rows))
            faults.point("claim.before_commit")
        faults.point("claim.after_commit")
        return claimed

    def acknowledge(self, receipts: Sequence[Receipt]) -> set[str]:
        """As Work.acknowledge."""
        if not receipts:
            return set()
        with self.database.transaction() as session:
            going = {}
            for job_id in sorted({receipt.key.job_id for receipt in receipts}):
                row = self._locked(session, job_id)
                if row.state in (State.RUNNING, State.PAUSED, State.CANCELING):
                    going[job_id] = row
            stored = self._store(session, [receipt for receipt in receipts if receipt.key.job_id in going])
            for job_id in sorted(stored):
                row = going[job_id]
                if row.state is State.CANCELING:
                    continue
                end = verdict(self.tally(session, job_id), total=row.total or 0, batches=row.batches or 0, limits=row.limits)
                if end is not None:
                    self._end(session, job_id, end)
            faults.point("acknowledge.before_commit")
        faults.point("acknowledge.after_commit")
        return stored

    # What all of them share.

    def rows(self) -> Iterator[JobRow]:
        """The committed jobs, in order."""
        rows = (self.database.rows.get(("job", job_id)) for job_id in self.ids)
        return iter([row for row in rows if row is not None])

    def tally(self, session: Transaction, job_id: str) -> Tally:
        """Progress is the sum of receipts."""
        row = session.get(("job", job_id))
        found = [session.get(("receipt", job_id, number)) for number in range(row.batches or 0)]
        receipts = [receipt for receipt in found if receipt is not None]
        return Tally(len(receipts), sum(item.inserted for item in receipts), 0, 0, sum(item.rejected for item in receipts))

    def _locked(self, session: Transaction, job_id: str) -> JobRow:
        if session.get(("job", job_id)) is None:
            raise NotFound
        session.lock(("job", job_id))
        row: JobRow = session.get(("job", job_id))
        return row

    def _insert(self, session: Transaction, job_id: str, cut: Cut) -> None:
        for number, (first_row, rows) in enumerate(cut):
            session.put(("batch", job_id, number), BatchRow(first_row=first_row, rows=rows))

    def _store(self, session: Transaction, receipts: Sequence[Receipt]) -> set[str]:
        stored = set()
        for receipt in sorted(receipts, key=lambda item: (item.key.job_id, item.key.batch_no)):
            key = receipt.key
            slot = ("receipt", key.job_id, key.batch_no)
            session.lock(slot)
            if session.get(slot) is None:
                session.put(slot, receipt)
                batch = ("batch", key.job_id, key.batch_no)
                session.lock(batch)
                session.put(batch, replace(session.get(batch), settled=True))
                stored.add(key.job_id)
        return stored

    def _end(self, session: Transaction, job_id: str, end: Verdict) -> None:
        row: JobRow = session.get(("job", job_id))
        changes: dict[str, Any] = {"error": end.error, "changes": row.changes + 1}
        if end.closing:
            if row.state in OPEN:
                session.put(("job", job_id), replace(row, state=State.CANCELING, closing=str(end.state), **changes))
        elif not row.state.terminal:
            started = row.started_at if row.started_at is not None else 0.0
            session.put(("job", job_id), replace(row, state=end.state, started_at=started, **changes))


class Turn:
    """As api.jobs.turn.Turn."""

    def __init__(self, jobs: Jobs, session: Transaction) -> None:
        self._jobs = jobs
        self._session = session
        self._kernel = jobs.database.kernel

    def _rows(self) -> list[JobRow]:
        rows = (self._session.get(("job", job_id)) for job_id in self._jobs.ids)
        return [row for row in rows if row is not None]

    def _out(self, row: JobRow) -> list[tuple[int, BatchRow]]:
        found = ((number, self._session.get(("batch", row.id, number))) for number in range(row.batches or 0))
        return [(number, batch) for number, batch in found if batch.dispatch_no > 0 and not batch.settled]

    async def candidates(self, most: int) -> tuple[list[Candidate], int]:
        """As Turn.candidates."""
        self._kernel.step()
        self._session.check()
        rows = self._rows()
        hungry = [
            row
            for row in rows
            if row.state in (State.QUEUED, State.RUNNING) and row.batches is not None and row.next_batch < row.batches
        ]
        found = [
            Candidate(
                Hungry(row.id, row.owner, row.priority, row.number, row.next_batch, row.batches or 0, len(self._out(row))),
                row.name,
                row.lane,
                row.lookups is not None,
            )
            for row in hungry
        ]
        return found, sum(len(self._out(row)) for row in rows if row.state is State.RUNNING) if found else 0

    async def start(self, upto: Mapping[str, int], lookups: Mapping[str, int]) -> set[str]:
        """As Turn.start."""
        started = set()
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
            )
            self._session.put(("job", job_id), changed)
            started.add(job_id)
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


def plan_is_due(row: JobRow, now: float) -> bool:
    """As in Turn.issue_plans."""
    if row.state not in (State.QUEUED, State.VALIDATING) or row.batches is not None:
        return False
    if row.plan_dispatched_at is None:
        return True
    if row.plan_claimed_at is None:
        return bool(now > row.plan_dispatched_at + min(3 * 2 ** min(row.plan_no - 1, 10), 20))
    return bool(now > row.plan_claimed_at + PLAN_LEASE)


def _planned(row: JobRow, cut: Cut) -> JobRow:
    return replace(row, total=sum(rows for _, rows in cut), batches=len(cut), lane=str(lane_of(len(cut))))
