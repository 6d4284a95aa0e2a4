"""LoadProducts: product records into the products table."""

from functools import lru_cache

import polars as pl

from jobber.job import Args, Lookups, job
from jobber.targets import ProductRow


class Product(ProductRow):
    """A product as people submit it."""


@job("LoadProducts", aliases=("LOAD_PRODUCTS",))
class LoadProducts(Args, frozen=True):
    """Load product records, enriched with their category's charge."""

    contract = Product
    target = "products"
    lookups = ("charges",)
    by_row = True

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        """Add the category's charge to the price, where the category exists. Exact: decimals, to the cent."""
        charges = lookups["charges"]
        return records.with_columns(price=_price(tuple(charges.items()))) if charges else records


@lru_cache(16)
def _price(charges: tuple[tuple[str, str], ...]) -> pl.Expr:
    """Made once for all batches of a job."""
    names = pl.Series([name for name, _ in charges], dtype=pl.String)
    texts = pl.Series([amount for _, amount in charges], dtype=pl.String)
    if not texts.str.contains(r"^[0-9]+(\.[0-9]{1,2})?$").all():  # a cast alone would round
        raise ValueError("a charge is no amount to the cent")
    values = texts.cast(pl.Decimal(12, 2))
    charge = pl.col("category").replace_strict(names, values, default=None, return_dtype=pl.Decimal(12, 2))
    return pl.col("price") + charge.fill_null(0)
