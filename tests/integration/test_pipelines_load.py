"""The load dataflow between real peers: what is written, acknowledged and handed back, and in which order."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import grpc
import pytest
from bytewax.testing import run_main

from jobber.blobs.store import Blobs
from jobber.model import InputOptions
from jobber.transport import Delivery, Group
from jobber.transport.connect import open_consumer
from jobber.transport.postgres import PostgresConsumer
from operators import arrow, rejects
from pipelines import retry, room
from pipelines.connectors.bulk_write import BulkWrite
from pipelines.connectors.jobs import Jobs
from pipelines.connectors.products import Products
from pipelines.connectors.transport import TransportSource
from pipelines.load import load_flow
from pipelines.room import Gate, Room
from pipelines.steps import Steps
from tests.integration.peers import SECRET, Journal, Peers, csv_of, peers, ticket, until

TOPICS = ("LoadProducts", "Fibonacci", "Broken")


@pytest.fixture
def around(database: str, tmp_path: Path) -> Iterator[Peers]:
    with peers(database, tmp_path) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of a second is a long one."""
    monkeypatch.setattr(retry, "PATIENCE", 0.5)
    monkeypatch.setattr(room, "LONGEST_PAUSE", 0.5)


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
        flow = load_flow(source, Steps(jobs, Blobs(f"file://{around.folder}"), self.room), sink)
        self.thread = threading.Thread(target=run_main, args=(flow,))
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.consumer.close()


@contextmanager
def flowing(around: Peers, in_flight: int = 4, grace: float = 10) -> Iterator[Flow]:
    flow = Flow(around, in_flight, grace)
    try:
        yield flow
    finally:
        flow.stop()


def test_a_job_is_loaded_and_then_acknowledged_to_jobs_and_then_to_the_transport(around: Peers) -> None:
    with flowing(around):
        keys = around.submit(csv_of(10), Toys="1.50")
        until(lambda: around.settled(keys))
    assert [what for what, _ in around.journal] == ["claim", "load", "acknowledge", "transport"]
    assert around.jobs.acknowledged == {keys[0]: 1}
    frame = around.products.rows[keys[0]]
    assert frame["price"].to_list()[:2] == [Decimal("2.51"), Decimal("2.02")]
    assert frame["row_no"].to_list() == list(range(1, 11))
    assert around.jobs.receipts[keys[0]].inserted == 10


def test_rejects_travel_with_the_load(around: Peers) -> None:
    with flowing(around):
        keys = around.submit(b"name,price\nA,1.00\nB,-1\n,x\n")
        until(lambda: around.settled(keys))
    receipt = around.jobs.receipts[keys[0]]
    assert (receipt.inserted, receipt.rejected) == (1, 2)
    block = rejects.from_block(receipt.rejects)
    assert block.select("row_no", "column", "code", "raw").rows() == [
        (2, "price", "RANGE", "B,-1"),
        (3, "name", "REQUIRED", ",x"),
        (3, "price", "TYPE", ",x"),
    ]


def test_a_computing_job_makes_its_receipt_here(around: Peers) -> None:
    with flowing(around):
        keys = around.submit(b'[{"iterations": 10}, {"iterations": -1}]', name="Fibonacci", topic="Fibonacci.fast")
        until(lambda: around.settled(keys))
    receipt = around.jobs.receipts[keys[0]]
    assert (receipt.inserted, receipt.rejected) == (1, 1)
    assert arrow.from_ipc(receipt.results).rows(named=True) == [{"iterations": 10, "row_no": 1, "value": "55"}]
    assert not around.products.faults.calls["Load"]


def test_what_waits_together_is_claimed_and_loaded_together(around: Peers) -> None:
    keys = [key for _ in range(50) for key in around.add(csv_of(3))]
    around.publish(keys)
    with flowing(around):
        until(lambda: around.settled(keys))
    assert around.jobs.faults.calls["Claim"] == around.products.faults.calls["Load"] == 1
    assert around.exact(keys, 150)


def test_large_batches_travel_alone_and_several_at_once(around: Peers) -> None:
    together = threading.Barrier(3, timeout=20)

    def during(_: object) -> None:
        together.wait()

    around.products.during = during
    keys = around.submit(csv_of(300), topic="LoadProducts.bulk", inline=False, options=InputOptions(batch_rows=100))
    assert len(keys) == 3
    with flowing(around):
        until(lambda: around.settled(keys))
    assert [len(loaded) for what, loaded in around.journal if what == "load"] == [1, 1, 1]
    assert around.exact(keys, 300)


def test_no_more_than_the_room_is_in_flight(around: Peers) -> None:
    now, most, lock = 0, 0, threading.Lock()
    keys = around.submit(csv_of(1000), topic="LoadProducts.bulk", options=InputOptions(batch_rows=50))

    def during(_: object) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1

    around.products.during = during
    with flowing(around, in_flight=2):
        until(lambda: around.settled(keys))
    assert most == 2
    assert around.exact(keys, 1000)


