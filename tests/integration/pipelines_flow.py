"""A load dataflow that runs in this process, with a consumer that records what it is told."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bytewax.testing import run_main

from jobber.blobs.store import Blobs
from jobber.transport import Delivery, Group
from jobber.transport.connect import open_consumer
from jobber.transport.postgres import PostgresConsumer
from pipelines.connectors.bulk_write import BulkWrite
from pipelines.connectors.jobs import Jobs
from pipelines.connectors.products import Products
from pipelines.connectors.transport import TransportSource
from pipelines.isolation import Isolation
from pipelines.load import load_flow
from pipelines.room import Gate, Room
from pipelines.steps import Steps
from tests.integration.peer import Journal
from tests.integration.peers import SECRET, Peers

TOPICS = ("LoadProducts", "Fibonacci", "Broken", "Poisonous")


class Recording:
    """The consumer, writing into the journal what it acknowledges and hands back."""

    def __init__(self, consumer: PostgresConsumer, journal: Journal) -> None:
        self.consumer, self.journal = consumer, journal
        self.handed_back: list[Delivery] = []

    def receive(self, wait: float) -> list[Delivery]:
        return self.consumer.receive(wait)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.journal.append(("transport", ()))
        self.consumer.acknowledge(deliveries)

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        self.handed_back += deliveries
        self.consumer.hand_back(deliveries, min(delay, 0.1))

    def close(self) -> None:
        self.consumer.close()


class Flow:
    """A running load dataflow."""

    def __init__(self, around: Peers, in_flight: int, grace: float) -> None:
        groups = [Group(tuple(f"{name}.fast" for name in TOPICS), 64), Group(tuple(f"{name}.bulk" for name in TOPICS), 1)]
        consumer = open_consumer(around.transport, groups, "load")
        assert isinstance(consumer, PostgresConsumer)
        self.consumer = Recording(consumer, around.journal)
        self.stopping = threading.Event()
        self.room = Room(in_flight)
        jobs = Jobs(around.jobs_served.address, SECRET, "test", self.stopping)
        products = Products(around.products_served.address, SECRET, self.stopping)
        gate = Gate("products", products.answers)
        source = TransportSource(self.consumer, self.room, self.stopping, lambda: gate.open)
        sink = BulkWrite(jobs, products, self.consumer, self.room, gate, grace=grace)
        self.isolation = Isolation(memory=1 << 30, seconds=30, modules=("tests.support.poison",))
        flow = load_flow(source, Steps(jobs, Blobs(f"file://{around.folder}"), self.room, self.isolation, self.stopping), sink)
        self.thread = threading.Thread(target=run_main, args=(flow,))
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.isolation.close()
        self.consumer.close()


@contextmanager
def flowing(around: Peers, in_flight: int = 4, grace: float = 10) -> Iterator[Flow]:
    flow = Flow(around, in_flight, grace)
    try:
        yield flow
    finally:
        flow.stop()
