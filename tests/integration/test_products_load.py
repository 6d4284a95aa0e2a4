"""Load and CloseJob: receipts, the ledger, what lands in the table, and what is refused."""

import io
import uuid
from dataclasses import replace
from decimal import Decimal
from typing import Any

import grpc
import polars as pl
import pytest

from api.products import ledger as ledger_module
from api.products.model import MAX_BATCH_ROWS
from jobber.ids import uuid7
from protos.jobber.products.v1 import products_pb2 as pb
from protos.jobber.v1 import receipt_pb2
from tests.support.products import METADATA, SCHEMA, Products, Sent, frame, ipc, messages


async def test_a_batch_lands_with_its_receipt(products: Products) -> None:
    table = frame(1000)
    sent = Sent.of(table, batch_no=7, rejected=2, rejects=b"block")
    (outcome,) = await products.load(sent)
    receipt = outcome.receipt
    assert (receipt.key.job_id, receipt.key.batch_no) == (sent.job_id, 7)
    assert (receipt.inserted, receipt.updated, receipt.unchanged, receipt.rejected) == (1000, 0, 0, 2)
    assert (receipt.rejects, receipt.results) == (b"block", b"")
    assert products.stored(sent.job_id).equals(table)
    assert products.sql("SELECT count(DISTINCT id), min(batch_no), max(batch_no) FROM products.products") == [(1000, 7, 7)]
    ((committed_at,),) = products.sql("SELECT committed_at FROM products.ledger")
    assert receipt.committed_at.ToMicroseconds() == round(committed_at.timestamp() * 1e6)


async def test_decimals_are_exact(products: Products) -> None:
    prices = ["0.00", "0.01", "0.10", "1.00", "99.99", "100.00", "9999.99", "10000.00", "12345678.90", "9999999999.99"]
    ratings = ["0.00", "0.01", "0.10", "0.99", "1.00", "1.01", "4.50", "4.99", "5.00", None]
    given: dict[str, Any] = {"price": list(map(Decimal, prices)), "rating": [rating and Decimal(rating) for rating in ratings]}
    sent = Sent.of(frame(10, **given))
    await products.load(sent)
    rows = products.sql("SELECT price::text, rating::text FROM products.products ORDER BY row_no")
    assert rows == list(zip(prices, ratings, strict=True))


async def test_text_is_kept_to_the_byte(products: Products) -> None:
    names = ["ünïcödé", "emoji 👩‍👩‍👧", "\ttab", 'quote " and \\', "\\.", "\\N", "x" * 200_000, "עברית", "a\r\nb", " "]
    sent = Sent.of(frame(10, name=names, category=[""] * 10))
    await products.load(sent)
    assert products.stored(sent.job_id)["name"].to_list() == names
    assert products.stored(sent.job_id)["category"].to_list() == [""] * 10


async def test_polars_own_stream_lands_too(products: Products) -> None:
    """Its text columns are views; and columns may come in another order."""
    table = frame(20_000)
    sink = io.BytesIO()
    table.select(*reversed(SCHEMA)).write_ipc_stream(sink)
    sent = Sent(stream=sink.getvalue(), rows=table.height)
    await products.load(sent)
    assert products.stored(sent.job_id).equals(table)


async def test_a_batch_of_rejects_only(products: Products) -> None:
    (outcome,) = await products.load(Sent(rejected=5, rejects=b"five"))
    assert (outcome.receipt.inserted, outcome.receipt.rejected, outcome.receipt.rejects) == (0, 5, b"five")
    assert products.sql("SELECT count(*) FROM products.products") == [(0,)]


async def test_a_group_of_many_jobs_is_one_transaction_and_answers_in_order(products: Products) -> None:
    jobs = [uuid7() for _ in range(3)]
    group = [Sent.of(frame(50), jobs[number % 3], number) for number in (5, 0, 3, 1, 4, 2)]
    outcomes = await products.load(*group)
    assert [(o.receipt.key.job_id, o.receipt.key.batch_no) for o in outcomes] == [(s.job_id, s.batch_no) for s in group]
    assert products.sql("SELECT count(DISTINCT xmin::text), count(*) FROM products.ledger") == [(1, 6)]
    assert products.sql("SELECT count(DISTINCT xmin::text), count(*) FROM products.products") == [(1, 300)]


