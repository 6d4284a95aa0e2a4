"""From a batch's bytes to what is written of it: decode, check, enrich. Pure; in the dataflow, and in an isolated process."""

import polars as pl

from jobber.contract import Contract
from operators import arrow, rejects
from operators.check import check
from operators.decode import decode
from operators.enrich import enrich, with_keys
from pipelines.work import Met, Prepared, Read, Taken


def take(item: Read) -> Taken:
    """Take the records apart. Raises AssertionError when they are not as many as planned."""
    batch = item.batch
    plain = batch.rows if batch.plain else None
    decoded = decode(item.data, batch.spec.layout, Contract.of(batch.spec.kind.contract), batch.first_row, plain)
    records = decoded.records.height + decoded.faults["row_no"].n_unique()
    if records != batch.rows:
        raise AssertionError(f"decoded {records} records of {batch.rows}")
    return Taken(batch, decoded)


def meet(item: Taken) -> Met:
    """Hold the records against the contract."""
    checked = check(item.decoded.records, Contract.of(item.batch.spec.kind.contract), item.decoded.text)
    return Met(item.batch, checked.kept, item.decoded.raw, pl.concat([item.decoded.faults, checked.faults]))


def prepare(item: Met) -> Prepared:
    """Make rows of the records, and put them in the form in which they are written. Raises what the job type raises."""
    spec = item.batch.spec
    checked = with_keys(enrich(item.kept, spec.args, spec.lookups), spec.writing.keys)
    broken = pl.concat([item.faults, checked.faults])
    rows = checked.kept
    write = arrow.to_block if spec.kind.target is None else arrow.to_ipc
    if spec.writing.staged:
        # Only what is written by keys may still be rejected.
        texts = item.raw(rows["row_no"].to_list()) if spec.writing.keys else [None] * rows.height
        rows = rows.with_columns(raw=pl.Series(texts, dtype=pl.String))
    keeps = spec.writing.keys or not spec.writing.dry_run
    return Prepared(
        item.batch.key,
        spec.target,
        rows.height,
        broken["row_no"].n_unique(),
        rejects.to_block(broken, item.raw),
        write(rows) if rows.height and keeps else b"",
        rejects.by_code(broken),
        spec.writing.staged,
    )
