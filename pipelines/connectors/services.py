"""The jobs and products services, as the dataflows call them. Blocking; used from several threads."""

import threading
from collections.abc import Iterator, Sequence

import grpc

from jobber.credentials import service_token
from jobber.model import Plan
from pipelines import wire
from pipelines.retry import retry
from pipelines.work import Batch, Failed, Prepared
from protos import client
from protos.jobber.jobs.v1 import jobs_pb2
from protos.jobber.jobs.v1.jobs_pb2_grpc import JobsServiceStub
from protos.jobber.products.v1 import products_pb2
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceStub
from protos.jobber.v1 import receipt_pb2

#: Bytes of a chunk of an Arrow stream.
CHUNK = 1 << 20
#: Seconds for one call. A load may wait for a COPY session behind others.
CALL_DEADLINE, LOAD_DEADLINE = 15.0, 60.0


class Jobs:
    """JobsService."""

    def __init__(self, addresses: str, jwt_secret: str, executor: str, stopping: threading.Event) -> None:
        self.channel = grpc.insecure_channel(client.target(addresses), options=list(client.OPTIONS))
        self._stub = JobsServiceStub(self.channel)
        self._metadata = client.credential(service_token(jwt_secret))
        self._executor = executor
        self._stopping = stopping

    def claim(self, tickets: Sequence[wire.Ticket]) -> list[Batch | Failed]:
        """The batches that this executor has to load now. Raises Unavailable, Refused."""
        request = wire.claim_of(tickets, self._executor)
        return wire.batches_of(
            retry(lambda: self._stub.Claim(request, timeout=CALL_DEADLINE, metadata=self._metadata), self._stopping)
        )

    def acknowledge(self, receipts: Sequence[receipt_pb2.Receipt], failures: Sequence[Failed]) -> None:
        """Store receipts and failures; answers once they are durable. Raises Unavailable, Refused."""
        request = jobs_pb2.AcknowledgeRequest(receipts=receipts, failures=[wire.failure_to(item) for item in failures])
        retry(lambda: self._stub.Acknowledge(request, timeout=CALL_DEADLINE, metadata=self._metadata), self._stopping)

    def claim_plan(self, ticket: wire.Ticket) -> jobs_pb2.PlanTask | None:
        """The job to plan, or None when there is nothing to do. Raises Unavailable, Refused."""
        request = jobs_pb2.ClaimPlanRequest(job_id=ticket.job_id, dispatch_no=ticket.dispatch_no, executor=self._executor)
        answer = retry(lambda: self._stub.ClaimPlan(request, timeout=CALL_DEADLINE, metadata=self._metadata), self._stopping)
        return answer.task if answer.HasField("task") else None

    def record_plan(self, job_id: str, plan: Plan) -> None:
        """Store the plan. Raises Unavailable, Refused."""
        self._record(jobs_pb2.RecordPlanRequest(job_id=job_id, plan=wire.plan_to(plan)))

    def record_fault(self, job_id: str, code: str, message: str) -> None:
        """Store why there is no plan. Raises Unavailable, Refused."""
        self._record(jobs_pb2.RecordPlanRequest(job_id=job_id, failure=jobs_pb2.PlanFailure(code=code, message=message)))

    def _record(self, request: jobs_pb2.RecordPlanRequest) -> None:
        retry(lambda: self._stub.RecordPlan(request, timeout=LOAD_DEADLINE, metadata=self._metadata), self._stopping)


class Products:
    """ProductsService."""

    def __init__(self, addresses: str, jwt_secret: str, stopping: threading.Event) -> None:
        self.channel = grpc.insecure_channel(client.target(addresses), options=list(client.OPTIONS))
        self._stub = ProductsServiceStub(self.channel)
        self._metadata = client.credential(service_token(jwt_secret))
        self._stopping = stopping

    def load(self, batches: Sequence[Prepared]) -> Sequence[products_pb2.LoadOutcome]:
        """Write the batches in one transaction; an outcome for each, in order. Raises Unavailable, Refused."""
        answer = retry(
            lambda: self._stub.Load(_requests(batches), timeout=LOAD_DEADLINE, metadata=self._metadata), self._stopping
        )
        return answer.outcomes


def _requests(batches: Sequence[Prepared]) -> Iterator[products_pb2.LoadRequest]:
    for batch in batches:
        header = products_pb2.LoadHeader(
            key=wire.key_to(batch.key), rows=batch.rows, rejected=batch.rejected, rejects=batch.rejects
        )
        yield products_pb2.LoadRequest(header=header)
        if batch.rows:
            view = memoryview(batch.frame)
            for start in range(0, len(view), CHUNK):
                yield products_pb2.LoadRequest(chunk=bytes(view[start : start + CHUNK]))
