"""What travels through the load dataflow: groups of batches, with the deliveries that must be settled for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from jobber.job import Args, JobType, Lookups
from jobber.model import PLAIN, BatchKey, InputOptions, Layout, Plan, WriteMode, Writing
from jobber.tracing import NONE, Span
from jobber.transport import Delivery
from operators.frames import Decoded

#: A batch that was begun so often without an end may have ended its executors: from then on it travels alone.
SUSPECT = 3
#: Bytes that a packed batch may stand for, however few it has: those of one batch.
PACKED_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """Where a batch's bytes are: here, or in a blob."""

    inline: bytes | None = None
    blob_key: str = ""
    offset: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class Spec:
    """What every batch of a job shares."""

    job_id: str
    kind: JobType
    args: Args
    layout: Layout
    lookups: Lookups
    writing: Writing = PLAIN

    @property
    def target(self) -> str | None:
        """The table that is written; None when its records are computed, or only tried."""
        return None if self.writing.dry_run and self.writing.mode is WriteMode.INSERT else self.kind.target


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was claimed and has to be loaded."""

    key: BatchKey
    #: This attempt's number, from 1.
    attempt: int
    spec: Spec
    source: Source
    first_row: int
    rows: int
    digest: bytes
    #: It can be parsed at once: planning has looked.
    plain: bool = False

    @property
    def suspect(self) -> bool:
        """Whether it may be what ended the executors that had it: it is never decoded while others are in flight."""
        return self.attempt > SUSPECT

    @property
    def size(self) -> int:
        """Bytes of input; a packed batch stands for about as many as a batch may have."""
        if self.spec.layout.packed:
            return max(self.source.length, PACKED_BYTES)
        return self.source.length if self.source.inline is None else len(self.source.inline)


@dataclass(frozen=True, slots=True)
class Read:
    """A batch with its bytes."""

    batch: Batch
    data: bytes

    @property
    def key(self) -> BatchKey:
        """The batch's."""
        return self.batch.key


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch whose records were taken apart."""

    batch: Batch
    decoded: Decoded

    @property
    def key(self) -> BatchKey:
        """The batch's."""
        return self.batch.key


@dataclass(frozen=True, slots=True)
class Met:
    """A batch whose records were checked."""

    batch: Batch
    kept: pl.DataFrame
    #: Raw text of records by row number.
    raw: Callable[[Sequence[int]], list[str]]
    faults: pl.DataFrame

    @property
    def key(self) -> BatchKey:
        """The batch's."""
        return self.batch.key


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch that is ready to be written."""

    key: BatchKey
    #: The target table; None when nothing is to be written: the job computes, or only tries.
    target: str | None
    rows: int
    rejected: int
    rejects: bytes
    #: Arrow IPC stream of the rows; for a computing job the compressed block of results, for a dry run nothing.
    frame: bytes | memoryview
    #: Faults by code, for /metrics.
    codes: Mapping[str, int] = field(default_factory=dict)
    #: The rows wait, invisible, until the job is published.
    staged: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch that can never be loaded; its job fails."""

    key: BatchKey
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A batch of a job that was closed before: nothing was written, nothing is reported."""

    key: BatchKey


#: A batch on its way, in whichever state.
Item = Batch | Read | Taken | Met | Prepared | Failed


@dataclass(frozen=True, slots=True)
class Flight:
    """Batches that travel together, and the deliveries that are settled when all of them are.

    A flight without batches needs no work: its deliveries are acknowledged. No delivery is in two flights.
    """

    deliveries: Sequence[Delivery]
    items: Sequence[Item] = ()
    #: Its batches were handed out to this executor.
    claimed: bool = False
    #: Nothing can be done now: the deliveries come again later.
    returned: bool = False
    #: Of its batches, from their claim to their end.
    spans: Mapping[BatchKey, Span] = field(default_factory=dict)

    @property
    def traces(self) -> list[str]:
        """What is done for all of its batches belongs to these."""
        return [parent for span in self.spans.values() for parent in span.parents]

    def end(self, failed: str = "") -> None:
        """Its batches are done with here."""
        for span in self.spans.values():
            if failed:
                span.fail(failed)
            span.end()

    @property
    def alone(self) -> bool:
        """Whether nothing else may be in flight beside it."""
        return any(isinstance(item, Batch) and item.suspect for item in self.items)


@dataclass(frozen=True, slots=True)
class PlanTask:
    """A job whose input is to be cut into batches."""

    job_id: str
    #: Of the claim: it tells this planner from others that had the job before, or get it after.
    dispatch_no: int
    #: This attempt's number, from 1.
    attempt: int
    kind: JobType
    source: Source
    options: InputOptions

    @property
    def suspect(self) -> bool:
        """Whether the input may be what ended the planners that had it."""
        return self.attempt > SUSPECT


@dataclass(frozen=True, slots=True)
class Unplannable:
    """Why an input cannot be loaded as a whole; its job fails with nothing written."""

    job_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan that is to be recorded."""

    job_id: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Planning:
    """One delivery of the planning dataflow, on its way. Without an item there is nothing to plan."""

    delivery: Delivery
    item: PlanTask | Planned | Unplannable | None = None
    returned: bool = False
    #: From its claim to its end.
    span: Span = NONE