async def test_a_batch_that_comes_again_answers_its_first_receipt_and_writes_nothing(products: Products) -> None:
    """Whatever it brings: the ledger's word is final (I7, I10)."""
    first = Sent.of(frame(100), rejected=1, rejects=b"old code")
    (told,) = await products.load(first)
    newer = replace(Sent.of(frame(80), first.job_id), rejected=21, rejects=b"new code")
    (again,) = await products.load(newer)
    assert again == told
    other = Sent.of(frame(10), first.job_id, 1)
    mixed = await products.load(other, newer)
    assert mixed[1] == told
    assert mixed[0].receipt.inserted == 10
    assert products.count(first.job_id) == 110


async def test_equal_keys_in_one_group_are_one_batch(products: Products) -> None:
    sent = Sent.of(frame(10))
    outcomes = await products.load(sent, Sent.of(frame(5)), sent)
    assert outcomes[0] == outcomes[2]
    assert products.count(sent.job_id) == 10


async def test_a_batch_that_the_database_refuses_is_refused_alone(products: Products) -> None:
    job = uuid7()
    bad: dict[int, dict[str, Any]] = {
        3: {"price": [Decimal("-0.01")] * 4},
        6: {"name": ["a", "b\0c", "d", "e"]},
        7: {"name": [None] * 4},
    }
    group = [Sent.of(frame(4, **bad.get(number, {})), job, number) for number in range(9)]
    outcomes = await products.load(*group)
    refused = {o.refused.key.batch_no: o.refused.message for o in outcomes if o.WhichOneof("result") == "refused"}
    assert sorted(refused) == sorted(bad)
    assert "products_price_check" in refused[3]
    assert "0x00" in refused[6]
    assert '"name"' in refused[7]
    assert products.sql("SELECT DISTINCT batch_no FROM products.products ORDER BY 1") == [
        (n,) for n in range(9) if n not in bad
    ]
    assert products.sql("SELECT count(*) FROM products.ledger") == [(6,)]
    # It is not in the ledger, so that a corrected one can follow.
    (mended,) = await products.load(Sent.of(frame(4), job, 3))
    assert mended.receipt.inserted == 4


async def test_a_closed_job_takes_no_batch(products: Products) -> None:
    before, after, other = Sent.of(frame(10)), Sent.of(frame(10)), Sent.of(frame(10))
    after = replace(after, job_id=before.job_id, batch_no=1)
    (receipt,) = await products.load(before)
    (page,) = await products.close_job(before.job_id)
    assert list(page.receipts) == [receipt.receipt]
    outcomes = await products.load(after, other, before)
    assert outcomes[0].closed.key == receipt_pb2.BatchKey(job_id=before.job_id, batch_no=1)
    assert outcomes[1].receipt.inserted == 10
    # It was loaded before the close, and "nothing was written" would be a lie.
    assert outcomes[2] == receipt
    assert products.count(before.job_id) == 10


async def test_closing_is_idempotent_and_needs_no_batch(products: Products) -> None:
    job = uuid7()
    (first,) = await products.close_job(job)
    (second,) = await products.close_job(job)
    assert first == second
    assert not first.receipts
    assert first.closed_at.seconds > 0


