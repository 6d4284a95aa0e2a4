"""Peers of the executor under test: real gRPC servers of the jobs and products services, with their promises kept in memory.

They can be away, lose replies, and hold calls; a journal tells in which order things happened.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
import msgspec
import polars as pl
import psycopg

from jobber.contract import Contract
from jobber.ids import uuid7
from jobber.job import discover, find
from jobber.model import InputOptions, Plan
from jobber.settings import TransportSettings
from jobber.transport import Message
from jobber.transport.connect import open_publisher
from operators import arrow
from operators.pack import Packing
from operators.plan import pieces, plan
from protos import client
from protos.jobber.jobs.v1 import jobs_pb2
from protos.jobber.jobs.v1.jobs_pb2_grpc import JobsServiceServicer, add_JobsServiceServicer_to_server
from protos.jobber.products.v1 import products_pb2
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceServicer, add_ProductsServiceServicer_to_server
from protos.jobber.v1 import receipt_pb2

SECRET = "a secret of more than thirty-two bytes, for tests"
Key = tuple[str, int]
#: What happened, to which batches, in order.
Journal = list[tuple[str, tuple[Key, ...]]]


def key_of(message: receipt_pb2.BatchKey) -> Key:
    return message.job_id, message.batch_no


@dataclass
class Faults:
    """What a peer does wrong, by method."""

    #: Answers of this status instead of doing anything.
    status: dict[str, grpc.StatusCode] = field(default_factory=dict)
    #: So many replies are lost after the work was done.
    lost: Counter[str] = field(default_factory=Counter)
    #: Calls wait before they do anything, as long as the event is clear.
    held: dict[str, threading.Event] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def before(self, method: str, context: grpc.ServicerContext) -> None:
        self.calls[method] += 1
        if method in self.held:
            self.held[method].wait(60)
        if method in self.status:
            abort(context, self.status[method])

    def after(self, method: str, context: grpc.ServicerContext) -> None:
        if self.lost[method] > 0:
            self.lost[method] -= 1
            abort(context, grpc.StatusCode.UNAVAILABLE)


def abort(context: grpc.ServicerContext, status: grpc.StatusCode) -> NoReturn:
    context.abort(status, "as the test wants it")
    raise AssertionError


class JobsPeer(JobsServiceServicer):
    """Hands out what was submitted; stores the first receipt of each batch."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.faults = Faults()
        self.specs: dict[str, jobs_pb2.JobSpec] = {}
        self.sources: dict[str, jobs_pb2.Source] = {}
        self.batches: dict[Key, jobs_pb2.ClaimedBatch] = {}
        self.attempts: Counter[Key] = Counter()
        self.receipts: dict[Key, receipt_pb2.Receipt] = {}
        self.failures: dict[Key, jobs_pb2.BatchFailure] = {}
        #: How often each batch was acknowledged, as receipt or failure.
        self.acknowledged: Counter[Key] = Counter()
        self.plans: dict[str, jobs_pb2.RecordPlanRequest] = {}
        #: Topic and body of what was no dispatch.
        self.refused: list[tuple[str, bytes]] = []
        #: Nobody waits for what executors renew.
        self.lapsed = False
        self.lock = threading.Lock()

    def Claim(self, request: jobs_pb2.ClaimRequest, context: grpc.ServicerContext) -> jobs_pb2.ClaimResponse:
        self.faults.before("Claim", context)
        asked = [key_of(item.key) for item in request.dispatches]
        if any(number < 0 or job == "ffffffff-ffff-ffff-ffff-ffffffffffff" for job, number in asked):
            abort(context, grpc.StatusCode.INVALID_ARGUMENT)
        with self.lock:
            self.journal.append(("claim", tuple(asked)))
            found = [key for key in asked if key in self.batches and not self.acknowledged[key]]
            self.attempts.update(found)
            answer = jobs_pb2.ClaimResponse(jobs=[self.specs[job] for job in sorted({job for job, _ in found})])
            for key in found:
                batch = answer.batches.add()
                batch.CopyFrom(self.batches[key])
                batch.attempt = self.attempts[key]
        self.faults.after("Claim", context)
        return answer

    def Renew(self, request: jobs_pb2.RenewRequest, context: grpc.ServicerContext) -> jobs_pb2.RenewResponse:
        self.faults.before("Renew", context)
        return jobs_pb2.RenewResponse(held=not self.lapsed)

    def Acknowledge(self, request: jobs_pb2.AcknowledgeRequest, context: grpc.ServicerContext) -> jobs_pb2.AcknowledgeResponse:
        self.faults.before("Acknowledge", context)
        with self.lock:
            keys = [key_of(item.key) for item in request.receipts] + [key_of(item.key) for item in request.failures]
            self.journal.append(("acknowledge", tuple(keys)))
            self.acknowledged.update(keys)
            for receipt in request.receipts:
                self.receipts.setdefault(key_of(receipt.key), receipt)
            for failure in request.failures:
                self.failures.setdefault(key_of(failure.key), failure)
        self.faults.after("Acknowledge", context)
        return jobs_pb2.AcknowledgeResponse()

    def Refuse(self, request: jobs_pb2.RefuseRequest, context: grpc.ServicerContext) -> jobs_pb2.RefuseResponse:
        self.faults.before("Refuse", context)
        with self.lock:
            self.refused += [(item.topic, item.body) for item in request.messages]
        self.faults.after("Refuse", context)
        return jobs_pb2.RefuseResponse()

    def ClaimPlan(self, request: jobs_pb2.ClaimPlanRequest, context: grpc.ServicerContext) -> jobs_pb2.ClaimPlanResponse:
        self.faults.before("ClaimPlan", context)
        if request.job_id not in self.specs or request.job_id in self.plans:
            return jobs_pb2.ClaimPlanResponse()
        task = jobs_pb2.PlanTask(job=self.specs[request.job_id], source=self.sources[request.job_id])
        return jobs_pb2.ClaimPlanResponse(task=task)

    def RenewPlan(self, request: jobs_pb2.RenewPlanRequest, context: grpc.ServicerContext) -> jobs_pb2.RenewPlanResponse:
        self.faults.before("RenewPlan", context)
        return jobs_pb2.RenewPlanResponse(held=request.job_id not in self.plans)

    def RecordPlan(self, request: jobs_pb2.RecordPlanRequest, context: grpc.ServicerContext) -> jobs_pb2.RecordPlanResponse:
        self.faults.before("RecordPlan", context)
        self.plans.setdefault(request.job_id, request)
        self.faults.after("RecordPlan", context)
        return jobs_pb2.RecordPlanResponse()


