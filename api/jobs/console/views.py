"""Jobs as the console shows them: the readers that GraphQL has, put into words and bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.jobs.context import Context, Person
from api.jobs.graphql_enums import STATES
from api.jobs.model import Job
from api.jobs.rejects import Group
from jobber.errors import Forbidden, Transient
from jobber.model import State

#: Bars of the chart of a job's pace; fewer where there are few batches, of which each is a step.
MOST_PARTS = 48
FEWEST_PARTS = 8


@dataclass(frozen=True, slots=True)
class Pace:
    """Records that ended in each part of a job's time, as bars of a chart."""

    #: Height in hundredths of the highest bar.
    bars: Sequence[float]
    #: Records a second of the highest bar.
    peak: float


@dataclass(frozen=True, slots=True)
class Acts:
    """What may be done to the job now."""

    pause: bool
    resume: bool
    cancel: bool
    retry: bool
    replay: bool
    #: Load the same file in another way.
    again: bool

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return self.pause or self.resume or self.cancel or self.retry or self.replay or self.again


def acts_of(context: Context, job: Job) -> Acts:
    """None for who may only look."""
    writes = may_write(context)
    ended = job.state.terminal
    return Acts(
        pause=writes and job.state in (State.QUEUED, State.VALIDATING, State.RUNNING),
        resume=writes and job.state is State.PAUSED,
        cancel=writes and not ended and job.state is not State.CANCELING,
        retry=writes and not job.expired and _is_left(job),
        replay=writes and not job.expired and ended and job.tally.rejected > 0,
        again=writes
        and ended
        and (job.state is not State.SUCCEEDED or job.dry_run)
        and job.upload_id is not None
        and job.owner_id == context.who.id,
    )


def _is_left(job: Job) -> bool:
    """Whether a retry would find something. An input that could not be planned would fail again; a cancelled one not."""
    if job.total is None:
        return job.state is State.CANCELED
    return job.state in (State.FAILED, State.CANCELED) and job.unprocessed > 0


def may_write(context: Context) -> bool:
    """Whether the caller may do more than look."""
    try:
        context.who.check_writes()
    except Forbidden:
        return False
    return True


async def pace_of(context: Context, job: Job) -> Pace | None:
    """None where a chart would show nothing: of a job that one glance could not follow, or of two batches."""
    if job.tally.receipts < FEWEST_PARTS // 2 or job.seconds < 1:
        return None
    parts = max(FEWEST_PARTS, min(MOST_PARTS, job.tally.receipts // 2))
    ended = await context.store.pace(job, parts)
    highest = max(ended) or 1
    return Pace([round(100 * records / highest, 1) for records in ended], highest * parts / job.seconds)


async def people_of(context: Context, jobs: Sequence[Job]) -> Mapping[str, Person]:
    """Who submitted the jobs; nobody, where auth does not answer: a list without names is better than none."""
    owners = list(dict.fromkeys(job.owner_id for job in jobs))
    try:
        found = await context.users.load_many(owners)
    except Transient:
        return {}
    return {person.id: person for person in found if isinstance(person, Person)}


async def parts_of(context: Context, job: Job, groups: Sequence[Group] | None) -> dict[str, Any]:
    """What the page of a job is made of, at first and live."""
    kind = context.services.kinds.get(job.name)
    left = (job.total or 0) - job.read
    speed = job.rows_per_second
    return {
        "job": job,
        "meaning": STATES[job.state],
        "computed": kind is not None and kind.target is None,
        "acts": acts_of(context, job),
        "pace": await pace_of(context, job),
        "groups": groups,
        "eta": left / speed if speed and left > 0 and job.state is State.RUNNING else None,
    }
