"""Loads whose streams stall or are cut off, and loads that are refused: nothing of them is written, and others go on."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import grpc
import pytest

from api.products import incoming
from protos.jobber.products.v1 import products_pb2 as pb
from tests.support.products import (
    LOADS,
    METADATA,
    Products,
    Sent,
    code_of,
    copies_held,
    frame,
    messages,
    until_copying,
)


async def test_a_call_that_is_cancelled_in_mid_stream_writes_nothing(products: Products) -> None:
    sent = Sent.of(frame(1000))
    first_part_read = asyncio.Event()

    async def stream() -> AsyncIterator[pb.LoadRequest]:
        for message in messages(sent, Sent.of(frame(5))):
            yield message
        first_part_read.set()
        await asyncio.sleep(60)

    call = products.stub.Load(stream(), metadata=METADATA, timeout=30)
    await first_part_read.wait()
    await asyncio.sleep(0.2)
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database() AND state <> 'idle'"
    )
    assert products.sql(busy, LOADS) == [(0,)]
    call.cancel()
    await asyncio.sleep(0.2)
    assert products.room.budget.used == 0
    assert products.sql("SELECT count(*) FROM products.ledger") == [(0,)]
    assert products.count(sent.job_id) == 0


async def test_calls_that_are_cancelled_at_any_moment_leave_all_or_nothing(products: Products) -> None:
    chance = random.Random(1)
    group = [Sent.of(frame(300)) for _ in range(30)]

    async def cut(sent: Sent) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0, 0.03)):
                await products.load(sent)

    await asyncio.gather(*map(cut, group))
    await products.room.loader.drain()
    for sent in group:
        entered = products.sql("SELECT count(*) FROM products.ledger WHERE job_id = %s", sent.job_id)[0][0]
        assert products.count(sent.job_id) == 300 * entered
    await products.load(*group)
    assert products.sql("SELECT count(*), count(DISTINCT (job_id, row_no)) FROM products.products") == [(9000, 9000)]


async def test_a_stream_that_stalls_is_given_up(products: Products, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "IDLE_DEADLINE", 0.3)

    async def stream() -> AsyncIterator[pb.LoadRequest]:
        for message in messages(Sent.of(frame(10)), Sent.of(frame(10))):
            yield message
        await asyncio.sleep(60)

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await products.stub.Load(stream(), metadata=METADATA, timeout=10)
    assert code_of(failed) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "stream" in (failed.value.details() or "")
    assert products.sql("SELECT count(*) FROM products.ledger") == [(0,)]


async def test_stalled_streams_starve_nobody(products: Products) -> None:
    begun, enough = asyncio.Semaphore(0), asyncio.Event()

    async def stream() -> AsyncIterator[pb.LoadRequest]:
        first, *_ = messages(Sent.of(frame(10)))
        yield first
        begun.release()
        await enough.wait()

    stalled = [products.stub.Load(stream(), metadata=METADATA) for _ in range(16)]
    for _ in stalled:
        await begun.acquire()
    try:
        # Not when the stalled ones are given up, but now.
        answers = await asyncio.wait_for(products.load(Sent.of(frame(1000))), incoming.IDLE_DEADLINE / 2)
        await asyncio.wait_for(products.call("ListCategories", pb.ListCategoriesRequest()), incoming.IDLE_DEADLINE / 2)
        assert answers[0].receipt.inserted == 1000
        assert not any(call.done() for call in stalled)
    finally:
        enough.set()
        await asyncio.gather(*stalled, return_exceptions=True)


async def test_more_than_there_is_room_for_is_turned_away(products: Products) -> None:
    sent = Sent.of(frame(1000))
    products.room.budget.limit = 300_000
    with copies_held(products):
        waiting = asyncio.create_task(products.load(sent))
        await until_copying(products)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await products.load(*(Sent.of(frame(1000)) for _ in range(3)))
        assert code_of(failed) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await waiting)[0].receipt.inserted == 1000
    products.room.budget.group = 100_000
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await products.load(*(Sent.of(frame(1000)) for _ in range(2)))
    assert code_of(failed) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "fewer batches" in (failed.value.details() or "")
    assert products.sql("SELECT count(*) FROM products.ledger") == [(1,)]


async def test_a_copy_that_wrote_fewer_rows_than_the_receipt_says_is_undone(
    products: Products, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that loses rows without a word, as pgpq does when its last bytes are not asked for."""
    monkeypatch.setattr("api.products.incoming.encode", lambda stream, header, first_id: b"")
    for other in ([], [Sent(rejected=1)]):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await products.load(Sent.of(frame(10)), *other)
        assert code_of(failed) is grpc.StatusCode.INTERNAL
    assert products.sql("SELECT count(*) FROM products.ledger") == [(0,)]


async def test_a_bug_is_internal_with_an_id_and_no_cause(products: Products) -> None:
    products.sql("ALTER TABLE products.ledger RENAME TO lost")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await products.load(Sent.of(frame(10)))
    assert code_of(failed) is grpc.StatusCode.INTERNAL
    assert "ledger" not in (failed.value.details() or "")
