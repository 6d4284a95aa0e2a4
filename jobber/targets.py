"""What each target table holds: the last check of a row before it is written."""

from collections.abc import Mapping
from decimal import Decimal

import dataframely as dy

#: Of numeric(12,2).
MAX_PRICE = Decimal("9999999999.99")


class ProductRow(dy.Schema):
    """A row of products.products, without what the database and the lineage add."""

    name = dy.String(nullable=False, min_length=1, description="what it is called")
    category = dy.String(nullable=True, description="decides the charge")
    price = dy.Decimal(12, 2, nullable=False, min=0, max=MAX_PRICE, description="in the shop's currency, to the cent")
    stock = dy.Int32(nullable=True, min=0, description="pieces on hand")
    rating = dy.Decimal(3, 2, nullable=True, min=0, max=5, description="0 to 5")
    description = dy.String(nullable=True, description="what a buyer reads")


#: By the name that a job type's `target` has.
TARGETS: Mapping[str, type[dy.Schema]] = {"products": ProductRow}
