"""The promises, as what must be true of all rows after every step. Their numbers are those of docs/promises.md."""

from collections import Counter
from typing import Any, NamedTuple

import psycopg

from jobber.model import BatchKey, State, Writing
from tests.state_machine.book import Book, Content
from tests.state_machine.world import JOB_WINDOW, WINDOW


class Broken(AssertionError):
    """A promise does not hold."""


def need(holds: bool, promise: str, what: str) -> None:
    """Raises Broken unless it holds."""
    if not holds:
        raise Broken(f"{promise}: {what}")


class JobRow(NamedTuple):
    """Of jobs.jobs."""

    id: str
    owner: str
    key: str | None
    payload: bytes
    state: State
    closing: str | None
    error: str | None
    total: int | None
    batches: int | None
    layout: bytes | None
    next_batch: int
    plan_no: int
    plan_attempts: int
    changes: int
    ended_at: Any
    #: Read as people do.
    receipts: int
    loaded: int
    rejected: int
    staged: int


class BatchRow(NamedTuple):
    """Of jobs.batches."""

    planned: tuple[int, int, int, int, bytes]
    dispatch_no: int
    claimed: bool
    attempts: int
    settled: bool


class Snapshot(NamedTuple):
    """All rows at one moment."""

    jobs: dict[str, JobRow]
    batches: dict[BatchKey, BatchRow]
    receipts: dict[BatchKey, Content]
    ledger: dict[BatchKey, Content]
    #: Row numbers in products.
    rows: dict[BatchKey, tuple[int, ...]]
    closed: frozenset[str]
    #: Names that are keys of jobs, and how many products have each.
    keyed: tuple[tuple[str, int], ...]

    def of(self, job_id: str, rows: "dict[BatchKey, Any]") -> dict[int, Any]:
        """Those of one job, by batch number."""
        return {key.batch_no: row for key, row in rows.items() if key.job_id == job_id}


EMPTY = Snapshot({}, {}, {}, {}, {}, frozenset(), ())

QUERIES = b"""
    SELECT j.id::text, owner_id::text, idempotency_key, payload_sha256, state, closing, error, total, batches, layout,
           next_batch, plan_no, plan_attempts, changes, ended_at, count(r.job_id),
           coalesce(sum(inserted + updated + unchanged), 0)::bigint,
           coalesce(sum(rejected), 0)::bigint, coalesce(sum(staged), 0)::bigint
      FROM jobs.jobs j LEFT JOIN jobs.receipts r ON r.job_id = j.id GROUP BY j.id;
    SELECT job_id::text, batch_no, start, length, first_row, rows, digest, dispatch_no, claimed_at IS NOT NULL, attempts,
           settled FROM jobs.batches;
    SELECT job_id::text, batch_no, inserted, updated, unchanged, rejected, rejects, staged FROM jobs.receipts;
    SELECT job_id::text, batch_no, inserted, updated, unchanged, rejected, rejects, staged FROM products.ledger;
    SELECT job_id::text, batch_no, array_agg(row_no ORDER BY row_no) FROM products.products GROUP BY 1, 2;
    SELECT job_id::text FROM products.closed_jobs;
    SELECT name, count(*) FROM products.products WHERE name LIKE 'UPSERT %' GROUP BY 1
"""


def look(session: psycopg.Connection[Any]) -> Snapshot:
    """Read everything, in one round trip."""
    cursor = session.execute(QUERIES)
    sets = [cursor.fetchall()]
    while cursor.nextset():
        sets.append(cursor.fetchall())
    jobs, batches, receipts, ledger, rows, closed, keyed = sets
    return Snapshot(
        {row[0]: JobRow._make([*row[:4], State(row[4]), *row[5:]]) for row in jobs},
        {BatchKey(*row[:2]): BatchRow(row[2:7], *row[7:]) for row in batches},
        {BatchKey(*row[:2]): row[2:] for row in receipts},
        {BatchKey(*row[:2]): row[2:] for row in ledger},
        {BatchKey(*row[:2]): tuple(row[2]) for row in rows},
        frozenset(row[0] for row in closed),
        tuple((row[0], row[1]) for row in keyed),
    )


def check(old: Snapshot, new: Snapshot, book: Book, *, alone: bool) -> None:
    """Every promise, after a step; `alone`: one session made it. Raises Broken."""
    _submissions(new, book)
    _plans(old, new, book)
    _loads(old, new, book)
    _receipts(old, new, book)
    for job_id, job in new.jobs.items():
        _step(old.jobs.get(job_id), job, book)
        _state(job, new, book)
    _windows(old, new, alone=alone)


