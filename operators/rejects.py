"""Rejects of a batch as one compressed block: what is broken, and the record as it stood."""

from collections.abc import Callable, Sequence

import polars as pl

from operators import arrow


def to_block(faults: pl.DataFrame, raw: Callable[[Sequence[int]], list[str]]) -> bytes:
    """The faults with their records' raw texts, by row, as an Arrow IPC stream (zstd); empty when there are none."""
    if faults.is_empty():
        return b""
    rows = faults["row_no"].unique().sort()
    texts = pl.DataFrame({"row_no": rows, "raw": pl.Series(raw(rows.to_list()), dtype=pl.String)})
    ordered = faults.sort("row_no", maintain_order=True)
    return arrow.to_block(ordered.join(texts, on="row_no", how="left", maintain_order="left"))


def from_block(block: bytes) -> pl.DataFrame:
    """The faults of a block: row_no, column, code, message, raw."""
    return arrow.from_ipc(block)
