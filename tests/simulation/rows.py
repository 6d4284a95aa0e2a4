"""Rows of the jobs schema in memory, and what they say by themselves."""

import msgspec

from api.jobs.decide import Limits
from api.jobs.turn import PLAN_LEASE
from jobber.model import PLAIN, BatchKey, State, Writing

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
    max_rows_per_second: int | None = None
    paced_until: float | None = None
    plan_no: int = 0
    plan_dispatched_at: float | None = None
    plan_claimed_at: float | None = None
    plan_attempts: int = 0
    changes: int = 0
    writing: Writing = PLAIN
    publishing: bool = False
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


def plan_is_due(row: JobRow, now: float) -> bool:
    """As in Turn.issue_plans."""
    if row.state not in (State.QUEUED, State.VALIDATING) or row.batches is not None:
        return False
    if row.plan_dispatched_at is None:
        return True
    if row.plan_claimed_at is None:
        return bool(now > row.plan_dispatched_at + min(3 * 2 ** min(row.plan_no - 1, 10), 20))
    return bool(now > row.plan_claimed_at + PLAN_LEASE)
