"""The planning dataflow. It has a process of its own, so that no load waits for a large file."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from jobber import faults, tracing
from jobber.contract import Contract
from jobber.errors import NotFound, StructureFault, Transient, Unavailable
from jobber.log import event
from jobber.transport import Consumer, Delivery
from pipelines import wire
from pipelines.connectors.jobs import Jobs
from pipelines.isolation import Isolation
from pipelines.opened import Delicate, Planner
from pipelines.retry import Refused
from pipelines.room import Room
from pipelines.signs import SignsOfLife, Superseded
from pipelines.work import Flight, Planned, Planning, PlanTask, Unplannable

#: Seconds after which a plan that could not be made, or recorded, comes again.
RETURN_DELAY = 1.0


def plan_flow(source: DynamicSource[Flight], steps: "PlanSteps", record: DynamicSink[Planning]) -> Dataflow:
    """Transport -> claim -> scan -> record: one input at a time, each in one pass with bounded memory."""
    flow = Dataflow("plan")
    received = op.input("transport", flow, source)
    claimed = op.flat_map("claim", received, steps.claim)
    scanned = op.map("scan", claimed, steps.scan)
    op.output("record", scanned, record)
    return flow


class PlanSteps:
    """What planning needs: who hands jobs out, and who reads inputs."""

    def __init__(
        self,
        jobs: Jobs,
        planner: Planner,
        stopping: threading.Event,
        isolation: Isolation,
        clock: Callable[[], float] = time.monotonic,
        beat: Callable[[], object] = lambda: None,
        tell: Callable[[str, float], object] = lambda outcome, seconds: None,
    ) -> None:
        self._jobs = jobs
        self._planner = planner
        self._isolation = isolation
        self._stopping = stopping
        self._clock = clock
        self._beat = beat
        self._tell = tell

    def claim(self, flight: Flight) -> list[Planning]:
        """Take the job of each delivery, unless it is planned already."""
        made = []
        for delivery in flight.deliveries:
            ticket = wire.ticket_of(delivery, plan=True)
            planning = Planning(delivery, span=_span(delivery, ticket))
            try:
                faults.point("plan.before_claim")
                if ticket is None:
                    self._jobs.refuse(delivery, "It is no dispatch of a plan.")
                    shown = delivery.body[:200].decode(errors="backslashreplace")
                    raise Refused(f"A message is no dispatch: {shown}")
                with tracing.span("claim", planning.span.parents):
                    planning = replace(planning, item=self._jobs.claim_plan(ticket))
                faults.point("plan.after_claim")
            except Refused as fault:
                event("message_refused", fault.message, level=logging.WARNING, topic=delivery.topic)
            except Unavailable as fault:
                planning = _returned(planning, fault)
            made.append(planning)
        return made

    def scan(self, planning: Planning) -> Planning:
        """Cut the input into batches; a broken structure is an outcome."""
        task = planning.item
        if not isinstance(task, PlanTask):
            return planning
        began = self._clock()
        event("planning", "An input is read to be cut into batches.", job=task.job_id, attempt=task.attempt)
        with tracing.span("scan", planning.span.parents):
            scanned = self._scan(task, planning)
        outcome = "returned" if scanned.returned else "planned" if isinstance(scanned.item, Planned) else "fault"
        if scanned.returned or scanned.item is not None:
            self._tell(outcome, self._clock() - began)
        return scanned

    def _scan(self, task: PlanTask, planning: Planning) -> Planning:
        job_id = task.job_id
        try:
            signs = SignsOfLife(lambda: self._jobs.renew_plan(task), self._stopping, self._clock)
            if task.suspect:
                return replace(planning, item=self._isolation.plan(task, self._planner, signs.give))

            def goes_on() -> None:
                self._beat()
                signs.give()

            try:
                made = self._planner.plan(task.source, Contract.of(task.kind.contract), task.options, goes_on)
            except Delicate:
                return replace(planning, item=self._isolation.plan(task, self._planner, signs.give))
        except Superseded:
            event("planned", "The job does not wait for this plan any more.", job=job_id)
            return replace(planning, item=None)
        except StructureFault as fault:
            return replace(planning, item=Unplannable(job_id, fault.fault, fault.message))
        except NotFound as fault:
            return replace(planning, item=Unplannable(job_id, "INPUT_MISSING", fault.message))
        except Transient as fault:
            return _returned(planning, fault)
        except Exception as fault:
            event("bug", "The scan of an input failed.", level=logging.ERROR, error=fault, job=job_id)
            why = f"the input cannot be planned: {type(fault).__name__}; the executor's log says where."
            return replace(planning, item=Unplannable(job_id, "INTERNAL", why))
        return replace(planning, item=Planned(job_id, made))


class RecordPlans(DynamicSink[Planning]):
    """Records plans, then acknowledges their deliveries."""

    def __init__(self, jobs: Jobs, consumer: Consumer, room: Room) -> None:
        self._jobs = jobs
        self._consumer = consumer
        self._room = room

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "RecordPlansPartition":
        """The partition of the only worker."""
        return RecordPlansPartition(self)

    def settle(self, planning: Planning) -> None:
        """Record and acknowledge. Never raises: what fails comes again, and jobs counts how often."""
        item = planning.item
        try:
            if not planning.returned and isinstance(item, Planned | Unplannable):
                faults.point("plan.before_record")
                with tracing.span("record", planning.span.parents):
                    self._jobs.record_plan(item)
                _tell(item)
                faults.point("plan.after_record")
        except Exception as fault:
            planning = _returned(planning, fault)
        if planning.returned:
            planning.span.fail("handed back")
        planning.span.end()
        if planning.returned:
            self._consumer.hand_back([planning.delivery], RETURN_DELAY)
        else:
            self._consumer.acknowledge([planning.delivery])
            faults.point("plan.after_settle")
        self._room.give()


class RecordPlansPartition(StatelessSinkPartition[Planning]):
    """Records one after the other."""

    def __init__(self, record: RecordPlans) -> None:
        self._record = record

    def write_batch(self, items: list[Planning]) -> None:
        """Settle each."""
        for planning in items:
            self._record.settle(planning)


def _span(delivery: Delivery, ticket: wire.Ticket | None) -> tracing.Span:
    parent = delivery.properties.get(tracing.HEADER)
    if ticket is None or parent is None:
        return tracing.NONE
    return tracing.begin("plan", [parent], kind="consumer", job=ticket.job_id, dispatch=ticket.dispatch_no)


def _returned(planning: Planning, fault: Exception) -> Planning:
    expected = isinstance(fault, Transient)
    event(
        "handed_back",
        f"A plan comes again: {fault}",
        level=logging.WARNING if expected else logging.ERROR,
        error=None if expected else fault,
    )
    return replace(planning, item=None, returned=True)


def _tell(item: Planned | Unplannable) -> None:
    if isinstance(item, Planned):
        event("planned", "A plan was made.", job=item.job_id, batches=len(item.plan.batches), rows=item.plan.rows)
    else:
        event("planned", f"An input cannot be loaded: {item.code}: {item.message}", job=item.job_id, code=item.code)
