"""The jobs schema in memory does what the SQL does: the same operations on both, the same answers and the same rows.

What the simulation proves of the decision code is worth as much as this.
"""

import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.database import Pool, open_pool
from api.jobs.decide import Limits
from api.jobs.model import Submission
from api.jobs.store import Store
from api.jobs.turn import PLAN_LEASE, Ticket
from api.jobs.work import Staged, Work
from api.migrate import migrate
from jobber.errors import Conflict, InvalidState
from jobber.ids import uuid7
from jobber.model import PLAIN, BatchKey, Format, InputOptions, Layout, Plan, PlannedBatch, Receipt, Writing
from tests.simulation.database import Database
from tests.simulation.jobs import Jobs, shown
from tests.simulation.kernel import Kernel, Process, drive
from tests.simulation.products import THEN
from tests.simulation.rows import BatchRow, Cut, JobRow

SEEDS, OPERATIONS = 100, 50
#: Of all columns that both have.
ROWS = """
    SELECT id::text, state, closing, total, batches, next_batch, plan_no, plan_dispatched_at IS NOT NULL,
           plan_claimed_at IS NOT NULL, plan_attempts, changes, started_at IS NOT NULL, publishing, paced_until IS NOT NULL
      FROM jobs.jobs WHERE owner_id = ANY (%s::uuid[]) ORDER BY number
"""
BATCHES = """
    SELECT b.job_id::text, b.batch_no, b.first_row, b.rows, b.dispatch_no, b.claimed_at IS NOT NULL, b.attempts, b.settled,
           coalesce(b.dispatched_at = '-infinity', false)
      FROM jobs.batches b JOIN jobs.jobs j ON j.id = b.job_id WHERE j.owner_id = ANY (%s::uuid[])
     ORDER BY j.number, b.batch_no
"""


class Both:
    """The SQL and its mirror, side by side. Every operation is done to both, and answers the two answers."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self.pool = pool
        self.store, self.work = Store(pool), Work(pool)
        self.kernel = Kernel(seed)
        self.random = random.Random(seed)
        self.mirror = Jobs(Database(self.kernel))
        self.jobs: list[str] = []
        self.tickets: list[Ticket] = []
        self.claimed: list[tuple[BatchKey, int]] = []
        self.owners = (uuid7(), uuid7())

    def mirrored(self, work: Any) -> Any:
        """What the mirror answers, or how it refuses."""
        answers: list[Any] = []

        def run() -> None:
            try:
                answers.append(work())
            except (Conflict, InvalidState) as fault:
                answers.append(type(fault).__name__)

        process = Process(self.kernel, "only", lambda process: None)
        process.boot()
        thread = process.spawn(run)
        assert self.kernel.run(lambda: thread.done, self.kernel.now + 100)
        return answers[0]

    async def real(self, work: Any) -> Any:
        """What the SQL answers, or how it refuses."""
        try:
            return await work
        except (Conflict, InvalidState) as fault:
            return type(fault).__name__

    async def same(self, work: Any, mirrored: Any, shown: Any = lambda answer: answer) -> Any:
        """Do it to both; the answers must agree. Gives the SQL's."""
        answer, other = await self.real(work), self.mirrored(mirrored)
        assert (answer if isinstance(answer, str) else shown(answer)) == (other if isinstance(other, str) else shown(other))
        return answer

    async def rows(self) -> None:
        """Both hold the same rows."""
        async with self.pool.connection() as connection:
            jobs = await (await connection.execute(ROWS, [list(self.owners)])).fetchall()
            batches = await (await connection.execute(BATCHES, [list(self.owners)])).fetchall()
        mine = list(self.mirror.rows())
        assert jobs == [
            (
                *(row.id, row.state, row.closing, row.total, row.batches, row.next_batch, row.plan_no),
                *(row.plan_dispatched_at is not None, row.plan_claimed_at is not None, row.plan_attempts, row.changes),
                row.started_at is not None,
                row.publishing,
                row.paced_until is not None,
            )
            for row in mine
        ]
        kept = self.mirror.database.rows
        found = [((row.id, number), kept["batch", row.id, number]) for row in mine for number in range(row.batches or 0)]
        assert batches == [
            (*key, row.first_row, row.rows, row.dispatch_no, row.claimed_at is not None, row.attempts, row.settled, due(row))
            for key, row in found
        ]


def due(row: BatchRow) -> bool:
    """It is to be dispatched again at once."""
    return row.dispatched_at == float("-inf")


def cut_of(rows: int, size: int) -> Cut:
    return tuple((first, min(size, rows - first + 1)) for first in range(1, rows + 1, size))


def plan_of(cut: Cut) -> Plan:
    return Plan(Layout(format=Format.JSON), tuple(PlannedBatch(row, 1, row, rows, b"\1" * 32) for row, rows in cut))


