"""The load dataflow's steps, and how flights are made and let in, without a socket."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import dataframely as dy
import polars as pl
import pytest
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st

from jobber.blobs.store import Blobs
from jobber.digest import digest_of
from jobber.errors import Unavailable
from jobber.job import Args, JobType, Lookups, discover, find
from jobber.model import BatchKey, Format, Layout, Writing
from jobber.transport import Consumer, Delivery
from pipelines import wire
from pipelines.connectors.jobs import Jobs
from pipelines.connectors.transport import TransportSource
from pipelines.isolation import Isolation
from pipelines.load import load_flow
from pipelines.retry import Refused
from pipelines.room import Gate, Room
from pipelines.steps import FLIGHT_BYTES, Steps, split
from pipelines.work import Batch, Failed, Flight, Prepared, Source, Spec

JOB = "01a20d2d-731e-7c5f-b0a9-7e51607f7519"
LAYOUT = Layout(format=Format.CSV, columns=("name", "price"), fields={"name": "name", "price": "price"})


def delivery(number: int = 0, dispatch: int = 1, job: str = JOB) -> Delivery:
    body = f'{{"job_id": "{job}", "batch_no": {number}, "dispatch_no": {dispatch}}}'
    return Delivery("LoadProducts.fast", body.encode(), (number, dispatch))


def batch(number: int = 0, data: bytes = b"A,1.00\n", attempt: int = 1, kind: JobType | None = None, rows: int = 1) -> Batch:
    kind = kind or find("LoadProducts")
    spec = Spec(JOB, kind, kind.args(), LAYOUT, {"charges": {}})
    return Batch(BatchKey(JOB, number), attempt, spec, Source(data), 1, rows, digest_of(data))


def sized(number: int, size: int, attempt: int = 1) -> Batch:
    kind = find("LoadProducts")
    source = Source(blob_key="b", offset=0, length=size)
    return Batch(BatchKey(JOB, number), attempt, Spec(JOB, kind, kind.args(), LAYOUT, {}), source, 1, 1, b"")


@pytest.fixture(autouse=True)
def _known() -> None:
    discover()


class Handing:
    """Hands out these batches, or raises."""

    def __init__(self, *batches: Batch | Failed, fault: Exception | None = None) -> None:
        self.batches, self.fault = batches, fault
        self.asked: list[Sequence[wire.Ticket]] = []
        self.refused: list[bytes] = []

    def refuse(self, delivery: Delivery, reason: str) -> None:
        if self.fault:
            raise self.fault
        self.refused.append(delivery.body)

    def claim(self, tickets: Sequence[wire.Ticket]) -> list[Batch | Failed]:
        self.asked.append(tickets)
        if self.fault and len(self.asked) == 1:
            raise self.fault
        keys = [ticket.key for ticket in tickets]
        return [item for item in self.batches if item.key in keys]


def steps_of(jobs: Handing, room: Room | None = None) -> Steps:
    return Steps(cast("Jobs", jobs), Blobs("file:///nowhere"), room or Room(4), cast("Isolation", None), threading.Event())


def through(steps: Steps, *flights: Flight) -> list[Flight]:
    out: list[Flight] = []
    run_main(load_flow(TestingSource(flights), steps, TestingSink(out)))  # type: ignore[arg-type, no-untyped-call]
    return out


def test_a_flight_comes_out_prepared_with_its_deliveries() -> None:
    [flight] = through(steps_of(Handing(batch(0), batch(1, b"B,x\n"))), Flight([delivery(0), delivery(1)]))
    first, second = flight.items
    assert isinstance(first, Prepared)
    assert isinstance(second, Prepared)
    assert (first.rows, first.rejected, first.rejects) == (1, 0, b"")
    assert (second.rows, second.rejected, second.frame) == (0, 1, b"")
    assert [item.handle for item in flight.deliveries] == [(0, 1), (1, 1)]


def test_a_dry_run_makes_the_same_receipt_and_nothing_to_write() -> None:
    data = b"A,1.00\nB,x\n"
    real = batch(0, data, rows=2)
    dry = replace(batch(1, data, rows=2), spec=replace(real.spec, writing=Writing(dry_run=True)))
    [flight] = through(steps_of(Handing(real, dry)), Flight([delivery(0), delivery(1)]))
    loads, tries = flight.items
    assert isinstance(loads, Prepared)
    assert isinstance(tries, Prepared)
    assert (loads.target, tries.target) == ("products", None)
    assert (tries.rows, tries.rejected, tries.rejects) == (loads.rows, loads.rejected, loads.rejects)
    assert loads.frame
    receipt = wire.computed_receipt(tries)
    assert (receipt.inserted, receipt.rejected, receipt.results) == (1, 1, b"")


def test_nothing_to_do_is_a_flight_without_batches() -> None:
    jobs = Handing()
    [flight] = through(steps_of(jobs), Flight([delivery(0), Delivery("t", b"garbage", None)]))
    assert (flight.items, flight.returned, len(flight.deliveries)) == ([], False, 2)
    assert jobs.refused == [b"garbage"]


def test_garbage_that_cannot_be_kept_comes_again() -> None:
    jobs = Handing(fault=Unavailable())
    [flight] = through(steps_of(jobs), Flight([Delivery("t", b"garbage", None)]))
    assert (flight.returned, jobs.asked) == (True, [])


def test_without_an_answer_the_flight_comes_again() -> None:
    [flight] = through(steps_of(Handing(fault=Unavailable())), Flight([delivery()]))
    assert flight.returned


def test_a_refused_message_does_not_take_the_others_along() -> None:
    jobs = Handing(batch(1), fault=Refused("no"))
    [flight] = through(steps_of(jobs), Flight([delivery(0), delivery(1), delivery(1)]))
    assert [len(asked) for asked in jobs.asked] == [2, 1, 1]
    assert [item.key.batch_no for item in flight.items] == [1]
    assert len(flight.deliveries) == 3


class Shape(dy.Schema):
    name = dy.String(nullable=False)
    price = dy.Decimal(12, 2, nullable=True)


class Bug(Args, frozen=True):
    contract = Shape

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        return self.how(records)

    @staticmethod
    def how(records: pl.DataFrame) -> pl.DataFrame:
        raise ZeroDivisionError


class Panics(Bug, frozen=True):
    @staticmethod
    def how(records: pl.DataFrame) -> pl.DataFrame:
        raise pl.exceptions.PanicException("as Polars does")


class LosesRows(Bug, frozen=True):
    @staticmethod
    def how(records: pl.DataFrame) -> pl.DataFrame:
        return records.head(0)


@pytest.mark.parametrize("args", [Bug, Panics, LosesRows])
def test_a_bug_of_a_job_type_fails_its_batch_alone(args: type[Args]) -> None:
    kind = JobType("Bug", (), "", "1", args)
    [flight] = through(steps_of(Handing(batch(0, kind=kind), batch(1))), Flight([delivery(0), delivery(1)]))
    failed, prepared = flight.items
    assert isinstance(failed, Failed)
    assert failed.code == "ENRICH"
    assert isinstance(prepared, Prepared)


def test_a_plan_that_counted_otherwise_fails_the_batch() -> None:
    [flight] = through(steps_of(Handing(batch(0, rows=2))), Flight([delivery()]))
    [failed] = flight.items
    assert isinstance(failed, Failed)
    assert failed.code == "INTERNAL"


class Away:
    """A blob store."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        raise Unavailable


