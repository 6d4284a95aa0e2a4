"""The jobs service as a peer of the executor under test: a real gRPC server, with its promises kept in memory."""

import threading
from collections import Counter

import grpc

from protos.jobber.jobs.v1 import jobs_pb2
from protos.jobber.jobs.v1.jobs_pb2_grpc import JobsServiceServicer
from protos.jobber.v1 import receipt_pb2
from tests.integration.peer import Faults, Journal, Key, abort, key_of


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
