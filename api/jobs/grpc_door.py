"""The gRPC door: what executors ask (protos/jobber/jobs/v1)."""

from collections.abc import Callable

import grpc.aio

from api.jobs import wire
from api.jobs.dead_letters import BATCH, UNKNOWN, DeadLetters, Letter, name_of
from api.jobs.dispatch import Dispatcher
from api.jobs.work import Work
from protos.jobber.jobs.v1 import jobs_pb2 as pb
from protos.jobber.jobs.v1.jobs_pb2_grpc import JobsServiceServicer

Context = grpc.aio.ServicerContext[object, object]


class JobsDoor(JobsServiceServicer):
    """Translates; what happens is in work.py."""

    def __init__(
        self,
        work: Work,
        dispatcher: Dispatcher,
        changed: Callable[[set[str]], None],
        letters: DeadLetters,
        *,
        batch_bytes: int,
        batch_rows: int,
    ) -> None:
        self._work = work
        self._dispatcher = dispatcher
        self._changed = changed
        self._letters = letters
        self._batch_bytes = batch_bytes
        self._batch_rows = batch_rows

    async def ClaimPlan(self, request: pb.ClaimPlanRequest, context: Context) -> pb.ClaimPlanResponse:
        """Hand out a job to plan."""
        job_id = wire.job_id_from(request.job_id)
        claimed = await self._work.claim_plan(job_id, request.dispatch_no)
        self._changed({job_id})
        if claimed is None:
            if not await self._work.known(job_id):
                await self._letters.keep([Letter(UNKNOWN, job_id.encode(), "There is no such job.")])
            return pb.ClaimPlanResponse()
        return pb.ClaimPlanResponse(task=wire.plan_task_to(*claimed, self._batch_bytes, self._batch_rows))

    async def RenewPlan(self, request: pb.RenewPlanRequest, context: Context) -> pb.RenewPlanResponse:
        """Keep a job that is being planned with its planner."""
        return pb.RenewPlanResponse(held=await self._work.renew_plan(wire.job_id_from(request.job_id), request.dispatch_no))

    async def RecordPlan(self, request: pb.RecordPlanRequest, context: Context) -> pb.RecordPlanResponse:
        """Store a plan, or why there is none."""
        job_id = wire.job_id_from(request.job_id)
        if request.HasField("failure"):
            await self._work.record_fault(job_id, f"{request.failure.code}: {request.failure.message}")
        else:
            await self._work.record_plan(job_id, wire.plan_from(request.plan))
        self._changed({job_id})
        self._dispatcher.wake()
        return pb.RecordPlanResponse()

    async def Claim(self, request: pb.ClaimRequest, context: Context) -> pb.ClaimResponse:
        """Count attempts and hand out batches."""
        response = pb.ClaimResponse()
        dispatches = [(wire.key_from(item.key), item.dispatch_no) for item in request.dispatches]
        claimed, specs = await self._work.claim(dispatches)
        if len(claimed) < len(dispatches):
            await self._letters.keep_missing([key for key, _ in dispatches])
        by_id = {spec.job_id: spec for spec in specs}
        response.batches.extend(wire.claimed_to(item, by_id[item.key.job_id]) for item in claimed)
        response.jobs.extend(wire.spec_to(spec) for spec in specs)
        return response

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:
        """Keep batches with the executor that works at them."""
        dispatches = [(wire.key_from(item.key), item.dispatch_no) for item in request.dispatches]
        return pb.RenewResponse(held=await self._work.renew(dispatches))

    async def Acknowledge(self, request: pb.AcknowledgeRequest, context: Context) -> pb.AcknowledgeResponse:
        """Store receipts; fail the jobs of batches that can never be loaded."""
        changed = await self._work.acknowledge([wire.receipt_from(item) for item in request.receipts])
        for failure in request.failures:
            key = wire.key_from(failure.key)
            await self._letters.keep([Letter(BATCH, name_of(key), f"{failure.code}: {failure.message}")])
            await self._work.fail(key, f"{failure.code}: {failure.message}")
            changed.add(key.job_id)
        self._changed(changed)
        self._dispatcher.wake()
        return pb.AcknowledgeResponse()

    async def Refuse(self, request: pb.RefuseRequest, context: Context) -> pb.RefuseResponse:
        """Keep what is no dispatch."""
        await self._letters.keep([Letter(item.topic, item.body, item.reason) for item in request.messages])
        return pb.RefuseResponse()
