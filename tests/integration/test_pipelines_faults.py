"""The load dataflow when something is away, lost, frozen or stopping: nothing is lost, nothing comes twice."""

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from jobber.model import InputOptions
from jobber.transport import Delivery
from pipelines import retry, room
from tests.integration.peers import Peers, csv_of, peers, until
from tests.integration.pipelines_flow import Flow, flowing


@pytest.fixture
def around(database: str, tmp_path: Path) -> Iterator[Peers]:
    with peers(database, tmp_path) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of a second is a long one."""
    monkeypatch.setattr(retry, "PATIENCE", 0.5)
    monkeypatch.setattr(room, "LONGEST_PAUSE", 0.5)


def test_products_away_for_a_moment_is_waited_for(around: Peers) -> None:
    around.products_served.stop()
    with flowing(around) as flow:
        keys = around.submit(csv_of(10))
        until(lambda: around.jobs.faults.calls["Claim"] > 0)
        around.products_served.start()
        until(lambda: around.settled(keys))
    assert around.exact(keys, 10)
    assert around.jobs.attempts == {keys[0]: 1}
    assert not flow.consumer.handed_back


@pytest.mark.usefixtures("impatient")
def test_products_away_for_long_costs_no_attempts(around: Peers) -> None:
    status = dict.fromkeys(("Load", "ListCategories"), grpc.StatusCode.UNAVAILABLE)
    around.products.faults.status.update(status)
    keys = around.submit(csv_of(1000), topic="LoadProducts.bulk", options=InputOptions(batch_rows=50))
    with flowing(around, in_flight=2) as flow:
        until(lambda: around.products.faults.calls["ListCategories"] > 3)
        claimed = around.jobs.attempts.total()
        around.products.faults.status.clear()
        until(lambda: around.settled(keys))
    assert claimed <= 4
    assert flow.consumer.handed_back
    assert around.exact(keys, 1000)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("method", ["Claim", "Acknowledge"])
@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "UNAUTHENTICATED"])
def test_jobs_away_for_long_loses_nothing(around: Peers, method: str, status: str) -> None:
    around.jobs.faults.status[method] = grpc.StatusCode[status]
    keys = around.submit(csv_of(10))
    with flowing(around) as flow:
        until(lambda: len(flow.consumer.handed_back) > 0)
        assert around.waiting() == 1
        around.jobs.faults.status.clear()
        until(lambda: around.settled(keys))
    assert around.exact(keys, 10)
    assert around.jobs.acknowledged == {keys[0]: 1}


@pytest.mark.parametrize("method", ["Load", "Acknowledge", "Claim"])
def test_a_lost_reply_is_harmless(around: Peers, method: str) -> None:
    peer = around.products if method == "Load" else around.jobs
    peer.faults.lost[method] = 2
    keys = around.submit(csv_of(10))
    with flowing(around):
        until(lambda: around.settled(keys))
    assert around.exact(keys, 10)
    assert len(around.jobs.receipts) == 1


def test_an_answer_about_another_batch_is_not_taken_for_this_ones(around: Peers) -> None:
    keys, others = around.submit(csv_of(10)), around.add(csv_of(10))
    around.products.mistaken = others[0]
    with flowing(around) as flow:
        until(lambda: len(flow.consumer.handed_back) > 0)
        assert not around.jobs.acknowledged
        around.products.mistaken = None
        until(lambda: around.settled(keys))


def test_the_transport_is_not_told_before_jobs(around: Peers) -> None:
    """The mechanism behind 'no loss': dies when the sink acknowledges earlier."""
    around.jobs.faults.held["Acknowledge"] = held = threading.Event()
    keys = around.submit(csv_of(10))
    with flowing(around):
        until(lambda: around.jobs.faults.calls["Acknowledge"] == 1)
        assert (around.waiting(), len(around.products.ledger)) == (1, 1)
        held.set()
        until(lambda: around.settled(keys))


def test_stopping_waits_for_what_is_in_flight_and_leaves_the_rest(around: Peers) -> None:
    around.products.faults.held["Load"] = held = threading.Event()
    first, more = around.add(csv_of(10)), around.add(csv_of(10))
    around.publish(first)
    flow = Flow(around, 1, 10)
    until(lambda: around.products.faults.calls["Load"] == 1)
    around.publish(more)
    flow.stopping.set()
    flow.thread.join(0.5)
    assert flow.thread.is_alive()
    held.set()
    flow.stop()
    assert around.jobs.acknowledged == {first[0]: 1}
    assert around.waiting() == 1


def test_stopping_does_not_wait_for_a_frozen_service(around: Peers) -> None:
    around.products.faults.held["Load"] = held = threading.Event()
    keys = around.submit(csv_of(10))
    flow = Flow(around, 1, 0.5)
    until(lambda: around.products.faults.calls["Load"] == 1)
    flow.stop()
    held.set()
    assert len(flow.consumer.handed_back) == 1
    with flowing(around):
        until(lambda: around.settled(keys))
    assert around.exact(keys, 10)


def test_what_was_claimed_and_did_not_begin_is_handed_back_at_once(around: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.steps.FLIGHT_BYTES", 4 << 20)
    around.products.counting = True
    around.products.faults.held["Load"] = held = threading.Event()
    keys = [key for _ in range(3) for key in around.add(csv_of(100_000), options=InputOptions(batch_rows=200_000))]
    around.publish(keys)
    flow = Flow(around, 1, 10)
    until(lambda: around.products.faults.calls["Load"] == 1)
    flow.stopping.set()
    until(lambda: len(flow.consumer.handed_back) == 2)
    held.set()
    flow.stop()
    with flowing(around):
        until(lambda: around.settled(keys))
    assert around.exact(keys, 300_000)


def test_the_transport_away_is_waited_for(around: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobber.errors import Unavailable

    with flowing(around) as flow:
        receive, failures = flow.consumer.consumer.receive, iter([Unavailable()] * 3)

        def failing(wait: float) -> list[Delivery]:
            for failure in failures:
                raise failure
            return receive(wait)

        monkeypatch.setattr(flow.consumer.consumer, "receive", failing)
        keys = around.submit(csv_of(10))
        until(lambda: around.settled(keys))
