"""The jobs service, as the dataflows call it. Blocking; used from several threads."""

import contextlib
import threading
from collections.abc import Sequence

import grpc

from jobber import tracing
from jobber.credentials import Tls, service_token
from jobber.transport import Delivery
from pipelines import wire
from pipelines.retry import Refused, retry
from pipelines.work import Batch, Failed, Planned, PlanTask, Unplannable
from protos import client
from protos.jobber.jobs.v1 import jobs_pb2
from protos.jobber.jobs.v1.jobs_pb2_grpc import JobsServiceStub
from protos.jobber.v1 import receipt_pb2

#: Seconds for one call. A plan of a large file has tens of thousands of batches.
DEADLINE, PLAN_DEADLINE, RENEW_DEADLINE = 15.0, 60.0, 5.0


#: Bytes of a message that is no dispatch: as many as jobs keeps.
KEPT_BYTES = 1000


class Jobs:
    """JobsService."""

    def __init__(
        self, addresses: str, jwt_secret: str, executor: str, stopping: threading.Event, tls: Tls | None = None
    ) -> None:
        self._channel = client.channel(addresses, tls)
        self._stub = JobsServiceStub(self._channel)
        self._metadata = client.credential(service_token(jwt_secret))
        self._executor = executor
        self._stopping = stopping

    def claim(self, tickets: Sequence[wire.Ticket]) -> list[Batch | Failed]:
        """The batches that this executor has to load now. Raises Unavailable, Refused."""
        request = wire.claim_of(tickets, self._executor)
        return wire.batches_of(
            retry("Claim", lambda: self._stub.Claim(request, timeout=DEADLINE, metadata=self._told), self._stopping)
        )

    def renew(self, tickets: Sequence[wire.Ticket]) -> bool:
        """Say that these go on; False when nobody waits for any of them. What fails is said again later."""
        request = jobs_pb2.RenewRequest(dispatches=wire.claim_of(tickets, self._executor).dispatches)
        try:
            return bool(self._stub.Renew(request, timeout=RENEW_DEADLINE, metadata=self._told).held)
        except grpc.RpcError:
            return True

    def acknowledge(self, receipts: Sequence[receipt_pb2.Receipt], failures: Sequence[Failed]) -> None:
        """Store receipts and failures; answers once they are durable. Raises Unavailable, Refused."""
        request = jobs_pb2.AcknowledgeRequest(receipts=receipts, failures=[wire.failure_to(item) for item in failures])
        retry("Acknowledge", lambda: self._stub.Acknowledge(request, timeout=DEADLINE, metadata=self._told), self._stopping)

    def refuse(self, delivery: Delivery, reason: str) -> None:
        """Have a message kept that is no dispatch; answers once that is durable. Raises Unavailable.

        A jobs service of an older version keeps none.
        """
        kept = jobs_pb2.RefusedMessage(topic=delivery.topic, body=delivery.body[:KEPT_BYTES], reason=reason)
        request = jobs_pb2.RefuseRequest(messages=[kept])
        with contextlib.suppress(Refused):
            retry("Refuse", lambda: self._stub.Refuse(request, timeout=DEADLINE, metadata=self._told), self._stopping)

    def claim_plan(self, ticket: wire.Ticket) -> PlanTask | Unplannable | None:
        """The job to plan, or None when there is nothing to do. Raises Unavailable, Refused."""
        request = jobs_pb2.ClaimPlanRequest(job_id=ticket.job_id, dispatch_no=ticket.dispatch_no, executor=self._executor)
        answer = retry(
            "ClaimPlan", lambda: self._stub.ClaimPlan(request, timeout=DEADLINE, metadata=self._told), self._stopping
        )
        return wire.plan_task_of(answer, ticket.dispatch_no)

    def renew_plan(self, task: PlanTask) -> bool:
        """Say that planning goes on; False when the job does not wait for it any more. What fails is said again later."""
        request = jobs_pb2.RenewPlanRequest(job_id=task.job_id, dispatch_no=task.dispatch_no)
        try:
            return bool(self._stub.RenewPlan(request, timeout=RENEW_DEADLINE, metadata=self._told).held)
        except grpc.RpcError:
            return True

    def record_plan(self, item: Planned | Unplannable) -> None:
        """Store the plan, or why there is none. Raises Unavailable, Refused."""
        request = wire.record_of(item)
        retry("RecordPlan", lambda: self._stub.RecordPlan(request, timeout=PLAN_DEADLINE, metadata=self._told), self._stopping)

    @property
    def _told(self) -> tuple[tuple[str, str], ...]:
        """Who asks, and for which traces."""
        return self._metadata + tracing.metadata()

    def close(self) -> None:
        """End every call that is still on its way."""
        self._channel.close()
