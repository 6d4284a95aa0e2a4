"""The jobs schema in memory: what the SQL of api/jobs does to its rows, by the same names and with the same locks.

The rules that are Python there are the shipped ones here (api/jobs/decide.py). What is SQL there is written again here;
tests/simulation/test_mirror.py holds the two together by doing the same to both.
"""

import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from api.jobs.decide import Tally, Verdict, verdict
from api.jobs.model import lane_of
from api.jobs.turn import Ticket
from api.jobs.work import Staged
from jobber import faults
from jobber.errors import Conflict, InvalidState, NotFound
from jobber.model import BatchKey, Receipt, State, Writing
from tests.simulation.database import Database, Transaction
from tests.simulation.rows import BatchRow, Claimed, Cut, JobRow
from tests.simulation.turn import Turn

#: As in api/jobs/turn.py.
DISPATCH_LOCK = ("advisory", "dispatch")
OPEN = (State.QUEUED, State.VALIDATING, State.RUNNING, State.PAUSED)
UNPLANNED = (State.QUEUED, State.VALIDATING, State.PAUSED)


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
    async def dispatching(self) -> AsyncIterator[Turn]:
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
        return [(row.id, row.name, row.next_batch > 0 and (not row.writing.dry_run or bool(row.writing.keys))) for row in rows]

    async def publishable(self) -> list[Staged]:
        """As Work.publishable."""
        self.database.kernel.step()
        rows = [row for row in self.rows() if row.publishing and row.state is State.RUNNING]
        return [Staged(row.id, row.name, row.writing, b"", row.limits.allowed(row.total or 0)) for row in rows]

    async def published(self, job_id: str, receipts: Sequence[Receipt] | None) -> bool:
        """As Work.published."""
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if not row.publishing or row.state not in (State.RUNNING, State.PAUSED):
                return False
            if receipts is None:
                found = [session.get(("receipt", job_id, number)) for number in range(row.batches or 0)]
                receipts = [shown(receipt) for receipt in found]
            self._store(session, receipts)
            tally = self.tally(session, job_id)
            end = verdict(tally, total=row.total or 0, batches=row.batches or 0, limits=row.limits)
            assert end is not None
            assert not end.publish, tally
            self._end(session, job_id, end)
            faults.point("publish.before_commit")
        faults.point("publish.after_commit")
        return True

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

    def writing(self, job_id: str) -> Writing:
        """How the job's rows are written, which comes with every claim."""
        row: JobRow = self.database.rows["job", job_id]
        return row.writing

    def rows(self) -> Iterator[JobRow]:
        """The committed jobs, in order."""
        rows = (self.database.rows.get(("job", job_id)) for job_id in self.ids)
        return iter([row for row in rows if row is not None])

    def tally(self, session: Transaction, job_id: str) -> Tally:
        """Progress is the sum of receipts."""
        row = session.get(("job", job_id))
        found = [session.get(("receipt", job_id, number)) for number in range(row.batches or 0)]
        receipts = [receipt for receipt in found if receipt is not None]
        sums = [sum(getattr(item, name) for item in receipts) for name in ("inserted", "rejected", "staged")]
        return Tally(len(receipts), sums[0], 0, 0, sums[1], sums[2])

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
            known = session.get(slot)
            if known is None or receipt.staged < known.staged:
                session.put(slot, receipt)
                batch = ("batch", key.job_id, key.batch_no)
                session.lock(batch)
                session.put(batch, replace(session.get(batch), settled=True))
                stored.add(key.job_id)
        return stored

    def _end(self, session: Transaction, job_id: str, end: Verdict) -> None:
        row: JobRow = session.get(("job", job_id))
        if end.publish:
            if not row.publishing:
                session.put(("job", job_id), replace(row, publishing=True, changes=row.changes + 1))
            return
        changes: dict[str, Any] = {"error": end.error, "changes": row.changes + 1}
        if end.closing:
            if row.state in OPEN:
                session.put(("job", job_id), replace(row, state=State.CANCELING, closing=str(end.state), **changes))
        elif not row.state.terminal:
            started = row.started_at if row.started_at is not None else 0.0
            session.put(("job", job_id), replace(row, state=end.state, started_at=started, **changes))


def shown(receipt: Receipt) -> Receipt:
    """What a receipt is once its rows are visible."""
    return dataclasses.replace(receipt, inserted=receipt.inserted + receipt.staged, staged=0)


def _planned(row: JobRow, cut: Cut) -> JobRow:
    return replace(row, total=sum(rows for _, rows in cut), batches=len(cut), lane=str(lane_of(len(cut))))