class ProductsPeer(ProductsServiceServicer):
    """Keeps a ledger: a batch is written once, and answers its receipt ever after."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.faults = Faults()
        self.ledger: dict[Key, receipt_pb2.Receipt] = {}
        self.rows: dict[Key, pl.DataFrame] = {}
        #: Rows are counted, not kept.
        self.counting = False
        self.written: Counter[Key] = Counter()
        self.closed: set[str] = set()
        self.refused: set[Key] = set()
        #: It knows no LoadSmall.
        self.old = False
        #: Calls of LoadSmall that were taken.
        self.small = 0
        #: The key that answers carry instead of their own.
        self.mistaken: Key | None = None
        #: What is called while a group is written.
        self.during: Callable[[Sequence[Key]], None] = lambda keys: None
        self.lock = threading.Lock()

    def Load(self, requests: Iterable[products_pb2.LoadRequest], context: grpc.ServicerContext) -> products_pb2.LoadResponse:
        self.faults.before("Load", context)
        group: list[tuple[products_pb2.LoadHeader, list[bytes]]] = []
        for request in requests:
            if request.HasField("header"):
                group.append((request.header, []))
            else:
                group[-1][1].append(request.chunk)
        keys = [key_of(header.key) for header, _ in group]
        self.during(keys)
        with self.lock:
            self.journal.append(("load", tuple(keys)))
            answer = products_pb2.LoadResponse(outcomes=[self._write(header, chunks) for header, chunks in group])
        self.faults.after("Load", context)
        if self.mistaken:
            for outcome in answer.outcomes:
                outcome.receipt.key.job_id, outcome.receipt.key.batch_no = self.mistaken
        return answer

    def LoadSmall(
        self, request: products_pb2.LoadSmallRequest, context: grpc.ServicerContext
    ) -> products_pb2.LoadSmallResponse:
        if self.old:
            abort(context, grpc.StatusCode.UNIMPLEMENTED)
        parts = [
            part
            for batch in request.batches
            for part in (
                products_pb2.LoadRequest(header=batch.header),
                *([products_pb2.LoadRequest(chunk=batch.stream)] if batch.stream else []),
            )
        ]
        self.small += 1
        return products_pb2.LoadSmallResponse(outcomes=self.Load(parts, context).outcomes)

    def ListCategories(
        self, request: products_pb2.ListCategoriesRequest, context: grpc.ServicerContext
    ) -> products_pb2.ListCategoriesResponse:
        self.faults.before("ListCategories", context)
        return products_pb2.ListCategoriesResponse()

    def _write(self, header: products_pb2.LoadHeader, chunks: list[bytes]) -> products_pb2.LoadOutcome:
        key = key_of(header.key)
        if key in self.ledger:
            return products_pb2.LoadOutcome(receipt=self.ledger[key])
        if key[0] in self.closed:
            return products_pb2.LoadOutcome(closed=products_pb2.Closed(key=header.key))
        if key in self.refused:
            return products_pb2.LoadOutcome(refused=products_pb2.Refused(key=header.key, message="out of range"))
        if header.rows and not self.counting:
            frame = arrow.from_ipc(b"".join(chunks))
            assert frame.height == header.rows
            self.rows[key] = frame
        self.written[key] += header.rows
        receipt = receipt_pb2.Receipt(key=header.key, inserted=header.rows, rejected=header.rejected, rejects=header.rejects)
        receipt.committed_at.GetCurrentTime()
        self.ledger[key] = receipt
        return products_pb2.LoadOutcome(receipt=receipt)


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


def until(holds: Callable[[], bool], seconds: float = 20, what: str = "it") -> None:
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
