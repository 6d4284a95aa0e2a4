"""The services as simulated processes: shipped dispatchers and executors around rows, calls and messages that are simulated."""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from api.jobs.dispatch import SWEEP_EVERY, Dispatcher
from api.jobs.wire import receipt_from
from api.products.model import Closed as ProductsClosed
from api.products.wire import receipt_to
from jobber.errors import Transient, Unavailable
from jobber.job import discover, find
from jobber.model import BatchKey, Format, InputOptions, Layout, Plan, PlannedBatch, Receipt, Writing
from jobber.transport import Group
from pipelines.connectors.bulk_write import Settler
from pipelines.connectors.transport import TransportSource
from pipelines.plan import PlanSteps, RecordPlans
from pipelines.room import Gate, Room
from pipelines.steps import Steps
from pipelines.wire import Ticket
from pipelines.work import Batch, Closed, Failed, Flight, Planned, PlanTask, Prepared, Source, Spec, Unplannable
from protos.jobber.v1 import receipt_pb2
from tests.simulation.broker import Broker, Consumer
from tests.simulation.jobs import Jobs
from tests.simulation.kernel import Kernel, Process, drive
from tests.simulation.network import Network
from tests.simulation.products import Ledger

discover(())
KIND = find("LoadProducts")
LAYOUT = Layout(format=Format.JSON)
#: Batches with executors at once, of one job and of all.
JOB_WINDOW, WINDOW = 3, 8
#: Flights of one executor that are on their way.
IN_FLIGHT = 2
#: Seconds between two looks of an executor at an empty transport.
LOOK = 0.25
#: Bytes that a record is said to have: some batches travel together, and some do not.
RECORD_BYTES = 700_000
SHA = b"\1" * 32


class Truth(msgspec.Struct, frozen=True):
    """What a job's input is."""

    rows: int
    #: Row numbers of records that break a rule, and of those that kill who decodes them.
    bad: frozenset[int] = frozenset()
    poison: frozenset[int] = frozenset()

    def rejected(self, first_row: int, rows: int) -> tuple[int, ...]:
        """Row numbers of a batch that end as rejects."""
        return tuple(row for row in range(first_row, first_row + rows) if row in self.bad or row in self.poison)


