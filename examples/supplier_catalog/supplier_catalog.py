"""A job type of one's own: a supplier's price list becomes products.

    pip install ./examples/supplier_catalog          # then every Jobber here knows SupplierCatalog
    jobber load prices.csv --job SupplierCatalog --args '{"supplier": "Harbour"}'

The file's columns are those of SupplierItem. Prices are net; what is stored is gross.
"""

import dataframely as dy
import polars as pl

from jobber import Args, Lookups, job


class SupplierItem(dy.Schema):
    """What a line of the price list must be."""

    sku = dy.String(nullable=False, min_length=1, max_length=40)
    title = dy.String(nullable=False, min_length=1)
    net_price = dy.Decimal(12, 2, nullable=False, min=0)
    #: In per cent: 19, 7.5.
    vat_rate = dy.Decimal(5, 2, nullable=False, min=0, max=100)
    on_hand = dy.Int32(nullable=True, min=0)


@job("SupplierCatalog")
class SupplierCatalog(Args, frozen=True):
    """Load a supplier's price list: net prices and their VAT become the gross prices of products."""

    contract = SupplierItem
    target = "products"
    #: A price depends on no other line: small lists are taken together.
    by_row = True

    #: Put before every title.
    supplier: str = ""

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        """One product for each line; gross = net x (1 + vat), rounded half up to the cent, as tax offices do."""
        # In whole numbers: hundredths of a cent never pass through a float.
        cents = (pl.col("net_price") * 100).cast(pl.Int64)
        percent = (pl.col("vat_rate") * 100).cast(pl.Int64)
        gross = (cents * (10_000 + percent) + 5_000) // 10_000
        title = pl.concat_str(pl.lit(f"{self.supplier} "), "title") if self.supplier else pl.col("title")
        return records.select(
            name=title,
            category=pl.lit(None, dtype=pl.String),
            price=gross.cast(pl.Decimal(38, 2)) / 100,
            stock=pl.col("on_hand"),
            rating=pl.lit(None, dtype=pl.Decimal(3, 2)),
            description=pl.concat_str(pl.lit("SKU "), "sku"),
            row_no=pl.col("row_no"),
        )
