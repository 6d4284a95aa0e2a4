"""Enrich typed records by their job type, then hold the rows against what the target can take."""

from collections.abc import Sequence

import polars as pl

from jobber.contract import Contract
from jobber.job import Args, Lookups
from jobber.targets import TARGETS
from operators.check import check_typed
from operators.frames import FAULTS, Checked


def enrich(records: pl.DataFrame, args: Args, lookups: Lookups) -> Checked:
    """Rows of the job type's target, or results; a row that the target cannot hold is rejected.

    Raises ValueError when the job type lost or made rows: that is a bug of it, never a reject.
    """
    rows = args.enrich(records, lookups)
    if rows.schema.get("row_no") != pl.Int64 or not rows["row_no"].equals(records["row_no"]):
        raise ValueError(f"{type(args).__name__}.enrich must answer one row for each record, in order, with its row_no")
    if args.target is None:
        return Checked(rows, pl.DataFrame(schema=FAULTS))
    target = Contract.of(TARGETS[args.target])
    return check_typed(rows, target, _met(rows, records, target, Contract.of(args.contract)))


def _met(rows: pl.DataFrame, records: pl.DataFrame, target: Contract, met: Contract) -> frozenset[str]:
    """Columns that the job type handed on as they were, and of which the target asks no more than the contract did."""
    return frozenset(
        column.name
        for column in target.columns
        if column == met.column(column.name) and column.name in rows.columns and _same(rows[column.name], records[column.name])
    )


def _same(one: pl.Series, other: pl.Series) -> bool:
    """Whether it is one memory, which costs nothing to tell. May say no for equal values, never yes for others."""
    if one.dtype != other.dtype or one.n_chunks() != 1 or other.n_chunks() != 1:
        return False
    return _places(one) == _places(other)


def _places(values: pl.Series) -> tuple[int, int, list[int | None]]:
    array = values.to_arrow(compat_level=pl.CompatLevel.newest())
    return len(array), array.offset, [None if buffer is None else buffer.address for buffer in array.buffers()]


def with_keys(checked: Checked, keys: Sequence[str]) -> Checked:
    """Rows that have all of the keys by which they are written; a row without one names no row, and is rejected."""
    faults = [
        checked.kept.filter(pl.col(key).is_null()).select(
            "row_no",
            column=pl.lit(key),
            code=pl.lit("REQUIRED"),
            message=pl.lit(f"{key} is a key of this load, and is required"),
        )
        for key in keys
    ]
    if not any(found.height for found in faults):
        return checked
    kept = checked.kept.filter(pl.all_horizontal(pl.col(key).is_not_null() for key in keys))
    return Checked(kept, pl.concat([checked.faults, *faults]))
