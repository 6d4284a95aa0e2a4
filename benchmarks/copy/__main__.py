"""python -m benchmarks.copy --rows 300000

Each round empties the table, then times, in turn:

    psql    `\\copy` of a CSV file with the rows; ids from a cached sequence, which is kinder to psql than the table is
    core    Arrow streams -> encode -> ledger and COPY, in this process
    gRPC    the same streams through Load, the service in a process of its own

and prints the medians. psql writes no lineage and no ledger. A machine that does something else at the time spoils it.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc.aio
import numpy as np
import polars as pl
import psycopg
import pyarrow as pa

from api.products.main import Room, open_room
from api.products.model import Batch, Header
from api.products.rows import encode
from benchmarks import report
from benchmarks.chart import bars
from jobber.credentials import service_token
from jobber.ids import uuid7
from jobber.local.ports import free_port
from jobber.local.postgres import EmbeddedPostgres, binaries
from jobber.model import BatchKey
from jobber.settings import ProductsSettings
from protos import client
from protos.jobber.products.v1 import products_pb2 as pb
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceStub
from protos.jobber.v1 import receipt_pb2

SECRET = "only for a benchmark on this machine, 32 bytes and more"
#: Groups that are on their way at once, as ExecutorSettings.in_flight.
IN_FLIGHT = 4
CHUNK = 1 << 20
CSV_COLUMNS = "name, category, price, stock, rating, description"


def products(rows: int) -> pl.DataFrame:
    """Rows of about 150 bytes of CSV, the same every time."""
    chance = np.random.default_rng(1)
    numbers = pl.int_range(1, rows + 1, eager=True)
    frame = pl.DataFrame(
        {
            "name": "Robust Desk Lamp of the Nordic Series, No " + numbers.cast(pl.String),
            "category": chance.choice(["Books", "Electronics", "Garden", "Toys", "Home"], rows),
            "price": pl.Series(chance.integers(1, 100_000, rows)).cast(pl.Decimal(14, 2)) / 100,
            "stock": pl.Series(chance.integers(0, 1000, rows)).cast(pl.Int32),
            "rating": pl.Series(chance.integers(0, 501, rows)).cast(pl.Decimal(14, 2)) / 100,
            "description": "Made to last, in three colours, with two years of warranty; article " + numbers.cast(pl.String),
            "row_no": numbers,
        }
    )
    return frame.with_columns(pl.col("price").cast(pl.Decimal(12, 2)), pl.col("rating").cast(pl.Decimal(3, 2)))


def stream_of(frame: pl.DataFrame) -> bytes:
    """As the executor sends it."""
    sink, table = pa.BufferOutputStream(), frame.to_arrow()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


async def write_core(room: Room, streams: Sequence[tuple[int, bytes]], first_ids: Callable[[int], int]) -> None:
    """All streams through encode and the loader."""
    job, free = uuid7(), asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int, rows: int, stream: bytes) -> None:
        async with free:
            header = Header(BatchKey(job, number), rows, 0, b"")
            copy = await asyncio.to_thread(encode, stream, header, first_ids(number))
            await room.loader.load([Batch(header, first_ids(number), copy)])

    await asyncio.gather(*(one(number, rows, stream) for number, (rows, stream) in enumerate(streams)))


async def over_grpc(address: str, streams: Sequence[tuple[int, bytes]]) -> None:
    """All streams through Load."""
    job, free = uuid7(), asyncio.Semaphore(IN_FLIGHT)
    metadata = client.credential(service_token(SECRET))

    async def one(number: int, rows: int, stream: bytes) -> None:
        key = receipt_pb2.BatchKey(job_id=job, batch_no=number)
        parts = [pb.LoadRequest(header=pb.LoadHeader(key=key, rows=rows))]
        parts += [pb.LoadRequest(chunk=stream[at : at + CHUNK]) for at in range(0, len(stream), CHUNK)]
        async with free:
            answer = await stub.Load(iter(parts), metadata=metadata)
        assert answer.outcomes[0].receipt.inserted == rows

    async with grpc.aio.insecure_channel(address, options=list(client.OPTIONS)) as channel:
        stub = ProductsServiceStub(channel)
        await asyncio.gather(*(one(number, rows, stream) for number, (rows, stream) in enumerate(streams)))


def psql(dsn: str, csv: Path) -> None:
    """The peer."""
    copy = f"\\copy products.products ({CSV_COLUMNS}) from '{csv}' with (format csv, header)"
    subprocess.run([str(binaries() / "psql"), dsn, "-qXc", copy], check=True)


def empty(dsn: str, cache: int) -> None:
    """An empty table and an idle server."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("TRUNCATE products.products, products.ledger")
        session.execute(f"ALTER SEQUENCE products.product_ids CACHE {cache:d}".encode())
        session.execute("CHECKPOINT")


def count(dsn: str) -> int:
    """Rows in the table."""
    with psycopg.connect(dsn) as session:
        row = session.execute("SELECT count(*) FROM products.products").fetchone()
        return int(row[0]) if row else 0


async def measure(dsn: str, folder: Path, rows: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round by way."""
    frame = products(rows)
    csv = folder / "products.csv"
    frame.drop("row_no").write_csv(csv)
    os.chmod(csv, 0o644)
    streams = [(part.height, stream_of(part)) for part in frame.iter_slices(batch)]
    settings = ProductsSettings(jwt_secret=SECRET, database_url=dsn)
    room = await open_room(settings)
    port = free_port()
    environment = {"DATABASE_URL": dsn, "JWT_SECRET": SECRET, "JOBBER_GRPC_PORT": str(port), "JOBBER_HTTP_PORT": "0"}
    with (folder / "service.log").open("wb") as log:
        service = subprocess.Popen([sys.executable, "-m", "api.products.main"], env=os.environ | environment, stderr=log)
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "psql": lambda: asyncio.to_thread(psql, dsn, csv),
        "core": lambda: write_core(room, streams, lambda number: 1 + 100_000 * number),
        "gRPC": lambda: over_grpc(f"127.0.0.1:{port}", streams),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
        # One round more: the first warms caches and is not counted.
        for number in range(rounds + 1):
            for way, run in ways.items():
                await asyncio.to_thread(empty, dsn, 1000 if way == "psql" else 1)
                began = time.perf_counter()
                await run()
                took = time.perf_counter() - began
                assert await asyncio.to_thread(count, dsn) == rows
                if number:
                    seconds[way].append(took)
    finally:
        service.terminate()
        service.wait(20)
        await room.close()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.copy", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--batch", type=int, default=30_000, help="rows of one batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobber-copy-") as name:
        server = EmbeddedPostgres(Path(name) / "postgres")
        server.start()
        try:
            seconds = asyncio.run(measure(server.dsn, Path(name), asked.rows, asked.batch, asked.rounds))
        finally:
            server.stop()
    lines = [
        {
            "way": way,
            "s": statistics.median(took),
            "rows/s": asked.rows / statistics.median(took),
            "x psql": statistics.median(psql / other for psql, other in zip(seconds["psql"], took, strict=True)),
            "fastest s": min(took),
            "slowest s": max(took),
        }
        for way, took in seconds.items()
    ]
    print(report.table(lines))
    file = report.write("copy", {"rows": asked.rows, "batch": asked.batch, "ways": lines, "seconds": seconds}, asked.json)
    rates = {str(line["way"]): float(str(line["rows/s"])) for line in lines}
    print(report.draw(file, bars(f"{asked.rows:,} rows, rows a second", rates, {"psql"})))


if __name__ == "__main__":
    main()
