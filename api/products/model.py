"""The nouns of the products room."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from jobber.errors import Conflict, InvalidState, QuotaExceeded, Transient
from jobber.model import BatchKey, Receipt

#: Largest price and charge that numeric(12,2) holds.
MAX_AMOUNT = Decimal("9999999999.99")
#: Rows of one batch; ids go in steps of so many (sql/0001_products.sql).
MAX_BATCH_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Product:
    """One product; `id` is 0 until it is stored."""

    id: int
    name: str
    category: str | None
    price: Decimal
    stock: int | None
    rating: Decimal | None
    description: str | None
    #: Lineage; None for a product that was made by hand.
    job_id: str | None = None
    batch_no: int | None = None
    row_no: int | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """A name and what it adds to the price."""

    name: str
    charge: Decimal


@dataclass(frozen=True, slots=True)
class Header:
    """What the executor says of a batch before its rows."""

    key: BatchKey
    rows: int
    rejected: int
    rejects: bytes
    #: The rows wait for the job's publication.
    staged: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that is ready to be written: its rows are in COPY's binary format."""

    header: Header
    #: Id of the first row; the others follow without a gap.
    first_id: int
    #: Whole rows in each piece, or parts of them: they belong one behind the other.
    copy: Sequence[bytes]

    @property
    def key(self) -> BatchKey:
        """Names it in the ledger."""
        return self.header.key

    @property
    def visible(self) -> int:
        """Rows that are new products at once."""
        return 0 if self.header.staged else self.header.rows

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory, and makes the database write."""
        return sum(map(len, self.copy)) + len(self.header.rejects) + HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Closed:
    """The job was closed before; nothing of the batch was written."""

    key: BatchKey


@dataclass(frozen=True, slots=True)
class Refused:
    """The database refused the batch's data, alone; nothing of it was written."""

    key: BatchKey
    #: A sentence that a person can act on.
    message: str


#: What became of a batch that was sent to be loaded.
Outcome: TypeAlias = Receipt | Closed | Refused

#: What a batch without rows costs us, about: objects, a ledger row, a receipt in the answer.
HEADER_BYTES = 1 << 10


class AlreadyExists(Conflict):
    """There is one of that name already."""


class GroupTooLarge(QuotaExceeded):
    """The group of batches is larger than one call may bring."""


class Overloaded(Transient):
    """More waits to be loaded than there is room for; try again in a moment."""


class Stalled(InvalidState):
    """Nothing arrived on the stream for too long."""


class DataRefused(Exception):
    """The database refused the data; the message is its own."""


class TryAgain(Exception):
    """The database undid the transaction in favour of another one (deadlock, serialization)."""
