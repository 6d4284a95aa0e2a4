"""The load dataflow between real peers: what is written, acknowledged and handed back, and in which order."""

import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from jobber.model import InputOptions
from operators import arrow, rejects
from tests.integration.peers import Peers, csv_of, peers, ticket, until
from tests.integration.pipelines_flow import flowing


@pytest.fixture
def around(database: str, tmp_path: Path) -> Iterator[Peers]:
    with peers(database, tmp_path) as made:
        yield made


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


def test_packed_batches_load_as_others_do(around: Peers) -> None:
    data = b"name,price\n" + b"".join(b"P%d,%d\n" % (number, number - 1) for number in range(100)) + b"bad\n"
    keys = around.add(data, inline=False, options=InputOptions(batch_rows=40), packed=True)
    assert len(keys) == 3
    with flowing(around):
        around.publish(keys, "LoadProducts.bulk")
        until(lambda: len(around.jobs.receipts) == 3 and around.waiting() == 0)
    receipts = [around.jobs.receipts[key] for key in keys]
    assert [(receipt.inserted, receipt.rejected) for receipt in receipts] == [(39, 1), (40, 0), (20, 1)]


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


@pytest.mark.parametrize("old", [False, True])
def test_small_batches_go_in_one_message_where_products_knows_it(around: Peers, old: bool) -> None:
    around.products.old = old
    good = b'{"name": "A", "price": 1.5}'
    with flowing(around):
        for _ in range(2):
            keys = [key for _ in range(5) for key in around.add(b"[" + b",".join([good] * 3) + b"]")]
            around.publish(keys)
            until(lambda keys=keys: around.settled(keys))  # type: ignore[misc]
    assert around.products.small == (0 if old else around.products.faults.calls["Load"])
    assert sorted(frame.height for frame in around.products.rows.values()) == [3] * 10


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
    now, most, lock, full = 0, 0, threading.Lock(), threading.Event()
    keys = around.submit(csv_of(1000), topic="LoadProducts.bulk", options=InputOptions(batch_rows=50))

    def during(_: object) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 2:
                full.set()
        # The first waits for a second one however busy the machine is; then there is time for a third.
        full.wait(10)
        threading.Event().wait(0.02)
        with lock:
            now -= 1

    around.products.during = during
    with flowing(around, in_flight=2):
        until(lambda: around.settled(keys))
    assert most == 2
    assert around.exact(keys, 1000)


def test_many_large_jobs_that_wait_together_are_cut_into_flights(around: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.steps.FLIGHT_BYTES", 4 << 20)
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
    # The last is a dispatch by its form: Claim refuses it, and keeps it itself where it names nothing.
    assert sorted(around.jobs.refused) == sorted(("LoadProducts.fast", body[:1000]) for body in bad[:-1])
    assert around.exact(good, 1)
