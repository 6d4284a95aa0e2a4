"""Rejects of a batch as one compressed block: what is broken, and the record as it stood.

A block begins with what it comes to, so that a million rejects are counted without reading them:

    4 bytes: length of the head | head: JSON, padded | the faults with their records' raw texts, an Arrow IPC stream (zstd)
"""

from collections.abc import Callable, Sequence

import msgspec
import polars as pl

from operators import arrow

#: Bytes in front that say how long the head is, most significant first; jobs' store.py reads them in SQL.
_LENGTH = 4
#: Arrow's stream begins at a multiple of it.
_ALIGNED = 8


class Count(msgspec.Struct, frozen=True, array_like=True):
    """How often a rule was broken in a batch, and by which fault of the block first."""

    code: str
    column: str | None
    count: int
    first: int


def to_block(faults: pl.DataFrame, raw: Callable[[Sequence[int]], list[str]]) -> bytes:
    """The faults with their records' raw texts, by row; empty when there are none."""
    if faults.is_empty():
        return b""
    rows = faults["row_no"].unique().sort()
    texts = pl.DataFrame({"row_no": rows, "raw": pl.Series(raw(rows.to_list()), dtype=pl.String)})
    ordered = faults.sort("row_no", maintain_order=True)
    return _written(ordered.join(texts, on="row_no", how="left", maintain_order="left"))


def concat(blocks: Sequence[bytes]) -> bytes:
    """One block of the faults of several, by row."""
    filled = [block for block in blocks if block]
    if len(filled) < 2:
        return filled[0] if filled else b""
    return _written(pl.concat(map(from_block, filled)).sort("row_no", maintain_order=True))


def by_code(faults: pl.DataFrame) -> dict[str, int]:
    """How many faults there are of each code."""
    return dict(faults["code"].value_counts().iter_rows()) if faults.height else {}


def from_block(block: bytes) -> pl.DataFrame:
    """The faults of a block, by row: row_no, column, code, message, raw."""
    return arrow.from_ipc(memoryview(block)[_end(block) :])


def head_of(block: bytes) -> bytes:
    """What a block comes to, as bytes."""
    return block[_LENGTH : _end(block)]


def from_head(head: bytes) -> list[Count]:
    """What a block comes to, in the order of its faults."""
    return msgspec.json.decode(head, type=list[Count])


def _end(block: bytes) -> int:
    return _LENGTH + int.from_bytes(block[:_LENGTH], "big")


def _written(faults: pl.DataFrame) -> bytes:
    counts = (
        faults.lazy()
        .with_row_index("first")
        .group_by("code", "column", maintain_order=True)
        .agg(pl.len().alias("count"), pl.col("first").first())
        .select("code", "column", "count", "first")
        .collect()
    )
    head = msgspec.json.encode([Count(*row) for row in counts.iter_rows()])
    head += b" " * (-(_LENGTH + len(head)) % _ALIGNED)
    return len(head).to_bytes(_LENGTH, "big") + head + arrow.to_block(faults)
