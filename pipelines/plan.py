"""The planning dataflow: transport -> claim -> scan -> record. A process of its own, so that no load waits for a large file."""

import logging
import threading
from collections.abc import Iterable, Sequence

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from jobber import faults
from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.errors import NotFound, StructureFault, Terminal, Unavailable
from jobber.job import find
from jobber.log import event
from jobber.model import InputOptions
from jobber.transport import Consumer, Delivery
from operators.plan import plan
from pipelines import wire
from pipelines.connectors.services import Jobs
from pipelines.connectors.transport import Room
from pipelines.work import Flight
from protos.jobber.jobs.v1 import jobs_pb2

#: Seconds after which a plan that could not be recorded comes again.
RETURN_DELAY = 1.0


def plan_flow(source: DynamicSource[Flight], record: DynamicSink[Flight]) -> Dataflow:
    """Transport -> record: one job at a time, each scanned in one pass with bounded memory."""
    flow = Dataflow("plan")
    received = op.input("transport", flow, source)
    op.output("record", received, record)
    return flow


class RecordPlans(DynamicSink[Flight]):
    """Plans what is received, and records it."""

    def __init__(self, jobs: Jobs, blobs: Blobs, consumer: Consumer, room: Room, stopping: threading.Event) -> None:
        self._planner = Planner(jobs, blobs, consumer, room, stopping)

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "RecordPlansPartition":
        """The partition of the only worker."""
        return RecordPlansPartition(self._planner)


class RecordPlansPartition(StatelessSinkPartition[Flight]):
    """Plans one after the other."""

    def __init__(self, planner: "Planner") -> None:
        self._planner = planner

    def write_batch(self, items: list[Flight]) -> None:
        """Plan each job, and settle its delivery."""
        for flight in items:
            self._planner.settle(flight.deliveries)


class Stopped(Unavailable):
    """The executor stops; another one will plan this file."""


class Planner:
    """Plans one job."""

    def __init__(self, jobs: Jobs, blobs: Blobs, consumer: Consumer, room: Room, stopping: threading.Event) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._consumer = consumer
        self._room = room
        self._stopping = stopping

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Plan and record, then acknowledge. Never raises: what fails comes again, and jobs counts how often."""
        try:
            for delivery in deliveries:
                self._plan(delivery)
            self._consumer.acknowledge(deliveries)
        except Exception as fault:
            expected = isinstance(fault, Unavailable)
            event(
                "handed_back",
                f"A plan comes again: {fault}",
                level=logging.WARNING if expected else logging.ERROR,
                error=None if expected else fault,
            )
            self._consumer.hand_back(deliveries, RETURN_DELAY)
        finally:
            self._room.give()

    def _plan(self, delivery: Delivery) -> None:
        faults.point("plan.before_claim")
        ticket = wire.ticket_of(delivery)
        task = None
        try:
            task = self._jobs.claim_plan(ticket) if ticket else None
        except Terminal as fault:
            event("message_refused", fault.message, level=logging.WARNING, topic=delivery.topic)
        if task is None:
            return
        faults.point("plan.after_claim")
        job_id = task.job.job_id
        try:
            made = plan(self._windows(task), Contract.of(find(task.job.name).contract), _options(task))
        except StructureFault as fault:
            self._jobs.record_fault(job_id, fault.fault, fault.message)
        except NotFound as fault:
            self._jobs.record_fault(job_id, "INPUT_MISSING", fault.message)
        else:
            faults.point("plan.before_record")
            self._jobs.record_plan(job_id, made)
            event("planned", "A plan was made.", job=job_id, batches=len(made.batches), rows=made.rows)
        faults.point("plan.after_record")

    def _windows(self, task: jobs_pb2.PlanTask) -> Iterable[bytes]:
        source = wire.source_of(task.source)
        windows = [source.inline] if source.inline is not None else self._blobs.windows(source.blob_key)
        for window in windows:
            if self._stopping.is_set():
                raise Stopped
            yield window


def _options(task: jobs_pb2.PlanTask) -> InputOptions:
    return msgspec.json.decode(task.job.layout, type=InputOptions)
