"""Peers of the executor under test: real gRPC servers of the jobs and products services, with their promises kept in memory.

They can be away, lose replies, and hold calls; a journal tells in which order things happened.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import msgspec
import psycopg

from jobber.contract import Contract
from jobber.ids import uuid7
from jobber.job import discover, find
from jobber.model import InputOptions, Plan
from jobber.settings import TransportSettings
from jobber.transport import Message
from jobber.transport.connect import open_publisher
from operators.pack import Packing
from operators.plan import pieces, plan
from protos import client
from protos.jobber.jobs.v1 import jobs_pb2
from protos.jobber.jobs.v1.jobs_pb2_grpc import add_JobsServiceServicer_to_server
from protos.jobber.products.v1.products_pb2_grpc import add_ProductsServiceServicer_to_server
from protos.jobber.v1 import receipt_pb2
from tests.integration.jobs_peer import JobsPeer
from tests.integration.peer import Journal, Key
from tests.integration.products_peer import ProductsPeer

SECRET = "a secret of more than thirty-two bytes, for tests"


class Served:
    """A peer behind a port, which it keeps when it is stopped and started again."""

    def __init__(self, add: Callable[[grpc.Server], None]) -> None:
        self._add = add
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(16), options=[*client.OPTIONS, ("grpc.so_reuseport", 0)])
        self._add(self._server)
        deadline = time.monotonic() + 10
        port = 0
        while not port:
            try:
                port = self._server.add_insecure_port(self.address)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()


class Peers:
    """Both peers, the transport's database and the blob folder; submits jobs as the jobs service would."""

    def __init__(self, database: str, folder: Path) -> None:
        discover()
        self.journal: Journal = []
        self.jobs = JobsPeer(self.journal)
        self.products = ProductsPeer(self.journal)  # type: ignore[abstract]  # what executors do not call answers UNIMPLEMENTED
        self.jobs_served = Served(lambda server: add_JobsServiceServicer_to_server(self.jobs, server))
        self.products_served = Served(lambda server: add_ProductsServiceServicer_to_server(self.products, server))
        self.database = database
        self.folder = folder
        self.transport = TransportSettings(transport="postgres", transport_database_url=database)

    def stop(self) -> None:
        self.jobs_served.stop()
        self.products_served.stop()

    def environment(self, **more: str) -> dict[str, str]:
        """What an executor process needs."""
        return {
            "JWT_SECRET": SECRET,
            "JOBBER_TRANSPORT": "postgres",
            "DATABASE_URL": self.database,
            "JOBS_GRPC_SERVICE_URL": self.jobs_served.address,
            "PRODUCTS_GRPC_SERVICE_URL": self.products_served.address,
            "JOBBER_BLOBS_URL": f"file://{self.folder}",
            "JOBBER_HTTP_PORT": "0",
        } | more

    def store(self, data: bytes) -> str:
        """A blob's key."""
        key = uuid7()
        (self.folder / key).write_bytes(data)
        return key

    def add(
        self,
        data: bytes,
        *,
        name: str = "LoadProducts",
        inline: bool = True,
        options: InputOptions | None = None,
        packed: bool = False,
        **charges: str,
    ) -> list[Key]:
        """A job, planned but not published; the keys of its batches."""
        job_id = uuid7()
        contract, options = Contract.of(find(name).contract), options or InputOptions()
        if packed:
            packing = Packing(pieces([data], contract, options), "utf-8")
            data = b"".join(packing)
            made = packing.plan("plans/1")
        else:
            made = plan([data], contract, options)
        blob = "" if inline else self.store(data)
        lookups = msgspec.json.encode({"charges": charges})
        self.jobs.specs[job_id] = jobs_pb2.JobSpec(
            job_id=job_id, name=name, args=b"{}", layout=msgspec.json.encode(made.layout), lookups=lookups
        )
        return [self._batch(job_id, number, data, blob, made) for number in range(len(made.batches))]

    def _batch(self, job_id: str, number: int, data: bytes, blob: str, made: Plan) -> Key:
        item = made.batches[number]
        source = jobs_pb2.Source(inline=data[item.offset : item.offset + item.length])
        if blob:
            source = jobs_pb2.Source(blob=jobs_pb2.BlobRange(key=blob, offset=item.offset, length=item.length))
        self.jobs.batches[job_id, number] = jobs_pb2.ClaimedBatch(
            key=receipt_pb2.BatchKey(job_id=job_id, batch_no=number),
            source=source,
            first_row=item.first_row,
            rows=item.rows,
            digest=item.digest,
            plain=item.plain,
        )
        return job_id, number

    def publish(self, keys: Iterable[Key], topic: str = "LoadProducts.fast") -> None:
        """Dispatch the batches, all at once."""
        self.send(topic, *(ticket(*key) for key in keys))

    def send(self, topic: str, *bodies: bytes) -> None:
        """Put messages into the transport."""

        async def publish() -> None:
            publisher = await open_publisher(self.transport)
            await publisher.publish([Message(topic, body) for body in bodies])
            await publisher.close()

        asyncio.run(publish())

    def submit(self, data: bytes, *, topic: str = "LoadProducts.fast", **more: Any) -> list[Key]:
        """A job, planned and published."""
        keys = self.add(data, **more)
        self.publish(keys, topic)
        return keys

    def ask_plan(self, source: jobs_pb2.Source, options: InputOptions | None = None, name: str = "LoadProducts") -> str:
        """A job that has to be planned, published; its id."""
        job_id = uuid7()
        layout = msgspec.json.encode(options or InputOptions())
        self.jobs.specs[job_id] = jobs_pb2.JobSpec(job_id=job_id, name=name, args=b"{}", layout=layout)
        self.jobs.sources[job_id] = source
        self.send(f"{name}.plan", ticket(job_id, -1))
        return job_id

    def waiting(self) -> int:
        """Messages that the transport still holds."""
        with psycopg.connect(self.database, autocommit=True) as session:
            row = session.execute("SELECT count(*) FROM transport.messages").fetchone()
        assert row
        return int(row[0])

    def settled(self, keys: Iterable[Key]) -> bool:
        """Whether all of them are acknowledged, and the transport is empty."""
        return all(self.jobs.acknowledged[key] for key in keys) and self.waiting() == 0

    def exact(self, keys: Iterable[Key], rows: int) -> bool:
        """Whether each batch was written once, and all together have so many rows."""
        keys = list(keys)
        return set(self.products.ledger) >= set(keys) and sum(self.products.written[key] for key in keys) == rows


def ticket(job_id: str, batch_no: int, dispatch_no: int = 1) -> bytes:
    return msgspec.json.encode({"job_id": job_id, "batch_no": batch_no, "dispatch_no": dispatch_no})


def csv_of(rows: int, first: int = 1) -> bytes:
    """Good products."""
    lines = ["name,category,price,stock"]
    lines += [f"Product {n},{('Books', 'Toys')[n % 2]},{n % 1000}.{n % 100:02d},{n % 50}" for n in range(first, first + rows)]
    return "\n".join(lines).encode()


def until(holds: Callable[[], bool], seconds: float = 60, what: str = "it") -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.01)


@contextlib.contextmanager
def peers(database: str, folder: Path) -> Iterator[Peers]:
    made = Peers(database, folder)
    try:
        yield made
    finally:
        made.stop()