def _submissions(new: Snapshot, book: Book) -> None:
    for job_id, asked in book.asked.items():
        need(not asked.answered or job_id in new.jobs, "I4", f"the job {job_id} was answered and is not there")
    need(set(new.jobs) <= set(book.asked), "I3", "a job is there that nobody asked for")
    keys = Counter((job.owner, job.key) for job in new.jobs.values() if job.key is not None)
    need(all(count == 1 for count in keys.values()), "I3", f"one key has several jobs: {keys}")


def _plans(old: Snapshot, new: Snapshot, book: Book) -> None:
    for key, batch in old.batches.items():
        need(key in new.batches and new.batches[key].planned == batch.planned, "I7", f"{key} denotes other bytes")
        need(new.batches[key].attempts >= batch.attempts, "I10", f"attempts at {key} went back")
        need(new.batches[key].dispatch_no >= batch.dispatch_no, "I10", f"dispatches of {key} went back")
        need(new.batches[key].settled >= batch.settled, "I8", f"{key} is not settled any more")
    counts = Counter(key.job_id for key in new.batches)
    for job_id, job in new.jobs.items():
        need(counts[job_id] == (job.batches or 0), "I7", f"{job_id} has {counts[job_id]} batches, and says {job.batches}")
        if job.batches is None:
            continue
        planned = [new.batches[BatchKey(job_id, number)].planned for number in range(job.batches)]
        offered = [[(b.offset, b.length, b.first_row, b.rows, b.digest) for b in plan.batches] for plan in book.plans[job_id]]
        need(planned in offered, "I7", f"the plan of {job_id} is none that was offered")
        need(job.total == sum(batch[3] for batch in planned), "I1", f"the total of {job_id} is {job.total}")


def _loads(old: Snapshot, new: Snapshot, book: Book) -> None:
    need(set(new.rows) <= set(new.ledger), "I1", "rows are there without a receipt in the ledger")
    for key, receipt in new.ledger.items():
        rows, writing = new.rows.get(key, ()), book.asked[key.job_id].input.writing
        made = [outcome for outcome in book.outcomes[key] if outcome.fits(receipt)]
        seen = any(_shows(outcome.loaded, rows, receipt, writing) for outcome in made)
        need(seen, "I1", f"{key} has rows {rows}, its receipt {receipt}")
        before = old.jobs.get(key.job_id)
        if key in old.ledger and old.ledger[key][5] and not receipt[5]:
            need(key.job_id not in old.closed, "I5", f"{key} was published after its job was closed")
            need(before is None or not before.state.terminal, "I5", f"{key} was published after its job's end")
        elif key in old.ledger:
            same = old.ledger[key] == receipt and (bool(writing.keys) or old.rows.get(key) == new.rows.get(key))
            need(same, "I10", f"{key} was written again")
        else:
            need(key.job_id not in old.closed, "I5", f"{key} was written after its job was closed")
            need(before is None or not before.state.terminal, "I5", f"{key} was written after its job's end")
    for job_id in {key.job_id for key, receipt in new.ledger.items() if receipt[5]}:
        shown = [key for key in new.rows if key.job_id == job_id]
        need(not shown, "whole", f"{shown} are visible, and other batches of the job are not")
    for name, count in new.keyed:
        need(count == 1, "keys", f"{count} products are called {name}")
    need(set(old.ledger) <= set(new.ledger) and old.closed <= new.closed, "I1", "the ledger forgot something")


def _shows(loaded: tuple[int, ...], rows: tuple[int, ...], receipt: Content, writing: Writing) -> bool:
    """Whether these are the rows that a receipt tells of; of what is written by keys later jobs may have changed some."""
    if receipt[5] or writing.dry_run:
        return rows == ()
    return set(rows) <= set(loaded) if writing.keys else rows == loaded


