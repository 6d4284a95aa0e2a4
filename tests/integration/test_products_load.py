"""Load: receipts, the ledger, and what lands in the table."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.products import Products, Sent, frame, serving


@pytest.fixture
async def products(database: str) -> AsyncIterator[Products]:
    async with serving(database) as service:
        yield service


async def test_a_batch_lands_with_its_receipt(products: Products) -> None:
    table = frame(1000)
    sent = Sent.of(table, rejected=2, rejects=b"block")
    (outcome,) = await products.load(sent)
    receipt = outcome.receipt
    assert (receipt.key.job_id, receipt.key.batch_no) == (sent.job_id, 0)
    assert (receipt.inserted, receipt.updated, receipt.unchanged, receipt.rejected) == (1000, 0, 0, 2)
    assert receipt.rejects == b"block"
    assert products.stored(sent.job_id).equals(table)
