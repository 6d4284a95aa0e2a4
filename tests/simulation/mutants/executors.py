"""What executors do, done wrong: the order of write, receipt and acknowledge; attempts."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from api.jobs.decide import Verdict
from api.products.wire import receipt_to
from jobber.model import Receipt, State
from pipelines import work as executor
from pipelines.connectors.bulk_write import Settler
from pipelines.work import Flight
from tests.simulation import products
from tests.simulation.broker import Consumer
from tests.simulation.jobs import Jobs
from tests.simulation.mutants.dispatch import no_sweep
from tests.simulation.mutants.table import mutant, replaced


@mutant("receipts are given to jobs before products has committed")
def receipt_first() -> Iterator[None]:
    def settle(self: Settler, flight: Flight) -> None:
        made = [
            receipt_to(Receipt(item.key, item.rows, 0, 0, item.rejected, b"()", b"", products.THEN))
            for item in flight.items
            if isinstance(item, executor.Prepared)
        ]
        if made and not flight.returned:
            self._jobs.acknowledge(made, [])
        shipped(self, flight)

    with replaced(Settler, "settle", settle) as shipped:
        yield


@mutant("the message is acknowledged on receipt")
def acknowledge_on_receipt() -> Iterator[None]:
    def settle(self: Settler, flight: Flight) -> None:
        self._consumer.acknowledge(flight.deliveries)
        shipped(self, flight)

    def receive(self: Any, wait: float) -> Any:
        deliveries = shipped_receive(self, wait)
        self.acknowledge(deliveries)
        return deliveries

    with (
        replaced(Settler, "settle", settle) as shipped,
        replaced(Consumer, "receive", receive) as shipped_receive,
    ):
        yield


@mutant("what could not be written is acknowledged all the same, and no sweep")
def forget_failures() -> Iterator[None]:
    def hand_back(self: Settler, flight: Flight) -> None:
        self._consumer.acknowledge(flight.deliveries)

    with replaced(Settler, "_hand_back", hand_back), no_sweep():
        yield


@mutant("attempts are not counted")
def attempts_uncounted() -> Iterator[None]:
    def claim(self: Jobs, dispatches: Any) -> Any:
        return [replace(item, attempt=1) for item in shipped(self, dispatches)]

    with replaced(Jobs, "claim", claim) as shipped:
        yield


@mutant("a batch that was begun four times fails its job")
def attempts_limited() -> Iterator[None]:
    def claim(self: Jobs, dispatches: Any) -> Any:
        claimed = shipped(self, dispatches)
        for item in claimed:
            if item.attempt > executor.SUSPECT:
                with self.database.transaction() as session:
                    session.lock(("job", item.key.job_id))
                    self._end(session, item.key.job_id, Verdict(State.FAILED, "too often", closing=True))
        return claimed

    with replaced(Jobs, "claim", claim) as shipped:
        yield