async def submit(both: Both) -> None:
    rnd = both.random
    owner, job_id = rnd.choice(both.owners), uuid7()
    cut = None if rnd.random() < 0.4 else cut_of(rnd.choice((0, 1, 3, 8)), rnd.randint(1, 3))
    key, payload = (f"key-{rnd.randint(0, 3)}", rnd.choice("ab")) if rnd.random() < 0.6 else (None, "a")
    limits = Limits(rnd.choice((None, 0, 2)), rnd.choice((None, None, 0.3)))
    plan = None if cut is None else plan_of(cut)
    rate = rnd.choice((None, None, 1))
    writing = rnd.choice((PLAIN, PLAIN, Writing(whole=True), Writing(dry_run=True, whole=True)))
    asked = Submission(
        job_id,
        owner,
        "LoadProducts",
        b"{}",
        InputOptions(),
        limits,
        1,
        key,
        payload.encode() * 32,
        inline=b"[]",
        plan=plan,
        writing=writing,
        max_rows_per_second=rate,
    )
    row = JobRow(
        id=job_id,
        number=len(both.jobs),
        owner=owner,
        key=key,
        payload=payload,
        limits=limits,
        writing=writing,
        max_rows_per_second=rate,
    )
    answer = await both.same(both.store.submit(asked), lambda: both.mirror.submit(row, cut))
    if isinstance(answer, tuple) and not answer[1]:
        both.jobs.append(job_id)


async def act(both: Both, name: str) -> None:
    if not both.jobs:
        return
    job_id = both.random.choice(both.jobs)
    await both.same(getattr(both.store, name)(job_id, None), lambda: getattr(both.mirror, name)(job_id))


async def hold(both: Both) -> None:
    """Pause and resume a job of which something is with an executor."""
    for key, _ in sample(both, both.claimed, 1):
        for name in ("pause", "resume"):
            await both.same(
                getattr(both.store, name)(key.job_id, None),
                lambda name=name: getattr(both.mirror, name)(key.job_id),  # noqa: B023
            )


async def turn(both: Both, step: Any) -> None:
    """One step of a dispatcher's turn."""

    async def run(work: Any) -> Any:
        async with work.dispatching() as session:
            return await step(session)

    await both.same(run(both.work), lambda: drive(run(both.mirror)), lambda tickets: sorted(map(repr, tickets or ())))


async def dispatch(both: Both) -> None:
    window = both.random.randint(1, 6)

    async def step(session: Any) -> Any:
        found, out = await session.candidates(50)
        ours = [item for item in found if item.hungry.job_id in both.jobs]
        upto = {item.hungry.job_id: min(item.hungry.next_batch + window, item.hungry.batches) for item in ours}
        lookups = dict.fromkeys(upto, await session.keep_lookups(b"x" * 32, b"{}"))
        started = await session.start(upto, lookups)
        batches = [
            (item.hungry.job_id, number)
            for item in sorted(ours, key=lambda item: item.hungry.job_id)
            if item.hungry.job_id in started
            for number in range(item.hungry.next_batch, upto[item.hungry.job_id])
        ]
        tickets = await session.issue(batches) if batches else []
        keep(both, tickets)
        assert out >= 0
        return tickets

    await turn(both, step)


async def issue_again(both: Both) -> None:
    async def step(session: Any) -> Any:
        out = await session.outstanding()
        chosen = sorted((item.job_id, item.batch_no) for item in out if item.job_id in both.jobs)[::2]
        tickets = await session.issue(chosen) if chosen else []
        keep(both, tickets)
        return tickets

    await turn(both, step)


async def issue_plans(both: Both) -> None:
    async def step(session: Any) -> Any:
        tickets = await session.issue_plans(100)
        keep(both, tickets)
        return [item for item in tickets if item.job_id in both.jobs]

    await turn(both, step)


def keep(both: Both, tickets: Any) -> None:
    both.tickets += [ticket for ticket in tickets if ticket not in both.tickets and ticket.job_id in both.jobs]


async def later(both: Both) -> None:
    """Time goes by on both clocks."""
    seconds = both.random.choice((1.0, 5.0, PLAN_LEASE + 1, 60.0))
    async with both.pool.connection() as connection:
        await connection.execute(
            "UPDATE jobs.batches SET dispatched_at = dispatched_at - %s * interval '1 s',"
            " claimed_at = claimed_at - %s * interval '1 s'",
            [seconds, seconds],
        )
        await connection.execute(
            "UPDATE jobs.jobs SET plan_dispatched_at = plan_dispatched_at - %s * interval '1 s',"
            " plan_claimed_at = plan_claimed_at - %s * interval '1 s', paced_until = paced_until - %s * interval '1 s'",
            [seconds, seconds, seconds],
        )
    both.kernel.now += seconds


async def claim(both: Both) -> None:
    loads = [ticket for ticket in both.tickets if ticket.batch_no >= 0]
    asked = [(BatchKey(item.job_id, item.batch_no), item.dispatch_no) for item in sample(both, loads, 5)]

    async def real() -> Any:
        claimed, _ = await both.work.claim(asked)
        return [(item.key, item.attempt, item.planned.first_row, item.planned.rows) for item in claimed]

    def mirrored() -> Any:
        return [(item.key, item.attempt, item.first_row, item.rows) for item in both.mirror.claim(asked)]

    for key, _, _, rows in await both.same(real(), mirrored):
        both.claimed.append((key, rows))