def _receipts(old: Snapshot, new: Snapshot, book: Book) -> None:
    for key, receipt in old.receipts.items():
        now = new.receipts[key]
        need(now == receipt or (receipt[5] > 0 and now[5] == 0), "I8", f"the receipt of {key} changed")
    for key, receipt in new.receipts.items():
        need(new.batches[key].settled, "I17", f"{key} has its receipt and is not settled")
        made = any(outcome.fits(receipt) for outcome in book.outcomes[key])
        if book.asked[key.job_id].input.computes:
            need(made, "I1", f"nobody made the receipt of {key}")
        else:
            # Jobs may not know yet that the rows were published.
            told = new.ledger.get(key) == receipt or (made and receipt[5] > 0)
            need(told, "I1", f"the receipt of {key} is not the ledger's")


def _step(old: JobRow | None, job: JobRow, book: Book) -> None:
    if old is None:
        return
    need(job.changes >= old.changes and job.receipts >= old.receipts, "I8", f"the progress of {job.id} went back")
    need(job.loaded >= old.loaded and job.rejected >= old.rejected, "I8", f"the sums of {job.id} went back")
    if (old.state, old.error, old.closing) != (job.state, job.error, job.closing):
        need(job.changes > old.changes, "I8", f"{job.id} became {job.state} without a number for its followers")
    if old.state.terminal:
        need(old == job, "I6", f"{job.id} had ended as {old.state} and is now {job}")
    if old.state is State.CANCELING:
        need(job.state in (State.CANCELING, State(old.closing or "")), "I6", f"{job.id} was closing and became {job.state}")
        need((job.closing, job.error) == (old.closing, old.error), "I6", f"{job.id} closes for another reason")
    if old.batches is not None:
        need(
            (old.batches, old.total, old.layout) == (job.batches, job.total, job.layout), "I7", f"the plan of {job.id} changed"
        )


def _state(job: JobRow, new: Snapshot, book: Book) -> None:
    asked, ended = book.asked[job.id], job.loaded + job.rejected
    need(ended <= (job.total or 0), "I8", f"{job.id} has ended {ended} of {job.total} records")
    complete = job.batches is not None and job.receipts == job.batches
    if job.state in (State.QUEUED, State.VALIDATING, State.RUNNING, State.PAUSED):
        need(not complete or job.staged > 0, "I2", f"{job.id} has all its receipts and is {job.state}")
        need(not _beyond(job, asked.input.limits), "limits", f"{job.id} has {job.rejected} rejects and is {job.state}")
    if job.state is State.PAUSED:
        need(job.id in book.paused, "states", f"{job.id} is paused and nobody asked for it")
    if State.CANCELED in (job.state, job.closing):
        need(job.id in book.canceled, "states", f"{job.id} is cancelled and nobody asked for it")
    if State.FAILED in (job.state, job.closing):
        nothing = complete and job.loaded == 0 and job.rejected > 0
        reason = nothing or _beyond(job, asked.input.limits) or job.error in book.errors[job.id]
        need(reason and bool(job.error), "states", f"{job.id} failed for no reason: {job.error}")
    if job.state in (State.SUCCEEDED, State.PARTIAL):
        need(complete and ended == job.total, "I1", f"{job.id} is {job.state} with {ended} of {job.total}")
        need((job.state is State.SUCCEEDED) == (job.rejected == 0), "states", f"{job.state} with {job.rejected} rejects")
    if job.state.terminal:
        need(job.ended_at is not None, "states", f"{job.id} has ended at no time")
        if not asked.input.computes:
            known, ledger = new.of(job.id, new.receipts), new.of(job.id, new.ledger)
            need(known == ledger, "I1", f"{job.id} ended with receipts of {sorted(known)}, products has {sorted(ledger)}")
    else:
        need(job.id not in book.done, "I5", f"{job.id} was answered as CANCELED and is {job.state}")


def _beyond(job: JobRow, limits: Any) -> bool:
    return limits.max_errors is not None and job.rejected > limits.max_errors


def _windows(old: Snapshot, new: Snapshot, *, alone: bool) -> None:
    fresh = {
        key.job_id
        for key, batch in new.batches.items()
        if batch.dispatch_no and not (key in old.batches and old.batches[key].dispatch_no)
    }
    running = {job.id for job in new.jobs.values() if job.state is State.RUNNING}
    out = Counter(key.job_id for key, batch in new.batches.items() if batch.dispatch_no and not batch.settled)
    for job_id in fresh:
        need(out[job_id] <= JOB_WINDOW, "window", f"{out[job_id]} batches of {job_id} are out")
    total = sum(count for job_id, count in out.items() if job_id in running)
    need(not (fresh and alone) or total <= WINDOW, "window", f"{total} batches are out")
