"""Frames as Arrow IPC streams: on the wire to products, and compressed as results."""

import io
from collections.abc import Sequence

import polars as pl
import pyarrow as pa


def to_ipc(frame: pl.DataFrame) -> bytes:
    """An Arrow IPC stream. pyarrow writes it 15 times faster than Polars (0.01 against 0.17 s a million rows)."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def to_ipc_parts(frame: pl.DataFrame, sizes: Sequence[int]) -> list[bytes]:
    """A stream for each part of so many rows, in order."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    parts, first = [], 0
    for size in sizes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            # Of a slice only its own rows are written.
            writer.write_table(table.slice(first, size))
        parts.append(sink.getvalue().to_pybytes())
        first += size
    return parts


def from_ipc(data: bytes | memoryview) -> pl.DataFrame:
    """The frame of an Arrow IPC stream, compressed or not. Raises pyarrow.ArrowInvalid for what is none."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        frame = pl.from_arrow(reader.read_all())
    assert isinstance(frame, pl.DataFrame)
    return frame


def concat(streams: Sequence[bytes]) -> bytes:
    """One stream of the rows of several, in order; streams of no bytes have no rows."""
    filled = [stream for stream in streams if stream]
    return filled[0] if len(filled) == 1 else to_ipc(pl.concat(map(from_ipc, filled))) if filled else b""


def concat_blocks(blocks: Sequence[bytes]) -> bytes:
    """The same for blocks."""
    filled = [block for block in blocks if block]
    if len(filled) < 2:
        return filled[0] if filled else b""
    # Results have no contract: a part in which a column has no value does not know its type.
    return to_block(pl.concat(map(from_ipc, filled), how="diagonal_relaxed"))


def to_block(frame: pl.DataFrame) -> bytes:
    """A zstd-compressed Arrow IPC stream, to be kept."""
    sink = io.BytesIO()
    frame.write_ipc_stream(sink, compression="zstd", compat_level=pl.CompatLevel.oldest())
    return sink.getvalue()