async def claim_plan(both: Both) -> None:
    for ticket in sample(both, [ticket for ticket in both.tickets if ticket.batch_no < 0], 2):

        async def real(ticket: Ticket = ticket) -> bool:
            return await both.work.claim_plan(ticket.job_id, ticket.dispatch_no) is not None

        await both.same(real(), lambda ticket=ticket: both.mirror.claim_plan(ticket.job_id, ticket.dispatch_no))


async def record_plan(both: Both) -> None:
    if both.jobs:
        job_id, cut = both.random.choice(both.jobs), cut_of(both.random.choice((0, 1, 4)), both.random.randint(1, 2))
        await both.same(both.work.record_plan(job_id, plan_of(cut)), lambda: both.mirror.record_plan(job_id, cut))


async def acknowledge(both: Both) -> None:
    receipts = [receipt_of(both, key, rows) for key, rows in sample(both, both.claimed, 4)]
    unique = list({receipt.key: receipt for receipt in receipts}.values())
    await both.same(both.work.acknowledge(unique), lambda: both.mirror.acknowledge(unique))


async def close(both: Both) -> None:
    closing = await both.same(both.work.closing(), lambda: drive(both.mirror.closing()), lambda rows: sorted(rows))
    for job_id, _, _ in closing:
        if both.random.random() < 0.5:
            receipts = [receipt_of(both, key, rows) for key, rows in set(both.claimed) if key.job_id == job_id]
            await both.same(both.work.closed(job_id, receipts), lambda: drive(both.mirror.closed(job_id, receipts)))  # noqa: B023


async def publish(both: Both) -> None:
    due = await both.same(
        both.work.publishable(), lambda: drive(both.mirror.publishable()), lambda rows: sorted(map(told, rows))
    )
    for item in due:
        kept = both.mirror.database.rows
        found = [kept.get(("receipt", item.job_id, number)) for number in range(kept["job", item.job_id].batches)]
        receipts = None if item.writing.dry_run else [shown(receipt) for receipt in found if receipt is not None]
        await both.same(
            both.work.published(item.job_id, receipts),
            lambda item=item, receipts=receipts: drive(both.mirror.published(item.job_id, receipts)),
        )


def told(item: Staged) -> tuple[Any, ...]:
    return item.job_id, item.name, item.writing.whole, item.writing.dry_run, -1 if item.allowed is None else item.allowed


async def unpublished(both: Both) -> None:
    lost = sample(both, both.tickets, 3)
    await both.same(both.work.unpublished(lost), lambda: drive(both.mirror.unpublished(lost)))


def receipt_of(both: Both, key: BatchKey, rows: int) -> Receipt:
    rejected = both.random.randint(0, rows)
    row: JobRow = both.mirror.database.rows["job", key.job_id]
    if row.writing.staged:
        return Receipt(key, 0, 0, 0, rejected, b"", b"", THEN, rows - rejected)
    return Receipt(key, rows - rejected, 0, 0, rejected, b"", b"", THEN)


def sample(both: Both, things: Any, most: int) -> Any:
    return both.random.sample(things, min(both.random.randint(1, most), len(things)))


OPERATION = (
    *((submit, 4), (dispatch, 6), (claim, 8), (acknowledge, 8), (issue_plans, 3), (claim_plan, 4), (record_plan, 3)),
    *((issue_again, 2), (later, 2), (close, 3), (unpublished, 3), (hold, 2), (publish, 3)),
    *(((lambda both: act(both, "cancel")), 1), ((lambda both: act(both, "pause")), 1), ((lambda both: act(both, "resume")), 2)),
)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    await migrate(database, "jobs", Path("api/jobs/sql"))
    pool = await open_pool(database, name="test", size=4, timeout=10)
    yield pool
    await pool.close()


@pytest.mark.timeout(300)
async def test_the_mirror_does_what_the_sql_does(pool: Pool) -> None:
    for seed in range(SEEDS):
        both = Both(pool, seed)
        done = []
        began = time.monotonic()
        for _ in range(OPERATIONS):
            # On a busy machine the database's clock goes on by seconds, too.
            began, passed = time.monotonic(), time.monotonic() - began
            both.kernel.now += passed
            operation: Any = both.random.choices([item for item, _ in OPERATION], [weight for _, weight in OPERATION])[0]
            done.append(getattr(operation, "__name__", "act"))
            try:
                await operation(both)
                await both.rows()
            except AssertionError as fault:
                raise AssertionError(f"seed {seed}, after {done}: {fault}") from fault
        async with pool.connection() as connection:
            await connection.execute("TRUNCATE jobs.jobs, jobs.batches, jobs.receipts CASCADE")
