"""What is done to the jobs schema, done wrong: counting, plans, ends, cancels, keys."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from api.jobs import decide
from api.jobs.decide import Tally, Verdict
from jobber.model import Receipt, State
from tests.simulation import jobs as schema
from tests.simulation.database import Transaction
from tests.simulation.jobs import Jobs
from tests.simulation.mutants.dispatch import no_sweep
from tests.simulation.mutants.table import mutant, replaced
from tests.simulation.rows import Cut, JobRow


@mutant("counter instead of sum")
def counter() -> Iterator[None]:
    counts: dict[tuple[int, str], list[int]] = {}

    def acknowledge(self: Jobs, receipts: Sequence[Receipt]) -> Any:
        for receipt in receipts:
            count = counts.setdefault((id(self), receipt.key.job_id), [0, 0, 0])
            count[0] += 1
            count[1] += receipt.inserted
            count[2] += receipt.rejected
        return shipped(self, receipts)

    def tally(self: Jobs, session: Transaction, job_id: str) -> Tally:
        count = counts.get((id(self), job_id), [0, 0, 0])
        return Tally(count[0], count[1], 0, 0, count[2])

    with replaced(Jobs, "acknowledge", acknowledge) as shipped, replaced(Jobs, "tally", tally):
        yield


@mutant("replan: the last plan counts")
def replan() -> Iterator[None]:
    def record_plan(self: Jobs, job_id: str, cut: Cut) -> None:
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.state.terminal or row.state is State.CANCELING:
                return
            session.put(("job", job_id), replace(schema._planned(row, cut), changes=row.changes + 1))
            self._insert(session, job_id, cut)

    with replaced(Jobs, "record_plan", record_plan):
        yield


@mutant("a job ends before its last receipt")
def ends_early() -> Iterator[None]:
    def verdict(tally: Tally, *, total: int, batches: int, limits: Any) -> Any:
        return decide.verdict(tally, total=total, batches=max(batches - 1, 1), limits=limits)

    with replaced(schema, "verdict", verdict):
        yield


@mutant("limits of rejects are not closed in products")
def fails_without_closing() -> Iterator[None]:
    def verdict(tally: Tally, *, total: int, batches: int, limits: Any) -> Any:
        end = decide.verdict(tally, total=total, batches=batches, limits=limits)
        return Verdict(end.state, end.error) if end and end.closing else end

    with replaced(schema, "verdict", verdict):
        yield


@mutant("a cancel ends the job at once")
def cancels_at_once() -> Iterator[None]:
    def cancel(self: Jobs, job_id: str) -> State:
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.state.terminal:
                return row.state
            session.put(("job", job_id), replace(row, state=State.CANCELED, closing="CANCELED", changes=row.changes + 1))
            return State.CANCELED

    with replaced(Jobs, "cancel", cancel):
        yield


@mutant("a job that has ended can still change")
def terminal_is_not_final() -> Iterator[None]:
    def cancel(self: Jobs, job_id: str) -> State:
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            session.put(("job", job_id), replace(row, state=State.CANCELING, closing="CANCELED", changes=row.changes + 1))
            return State.CANCELING

    with replaced(Jobs, "cancel", cancel):
        yield


@mutant("resume forgets what was dispatched, and no sweep")
def resume_forgets() -> Iterator[None]:
    def resume(self: Jobs, job_id: str) -> None:
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            state = State.QUEUED if row.started_at is None else State.RUNNING
            session.put(("job", job_id), replace(row, state=state, changes=row.changes + 1))

    with replaced(Jobs, "resume", resume), no_sweep():
        yield


@mutant("idempotency keys are not looked at")
def no_idempotency() -> Iterator[None]:
    def submit(self: Jobs, asked: JobRow, cut: Cut | None) -> tuple[str, bool]:
        answer: tuple[str, bool] = shipped(self, replace(asked, key=None), cut)
        return answer

    with replaced(Jobs, "submit", submit) as shipped:
        yield


@mutant("the payload of a used key is not compared")
def no_payload_check() -> Iterator[None]:
    def submit(self: Jobs, asked: JobRow, cut: Cut | None) -> tuple[str, bool]:
        answer: tuple[str, bool] = shipped(self, replace(asked, payload=""), cut)
        return answer

    with replaced(Jobs, "submit", submit) as shipped:
        yield


@mutant("a submission is answered before it is committed")
def answers_first() -> Iterator[None]:
    def submit(self: Jobs, asked: JobRow, cut: Cut | None) -> tuple[str, bool]:
        self.database.kernel.current.spawn(lambda: _quietly(lambda: shipped(self, asked, cut)))
        return asked.id, False

    with replaced(Jobs, "submit", submit) as shipped:
        yield


def _quietly(work: Callable[[], Any]) -> None:
    try:
        work()
    except Exception:
        return
