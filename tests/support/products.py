"""The products service for tests: in this process on a database of its own, with a client that speaks as the executor does."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import polars as pl
import psycopg
import pyarrow as pa
import pytest

from api.grpc_server import grpc_server
from api.products.grpc_door import add_to_server
from api.products.main import Room, open_room
from jobber.credentials import service_token
from jobber.ids import uuid7
from jobber.settings import ProductsSettings
from protos import client
from protos.jobber.products.v1 import products_pb2 as pb
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceStub
from protos.jobber.v1 import receipt_pb2

if TYPE_CHECKING:
    from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceAsyncStub

SECRET = "a secret of more than thirty-two bytes, for tests"
METADATA = client.credential(service_token(SECRET))
SCHEMA: dict[str, Any] = {
    "name": pl.String,
    "category": pl.String,
    "price": pl.Decimal(12, 2),
    "stock": pl.Int32,
    "rating": pl.Decimal(3, 2),
    "description": pl.String,
    "row_no": pl.Int64,
}
CHUNK = 1 << 20
#: The name of the sessions in which products loads.
LOADS = "jobber-products-load"


def settings_for(dsn: str, **more: Any) -> ProductsSettings:
    return ProductsSettings(jwt_secret=SECRET, database_url=dsn, start_timeout=20, **more)


def frame(rows: int, first_row: int = 1, **columns: object) -> pl.DataFrame:
    """Valid products; `columns` replaces whole columns."""
    numbers = range(first_row, first_row + rows)
    made = {
        "name": [f"Product {number} ünïcode" for number in numbers],
        "category": [("Books", "Toys", None)[number % 3] for number in numbers],
        "price": [Decimal(number * 101 % 1_000_000) / 100 for number in numbers],
        "stock": [number if number % 5 else None for number in numbers],
        "rating": [Decimal(number % 501) / 100 if number % 7 else None for number in numbers],
        "description": [f"What a buyer reads of {number}" if number % 4 else None for number in numbers],
        "row_no": list(numbers),
    }
    return pl.DataFrame(made | columns, schema=SCHEMA)


def ipc(table: pl.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    arrow = table.to_arrow()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    return bytes(sink.getvalue())


@dataclass(frozen=True)
class Sent:
    """A batch as the executor sends it."""

    job_id: str = field(default_factory=uuid7)
    batch_no: int = 0
    stream: bytes = b""
    rows: int = 0
    rejected: int = 0
    rejects: bytes = b""

    @staticmethod
    def of(table: pl.DataFrame, job_id: str | None = None, batch_no: int = 0, **more: Any) -> "Sent":
        return Sent(job_id or uuid7(), batch_no, ipc(table), table.height, **more)

    def messages(self) -> Iterator[pb.LoadRequest]:
        key = receipt_pb2.BatchKey(job_id=self.job_id, batch_no=self.batch_no)
        yield pb.LoadRequest(header=pb.LoadHeader(key=key, rows=self.rows, rejected=self.rejected, rejects=self.rejects))
        for start in range(0, len(self.stream), CHUNK):
            yield pb.LoadRequest(chunk=self.stream[start : start + CHUNK])

    def small(self) -> pb.SmallBatch:
        return pb.SmallBatch(header=next(self.messages()).header, stream=self.stream)


def messages(*batches: Sent) -> Iterator[pb.LoadRequest]:
    for batch in batches:
        yield from batch.messages()


@dataclass(frozen=True)
class Products:
    """A running service."""

    dsn: str
    address: str
    room: Room
    stub: "ProductsServiceAsyncStub"

    async def load(self, *batches: Sent) -> Sequence[pb.LoadOutcome]:
        return (await self.stub.Load(messages(*batches), metadata=METADATA, timeout=60)).outcomes

    async def load_small(self, *batches: Sent) -> Sequence[pb.LoadOutcome]:
        request = pb.LoadSmallRequest(batches=[batch.small() for batch in batches])
        return (await self.stub.LoadSmall(request, metadata=METADATA, timeout=60)).outcomes

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self.stub, method)(request, metadata=METADATA, timeout=30)

    async def close_job(self, job_id: str) -> list[pb.CloseJobResponse]:
        call = self.stub.CloseJob(pb.CloseJobRequest(job_id=job_id), metadata=METADATA, timeout=30)
        return [page async for page in call]

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as session:
            cursor = session.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def stored(self, job_id: str) -> pl.DataFrame:
        """The job's rows as they are in the table, by batch and row."""
        query = f"SELECT {', '.join(SCHEMA)} FROM products.products WHERE job_id = %s ORDER BY batch_no, row_no"
        return pl.DataFrame(self.sql(query, job_id), schema=SCHEMA, orient="row")

    def count(self, job_id: str) -> int:
        return int(self.sql("SELECT count(*) FROM products.products WHERE job_id = %s", job_id)[0][0])


@contextlib.asynccontextmanager
async def serving(dsn: str, **more: Any) -> AsyncIterator[Products]:
    """The service on a port of its own, until the end of the block."""
    settings = settings_for(dsn, **more)
    room = await open_room(settings)
    server = grpc_server(settings)
    add_to_server(room.door, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with connected(address) as stub:
            yield Products(dsn, address, room, stub)
    finally:
        await server.stop(1)
        await room.close()


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator["ProductsServiceAsyncStub"]:
    """A client with a connection of its own."""
    # Without it, channels to one address share their connection.
    options = [*client.OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: ProductsServiceAsyncStub = ProductsServiceStub(channel)
        yield stub


@contextlib.contextmanager
def copies_held(products: Products) -> Iterator[None]:
    """Every COPY waits until the block ends; all before it in the transaction is done."""
    with psycopg.connect(products.dsn) as session:
        session.execute("LOCK TABLE products.products IN SHARE ROW EXCLUSIVE MODE")
        yield


async def until(products: Products, query: str, *parameters: object) -> None:
    """Wait until the query answers true."""
    deadline = time.monotonic() + 10
    while not products.sql(query, *parameters)[0][0]:
        assert time.monotonic() < deadline, query
        await asyncio.sleep(0.01)


async def until_copying(products: Products, sessions: int = 1) -> None:
    await until(
        products,
        "SELECT count(*) = %s FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
        " AND query LIKE 'COPY%%' AND wait_event_type = 'Lock'",
        sessions,
        LOADS,
    )


def code_of(failed: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> grpc.StatusCode:
    return failed.value.code()
