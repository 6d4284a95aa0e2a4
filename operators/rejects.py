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


def concat(blocks: Sequence[bytes]) -> bytes:
    """One block of the faults of several, by row."""
    filled = [block for block in blocks if block]
    if len(filled) < 2:
        return filled[0] if filled else b""
    return arrow.to_block(pl.concat(map(from_block, filled)).sort("row_no", maintain_order=True))


def by_code(faults: pl.DataFrame) -> dict[str, int]:
    """How many faults there are of each code."""
    return dict(faults["code"].value_counts().iter_rows()) if faults.height else {}


def from_block(block: bytes) -> pl.DataFrame:
    """The faults of a block: row_no, column, code, message, raw."""
    return arrow.from_ipc(block)