def test_many_large_jobs_that_wait_together_are_cut_into_flights(around: Peers) -> None:
    around.products.counting = True
    keys = [key for _ in range(5) for key in around.add(csv_of(60_000), inline=False)]
    sizes = [around.jobs.batches[key].source.blob.length for key in keys]
    around.publish(keys)
    with flowing(around, in_flight=1):
        until(lambda: around.settled(keys))
    assert around.jobs.faults.calls["Claim"] == 1
    loads = [sum(sizes[keys.index(key)] for key in loaded) for what, loaded in around.journal if what == "load"]
    assert len(loads) == 3
    assert max(loads) <= 4 << 20
    assert around.exact(keys, 300_000)
    assert set(around.jobs.acknowledged.values()) == {1}


def test_a_suspect_runs_when_nothing_else_does(around: Peers) -> None:
    inside: set[tuple[tuple[str, int], ...]] = set()
    overlaps: list[object] = []
    keys = [key for _ in range(6) for key in around.add(csv_of(5))]
    suspects = keys[1::2]
    around.jobs.attempts.update(dict.fromkeys(suspects, 3))

    def during(loaded: Sequence[tuple[str, int]]) -> None:
        inside.add(tuple(loaded))
        if len(inside) > 1 and any(key in suspects for group in inside for key in group):
            overlaps.append(list(inside))
        threading.Event().wait(0.03)
        inside.discard(tuple(loaded))

    around.products.during = during
    around.publish(keys[:3])
    with flowing(around):
        until(lambda: around.jobs.faults.calls["Claim"] > 0)
        around.publish(keys[3:])
        until(lambda: around.settled(keys))
    assert not overlaps
    assert all(len(loaded) == 1 for what, loaded in around.journal if what == "load" and set(loaded) & set(suspects))
    assert around.exact(keys, 30)


def test_a_batch_that_needs_no_work_is_acknowledged(around: Peers) -> None:
    keys = around.add(csv_of(1))
    around.publish([*keys, *keys, ("00000000-0000-7000-8000-000000000000", 4)])
    with flowing(around):
        until(lambda: around.settled(keys))
        around.publish(keys)
        until(lambda: around.settled(keys))
    assert around.exact(keys, 1)
    assert around.jobs.acknowledged == {keys[0]: 1}


def test_a_closed_job_is_acknowledged_without_a_word_to_jobs(around: Peers) -> None:
    closed, kept = around.add(csv_of(1)), around.add(csv_of(1))
    around.products.closed.add(closed[0][0])
    around.publish([*closed, *kept])
    with flowing(around):
        until(lambda: around.settled(kept))
    assert around.jobs.acknowledged == {kept[0]: 1}


def test_a_refused_batch_fails_alone(around: Peers) -> None:
    bad, good = around.add(csv_of(1)), around.add(csv_of(1))
    around.products.refused.add(bad[0])
    around.publish([*bad, *good])
    with flowing(around):
        until(lambda: around.settled([*bad, *good]))
    assert around.jobs.failures[bad[0]].code == "REFUSED"
    assert list(around.jobs.receipts) == good


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path, spec: path.write_bytes(path.read_bytes().replace(b"Product 1,", b"Product 7,")), "CHANGED"),
        (lambda path, spec: path.unlink(), "INPUT_MISSING"),
        (lambda path, spec: setattr(spec, "layout", b"[]"), "INTERNAL"),
        (lambda path, spec: setattr(spec, "lookups", b"{}"), "ENRICH"),
        (lambda path, spec: setattr(spec, "name", "Gone"), "UNKNOWN_JOB"),
        (lambda path, spec: setattr(spec, "args", b'{"x": 1}'), "INVALID_DATA"),
    ],
)
def test_what_can_never_be_loaded_fails_its_batch_and_nothing_else(
    around: Peers, spoil: Callable[[Path, object], object], code: str
) -> None:
    bad, good = around.add(csv_of(3), inline=False), around.add(csv_of(3), inline=False)
    spoil(around.folder / around.jobs.batches[bad[0]].source.blob.key, around.jobs.specs[bad[0][0]])
    around.publish([*bad, *good])
    with flowing(around):
        until(lambda: around.settled([*bad, *good]))
    assert (around.jobs.failures[bad[0]].code, list(around.jobs.receipts)) == (code, good)
    assert around.jobs.failures[bad[0]].message


def test_garbage_is_acknowledged_and_said(around: Peers, caplog: pytest.LogCaptureFixture) -> None:
    good = around.add(csv_of(1))
    bad = [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"job_id": "x"}',
        ticket("../../etc/passwd", 0),
        ticket(good[0][0].upper(), 0),
        ticket(good[0][0], 1 << 40),
        ticket(good[0][0], 0, -1),
        ticket(good[0][0], -1),
        ticket("ffffffff-ffff-ffff-ffff-ffffffffffff", 0),
    ]
    around.send("LoadProducts.fast", *bad, ticket(*good[0]))
    with flowing(around):
        until(lambda: around.settled(good))
    said = [record for record in caplog.records if getattr(record, "action", "") == "message_refused"]
    assert len(said) == len(bad)
    assert around.exact(good, 1)


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


def test_what_was_claimed_and_did_not_begin_is_handed_back_at_once(around: Peers) -> None:
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