def test_an_input_that_cannot_be_read_now_comes_again() -> None:
    blobs, isolation = cast("Blobs", Away()), cast("Isolation", None)
    steps = Steps(cast("Jobs", Handing(sized(0, 10), batch(1))), blobs, Room(4), isolation, threading.Event())
    [flight] = through(steps, Flight([delivery(0), delivery(1)]))
    assert flight.returned
    assert not flight.items
    assert len(flight.deliveries) == 2


def test_what_was_claimed_is_not_claimed_again() -> None:
    jobs = Handing()
    [flight] = through(steps_of(jobs), Flight([delivery()], [batch()], claimed=True))
    assert isinstance(flight.items[0], Prepared)
    assert not jobs.asked


@given(
    st.lists(st.tuples(st.integers(1, 2 * FLIGHT_BYTES), st.integers(1, 6)), max_size=12),
    st.lists(st.integers(0, 15), max_size=30),
)
def test_splitting_loses_and_doubles_nothing(made: list[tuple[int, int]], numbers: list[int]) -> None:
    batches = [sized(number, size, attempt) for number, (size, attempt) in enumerate(made)]
    deliveries = [delivery(number, dispatch + 1) for dispatch, number in enumerate(numbers)]
    flights = split(deliveries, batches)
    assert flights
    placed = [item for flight in flights for item in flight.items]
    assert sorted(item.key.batch_no for item in placed) == list(range(len(made)))
    assert sorted(item.handle for flight in flights for item in flight.deliveries) == sorted(d.handle for d in deliveries)
    for flight in flights:
        held = [item for item in flight.items if isinstance(item, Batch)]
        assert len(held) == 1 or sum(item.size for item in held) <= FLIGHT_BYTES
        assert len(held) == 1 or not any(item.suspect for item in held)
        keys = {item.key.batch_no for item in held}
        others = {item.key.batch_no for item in placed} - keys
        assert not {item.handle[0] for item in flight.deliveries} & others
    alone = [flight.alone for flight in flights]
    assert alone == sorted(alone), "suspects come last"


def test_only_suspects_give_their_room_back_until_nothing_is_in_flight() -> None:
    room = Room(4)
    room.take()
    room.take()
    assert steps_of(Handing(sized(0, 1, attempt=4)), room).claim(Flight([delivery()])) == []
    assert room.next_kept() is None, "another flight is on its way"
    room.give()
    kept = room.next_kept()
    assert kept
    assert kept.alone
    assert room.full, "nothing begins beside it"
    room.give()
    assert room.idle
    assert not room.full


class Scripted:
    """A consumer that answers, and records how long it was to wait."""

    def __init__(self, *answers: list[Delivery] | Exception) -> None:
        self.answers, self.waits, self.handed_back = list(answers), [], []  # type: ignore[var-annotated]

    def receive(self, wait: float) -> list[Delivery]:
        self.waits.append(wait)
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        self.handed_back.append((deliveries, delay))


