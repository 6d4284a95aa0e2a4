"""Fibonacci: a job whose records are computed, not loaded."""

import dataframely as dy
import polars as pl

from jobber.job import Args, Lookups, job

#: The 10,000th number has 2,090 digits and takes a millisecond; the rule keeps one record from taking an executor for hours.
MOST = 10_000


class Iterations(dy.Schema):
    """Which number of the sequence is asked for."""

    iterations = dy.Int32(nullable=False, min=0, max=MOST, description="n of F(n); F(0) = 0, F(1) = 1")


@job("Fibonacci", aliases=("FIBONACCI",))
class Fibonacci(Args, frozen=True):
    """Compute Fibonacci numbers, one for each record."""

    contract = Iterations

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        """`value` is the decimal text of F(iterations): it outgrows 64 bits at 93."""
        wanted = records["iterations"].unique().sort().to_list()
        numbers = sequence(wanted)
        values = pl.Series([numbers[n] for n in wanted], dtype=pl.String)
        keys = pl.Series(wanted, dtype=pl.Int32)
        value = pl.col("iterations").replace_strict(keys, values, return_dtype=pl.String)
        return records.select("row_no", "iterations", value=value)


def sequence(wanted: list[int]) -> dict[int, str]:
    """F(n) as decimal text for each n of `wanted` (sorted), in one pass."""
    found, current, following, index = {}, 0, 1, 0
    for n in wanted:
        for _ in range(n - index):
            current, following = following, current + following
        index = n
        found[n] = str(current)
    return found
