"""Values of a Parquet file that are taken as they are: each is what its text would have become."""

from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobber.contract import Column
from operators.decode.parquet import _same, _text

PRICE = Column("price", "decimal", pl.Decimal(12, 2), True, precision=12, scale=2)
WHOLE = Column("whole", "decimal", pl.Decimal(18, 0), True, precision=18, scale=0)
STOCK = Column("stock", "integer", pl.Int32, True)
CENTS = st.integers(-(10**14), 10**14).map(lambda cents: cents / 100)


@given(st.lists(st.none() | CENTS | st.floats(allow_nan=False) | st.sampled_from([0.1 + 0.2, -0.0, 1e15, 5e-324])))
@pytest.mark.parametrize("column", [PRICE, WHOLE])
def test_floats_are_the_decimals_that_they_show(column: Column, values: list[float | None]) -> None:
    series = pl.Series(values, dtype=pl.Float64)
    typed = _same(series, column)
    if typed is not None:
        texts, _ = _text(series, column, proved=True)
        assert typed.to_list() == [None if text is None else Decimal(text) for text in texts]


@given(st.lists(st.none() | st.integers(-(10**11), 10**11 - 1).map(lambda cents: cents / 100), min_size=1))
def test_amounts_in_floats_are_taken_as_they_are(values: list[float | None]) -> None:
    assert _same(pl.Series(values, dtype=pl.Float64), PRICE) is not None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.001, 0.1 + 0.2, 1e10, 1e300])
def test_floats_that_are_no_amounts_become_texts(value: float) -> None:
    assert _same(pl.Series([1.5, value]), PRICE) is None


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (pl.Series([1, 2**31]), STOCK),
        (pl.Series([1.0, 2.0]), STOCK),
        (pl.Series(["1"]), STOCK),
        (pl.Series([10**10]), PRICE),
        (pl.Series([Decimal("1.005")], dtype=pl.Decimal(12, 3)), PRICE),
        (pl.Series([0.1], dtype=pl.Float32), Column("x", "number", pl.Float64, True)),
    ],
)
def test_what_does_not_fit_becomes_text(values: pl.Series, column: Column) -> None:
    assert _same(values, column) is None
