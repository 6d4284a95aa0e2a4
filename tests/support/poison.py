"""A job type whose code ends its process at some records, in the ways in which processes end.

JOBBER_JOB_MODULES=tests.support.poison
"""

import ctypes
import os
import signal
import sys
import time
from typing import Any, NoReturn

import dataframely as dy
import polars as pl

from jobber import Args, Lookups, job

# Job types may use Polars when they are imported. It has threads from then on, which no forked process has.
STARS = pl.DataFrame({"star": range(1000)}).lazy().sort("star", descending=True).group_by("star").len().collect().height


class Drop(dy.Schema):
    """A name that says what happens, and a price."""

    name = dy.String(nullable=False)
    price = dy.Decimal(12, 2, nullable=False, min=0)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> NoReturn:
    while True:
        pass


def _hang_in_c() -> None:
    # Holds the interpreter's lock all the while.
    ctypes.PyDLL(None).pause()


def _devour() -> None:
    kept = []
    while True:
        kept.append(bytearray(64 << 20))


WAYS = {
    "kill": _kill,
    "exit": lambda: os._exit(3),
    "exit as if all were well": lambda: os._exit(0),
    "quit": sys.exit,
    "abort": os.abort,
    "segfault": _segfault,
    "hang": _hang,
    "hang in C": _hang_in_c,
    "devour": _devour,
}


@job("Poisonous")
class Poisonous(Args, frozen=True):
    """Load products; a record that is called like one of WAYS ends whoever enriches it."""

    contract = Drop
    target = "products"
    #: Seconds that it takes, however few records there are.
    pause: float = 0.0

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        """One product for each record, if it gets that far."""
        time.sleep(self.pause)
        for name in records["name"]:
            if name in WAYS:
                WAYS[name]()
            if name == "bug":
                raise RuntimeError("a bug of the job type")
        nothing: dict[str, Any] = {
            "category": pl.String,
            "stock": pl.Int32,
            "rating": pl.Decimal(3, 2),
            "description": pl.String,
        }
        empty = [pl.lit(None, dtype=kind).alias(name) for name, kind in nothing.items()]
        return records.with_columns(empty).select("name", "category", "price", "stock", "rating", "description", "row_no")


@job("PoisonousNumbers")
class PoisonousNumbers(Args, frozen=True):
    """Compute something of each record; the first half of an input of 81 has no remark, so that no part knows its type."""

    contract = Drop

    def enrich(self, records: pl.DataFrame, lookups: Lookups) -> pl.DataFrame:
        """One result for each record, if it gets that far."""
        for name in records["name"]:
            if name in WAYS:
                WAYS[name]()
        remarks = ["second half" if row > 41 else None for row in records["row_no"]]
        return records.select("row_no", "price").with_columns(pl.Series("remark", remarks))
