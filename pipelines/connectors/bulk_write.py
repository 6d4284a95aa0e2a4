"""The load dataflow's sink: products, then jobs, then the transport. Only what is durable is acknowledged.

    in flight at once ─┬─ Load ─ Acknowledge ─ acknowledge
                       ├─ Load ─ Acknowledge ─ acknowledge
                       └─ …

What fails before the last step comes again, and is harmless: the ledger answers the old receipt.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from jobber import faults, tracing
from jobber.errors import Unavailable
from jobber.log import event
from jobber.transport import Consumer
from pipelines import metrics, wire
from pipelines.connectors.jobs import Jobs
from pipelines.connectors.products import Outcome, Products
from pipelines.retry import Refused
from pipelines.room import Gate, Room
from pipelines.work import Failed, Flight, Prepared
from protos.jobber.v1 import receipt_pb2

#: Seconds after which what could not be written comes again.
RETURN_DELAY = 1.0


class BulkWrite(DynamicSink[Flight]):
    """Keeps several flights on their way, a thread for each. When the flow ends it gives them `grace` seconds."""

    def __init__(self, jobs: Jobs, products: Products, consumer: Consumer, room: Room, gate: Gate, *, grace: float) -> None:
        self._jobs = jobs
        self._products = products
        self._settler = Settler(jobs, products, consumer, room, gate)
        self._threads = room.most
        self._grace = grace

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "BulkWritePartition":
        """The partition of the only worker."""
        return BulkWritePartition(self._settler, self._threads, self._abandon, self._grace)

    def _abandon(self) -> None:
        self._products.close()
        self._jobs.close()


class BulkWritePartition(StatelessSinkPartition[Flight]):
    """Hands flights to its threads; closing waits for them."""

    def __init__(self, settler: "Settler", threads: int, abandon: Callable[[], None], grace: float) -> None:
        self._settler = settler
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="write")
        self._abandon = abandon
        self._grace = grace
        self._pending: list[Future[None]] = []

    def write_batch(self, items: list[Flight]) -> None:
        """Begin to write; the source takes no more than there are threads."""
        self._pending = [future for future in self._pending if not future.done()]
        self._pending += [self._pool.submit(self._settler.settle, flight) for flight in items]

    def close(self) -> None:
        """Wait for what is in flight; what a frozen service holds up is handed back when the grace is over."""
        _, late = wait(self._pending, self._grace)
        if late:
            event("handed_back", f"{len(late)} groups were not written in time.", level=logging.WARNING, batches=len(late))
            self._abandon()
        self._pool.shutdown(wait=True)


class Settler:
    """Brings one flight to its end."""

    def __init__(self, jobs: Jobs, products: Products, consumer: Consumer, room: Room, gate: Gate) -> None:
        self._jobs = jobs
        self._products = products
        self._consumer = consumer
        self._room = room
        self._gate = gate

    def settle(self, flight: Flight) -> None:
        """Write, acknowledge to jobs, acknowledge to the transport: in this order. Never raises."""
        began = time.monotonic()
        try:
            if flight.returned:
                self._hand_back(flight)
                return
            with tracing.span("send", flight.traces, batches=len(flight.items)):
                outcomes = self._write(flight)
            faults.point("load.after_write")
            receipts = [item for item in outcomes if isinstance(item, receipt_pb2.Receipt)]
            failures = [item for item in outcomes if isinstance(item, Failed)]
            if receipts or failures:
                with tracing.span("acknowledge", flight.traces, batches=len(flight.items)):
                    self._jobs.acknowledge(receipts, failures)
            faults.point("load.after_acknowledge")
            self._consumer.acknowledge(flight.deliveries)
            faults.point("load.after_settle")
            codes = [item.codes for item in flight.items if isinstance(item, Prepared)]
            flight.end()
            for item in flight.items:
                event("settled", "A batch is done.", level=logging.DEBUG, job=item.key.job_id, batch=item.key.batch_no)
            metrics.settled(outcomes, codes, time.monotonic() - began)
        except Exception as fault:
            _tell(fault, flight)
            self._hand_back(flight)
        finally:
            self._room.give()

    def _hand_back(self, flight: Flight) -> None:
        flight.end("handed back")
        metrics.HANDED_BACK.inc(len(flight.deliveries))
        self._consumer.hand_back(flight.deliveries, RETURN_DELAY)
        faults.point("load.after_hand_back")

    def _write(self, flight: Flight) -> list[Outcome]:
        """What became of each batch, durably; or what can never become of it."""
        outcomes: list[Outcome] = [item for item in flight.items if isinstance(item, Failed)]
        prepared = [item for item in flight.items if isinstance(item, Prepared)]
        outcomes += [wire.computed_receipt(item) for item in prepared if item.target is None]
        loads = [item for item in prepared if item.target is not None]
        if loads:
            faults.point("load.before_write")
            try:
                outcomes += self._load(loads)
            except Unavailable:
                self._gate.shut()
                raise
            self._gate.passed()
        return outcomes

    def _load(self, loads: Sequence[Prepared]) -> Sequence[Outcome]:
        try:
            return self._products.load(loads)
        except Refused as fault:
            if len(loads) > 1:
                return [outcome for item in loads for outcome in self._load([item])]
            return [Failed(loads[0].key, "REFUSED", fault.message)]


def _tell(fault: Exception, flight: Flight) -> None:
    expected = isinstance(fault, Unavailable)
    event(
        "handed_back",
        f"A group comes again: {fault}",
        level=logging.WARNING if expected else logging.ERROR,
        error=None if expected else fault,
        batches=len(flight.items),
    )
