"""Frames as Arrow IPC streams: on the wire to products, and compressed as results."""

import io
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

#: Bytes of text that a column may carry along beyond twice those that its rows show.
_SPARE = 64 << 10


def to_ipc(frame: pl.DataFrame) -> memoryview:
    """An Arrow IPC stream, whose texts are views, as Polars has them: none is moved.

    pyarrow writes it faster than Polars does (0.03 against 0.17 s a million rows).
    """
    return stream_of(_compact(frame.to_arrow(compat_level=pl.CompatLevel.newest())))


def stream_of(table: pa.Table) -> memoryview:
    """An Arrow IPC stream. Its bytes are counted first: a stream that grows is copied each time that it does."""
    counted = pa.MockOutputStream()
    _write(counted, table)
    stream = pa.allocate_buffer(counted.size())
    _write(pa.FixedSizeBufferWriter(stream), table)
    return memoryview(stream)


def _write(sink: pa.NativeFile, table: pa.Table) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _compact(table: pa.Table) -> pa.Table:
    """The table without texts that few of its rows show: views go with all of the buffers that they point into."""
    for index, field in enumerate(table.schema):
        if field.type == pa.string_view() and any(map(_sparse, table.column(index).chunks)):
            dense = table.column(index).cast(pa.large_string())
            table = table.set_column(index, field.with_type(pa.large_string()), dense)
    return table


def _sparse(views: pa.Array) -> bool:
    _, places, *texts = views.buffers()
    held = sum(text.size for text in texts)
    if held <= _SPARE:
        return False
    # https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout: 16 bytes each, the length first; a
    # text of up to 12 bytes is in the view itself.
    lengths = np.frombuffer(places, np.int32).reshape(-1, 4)[views.offset : views.offset + len(views), 0]
    return bool(held > _SPARE + 2 * np.where(lengths > 12, lengths, 0).sum(dtype=np.int64))


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


def concat(streams: Sequence[bytes]) -> bytes | memoryview:
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
