"""What was asked, offered and answered so far, in plain Python: all that a promise may lean on."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field

import polars as pl

from api.jobs.decide import Limits
from api.jobs.model import Blob, Submission
from api.products.model import Header
from api.products.rows import encode
from jobber.model import PLAIN, BatchKey, Format, InputOptions, Layout, Plan, PlannedBatch, Receipt, Writing

LAYOUT = Layout(format=Format.JSON, fields={"name": "name", "price": "price"})

#: inserted, updated, unchanged, rejected, rejects, staged
Content = tuple[int, int, int, int, bytes, int]


@dataclass(frozen=True, slots=True)
class Input:
    """What a job's input is, and what becomes of it."""

    rows: int
    bad: frozenset[int] = frozenset()
    #: A record that the database refuses, so that its whole batch is.
    refused: int | None = None
    kind: str = "LoadProducts"
    limits: Limits = field(default_factory=Limits)
    #: Rows of a batch; None: an executor plans it.
    cut: int | None = 2
    writing: Writing = PLAIN

    @property
    def computes(self) -> bool:
        """Whether products never hears of it."""
        return self.kind == "Compute" or (self.writing.dry_run and not self.writing.keys)

    def plan(self, size: int) -> Plan:
        """Batches of `size` rows."""
        first = range(1, self.rows + 1, size)
        batches = (PlannedBatch(row * 10, 10, row, min(size, self.rows - row + 1), _sha(f"{size} {row}")) for row in first)
        return Plan(LAYOUT, tuple(batches))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt makes of a batch."""

    key: BatchKey
    loaded: tuple[int, ...]
    rejected: tuple[int, ...]
    refused: bool
    #: Products never hears of it.
    computes: bool
    writing: Writing = PLAIN

    @property
    def rejects(self) -> bytes:
        """The block of the receipt."""
        return repr(self.rejected).encode() if self.rejected else b""

    @property
    def content(self) -> Content:
        """The receipt's, at first."""
        staged = len(self.loaded) if self.writing.staged else 0
        return len(self.loaded) - staged, 0, 0, len(self.rejected), self.rejects, staged

    def fits(self, receipt: Content) -> bool:
        """Whether it can be this one's: as it was made, or as its rows were published."""
        inserted, updated, unchanged, rejected, rejects, staged = receipt
        if receipt == self.content:
            return True
        told = inserted + updated + unchanged == len(self.loaded) and (bool(self.writing.keys) or not updated + unchanged)
        return self.writing.staged and told and (rejected, rejects, staged) == (len(self.rejected), self.rejects, 0)

    @property
    def header(self) -> Header:
        """What is said to products before the rows."""
        return Header(self.key, len(self.loaded), len(self.rejected), self.rejects, self.writing.staged)

    def copy(self, first_id: int) -> list[bytes]:
        """The rows as the shipped encoder writes them."""
        count = len(self.loaded)
        names = ["a\0b" if self.refused else f"{self.writing.mode} {row}" for row in self.loaded]
        frame = pl.DataFrame(
            {
                "name": pl.Series(names, dtype=pl.String),
                "category": pl.Series([None] * count, dtype=pl.String),
                "price": pl.Series([1] * count, dtype=pl.Decimal(12, 2)),
                "stock": pl.Series([1] * count, dtype=pl.Int32),
                "rating": pl.Series([None] * count, dtype=pl.Decimal(3, 2)),
                "description": pl.Series([None] * count, dtype=pl.String),
                "row_no": pl.Series(self.loaded, dtype=pl.Int64),
            }
        )
        if self.writing.staged:
            frame = frame.with_columns(raw=pl.lit("raw"))
        stream = frame.write_ipc_stream(None).getvalue()
        return encode(stream, self.header, first_id)


@dataclass
class Asked:
    """One job that was asked for."""

    job_id: str
    owner: str
    key: str | None
    payload: str
    input: Input
    upload: str | None = None
    #: Its submission was answered: it is there for good.
    answered: bool = False

    def submission(self) -> Submission:
        """As the desk makes it."""
        given = self.input
        return Submission(
            self.job_id,
            self.owner,
            given.kind,
            b"{}",
            InputOptions(),
            given.limits,
            1,
            self.key,
            _sha(self.payload),
            inline=b"[]" if self.upload is None else None,
            blob=None if self.upload is None else Blob(f"uploads/{self.upload}", 1, self.upload),
            plan=None if given.cut is None else given.plan(given.cut),
            writing=given.writing,
        )


@dataclass
class Book:
    """Everything of one run."""

    asked: dict[str, Asked] = field(default_factory=dict)
    #: (owner, key) -> the job and payload that were answered first.
    keys: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    plans: dict[str, list[Plan]] = field(default_factory=lambda: defaultdict(list))
    #: Errors that an executor gave for a job: faults of the file, batches that were refused.
    errors: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: What attempts at a batch made of it.
    outcomes: dict[BatchKey, set[Outcome]] = field(default_factory=lambda: defaultdict(set))
    canceled: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    #: Cancels that were answered with CANCELED.
    done: set[str] = field(default_factory=set)

    def attempt(self, key: BatchKey, planned: PlannedBatch, version: int) -> Outcome:
        """An attempt at a batch; another version of the code rejects the first record, too."""
        given = self.asked[key.job_id].input
        span = range(planned.first_row, planned.first_row + planned.rows)
        bad = {row for row in span if row in given.bad} | ({planned.first_row} if version else set())
        loaded = tuple(row for row in span if row not in bad)
        refused = given.refused in loaded and not given.computes
        writing = PLAIN if given.kind == "Compute" else given.writing
        outcome = Outcome(key, loaded, tuple(sorted(bad)), refused, given.computes, writing)
        self.outcomes[key].add(outcome)
        return outcome


def content(receipt: Receipt) -> Content:
    """What of a receipt never changes."""
    return receipt.inserted, receipt.updated, receipt.unchanged, receipt.rejected, receipt.rejects, receipt.staged


def _sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
