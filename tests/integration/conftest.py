"""What tests of several files share."""

from collections.abc import AsyncIterator

import pytest

from tests.support.products import Products, serving


@pytest.fixture
async def products(database: str) -> AsyncIterator[Products]:
    """The products service on a database of its own; no call may leave anything in its budget."""
    async with serving(database) as service:
        yield service
        assert service.room.budget.used == 0
