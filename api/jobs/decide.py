"""What the jobs service decides, as pure functions: which batches go next, how a job ends, what was lost on the way."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from jobber.model import State


@dataclass(frozen=True, slots=True)
class Tally:
    """A job's receipts, summed."""

    receipts: int
    inserted: int
    updated: int
    unchanged: int
    rejected: int
    #: Written and not visible yet.
    staged: int = 0

    @property
    def ended(self) -> int:
        """Records that ended as loaded or rejected."""
        return self.loaded + self.rejected

    @property
    def loaded(self) -> int:
        """Records that are in the target, or computed."""
        return self.inserted + self.updated + self.unchanged


@dataclass(frozen=True, slots=True)
class Limits:
    """How many rejects a submitter accepts; None means any number."""

    max_errors: int | None = None
    max_error_ratio: float | None = None

    def allowed(self, total: int) -> int | None:
        """How many of `total` records may be rejected. Exact: 0.29 of 100 is 29, which binary floats make 28."""
        if self.max_error_ratio is None:
            return self.max_errors
        by_ratio = int(Fraction(repr(self.max_error_ratio)) * total)
        return by_ratio if self.max_errors is None else min(self.max_errors, by_ratio)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a job becomes. `closing`: batches may still be on their way, so that products has to close it first."""

    state: State
    error: str | None = None
    closing: bool = False
    #: Every batch is staged: it goes on by being published.
    publish: bool = False


def verdict(tally: Tally, *, total: int, batches: int, limits: Limits) -> Verdict | None:
    """How the job ends or, when all its batches are staged, that it is to be published; None while it goes on.

    SUCCEEDED without a reject, PARTIAL with some within the limits, FAILED beyond them or when every record was rejected.
    """
    complete = tally.receipts >= batches
    allowed = limits.allowed(total)
    if allowed is not None and tally.rejected > allowed:
        reason = f"{tally.rejected:,} of {total:,} records were rejected; at most {allowed:,} were allowed."
        return Verdict(State.FAILED, reason, closing=not complete or tally.staged > 0)
    if not complete:
        return None
    if tally.staged:
        return Verdict(State.RUNNING, publish=True)
    if tally.rejected == 0:
        return Verdict(State.SUCCEEDED)
    if tally.loaded == 0:
        return Verdict(State.FAILED, f"Every record was rejected ({tally.rejected:,} of {total:,}); see the job's errors.")
    return Verdict(State.PARTIAL)


@dataclass(frozen=True, slots=True)
class Hungry:
    """A job that has batches left to dispatch."""

    job_id: str
    owner_id: str
    priority: int
    #: Order of submission.
    number: int
    next_batch: int
    batches: int
    #: Batches that are with executors.
    outstanding: int
    #: It has a rate: of it goes one batch at a time.
    paced: bool = False


#: Owners of whom it is not known when they were served.
NOBODY: Mapping[str, int] = MappingProxyType({})


def choose(jobs: Sequence[Hungry], *, room: int, job_window: int, served: Mapping[str, int] = NOBODY) -> list[tuple[str, int]]:
    """The batches to dispatch next, as (job, batch_no), in order; at most `room`.

    Higher priority first. Within one priority, owners take turns, and an owner's jobs take turns: the k-th turn of every
    owner comes before the (k+1)-th of any. No job has more than `job_window` batches with executors, and one with a rate gets
    one batch. Where there is no room for a turn of every owner, those go first who were `served` longest ago: a larger number
    is later, none is never.
    """
    turns: list[tuple[int, int, int, int, str, int]] = []
    by_owner: dict[tuple[int, str], list[Hungry]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.number):
        by_owner[(job.priority, job.owner_id)].append(job)
    for (priority, owner), owned in by_owner.items():
        rounds: list[tuple[int, int, str, int]] = []
        for job in owned:
            free = min(job_window - job.outstanding, job.batches - job.next_batch, 1 if job.paced else room)
            # A job that has batches out already has had that many turns.
            rounds.extend((job.outstanding + k, job.number, job.job_id, job.next_batch + k) for k in range(max(free, 0)))
        rounds.sort()
        last = served.get(owner, 0)
        turns.extend((-priority, turn, last, number, job_id, no) for turn, (_, number, job_id, no) in enumerate(rounds))
    turns.sort(key=lambda item: item[:4])
    return [(job_id, no) for *_, job_id, no in turns[:room]]


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A batch that is with executors, with ages in seconds by the database's clock."""

    job_id: str
    batch_no: int
    dispatch_no: int
    dispatched_ago: float
    #: None: not claimed since its last dispatch.
    claimed_ago: float | None


#: Seconds after which an unclaimed dispatch may be lost; doubles with every dispatch.
UNCLAIMED_AFTER = 2.0
#: Seconds that an executor is given from its claim to the receipt: retries against a dead products take 20.
UNSETTLED_AFTER = 30.0
#: The longest delays between two dispatches of a batch: a job must go on within a minute of the last fault.
UNCLAIMED_LONGEST = 20.0
UNSETTLED_LONGEST = 45.0


def lost(outstanding: Sequence[Outstanding]) -> list[tuple[str, int]]:
    """The batches to issue again, as (job, batch_no).

    An unclaimed one only waits its turn as long as earlier dispatches are being claimed; it is taken for lost when a later
    dispatch was claimed after it was due, or when nothing was claimed for as long as it waits.
    """
    latest_claim = min((item.claimed_ago for item in outstanding if item.claimed_ago is not None), default=None)
    claimed_dispatches = [item.dispatched_ago for item in outstanding if item.claimed_ago is not None]
    youngest_claimed = min(claimed_dispatches, default=None)
    found = []
    for item in outstanding:
        factor = 2 ** min(item.dispatch_no - 1, 20)
        if item.claimed_ago is not None:
            if item.claimed_ago > min(UNSETTLED_AFTER * factor, UNSETTLED_LONGEST):
                found.append((item.job_id, item.batch_no))
            continue
        delay = min(UNCLAIMED_AFTER * factor, UNCLAIMED_LONGEST)
        if item.dispatched_ago <= delay:
            continue
        overtaken = youngest_claimed is not None and youngest_claimed < item.dispatched_ago - delay
        silent = latest_claim is None or latest_claim > delay
        if overtaken or silent:
            found.append((item.job_id, item.batch_no))
    return found
