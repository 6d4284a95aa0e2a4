"""Enriching: what a job type may answer, and what is its bug."""

from collections.abc import Callable
from decimal import Decimal

import dataframely as dy
import polars as pl
import pytest

from jobber.job import Args, Lookups
from operators.enrich import enrich

RECORDS = pl.DataFrame({"title": ["Cup", "Pot"], "row_no": [4, 7]})


class Item(dy.Schema):
    title = dy.String()


def job_of(answer: Callable[[pl.DataFrame], pl.DataFrame], to: str | None = "products") -> Args:
    class Made(Args, frozen=True):
        contract = Item
        target = to

        def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
            return answer(records)

    return Made()


def products(records: pl.DataFrame) -> pl.DataFrame:
    return records.select(name="title", price=pl.lit(Decimal("1.50")), row_no="row_no")


def test_columns_that_are_not_made_are_null_and_extra_ones_go() -> None:
    found = enrich(RECORDS, job_of(lambda records: products(records).with_columns(extra=pl.lit(1))), {})
    assert found.kept.columns == ["name", "category", "price", "stock", "rating", "description", "row_no"]
    assert found.kept["row_no"].to_list() == [4, 7]
    assert found.kept["category"].null_count() == 2
    assert found.kept.schema["stock"] == pl.Int32


def test_a_row_that_the_target_cannot_hold_is_a_reject() -> None:
    found = enrich(RECORDS, job_of(lambda records: products(records).with_columns(stock=pl.Series([-1, 1 << 31]))), {})
    assert found.kept.is_empty()
    assert [(row, column, code) for row, column, code, _ in found.faults.iter_rows()] == [
        (4, "stock", "RANGE"),
        (7, "stock", "RANGE"),
    ]


def test_results_without_a_target_are_kept_as_they_are() -> None:
    found = enrich(RECORDS, job_of(lambda records: records.with_columns(length=pl.col("title").str.len_chars()), None), {})
    assert found.kept["length"].to_list() == [3, 3]
    assert found.faults.is_empty()


@pytest.mark.parametrize(
    "answer",
    [
        lambda records: products(records).head(1),
        lambda records: pl.concat([products(records), products(records)]),
        lambda records: products(records).reverse(),
        lambda records: products(records).with_columns(row_no=pl.int_range(2)),
        lambda records: products(records).with_columns(row_no=pl.col("row_no").cast(pl.Int32)),
        lambda records: products(records).drop("row_no"),
    ],
)
@pytest.mark.parametrize("to", ["products", None])
def test_a_job_type_that_loses_rows_is_told(answer: Callable[[pl.DataFrame], pl.DataFrame], to: str | None) -> None:
    with pytest.raises(ValueError, match=r"Made\.enrich must answer"):
        enrich(RECORDS, job_of(answer, to), {})


def test_money_in_floats_is_a_bug() -> None:
    with pytest.raises(TypeError, match="price must have the type"):
        enrich(RECORDS, job_of(lambda records: products(records).with_columns(price=pl.lit(1.5))), {})
