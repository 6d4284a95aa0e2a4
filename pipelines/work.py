"""What travels through the load dataflow: groups of batches, with the deliveries that must be settled for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from jobber.job import Args, JobType, Lookups
from jobber.model import BatchKey, Layout
from jobber.transport import Delivery
from operators.frames import Decoded


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


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was claimed and has to be loaded."""

    key: BatchKey
    #: This attempt's number, from 1. Above SUSPECT a batch is never decoded together with others.
    attempt: int
    spec: Spec
    source: Source
    first_row: int
    rows: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """A batch with its bytes."""

    batch: Batch
    data: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch whose records were taken apart."""

    batch: Batch
    decoded: Decoded


@dataclass(frozen=True, slots=True)
class Met:
    """A batch whose records were checked."""

    batch: Batch
    kept: pl.DataFrame
    decoded: Decoded
    faults: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch that is ready to be written."""

    key: BatchKey
    #: The target table; None when the job computes.
    target: str | None
    rows: int
    rejected: int
    rejects: bytes
    #: Arrow IPC stream of the rows; for a computing job the compressed block of results.
    frame: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch that can never be loaded; its job fails."""

    key: BatchKey
    code: str
    message: str


#: A batch on its way, in whichever state.
Item = Batch | Read | Taken | Met | Prepared | Failed


@dataclass(frozen=True, slots=True)
class Flight:
    """Batches that travel together, and the deliveries that are settled when all of them are."""

    deliveries: Sequence[Delivery]
    items: Sequence[Item] = ()
    #: Nothing could be claimed now: the deliveries come again later.
    returned: bool = False
