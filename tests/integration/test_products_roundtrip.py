"""Any frame of valid rows that goes through Load reads back equal."""

import asyncio
import io
from decimal import Decimal

import grpc
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos import client
from protos.jobber.products.v1.products_pb2_grpc import ProductsServiceStub
from tests.support.products import METADATA, SCHEMA, Sent, ipc, messages, serving

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
cents = st.one_of(st.sampled_from([0, 1, 99, 100, 10**12 - 1]), st.integers(0, 10**12 - 1))
rows = st.fixed_dictionaries(
    {
        "name": text,
        "category": st.none() | text,
        "price": cents.map(lambda value: Decimal(value) / 100),
        "stock": st.none() | st.integers(0, 2**31 - 1),
        "rating": st.none() | st.integers(0, 500).map(lambda value: Decimal(value) / 100),
        "description": st.none() | text,
        "row_no": st.integers(1, 2**63 - 1),
    }
)
#: Several at once: they are written by one COPY.
frames = st.lists(st.lists(rows, max_size=30).map(lambda given: pl.DataFrame(given, schema=SCHEMA)), min_size=1, max_size=3)


async def test_any_valid_rows_read_back_equal(database: str) -> None:
    async with serving(database) as products:

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(frames, st.booleans())
        def holds(tables: list[pl.DataFrame], views: bool) -> None:
            group = [Sent.of(table) if not views else Sent(stream=polars_ipc(table), rows=table.height) for table in tables]
            answer = stub.Load(iter(list(messages(*group))), metadata=METADATA, timeout=30)
            for sent, table, outcome in zip(group, tables, answer.outcomes, strict=True):
                assert outcome.receipt.inserted == table.height
                stored = products.sql(
                    f"SELECT {', '.join(SCHEMA)} FROM products.products WHERE job_id = %s ORDER BY id", sent.job_id
                )
                assert pl.DataFrame(stored, schema=SCHEMA, orient="row").equals(table)

        def run() -> None:
            holds()

        with grpc.insecure_channel(products.address, options=list(client.OPTIONS)) as channel:
            stub = ProductsServiceStub(channel)
            await asyncio.to_thread(run)


def polars_ipc(table: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    table.write_ipc_stream(sink)
    assert sink.getvalue() != ipc(table) or not table.height
    return sink.getvalue()
