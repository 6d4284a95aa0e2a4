"""Protobuf <-> the nouns of this room; what clients may send is checked here."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp

from api.products.model import MAX_AMOUNT, MAX_BATCH_ROWS, Category, Closed, Header, Outcome, Product, Refused
from api.products.publish import Publication
from api.products.rows import COLUMNS
from api.products.store import Filter
from jobber.errors import InvalidData
from jobber.ids import is_id
from jobber.model import BatchKey, Receipt, WriteMode
from protos.jobber.products.v1 import products_pb2 as pb
from protos.jobber.v1 import receipt_pb2

#: No sign, exponent, NaN, blank, underscore or digit of another script, all of which Decimal() takes.
DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,2})?", re.ASCII)
MAX_RATING = Decimal(5)
MAX_ID = (1 << 63) - 1
PAGE_SIZE, MAX_PAGE_SIZE = 50, 1000
#: Of one call: their ledger rows are written in one transaction.
MOST_JOBS = 1000


def header_from(message: pb.LoadHeader) -> Header:
    """Raises InvalidData."""
    key = BatchKey(job_id_from(message.key.job_id), message.key.batch_no)
    if key.batch_no < 0:
        raise InvalidData(f"batch_no is {key.batch_no}; batches are numbered from 0.")
    if not 0 <= message.rows <= MAX_BATCH_ROWS:
        raise InvalidData(f"Batch {key.batch_no} has {message.rows} rows; at most {MAX_BATCH_ROWS:,} are taken.")
    if message.rejected < 0:
        raise InvalidData(f"Batch {key.batch_no} says that {message.rejected} records were rejected.")
    return Header(key, message.rows, message.rejected, message.rejects, message.staged)


def job_id_from(text: str) -> str:
    """Raises InvalidData when it is not a UUID as we write them."""
    if is_id(text):
        return text
    raise InvalidData(f"{text[:80]!r} is no job id, which is a lowercase UUID.")


def job_ids_from(texts: Sequence[str]) -> list[str]:
    """Raises InvalidData when one is none, or when they are too many."""
    if len(texts) > MOST_JOBS:
        raise InvalidData(f"{len(texts):,} jobs are too many for one call; {MOST_JOBS:,} are the most.")
    return [job_id_from(text) for text in texts]


MODES = {
    pb.WRITE_MODE_INSERT: WriteMode.INSERT,
    pb.WRITE_MODE_UPSERT: WriteMode.UPSERT,
    pb.WRITE_MODE_UPDATE: WriteMode.UPDATE,
}


def publication_from(message: pb.PublishJobRequest) -> Publication:
    """Raises InvalidData."""
    mode = MODES.get(message.mode)
    if mode is None:
        raise InvalidData("A publication says how its rows meet those that are there.")
    known = set(COLUMNS) - {"row_no"}
    if not set(message.keys) | set(message.columns) <= known or len(set(message.keys)) != len(message.keys):
        raise InvalidData("keys and columns must be columns of products, each once.")
    if (mode is WriteMode.INSERT) != (not message.keys) or (message.keys and not message.columns):
        raise InvalidData("UPSERT and UPDATE need keys and columns; INSERT has none.")
    allowed = message.allowed if message.HasField("allowed") else None
    keys, columns = tuple(message.keys), tuple(message.columns)
    return Publication(job_id_from(message.job_id), mode, keys, columns, allowed, message.dry_run)


def key_to(key: BatchKey) -> receipt_pb2.BatchKey:
    """As in the receipts of every service."""
    return receipt_pb2.BatchKey(job_id=key.job_id, batch_no=key.batch_no)


def time_to(moment: datetime) -> Timestamp:
    """To the microsecond."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def receipt_to(receipt: Receipt) -> receipt_pb2.Receipt:
    """As in every service."""
    return receipt_pb2.Receipt(
        key=key_to(receipt.key),
        inserted=receipt.inserted,
        updated=receipt.updated,
        unchanged=receipt.unchanged,
        rejected=receipt.rejected,
        rejects=receipt.rejects,
        committed_at=time_to(receipt.committed_at) if receipt.committed_at else None,
        staged=receipt.staged,
    )


