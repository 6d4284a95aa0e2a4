"""The nouns that all rooms share. Words are those of docs/words.md."""

import enum
from dataclasses import dataclass
from datetime import datetime

import msgspec


class State(enum.StrEnum):
    """Where a job is. The last four are terminal and never change."""

    QUEUED = "QUEUED"
    VALIDATING = "VALIDATING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"
    SUCCEEDED = "SUCCEEDED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self in _TERMINAL


_TERMINAL = frozenset({State.CANCELED, State.SUCCEEDED, State.PARTIAL, State.FAILED})


class Format(enum.StrEnum):
    """How the records of an input are written."""

    CSV = "CSV"
    NDJSON = "NDJSON"
    JSON = "JSON"
    PARQUET = "PARQUET"


class Compression(enum.StrEnum):
    """How an input is compressed as a whole."""

    NONE = "NONE"
    GZIP = "GZIP"
    ZSTD = "ZSTD"


class Lane(enum.StrEnum):
    """Which way a batch takes through the broker, so that small jobs do not wait behind large ones."""

    FAST = "fast"
    BULK = "bulk"
    PLAN = "plan"


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How an input is to be read. Frozen with the plan: a batch always denotes the same records."""

    format: Format
    #: CSV: the names in the header, trimmed, in the input's order and spelling. Empty for JSON.
    columns: tuple[str, ...] = ()
    #: Contract column -> input column, for those that the input has.
    fields: dict[str, str] = {}
    #: JSON: required column that the first record lacks -> a key of it whose name is nearly the column's.
    near: dict[str, str] = {}
    delimiter: str = ","
    quote: str = '"'
    #: What the input was written in; its batches are UTF-8.
    encoding: str = "utf-8"
    #: Batches are ranges of a blob of the job's own, each packed by itself (operators.pack).
    packed: bool = False


class WriteMode(enum.StrEnum):
    """How records meet rows that are there already."""

    INSERT = "INSERT"
    UPSERT = "UPSERT"
    UPDATE = "UPDATE"


class Writing(msgspec.Struct, frozen=True, kw_only=True):
    """How a job's rows are written. Kept with the job, the same for all its batches."""

    mode: WriteMode = WriteMode.INSERT
    #: Columns of the target that name a row; empty for INSERT.
    keys: tuple[str, ...] = ()
    #: Everything but the writing.
    dry_run: bool = False
    #: The whole job becomes visible at once, or nothing of it (ALL_OR_NOTHING).
    whole: bool = False

    @property
    def staged(self) -> bool:
        """Whether rows wait, invisible, until the job is published."""
        return self.whole or self.mode is not WriteMode.INSERT


#: As new rows, each batch by itself.
PLAIN = Writing()


class InputOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the submitter said of the input, and how it is to be cut. Kept with the job."""

    #: None: told by the content.
    format: Format | None = None
    #: None: told by the content.
    compression: Compression | None = None
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    #: Contract column -> input column; input columns that it does not name keep their own names.
    mapping: dict[str, str] = {}
    #: Aim for batches of about so many bytes, and at most so many rows.
    batch_bytes: int = 8 << 20
    batch_rows: int = 100_000


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Names one batch of one job for good: the same bytes, whatever happens."""

    #: Lowercase UUID.
    job_id: str
    #: From 0.
    batch_no: int


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A range of the input, or of the blob that was made of it, that holds whole records."""

    #: Bytes from the start.
    offset: int
    length: int
    #: Row number of the first record, from 1.
    first_row: int
    rows: int
    #: BLAKE3 of the bytes of the range (jobber.digest).
    digest: bytes
    #: Whether it was seen that its text can be parsed at once: strictly quoted, without control characters, no record too long.
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The immutable list of a job's batches."""

    layout: Layout
    batches: tuple[PlannedBatch, ...]
    #: Sentences for the job's submitter: ignored columns and the like.
    warnings: tuple[str, ...] = ()
    #: The blob that batches are ranges of, where that is not the input itself.
    blob_key: str | None = None

    @property
    def rows(self) -> int:
        """How many records the input has."""
        return sum(batch.rows for batch in self.batches)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch. Once committed it never changes, but that staged rows become something else, once."""

    key: BatchKey
    inserted: int
    updated: int
    unchanged: int
    rejected: int
    #: One compressed block (operators.rejects); empty when nothing was rejected.
    rejects: bytes
    #: One compressed block; empty for a job that loads.
    results: bytes
    #: By the database's clock; None until jobs stores the receipt of a batch whose records were computed.
    committed_at: datetime | None
    #: Rows that are written and not visible yet: the job's publication makes them one of the others.
    staged: int = 0
