"""A job type that keeps a part of all that it ever saw: with it the soak must report a leak.

JOBBER_JOB_MODULES=tests.chaos.leaky
"""

from typing import Final

import dataframely as dy
import polars as pl

from jobber import Args, Lookups, job

KEPT: Final[list[bytearray]] = []
#: Bytes for each frame: some MiB a minute at the soak's pace.
PORTION: Final = 512 << 10


class Number(dy.Schema):
    """Any number."""

    n = dy.Int64(nullable=False)


@job("Leaky")
class Leaky(Args, frozen=True):
    """Answer what it is given, and leak."""

    contract = Number

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        """The same records."""
        KEPT.append(bytearray(b"\1") * PORTION)
        return records.select("n", "row_no")