class Cluster:
    """Everything that the services share: where rows, messages and calls are."""

    def __init__(self, kernel: Kernel, network: Network, broker: Broker, jobs: Jobs, ledger: Ledger) -> None:
        self.kernel = kernel
        self.network = network
        self.broker = broker
        self.jobs = jobs
        self.ledger = ledger
        self.truths: dict[str, Truth] = {}
        self.dispatchers: dict[str, Dispatcher] = {}
        #: Seconds that a plan takes at most.
        self.planning = 0.3

    def jobs_service(self, process: Process) -> None:
        """A replica of jobs: it dispatches, sweeps and answers calls."""
        products = ProductsOfJobs(self)
        dispatcher = Dispatcher(
            self.jobs,  # type: ignore[arg-type]  # Work's methods, by the same names
            self.broker,
            products,
            {KIND.name: KIND},
            window=WINDOW,
            job_window=JOB_WINDOW,
            changed=lambda ids: None,
        )
        self.dispatchers[process.name] = dispatcher
        process.spawn(lambda: self._dispatch(process, dispatcher))
        process.spawn(lambda: self._sweep(dispatcher))
        process.spawn(lambda: self._publish(dispatcher))

    def _dispatch(self, process: Process, dispatcher: Dispatcher) -> None:
        awake = dispatcher._awake

        def wake_after(seconds: float) -> None:
            self.kernel.sleep(seconds)
            awake.set()

        while True:
            self.kernel.wait(awake.is_set, 5.0)
            awake.clear()
            try:
                while drive(dispatcher.round()):
                    pass
                # Each job with a rate has a timer of its own.
                for seconds in dispatcher._paced:
                    process.spawn(lambda seconds=seconds: wake_after(seconds))  # type: ignore[misc]
                dispatcher._paced.clear()
            except Transient:
                self.kernel.sleep(0.2)
                awake.set()

    def _sweep(self, dispatcher: Dispatcher) -> None:
        while True:
            with contextlib.suppress(Transient):
                drive(dispatcher.sweep())
            self.kernel.sleep(SWEEP_EVERY)

    def _publish(self, dispatcher: Dispatcher) -> None:
        while True:
            self.kernel.wait(dispatcher._complete.is_set, SWEEP_EVERY)
            dispatcher._complete.clear()
            with contextlib.suppress(Transient):
                for item in drive(self.jobs.publishable()):
                    drive(dispatcher.publish(item))

    def products_service(self, process: Process) -> None:
        """A replica of products: it only answers calls."""

    def executor(self, process: Process) -> None:
        """An executor: one thread plans, one prepares loads, and one for each flight writes it."""
        process.spawn(lambda: self._load(process))
        process.spawn(lambda: self._plan(process))

    def _load(self, process: Process) -> None:
        room, jobs, products = Room(IN_FLIGHT), JobsOfExecutor(self), ProductsOfExecutor(self)
        gate = Gate("products", products.answers, clock=self.kernel.clock)
        lanes = [Group((f"{KIND.name}.fast",), 4), Group((f"{KIND.name}.bulk",), 1)]
        consumer = Consumer(self.broker, process, lanes)
        source = TransportSource(consumer, room, threading.Event(), lambda: gate.open)
        steps = Steps(jobs, None, room, None, threading.Event())  # type: ignore[arg-type]
        settler = Settler(jobs, products, consumer, room, gate)  # type: ignore[arg-type]
        while True:
            flights, _ = source.next()
            if not flights:
                self.kernel.sleep(LOOK * self.kernel.random.random() if room.idle else 0.01)
            for flight in flights:
                for begun in steps.claim(flight):
                    prepared = self._prepare(process, begun)
                    process.spawn(lambda flight=prepared: settler.settle(flight))  # type: ignore[misc]

    def _prepare(self, process: Process, flight: Flight) -> Flight:
        """What decode, check and enrich make of the batches; poison ends the process unless it is isolated."""
        items = []
        for item in flight.items:
            if not isinstance(item, Batch):
                items.append(item)
                continue
            self.kernel.sleep(self.kernel.random.random() * 0.05)
            truth = self.truths[item.key.job_id]
            rows = range(item.first_row, item.first_row + item.rows)
            if not item.suspect and any(row in truth.poison for row in rows):
                process.die()
            rejected = truth.rejected(item.first_row, item.rows)
            loaded = [row for row in rows if row not in rejected]
            frame = msgspec.json.encode((loaded, rejected))
            spec, block = item.spec, repr(rejected).encode()
            rows_of = (len(loaded), len(rejected), block)
            items.append(Prepared(item.key, spec.target, *rows_of, frame, staged=spec.writing.staged))
        return Flight(flight.deliveries, items, flight.claimed, flight.returned)

    def _plan(self, process: Process) -> None:
        room, jobs = Room(1), JobsOfExecutor(self)
        consumer = Consumer(self.broker, process, [Group((f"{KIND.name}.plan",), 1)])
        source = TransportSource(consumer, room, threading.Event())
        steps = PlanSteps(jobs, None, threading.Event(), None)  # type: ignore[arg-type]
        record = RecordPlans(jobs, consumer, room)  # type: ignore[arg-type]
        while True:
            flights, _ = source.next()
            if not flights:
                self.kernel.sleep(LOOK * self.kernel.random.random())
            for flight in flights:
                for planning in steps.claim(flight):
                    if isinstance(planning.item, PlanTask):
                        self.kernel.sleep(self.kernel.random.random() * self.planning)
                        planned = Planned(planning.item.job_id, self._cut(self.truths[planning.item.job_id]))
                        planning = replace(planning, item=planned)
                    record.settle(planning)

    def _cut(self, truth: Truth) -> Plan:
        """Batches of the rows; two who plan the same input never agree."""
        batches, row = [], 1
        while row <= truth.rows:
            rows = min(self.kernel.random.randint(1, 4), truth.rows - row + 1)
            batches.append(PlannedBatch(row, 1, row, rows, SHA))
            row += rows
        return Plan(LAYOUT, tuple(batches))


