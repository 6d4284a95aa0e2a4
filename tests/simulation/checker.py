"""What must hold at every commit, and what at the end. The numbers are those of docs/promises.md."""

from collections.abc import Callable, Mapping
from typing import Any

from jobber.model import State
from tests.simulation.rows import BatchRow, JobRow
from tests.simulation.services import JOB_WINDOW, WINDOW, Cluster


class Broken(AssertionError):
    """A promise does not hold."""


def need(holds: bool, promise: str, what: str) -> None:
    """Raises Broken unless it holds."""
    if not holds:
        raise Broken(f"{promise}: {what}")


class Watch:
    """Sees every commit before it is made."""

    def __init__(self, cluster: Cluster, *, calm: bool) -> None:
        #: Nothing goes wrong: then nothing is dispatched twice.
        self._calm = calm
        self._rows = cluster.jobs.database.rows
        self._ids = cluster.jobs.ids
        self.broken: Broken | None = None
        self._checks: dict[Any, Callable[[Any, Any, Any, Mapping[Any, Any]], None]] = {
            "job": self._job,
            "batch": self._batch,
            "receipt": self._receipt,
            "ledger": self._ledger,
        }
        cluster.jobs.database.committed.append(self._committed)

    def _committed(self, writes: Mapping[tuple[Any, ...], Any]) -> None:
        # It runs in whoever commits: a broken promise must not be taken for that one's own error.
        try:
            for key, row in writes.items():
                check = self._checks.get(key[0])
                if check is not None and self.broken is None:
                    check(key, self._rows.get(key), row, writes)
        except Broken as fault:
            self.broken = fault

    def _job(self, key: Any, old: JobRow | None, row: JobRow, writes: Mapping[Any, Any]) -> None:
        if old is None:
            return
        need(row.changes >= old.changes, "I8", f"the sequence number of {key} went back")
        if old.state.terminal:
            need((row.state, row.error) == (old.state, old.error), "I6", f"{old.state} became {row.state}")
        if old.state is State.CANCELING:
            need(row.state in (State.CANCELING, State(old.closing or "")), "I6", f"a closing job became {row.state}")
        if old.batches is not None:
            need((row.batches, row.total) == (old.batches, old.total), "I7", f"the plan of {key} changed")
        need(row.next_batch >= old.next_batch, "I8", "next_batch went back")
        if row.next_batch > old.next_batch and row.max_rows_per_second:
            self._rate(key[1], old, row)

    def _rate(self, job_id: str, old: JobRow, row: JobRow) -> None:
        """One batch at a time, each no sooner than the rows before it take."""
        need(row.next_batch == old.next_batch + 1, "rate", f"{job_id} has a rate, and got several batches")
        let_out: BatchRow = self._rows[("batch", job_id, old.next_batch)]
        began = (row.paced_until or 0.0) - let_out.rows / (row.max_rows_per_second or 1)
        # Sums of floats.
        need(began > (old.paced_until or 0.0) - 1e-6, "rate", f"{job_id} got a batch at {began}, before {old.paced_until}")

    def _batch(self, key: Any, old: BatchRow | None, row: BatchRow, writes: Mapping[Any, Any]) -> None:
        if old is None:
            return
        need((row.first_row, row.rows) == (old.first_row, old.rows), "I7", f"{key} denotes other rows")
        need(row.attempts >= old.attempts and row.dispatch_no >= old.dispatch_no, "I10", f"the counts of {key} went back")
        if self._calm:
            need(row.dispatch_no <= 1 and row.attempts <= 1, "once", f"{key} was dispatched or begun again for no reason")
        if old.settled:
            need(row.settled, "I8", f"{key} is not settled any more")
        if row.dispatch_no > old.dispatch_no == 0:
            mine, all_of_them = self._out(key[1], writes), sum(self._out(job_id, writes) for job_id in self._ids)
            need(mine <= JOB_WINDOW, "window", f"{mine} batches of a job are out")
            need(all_of_them <= WINDOW, "window", f"{all_of_them} batches are out")

    def _out(self, job_id: str, writes: Mapping[Any, Any]) -> int:
        """Batches of a job that are with executors."""
        slots = (("batch", job_id, number) for number in range(self._count(job_id)))
        batches = (writes.get(slot) or self._rows[slot] for slot in slots)
        job = writes.get(("job", job_id)) or self._rows.get(("job", job_id))
        if job is None or job.state is not State.RUNNING:
            return 0
        return sum(batch.dispatch_no > 0 and not batch.settled for batch in batches)

    def _count(self, job_id: str) -> int:
        row = self._rows.get(("job", job_id))
        return (row.batches or 0) if row else 0

    def _receipt(self, key: Any, old: Any, row: Any, writes: Mapping[Any, Any]) -> None:
        shown = old is not None and old.staged > 0 and row.staged == 0
        need(old is None or old == row or shown, "I8", f"the receipt of {key} changed")
        job: JobRow = self._rows[("job", key[1])]
        need(not job.state.terminal, "I6", f"a receipt of {key} came after the end")

    def _ledger(self, key: Any, old: Any, row: Any, writes: Mapping[Any, Any]) -> None:
        need(old is None or (old.staged > 0 and row.staged == 0), "I1", f"{key} was written twice")
        job: JobRow = self._rows[("job", key[1].job_id)]
        need(not job.state.terminal, "I5", f"rows of {key} appear in a job that is {job.state}")
        batch: BatchRow = self._rows[("batch", key[1].job_id, key[1].batch_no)]
        need(row.inserted + row.staged + row.rejected == batch.rows, "I7", f"{key} was written as other rows than planned")


