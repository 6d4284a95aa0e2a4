"""LoadProducts: the charge of the category is added to the price, to the cent."""

from collections.abc import Sequence
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobber.contract import Contract
from jobber.job import discover, find
from jobber.jobtypes.load_products import LoadProducts, Product
from jobber.targets import MAX_PRICE, TARGETS
from operators.enrich import enrich
from operators.frames import Checked

CENTS = st.decimals(0, MAX_PRICE, places=2)


def enriched(prices: Sequence[tuple[str | None, Decimal]], charges: dict[str, str]) -> Checked:
    columns = {column.name: column.dtype for column in Contract.of(Product).columns} | {"row_no": pl.Int64}
    rows = [("Cup", category, price, 1, None, None, row) for row, (category, price) in enumerate(prices, 1)]
    return enrich(pl.DataFrame(rows, schema=columns, orient="row"), LoadProducts(), {"charges": charges})


def test_it_has_two_names_and_one_target() -> None:
    discover()
    assert find("LoadProducts") is find("LOAD_PRODUCTS")
    assert find("LoadProducts").target == "products"
    assert find("LoadProducts").lookups == ("charges",)
    assert list(TARGETS) == ["products"]


def test_the_frame_for_the_target_has_exactly_its_columns() -> None:
    found = enriched([("Books", Decimal(1))], {"Books": "0.50"})
    assert dict(found.kept.schema) == {
        "name": pl.String,
        "category": pl.String,
        "price": pl.Decimal(12, 2),
        "stock": pl.Int32,
        "rating": pl.Decimal(3, 2),
        "description": pl.String,
        "row_no": pl.Int64,
    }


def test_a_charge_is_that_of_the_same_category_alone() -> None:
    prices = [("Books", Decimal("0.10")), ("books", Decimal("0.10")), (None, Decimal("0.10")), ("", Decimal("0.10"))]
    found = enriched([*prices, ("Toys", Decimal("0.20"))], {"Books": "1.50", "Toys": "0.10"})
    assert found.kept["price"].to_list() == [Decimal(text) for text in ("1.60", "0.10", "0.10", "0.10", "0.30")]
    assert found.faults.is_empty()


def test_without_charges_prices_stay() -> None:
    assert enriched([("Books", Decimal("0.10"))], {}).kept["price"].to_list() == [Decimal("0.10")]


def test_a_price_that_the_charge_makes_too_high_is_a_reject() -> None:
    prices = [("Books", MAX_PRICE), ("Books", MAX_PRICE - Decimal("0.01")), ("Toys", MAX_PRICE)]
    found = enriched(prices, {"Books": "0.01", "Toys": "9999999999.99"})
    assert found.kept["row_no"].to_list() == [2]
    assert found.kept["price"].to_list() == [MAX_PRICE]
    assert found.faults.rows() == [
        (1, "price", "RANGE", "price must be at most 9999999999.99; got 10000000000.00"),
        (3, "price", "RANGE", "price must be at most 9999999999.99; got 19999999999.98"),
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), CENTS), max_size=8),
    st.dictionaries(st.sampled_from("abz"), CENTS),
)
def test_sums_are_exact(prices: list[tuple[str | None, Decimal]], charges: dict[str, Decimal]) -> None:
    found = enriched(prices, {name: str(charge) for name, charge in charges.items()})
    sums = {row: price + charges.get(category or "", Decimal(0)) for row, (category, price) in enumerate(prices, 1)}
    assert dict(found.kept.select("row_no", "price").iter_rows()) == {
        row: price for row, price in sums.items() if price <= MAX_PRICE
    }
    assert found.faults["row_no"].to_list() == [row for row, price in sums.items() if price > MAX_PRICE]


@pytest.mark.parametrize("charge", ["1.555", "x", "10000000000.00"])
def test_a_charge_that_is_none_is_no_silent_zero(charge: str) -> None:
    with pytest.raises((pl.exceptions.PolarsError, ValueError)):
        enriched([("Books", Decimal(1))], {"Books": charge})
