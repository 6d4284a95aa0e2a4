"""The nouns of this room: a submission, a job as people see it, an upload."""

from dataclasses import dataclass
from datetime import datetime

from api.audit import Actor
from api.jobs.decide import Limits, Tally
from jobber.model import PLAIN, InputOptions, Lane, Plan, State, Writing


@dataclass(frozen=True, slots=True)
class Blob:
    """An input that is kept in the blob store."""

    key: str
    size: int
    upload_id: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that was asked for, checked and ready to be stored."""

    job_id: str
    owner_id: str
    #: Canonical name of the job type.
    name: str
    #: The validated Args, JSON.
    args: bytes
    options: InputOptions
    limits: Limits
    priority: int
    idempotency_key: str | None
    #: Of everything that makes two submissions the same.
    payload_sha256: bytes
    inline: bytes | None = None
    blob: Blob | None = None
    #: Inline input is planned at once; None: an executor plans it.
    plan: Plan | None = None
    #: Why the input as a whole cannot be loaded, when that is known already.
    error: str | None = None
    #: For the audit trail; None: the owner, not known by name.
    actor: Actor | None = None
    writing: Writing = PLAIN
    #: Where the job's trace begins.
    traceparent: str | None = None
    #: No more rows than this are let out a second.
    max_rows_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its submitter sees it."""

    id: str
    #: Order of submission.
    number: int
    owner_id: str
    name: str
    state: State
    error: str | None
    warnings: tuple[str, ...]
    #: None until the plan is recorded.
    total: int | None
    batches: int | None
    tally: Tally
    changes: int
    attempt: int
    parent_id: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    #: Seconds from start to end, or to now, by the database's clock.
    seconds: float
    #: Its input, rejects and results are not kept any more.
    expired: bool = False
    dry_run: bool = False
    #: The upload that it loads; None for inline input, and once that is not kept any more.
    upload_id: str | None = None
    file_name: str | None = None

    @property
    def unprocessed(self) -> int:
        """Records that a failed or cancelled job never came to."""
        if self.state in (State.FAILED, State.CANCELED):
            return max((self.total or 0) - self.tally.ended, 0)
        return 0

    @property
    def read(self) -> int:
        """Records that ended, or wait to become visible."""
        return self.tally.ended + self.tally.staged

    @property
    def seq(self) -> int:
        """Grows with every change that a follower can see."""
        return self.changes + self.tally.receipts

    @property
    def rows_per_second(self) -> float:
        """Records read per second since the start."""
        return self.read / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a user has stored."""

    id: str
    owner_id: str
    file_name: str
    blob_key: str
    size: int
    sha256: bytes
    created_at: datetime
    #: What its sender said that it is; None: its content tells.
    format: str | None = None
    #: Where its records end (operators.plan.survey), where that was seen while it came.
    survey: bytes | None = None
    #: The blob that the survey's batches are ranges of, where that is not the upload's own.
    plan_blob: str | None = None


def lane_of(batches: int) -> Lane:
    """Jobs of one batch take the fast lane."""
    return Lane.FAST if batches <= 1 else Lane.BULK
