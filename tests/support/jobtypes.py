"""Job types that only tests have: JOBBER_JOB_MODULES=tests.support.jobtypes."""

import time

import polars as pl

from jobber.job import Args, Lookups, job
from jobber.targets import ProductRow

#: Seconds that a batch of Slow takes.
SLOW = 0.2


class Plain(ProductRow):
    """A product."""


@job("Slow")
class Slow(Args, frozen=True):
    """Load products, each batch slowly, so that a test can act while the job runs."""

    contract = Plain
    target = "products"

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        time.sleep(SLOW)
        return records


@job("Broken")
class Broken(Args, frozen=True):
    """Load products, but for batches that hold one called `breaks`: those can never be loaded."""

    contract = Plain
    target = "products"

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        if (records["name"] == "breaks").any():
            raise RuntimeError("this job type has a bug")
        return records
