"""Job types that only tests have: JOBBER_JOB_MODULES=tests.support.jobtypes."""

import threading

import dataframely as dy
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
        # Not time.sleep: under libfaketime, which test_skew.py uses, that cannot wait by a true monotonic clock.
        threading.Event().wait(SLOW)
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


class Texts(dy.Schema):
    """Any table's first columns, by `mapping`."""

    c0 = dy.String(nullable=True)
    c1 = dy.String(nullable=True)
    c2 = dy.String(nullable=True)
    c3 = dy.String(nullable=True)
    c4 = dy.String(nullable=True)
    c5 = dy.String(nullable=True)
    c6 = dy.String(nullable=True)
    c7 = dy.String(nullable=True)
    c8 = dy.String(nullable=True)
    c9 = dy.String(nullable=True)


@job("Cells")
class Cells(Args, frozen=True):
    """Give the first ten columns of a table back, as texts."""

    contract = Texts
