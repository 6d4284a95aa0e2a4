"""The products service, as the load dataflow calls it. Blocking; used from several threads."""

import threading
from collections.abc import Callable, Iterator, Sequence

import grpc

from jobber import tracing
from jobber.credentials import Tls, service_token
from jobber.model import BatchKey
from pipelines import wire
from pipelines.retry import retry
from pipelines.work import Closed, Failed, Prepared
from protos import client
from protos.jobber.products.v1 import products_pb2
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceStub
from protos.jobber.v1 import receipt_pb2
from protos.load_parts import chunk_to

LOAD = "/jobber.products.v1.ProductsService/Load"
#: Bytes of a chunk of an Arrow stream.
CHUNK = 1 << 20
#: Bytes that travel in one message at most.
SMALL_GROUP = 1 << 20
#: Seconds for one call: it may wait for a COPY session behind others.
DEADLINE = 60.0
#: Seconds for asking whether it is there.
PROBE_DEADLINE = 1.0

#: What became of a batch.
Outcome = receipt_pb2.Receipt | Closed | Failed


class NotServed(Exception):
    """The service has no such method."""


class Products:
    """ProductsService."""

    def __init__(self, addresses: str, jwt_secret: str, stopping: threading.Event, tls: Tls | None = None) -> None:
        self._channel = client.channel(addresses, tls)
        self._stub = ProductsServiceStub(self._channel)
        self._load: Callable[..., products_pb2.LoadResponse] = self._channel.stream_unary(
            LOAD, response_deserializer=products_pb2.LoadResponse.FromString
        )
        self._metadata = client.credential(service_token(jwt_secret))
        self._stopping = stopping
        self._takes_small = True

    def load(self, batches: Sequence[Prepared]) -> list[Outcome]:
        """Write the batches in one transaction; an outcome for each, in order. Raises Unavailable, Refused."""
        if self._takes_small and sum(map(_size, batches)) <= SMALL_GROUP:
            try:
                small = products_pb2.LoadSmallRequest(batches=map(_small, batches))
                answered = retry("LoadSmall", lambda: self._load_small(small), self._stopping)
                return [_outcome(item.key, outcome) for item, outcome in zip(batches, answered.outcomes, strict=True)]
            except NotServed:
                self._takes_small = False
        answer = retry("Load", lambda: self._load(_requests(batches), timeout=DEADLINE, metadata=self._told), self._stopping)
        return [_outcome(item.key, outcome) for item, outcome in zip(batches, answer.outcomes, strict=True)]

    def _load_small(self, request: products_pb2.LoadSmallRequest) -> products_pb2.LoadSmallResponse:
        """Raises NotServed by a service of an older version."""
        try:
            return self._stub.LoadSmall(request, timeout=DEADLINE, metadata=self._told)
        except grpc.RpcError as fault:
            if fault.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise NotServed from fault
            raise

    def answers(self) -> bool:
        """Whether it, and the database behind it, answer now."""
        try:
            self._stub.ListCategories(products_pb2.ListCategoriesRequest(), timeout=PROBE_DEADLINE, metadata=self._told)
        except grpc.RpcError:
            return False
        return True

    @property
    def _told(self) -> tuple[tuple[str, str], ...]:
        """Who asks, and for which traces."""
        return self._metadata + tracing.metadata()

    def close(self) -> None:
        """End every call that is still on its way."""
        self._channel.close()


def _size(batch: Prepared) -> int:
    return len(batch.frame) + len(batch.rejects)


def _header(batch: Prepared) -> products_pb2.LoadHeader:
    return products_pb2.LoadHeader(
        key=wire.key_to(batch.key),
        rows=batch.rows,
        rejected=batch.rejected,
        rejects=batch.rejects,
        staged=batch.staged,
    )


def _small(batch: Prepared) -> products_pb2.SmallBatch:
    return products_pb2.SmallBatch(header=_header(batch), stream=bytes(batch.frame) if batch.rows else b"")


def _requests(batches: Sequence[Prepared]) -> Iterator[bytes]:
    """Serialized LoadRequests."""
    for batch in batches:
        yield products_pb2.LoadRequest(header=_header(batch)).SerializeToString()
        if batch.rows:
            view = memoryview(batch.frame)
            for start in range(0, len(view), CHUNK):
                yield chunk_to(view[start : start + CHUNK])


def _outcome(key: BatchKey, outcome: products_pb2.LoadOutcome) -> Outcome:
    """Raises AssertionError for an answer about another batch: taken for this one's it would lose records."""
    which = outcome.WhichOneof("result")
    if which is None or getattr(outcome, which).key != wire.key_to(key):
        raise AssertionError(f"products answers for another batch than {key}")
    if which == "receipt":
        return outcome.receipt
    if which == "closed":
        return Closed(key)
    return Failed(key, "REFUSED", outcome.refused.message)
