"""Texts as Arrow's string views: they stay where they are, in the batch's bytes."""

import numpy as np
import polars as pl
import pyarrow as pa

from operators.csv_grammar import Places, Switches
from operators.decode.json_token import KEEP, Words

#: Texts of up to so many bytes are in the view itself.
INLINE = 12


def views(data: bytes, words: Words, starts: Places, lengths: Places, null: Switches | None) -> pl.Series:
    """The texts that begin at `starts`, which are UTF-8. `words` reads `data` eight bytes at a time from any place.

    https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
    """
    if null is not None:
        starts, lengths = np.where(null, 0, starts), np.where(null, 0, lengths)
    # Four bytes each: the length, the first bytes; then the next eight bytes, or which buffer and where in it.
    made = np.empty((starts.size, 2), np.uint64)
    sizes = lengths.astype(np.uint64)
    longest, shortest = int(lengths.max(initial=0)), int(lengths.min(initial=0))
    head = words[starts]
    if shortest < 4:
        head &= KEEP[np.minimum(lengths, 4)]
    np.bitwise_or(head << 32, sizes, out=made[:, 0])
    if longest <= 4:
        made[:, 1] = 0
    elif shortest > INLINE:
        made[:, 1] = starts << 32
    else:
        rest = words[starts + 4] & KEEP[np.clip(lengths - 4, 0, 8)]
        made[:, 1] = rest if longest <= INLINE else np.where(lengths > INLINE, starts.view(np.uint64) << 32, rest)
    valid = None if null is None else pa.py_buffer(np.packbits(~null, bitorder="little"))
    parts = [valid, pa.py_buffer(made), pa.py_buffer(data)]
    return pl.Series(pa.Array.from_buffers(pa.string_view(), starts.size, parts))
