"""The load dataflow's sink: products, then jobs, then the transport. Only what is durable is acknowledged."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from jobber import faults
from jobber.errors import JobberError
from jobber.log import event
from jobber.transport import Consumer
from pipelines import wire
from pipelines.connectors.services import Jobs, Products
from pipelines.connectors.transport import Room
from pipelines.steps import items_of
from pipelines.work import Failed, Flight, Prepared
from protos.jobber.v1 import receipt_pb2

#: Seconds after which what could not be written comes again.
RETURN_DELAY = 1.0


class BulkWrite(DynamicSink[Flight]):
    """Keeps several groups in flight: a thread for each."""

    def __init__(self, jobs: Jobs, products: Products, consumer: Consumer, room: Room, threads: int) -> None:
        self._settler = Settler(jobs, products, consumer, room)
        self._threads = threads

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "BulkWritePartition":
        """The partition of the only worker."""
        return BulkWritePartition(self._settler, self._threads)


class BulkWritePartition(StatelessSinkPartition[Flight]):
    """Hands groups to its threads; closing waits for them."""

    def __init__(self, settler: "Settler", threads: int) -> None:
        self._settler = settler
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="write")

    def write_batch(self, items: list[Flight]) -> None:
        """Begin to write; the source takes no more than there are threads."""
        for flight in items:
            self._pool.submit(self._settler.settle, flight)

    def close(self) -> None:
        """Wait for what is in flight."""
        self._pool.shutdown(wait=True)


class Settler:
    """Brings one flight to its end."""

    def __init__(self, jobs: Jobs, products: Products, consumer: Consumer, room: Room) -> None:
        self._jobs = jobs
        self._products = products
        self._consumer = consumer
        self._room = room

    def settle(self, flight: Flight) -> None:
        """Write, acknowledge to jobs, acknowledge to the transport: in this order. Never raises."""
        try:
            if flight.returned:
                self._consumer.hand_back(flight.deliveries, RETURN_DELAY)
                return
            receipts, failures = self._write(flight)
            faults.point("load.after_write")
            if receipts or failures:
                self._jobs.acknowledge(receipts, failures)
            faults.point("load.after_acknowledge")
            self._consumer.acknowledge(flight.deliveries)
            faults.point("load.after_settle")
        except Exception as fault:
            expected = isinstance(fault, JobberError)
            event(
                "handed_back",
                f"A group comes again: {fault}",
                level=logging.WARNING if expected else logging.ERROR,
                error=None if expected else fault,
                batches=len(flight.deliveries),
                thread=threading.current_thread().name,
            )
            self._consumer.hand_back(flight.deliveries, RETURN_DELAY)
        finally:
            self._room.give()

    def _write(self, flight: Flight) -> tuple[list[receipt_pb2.Receipt], list[Failed]]:
        """Receipts of what is committed, and what can never be. Batches of a closed job have neither."""
        prepared, failures = items_of(flight, Prepared), list(items_of(flight, Failed))
        receipts = [wire.computed_receipt(item) for item in prepared if item.target is None]
        loads = [item for item in prepared if item.target is not None]
        if loads:
            faults.point("load.before_write")
            for item, outcome in zip(loads, self._products.load(loads), strict=True):
                if outcome.HasField("receipt"):
                    receipts.append(outcome.receipt)
                elif outcome.HasField("refused"):
                    failures.append(
                        Failed(
                            item.key, "REFUSED", f"the database refused batch {item.key.batch_no}: {outcome.refused.message}"
                        )
                    )
        return receipts, failures