async def test_forgetting_jobs_empties_their_rejects_and_keeps_their_receipts(products: Products) -> None:
    gone, kept = (Sent.of(frame(5), rejected=2, rejects=b"the rejects") for _ in range(2))
    await products.load(gone, kept)
    for _ in range(2):
        await products.call("ForgetJobs", pb.ForgetJobsRequest(job_ids=[gone.job_id, uuid7()]))
    (outcome,), (other,) = await products.load(gone), await products.load(kept)
    assert (outcome.receipt.inserted, outcome.receipt.rejected, outcome.receipt.rejects) == (5, 2, b"")
    assert other.receipt.rejects == b"the rejects"
    assert products.count(gone.job_id) == 5
    for wrong in (["no id"], [uuid7() for _ in range(1001)]):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await products.call("ForgetJobs", pb.ForgetJobsRequest(job_ids=wrong))
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_closing_tells_all_receipts_in_pages(products: Products, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PAGE_BYTES", 1000)
    job = uuid7()
    told = await products.load(*(Sent(job, number, rejected=1, rejects=bytes([number]) * 300) for number in range(20)))
    pages = await products.close_job(job)
    assert [len(page.receipts) for page in pages] == [3, 3, 3, 3, 3, 3, 2]
    assert [receipt for page in pages for receipt in page.receipts] == [outcome.receipt for outcome in told]


HEADER = pb.LoadHeader(key=receipt_pb2.BatchKey(job_id=uuid7(), batch_no=0), rows=3)
GOOD = ipc(frame(3))


def head(**changes: Any) -> pb.LoadRequest:
    header = pb.LoadHeader()
    header.CopyFrom(HEADER)
    key = {name: changes.pop(name) for name in ("job_id", "batch_no") if name in changes}
    header.MergeFrom(pb.LoadHeader(**changes))
    for name, value in key.items():
        setattr(header.key, name, value)
    return pb.LoadRequest(header=header)


def chunk(data: bytes) -> pb.LoadRequest:
    return pb.LoadRequest(chunk=data)


def changed(**columns: object) -> bytes:
    return ipc(frame(3).with_columns(**columns))  # type: ignore[arg-type]  # pl.Expr or pl.Series


REFUSED: dict[str, tuple[list[pb.LoadRequest], str]] = {
    "empty group": ([], "no batch"),
    "chunk first": ([chunk(GOOD)], "begins with a header"),
    "unset part": ([head(), chunk(GOOD), pb.LoadRequest()], "neither header nor chunk"),
    "no key": ([pb.LoadRequest(header=pb.LoadHeader(rows=3)), chunk(GOOD)], "no job id"),
    "job id in capitals": ([head(job_id=str(uuid.uuid4()).upper()), chunk(GOOD)], "no job id"),
    "job id in braces": ([head(job_id="{" + str(uuid.uuid4()) + "}"), chunk(GOOD)], "no job id"),
    "job id with NUL": ([head(job_id="\0"), chunk(GOOD)], "no job id"),
    "batch below 0": ([head(batch_no=-1), chunk(GOOD)], "batch_no is -1"),
    "rows below 0": ([head(rows=-1), chunk(GOOD)], "-1 rows"),
    "too many rows": ([head(rows=MAX_BATCH_ROWS + 1), chunk(GOOD)], "at most 100,000"),
    "rejected below 0": ([head(rejected=-1), chunk(GOOD)], "-1 records"),
    "fewer rows than said": ([head(rows=4), chunk(GOOD)], "has 3 rows, and its header says 4"),
    "more rows than said": ([head(rows=2), chunk(GOOD)], "has 3 rows, and its header says 2"),
    "no rows but said": ([head()], "not a valid Arrow stream"),
    "two streams": ([head(), chunk(GOOD), chunk(GOOD)], "after its end"),
    "cut": ([head(), chunk(GOOD[:-600])], "not a valid Arrow stream"),
    "garbage": ([head(), chunk(b"garbage" * 100)], "not a valid Arrow stream"),
    "CSV": ([head(), chunk(b"name,price\na,1\n")], "not a valid Arrow stream"),
    "missing column": ([head(), chunk(ipc(frame(3).drop("stock")))], "has the columns"),
    "further column": ([head(), chunk(changed(id=pl.lit(1)))], "has the columns"),
    "price as float": ([head(), chunk(changed(price=pl.col("price").cast(pl.Float64)))], "price of batch 0 is double"),
    "price of other scale": ([head(), chunk(changed(price=pl.col("price").cast(pl.Decimal(12, 3))))], "price of batch 0"),
    "stock as Int64": ([head(), chunk(changed(stock=pl.col("stock").cast(pl.Int64)))], "stock of batch 0 is int64"),
    "row_no as Int32": ([head(), chunk(changed(row_no=pl.col("row_no").cast(pl.Int32)))], "row_no of batch 0 is int32"),
    "category as dictionary": (
        [head(), chunk(changed(category=pl.col("category").cast(pl.Categorical)))],
        "category of batch 0 is dictionary",
    ),
    "row_no absent": ([head(), chunk(changed(row_no=pl.lit(None, pl.Int64)))], "without a row_no"),
}


async def test_what_is_not_a_group_is_refused_as_a_whole(products: Products) -> None:
    good = list(messages(Sent.of(frame(3))))
    for name, (requests, message) in REFUSED.items():
        before = good if requests and name != "chunk first" else []
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await products.stub.Load(iter([*before, *requests]), metadata=METADATA, timeout=20)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
        assert message in (failed.value.details() or ""), name
    assert products.sql("SELECT count(*) FROM products.ledger") == [(0,)]
    assert products.sql("SELECT count(*) FROM products.products") == [(0,)]


async def test_many_small_batches_in_one_message(products: Products) -> None:
    """As if each had come by itself: its own receipt, its own rows, and once."""
    tables = [frame(10, first_row=1 + number) for number in range(40)]
    sent = [Sent.of(table, rejected=number, rejects=b"r" * number) for number, table in enumerate(tables)]
    sent.append(Sent(rejected=3, rejects=b"all"))
    closed = Sent.of(frame(2))
    await products.close_job(closed.job_id)
    outcomes = await products.load_small(*sent, closed)
    assert outcomes[-1].HasField("closed")
    for batch, outcome in zip(sent, outcomes[:-1], strict=True):
        receipt = outcome.receipt
        assert (receipt.key.job_id, receipt.inserted, receipt.rejected, receipt.rejects) == (
            batch.job_id,
            batch.rows,
            batch.rejected,
            batch.rejects,
        )
    for batch, table in zip(sent, tables, strict=False):
        assert products.stored(batch.job_id).equals(table)
    # Again, and by the stream: the old receipts, and no row more.
    assert list(await products.load_small(*sent)) == list(outcomes[:-1])
    assert list(await products.load(*sent)) == list(outcomes[:-1])
    assert products.sql("SELECT count(*), count(DISTINCT id) FROM products.products") == [(400, 400)]


async def test_one_small_batch_that_is_none_refuses_the_message(products: Products) -> None:
    good = Sent.of(frame(3))
    wrong = [
        ("The group has no batch", []),
        ("not a valid Arrow stream", [good, replace(good, batch_no=1, stream=b"garbage" * 100)]),
        ("rows, and its header says", [good, replace(good, batch_no=1, rows=4)]),
        ("rows, and its header says", [good, replace(good, batch_no=1, rows=0)]),
        ("not a valid Arrow stream", [good, Sent(rows=3)]),
        ("no job id", [good, replace(good, job_id="x")]),
    ]
    for message, batches in wrong:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await products.load_small(*batches)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT, message
        assert message in (failed.value.details() or "")
    assert products.sql("SELECT count(*) FROM products.ledger") == [(0,)]


async def test_every_call_needs_the_service_credential(products: Products) -> None:
    methods = pb.DESCRIPTOR.services_by_name["ProductsService"].methods
    for method in methods:
        call = getattr(products.stub, method.name)
        request = getattr(pb, method.input_type.name)()
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            # Nothing is sent: a write that meets the refusal would make the client say INTERNAL.
            answer = call(iter(()) if method.name == "Load" else request, metadata=metadata, timeout=5)
            if method.name == "CloseJob":
                with pytest.raises(grpc.aio.AioRpcError):
                    await anext(aiter(answer))
            assert await answer.code() is grpc.StatusCode.UNAUTHENTICATED, method.name
    assert products.sql("SELECT count(*) FROM products.ledger") == [(0,)]