def check_end(cluster: Cluster) -> None:
    """Everything is still, and should be exact. Raises Broken."""
    rows = cluster.jobs.database.rows
    for job in cluster.jobs.rows():
        truth = cluster.truths[job.id]
        need(job.state.terminal, "I2", f"{job.id} is {job.state} and nothing happens")
        ledger = {receipt.key.batch_no: receipt for receipt in cluster.ledger.receipts(job.id)}
        known = {number: receipt for number in range(job.batches or 0) if (receipt := rows.get(("receipt", job.id, number)))}
        if job.writing.dry_run:
            need(not ledger, "dry run", f"{job.id}: products has receipts of {sorted(ledger)}")
            ledger = known
        need(known == ledger, "I1", f"{job.id}: jobs has receipts of {sorted(known)}, products of {sorted(ledger)}")
        loaded = {row: count for (owner, row), count in cluster.ledger.products.items() if owner == job.id}
        need(all(count == 1 for count in loaded.values()), "I1", f"{job.id}: rows came twice")
        expected: set[int] = set()
        rejected = tried = 0
        for number, receipt in ledger.items():
            batch: BatchRow = rows[("batch", job.id, number)]
            span = range(batch.first_row, batch.first_row + batch.rows)
            rejects = truth.rejected(batch.first_row, batch.rows)
            need(receipt.rejects == repr(rejects).encode(), "I11", f"{job.id}: rejects of batch {number}")
            hidden = job.writing.dry_run or receipt.staged
            expected.update(row for row in span if row not in rejects and not hidden)
            tried += receipt.inserted if job.writing.dry_run else 0
            rejected += len(rejects)
        need(set(loaded) == expected, "I1", f"{job.id}: rows {sorted(expected ^ set(loaded))} do not match the receipts")
        need(job.total in (None, truth.rows), "I1", f"{job.id}: total {job.total} of {truth.rows}")
        if job.state in (State.SUCCEEDED, State.PARTIAL):
            need(len(loaded) + tried + rejected == truth.rows, "I1", f"{job.id} is {job.state} without all its rows")
        _check_verdict(job, len(loaded) + tried, rejected, truth.rows, asked=job.closing == "CANCELED")
        staged = cluster.ledger.staged(job.id)
        need(not staged, "I17", f"{job.id}: rows of {staged} wait for nothing")
        whole = {bool(receipt.staged) for receipt in ledger.values() if receipt.staged or receipt.inserted}
        need(not job.writing.whole or len(whole) < 2, "whole", f"{job.id}: some of it is visible")
    need(not cluster.jobs.database.open, "I17", "a transaction is open")
    need(not cluster.broker.messages, "I17", f"{len(cluster.broker.messages)} messages are left")


def _check_verdict(job: JobRow, loaded: int, rejected: int, total: int, *, asked: bool) -> None:
    limit = job.limits.max_errors
    if asked:
        need(job.state is State.CANCELED, "states", f"{job.id} was cancelled and is {job.state}")
    elif limit is not None and rejected > limit:
        need(job.state is State.FAILED, "states", f"{job.id} has {rejected} rejects and is {job.state}")
    elif rejected and not loaded:
        need(job.state is State.FAILED, "states", f"{job.id} loaded nothing and is {job.state}")
    else:
        wanted = State.PARTIAL if rejected else State.SUCCEEDED
        need(job.state is wanted, "states", f"{job.id} loaded {loaded} of {total} and is {job.state}, not {wanted}")