def outcome_to(outcome: Outcome) -> pb.LoadOutcome:
    """One of three."""
    match outcome:
        case Closed(key):
            return pb.LoadOutcome(closed=pb.Closed(key=key_to(key)))
        case Refused(key, message):
            return pb.LoadOutcome(refused=pb.Refused(key=key_to(key), message=message))
        case Receipt():
            return pb.LoadOutcome(receipt=receipt_to(outcome))


def product_from(message: pb.Product) -> Product:
    """The product without its lineage. Raises InvalidData."""
    if message.HasField("stock") and message.stock < 0:
        raise InvalidData("stock must be 0 or more.")
    return Product(
        message.id,
        _text("name", message.name, required=True),
        _text("category", message.category) if message.HasField("category") else None,
        amount_from("price", message.price),
        message.stock if message.HasField("stock") else None,
        amount_from("rating", message.rating, MAX_RATING) if message.HasField("rating") else None,
        _text("description", message.description) if message.HasField("description") else None,
    )


def product_to(product: Product) -> pb.Product:
    """Absent where null."""
    return pb.Product(
        id=product.id,
        name=product.name,
        category=product.category,
        price=f"{product.price:f}",
        stock=product.stock,
        rating=None if product.rating is None else f"{product.rating:f}",
        description=product.description,
        job_id=product.job_id,
        batch_no=product.batch_no,
        row_no=product.row_no,
    )


def category_from(message: pb.Category) -> Category:
    """Raises InvalidData."""
    return Category(name_from(message.name), amount_from("charge", message.charge))


def category_to(category: Category) -> pb.Category:
    """With both decimals of the charge."""
    return pb.Category(name=category.name, charge=f"{category.charge:f}")


def name_from(text: str) -> str:
    """A category's name. Raises InvalidData."""
    return _text("name", text, required=True)


def id_from(number: int) -> int:
    """A product's id. Raises InvalidData when none can have it."""
    if number < 1:
        raise InvalidData(f"{number} is no product id.")
    return number


def amount_from(name: str, text: str, maximum: Decimal = MAX_AMOUNT) -> Decimal:
    """A decimal, exactly. Raises InvalidData."""
    if DECIMAL.fullmatch(text) and (amount := Decimal(text)) <= maximum:
        return amount
    raise InvalidData(f"{name} is {text[:40]!r}; it must be a decimal from 0 to {maximum} with at most two places, like 4.50.")


def filter_from(message: pb.ListProductsRequest) -> Filter:
    """Which products a list has. Raises InvalidData."""
    return Filter(
        job_id_from(message.job_id) if message.HasField("job_id") else None,
        _text("category", message.category) if message.HasField("category") else None,
    )


def page_size_from(size: int) -> int:
    """Raises InvalidData."""
    if not 0 <= size <= MAX_PAGE_SIZE:
        raise InvalidData(f"page_size is {size}; it must be 1 to {MAX_PAGE_SIZE}, or 0 for {PAGE_SIZE}.")
    return size or PAGE_SIZE


def token_to(last_id: int, wanted: Filter) -> str:
    """Where the next page begins; it is good for the same list only."""
    return base64.urlsafe_b64encode(last_id.to_bytes(8) + _mark(last_id, wanted)).decode()


def token_from(token: str, wanted: Filter) -> int:
    """The id after which the page begins. Raises InvalidData for a token that this list never gave."""
    if not token:
        return 0
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    last_id = int.from_bytes(raw[:8])
    if len(raw) != 16 or not 0 < last_id <= MAX_ID or raw[8:] != _mark(last_id, wanted):
        raise InvalidData("page_token is not one that this list has given; begin again without it.")
    return last_id


def _mark(last_id: int, wanted: Filter) -> bytes:
    """Finds out tokens of another list, and invented ones. No secret: a page shows nothing that the list does not."""
    return hashlib.blake2b(repr((last_id, wanted.job_id, wanted.category)).encode(), digest_size=8, person=b"products").digest()


def _text(name: str, text: str, *, required: bool = False) -> str:
    if "\0" in text:
        raise InvalidData(f"{name} has a NUL character, which PostgreSQL cannot hold.")
    if required and not text.strip():
        raise InvalidData(f"{name} is required.")
    return text
