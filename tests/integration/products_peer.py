"""The products service as a peer of the executor under test: a real gRPC server, with its promises kept in memory."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import grpc
import polars as pl

from operators import arrow
from protos.jobber.products.v1 import products_pb2
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceServicer
from protos.jobber.v1 import receipt_pb2
from tests.integration.peer import Faults, Journal, Key, abort, key_of


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
