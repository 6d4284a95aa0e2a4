"""Many small batches of like jobs, made ready in one frame: what Polars costs a call is more than ten records cost it.

Only where it proves to be the same: records of a job type that looks at each by itself (`by_row`), every one of them good. A
group with a record that breaks a rule, or with a bug, is taken in halves, and what is left alone goes the usual way.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from jobber.contract import Contract
from jobber.model import Format
from operators import arrow
from operators.check import check
from operators.decode import decode
from operators.enrich import enrich
from pipelines.work import Item, Prepared, Read, Spec

#: Larger ones gain nothing by company.
SMALL_BYTES = 64 << 10


def prepare_together(items: Sequence[Item]) -> list[Item]:
    """The items, those prepared that can be in company, in the same order."""
    found = list(items)
    for places in _alike(items):
        reads = [item for place in places if isinstance(item := items[place], Read)]
        for place, item in zip(places, _halves(reads), strict=True):
            found[place] = item
    return found


def _alike(items: Sequence[Item]) -> list[list[int]]:
    """Places of batches whose jobs differ in nothing but their records; each group has two at least."""
    groups: list[tuple[Spec, list[int]]] = []
    for place, item in enumerate(items):
        if not isinstance(item, Read) or not _small(item):
            continue
        spec = item.batch.spec
        for known, places in groups:
            if _same(spec, known):
                places.append(place)
                break
        else:
            groups.append((spec, [place]))
    return [places for _, places in groups if len(places) > 1]


def _small(item: Read) -> bool:
    spec = item.batch.spec
    return (
        spec.kind.by_row
        and spec.kind.target is not None
        and not spec.writing.staged
        and spec.layout.format is Format.JSON
        and not item.batch.suspect
        and len(item.data) <= SMALL_BYTES
    )


def _same(one: Spec, other: Spec) -> bool:
    return (
        one.kind is other.kind
        and one.layout == other.layout
        and one.args == other.args
        and one.lookups == other.lookups
        and one.writing == other.writing
    )


def _halves(reads: Sequence[Read]) -> list[Item]:
    if len(reads) < 2:
        return list(reads)
    prepared = _together(reads)
    if prepared is not None:
        return [*prepared]
    half = len(reads) // 2
    return _halves(reads[:half]) + _halves(reads[half:])


def _together(reads: Sequence[Read]) -> list[Prepared] | None:
    """All of them; None unless every record is good."""
    try:
        rows = _rows(reads)
    # The usual way tells what it is, and of which batch. What Polars panics with is no Exception.
    except (Exception, pl.exceptions.PanicException):
        return None
    if rows is None:
        return None
    sizes = [read.batch.rows for read in reads]
    keeps = not reads[0].batch.spec.writing.dry_run
    frames = arrow.to_ipc_parts(rows, sizes) if keeps else [b""] * len(reads)
    return [
        Prepared(read.key, read.batch.spec.target, size, 0, b"", frame)
        for read, size, frame in zip(reads, sizes, frames, strict=True)
    ]


def _rows(reads: Sequence[Read]) -> pl.DataFrame | None:
    """Rows of the target, of all batches in order, as many as records; None when one is no row."""
    spec = reads[0].batch.spec
    contract = Contract.of(spec.kind.contract)
    total = sum(read.batch.rows for read in reads)
    # Planning has counted each batch's records, between commas outside of every nesting: a comma more joins them.
    decoded = decode(b",".join(read.data for read in reads), spec.layout, contract, 1)
    checked = check(decoded.records, contract)
    if checked.kept.height != total:
        return None
    # Until here each had a number of its own, by which the operators keep the order.
    numbers = [np.arange(read.batch.first_row, read.batch.first_row + read.batch.rows) for read in reads]
    records = checked.kept.with_columns(pl.Series("row_no", np.concatenate(numbers), dtype=pl.Int64))
    made = enrich(records, spec.args, spec.lookups)
    return made.kept if made.kept.height == total else None