def partition_of(
    consumer: Scripted, room: Room, gate: Callable[[], bool] = lambda: True
) -> tuple[TransportSource, threading.Event]:
    stopping = threading.Event()
    return TransportSource(cast("Consumer", consumer), room, stopping, gate), stopping


def test_the_source_waits_long_only_when_nothing_is_in_flight() -> None:
    consumer, room = Scripted([delivery()], [delivery()]), Room(2)
    source, _ = partition_of(consumer, room)
    part = source.build("", 0, 1)
    assert len(part.next_batch()) == 1
    assert len(part.next_batch()) == 1
    assert part.next_batch() == []
    # Bytewax would wait by the wall clock, for hours when it is set back.
    assert part.next_awake() == datetime(1970, 1, 1, tzinfo=UTC)
    assert consumer.waits == [0.2, 0.001], "with no room it does not receive"
    room.give()
    room.give()
    part.next_batch()
    assert consumer.waits[-1] == 0.2


def test_the_source_waits_by_itself() -> None:
    waited: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            return False

    open_ = [True]
    source = TransportSource(cast("Consumer", Scripted([delivery()])), Room(1), Stopping(), lambda: open_[0])
    part = source.build("", 0, 1)
    assert len(part.next_batch()) == 1
    assert part.next_batch() == []
    assert part.next_batch() == []
    open_[0] = False
    for _ in range(2):
        assert part.next_batch() == []
    assert waited == [0, 0, 0.001, 0.001, 0.2]


def test_the_source_tells_whether_the_transport_answers() -> None:
    source, _ = partition_of(Scripted([], Unavailable(), []), Room(1))
    seen: list[bool | None] = [source.answers]
    part = source.build("", 0, 1)
    for _ in range(3):
        part.next_batch()
        seen.append(source.answers)
    assert seen == [None, True, False, True]


def test_the_source_takes_nothing_while_the_gate_is_shut() -> None:
    consumer = Scripted([delivery()])
    source, _ = partition_of(consumer, Room(1), lambda: False)
    assert source.build("", 0, 1).next_batch() == []
    assert not consumer.waits


def test_the_source_leaves_what_did_not_begin() -> None:
    consumer, room = Scripted(), Room(1)
    room.keep([Flight([delivery(0)], claimed=True), Flight([delivery(1)], claimed=True)])
    source, stopping = partition_of(consumer, room)
    stopping.set()
    with pytest.raises(StopIteration):
        source.build("", 0, 1).next_batch()
    assert [delay for _, delay in consumer.handed_back] == [0, 0]
    assert not room.keeps


def test_the_gate_pauses_longer_each_time_and_asks_before_it_opens() -> None:
    now, there = [0.0], [False]
    gate = Gate("products", lambda: there[0], clock=lambda: now[0])
    assert gate.open
    gate.shut()
    there[0] = True
    assert not gate.open, "not at once"
    now[0] = 0.5
    assert gate.open
    gate.shut()
    now[0] = 1.0
    assert not gate.open, "twice as long"
    now[0], there[0] = 1.5, False
    assert not gate.open
    there[0] = True
    assert not gate.open, "not asked again before its time"
    now[0] = 2.0
    assert gate.open
    gate.passed()
    gate.shut()
    now[0] = 2.5
    assert gate.open, "a load that passed ends the series"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 10_000,
        b'{"job_id": "01a20d2d-731e-7c5f-b0a9-7e51607f7519", "batch_no": 0}',
        b'{"job_id": "01a20d2d-731e-7c5f-b0a9-7e51607f7519", "batch_no": 0, "dispatch_no": 1, "x": 1}',
        b'{"job_id": "01A20D2D-731e-7c5f-b0a9-7e51607f7519", "batch_no": 0, "dispatch_no": 1}',
        b'{"job_id": "01a20d2d-731e-7c5f-b0a9-7e51607f7519\\n", "batch_no": 0, "dispatch_no": 1}',
        b'{"job_id": "01a20d2d-731e-7c5f-b0a9-7e51607f7519", "batch_no": -1, "dispatch_no": 1}',
        b'{"job_id": "01a20d2d-731e-7c5f-b0a9-7e51607f7519", "batch_no": 0, "dispatch_no": 0}',
        b'{"job_id": "01a20d2d-731e-7c5f-b0a9-7e51607f7519", "batch_no": 2147483648, "dispatch_no": 1}',
        b'{"job_id": "01a20d2d-731e-7c5f-b0a9-7e51607f7519", "batch_no": 0.5, "dispatch_no": 1}',
    ],
)
def test_garbage_is_no_ticket(body: bytes) -> None:
    assert wire.ticket_of(Delivery("t", body, None)) is None


def test_a_ticket_is_for_a_batch_or_for_a_plan() -> None:
    assert wire.ticket_of(delivery(3)) == wire.Ticket(JOB, 3, 1)
    assert wire.ticket_of(delivery(3), plan=True) is None
    assert wire.ticket_of(delivery(-1), plan=True) == wire.Ticket(JOB, -1, 1)