class ProductsOfJobs:
    """Products, as the dispatcher calls it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def charges(self) -> Mapping[str, str]:
        """The port's."""
        return self._cluster.network.call("products", lambda server: {"Music": "1.00"}, 2.0)

    async def close_job(self, job_id: str) -> Sequence[Receipt]:
        """The port's."""
        return self._cluster.network.call("products", lambda server: self._cluster.ledger.close(job_id), 30.0)

    async def publish_job(
        self, job_id: str, writing: Writing, columns: Sequence[str], allowed: int | None
    ) -> Sequence[Receipt] | str:
        """The port's."""
        return self._cluster.network.call("products", lambda server: self._cluster.ledger.publish(job_id), 60.0)


class JobsOfExecutor:
    """Jobs, as an executor calls it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def claim(self, tickets: Sequence[Ticket]) -> list[Batch | Failed]:
        """As pipelines.connectors.jobs.Jobs.claim."""
        cluster = self._cluster
        asked = [(ticket.key, ticket.dispatch_no) for ticket in tickets]
        claimed = cluster.network.insist(lambda: cluster.network.call("jobs", lambda server: cluster.jobs.claim(asked)))
        return [
            Batch(
                item.key,
                item.attempt,
                Spec(item.key.job_id, KIND, KIND.args(), LAYOUT, {}, cluster.jobs.writing(item.key.job_id)),
                Source(blob_key="input", length=item.rows * RECORD_BYTES),
                item.first_row,
                item.rows,
                SHA,
            )
            for item in claimed
        ]

    def acknowledge(self, receipts: Sequence[receipt_pb2.Receipt], failures: Sequence[Failed]) -> None:
        """As pipelines.connectors.jobs.Jobs.acknowledge."""
        assert not failures, failures
        cluster = self._cluster
        stored = [receipt_from(receipt) for receipt in receipts]

        def work(server: Process) -> None:
            cluster.jobs.acknowledge(stored)
            cluster.dispatchers[server.name].wake()

        cluster.network.insist(lambda: cluster.network.call("jobs", work))

    def claim_plan(self, ticket: Ticket) -> PlanTask | Unplannable | None:
        """As pipelines.connectors.jobs.Jobs.claim_plan."""
        cluster = self._cluster
        is_ours = cluster.network.insist(
            lambda: cluster.network.call("jobs", lambda server: cluster.jobs.claim_plan(ticket.job_id, ticket.dispatch_no))
        )
        return (
            PlanTask(ticket.job_id, ticket.dispatch_no, 1, KIND, Source(blob_key="input"), InputOptions()) if is_ours else None
        )

    def record_plan(self, item: Planned | Unplannable) -> None:
        """As pipelines.connectors.jobs.Jobs.record_plan."""
        assert isinstance(item, Planned)
        cluster = self._cluster
        cut = tuple((batch.first_row, batch.rows) for batch in item.plan.batches)

        def work(server: Process) -> None:
            cluster.jobs.record_plan(item.job_id, cut)
            cluster.dispatchers[server.name].wake()

        cluster.network.insist(lambda: cluster.network.call("jobs", work))


class ProductsOfExecutor:
    """Products, as an executor calls it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def load(self, batches: Sequence[Prepared]) -> list[receipt_pb2.Receipt | Closed | Failed]:
        """As pipelines.connectors.products.Products.load."""
        cluster = self._cluster
        given: list[tuple[BatchKey, list[int], list[int], bool]] = [
            (item.key, *msgspec.json.decode(item.frame, type=tuple[list[int], list[int]]), item.staged) for item in batches
        ]
        outcomes = cluster.network.insist(
            lambda: cluster.network.call("products", lambda server: cluster.ledger.write(given), 60.0)
        )
        return [_outcome(outcomes[item.key]) for item in batches]

    def answers(self) -> bool:
        """As pipelines.connectors.products.Products.answers."""
        try:
            return self._cluster.network.call("products", lambda server: True, 1.0)
        except Unavailable:
            return False


def _outcome(outcome: Receipt | ProductsClosed) -> receipt_pb2.Receipt | Closed | Failed:
    return receipt_to(outcome) if isinstance(outcome, Receipt) else Closed(outcome.key)
