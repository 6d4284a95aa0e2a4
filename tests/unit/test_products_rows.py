"""Arrow to COPY BINARY, and what is no Arrow."""

import struct
import uuid
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.products import rows
from api.products.model import Header
from api.products.rows import encode
from jobber.errors import InvalidData
from jobber.model import BatchKey
from tests.support.products import frame, ipc

KEY = BatchKey("01a20ce3-d2c9-7e29-8df6-c77b24f29b09", 258)


def header(count: int) -> Header:
    return Header(KEY, count, 0, b"")


def fields_of(copy: bytes) -> list[list[bytes | None]]:
    """COPY BINARY taken apart, as its documentation has it."""
    found, at = [], 0
    while at < len(copy):
        (count,) = struct.unpack_from(">h", copy, at)
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", copy, at)
            at += 4
            row.append(None if length < 0 else copy[at : at + length])
            at += max(length, 0)
        found.append(row)
    return found


def test_lineage_and_ids_are_added() -> None:
    found = fields_of(b"".join(encode(ipc(frame(3)), header(3), 100_001)))
    for number, row in enumerate(found):
        assert row[0] == (100_001 + number).to_bytes(8)
        assert row[1] == uuid.UUID(KEY.job_id).bytes
        assert row[2] == (258).to_bytes(4)
        assert row[9] == (1 + number).to_bytes(8)


@pytest.mark.parametrize("count", [1, 5, rows.SLICE - 1, rows.SLICE, rows.SLICE + 1, 3 * rows.SLICE + 7])
def test_no_row_is_lost_where_slices_meet(count: int) -> None:
    found = fields_of(b"".join(encode(ipc(frame(count)), header(count), 1)))
    assert [row[0] for row in found] == [number.to_bytes(8) for number in range(1, count + 1)]
    assert {len(row) for row in found} == {10}


def test_several_record_batches_are_one_batch() -> None:
    table = frame(100).to_arrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    assert b"".join(encode(bytes(sink.getvalue()), header(100), 1)) == b"".join(encode(ipc(frame(100)), header(100), 1))


def test_a_frame_without_rows() -> None:
    assert encode(ipc(frame(0)), header(0), 1) == []


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_stream_is_refused(codec: str) -> None:
    """Its size says nothing of what it costs."""
    table = frame(50_000, description=["x" * 100] * 50_000).to_arrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table)
    with pytest.raises(InvalidData, match="compressed"):
        encode(bytes(sink.getvalue()), header(50_000), 1)


def test_one_text_shown_by_every_row_is_no_way_around_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_TEXT_BYTES", 1_000_000)
    count = 1000
    columns = frame(count).to_arrow()
    text = b"x" * 10_000
    views = struct.pack("<i4sii", len(text), text[:4], 0, 0) * count
    shown = pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(views), pa.py_buffer(text)])
    table = columns.set_column(columns.schema.get_field_index("name"), "name", shown)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream = bytes(sink.getvalue())
    assert len(stream) < 500_000
    with pytest.raises(InvalidData, match="bytes of text"):
        encode(stream, header(count), 1)


GOOD = [ipc(frame(40))]
with_views = frame(40).to_arrow(compat_level=pl.CompatLevel.newest())
_sink = pa.BufferOutputStream()
with pa.ipc.new_stream(_sink, with_views.schema) as _writer:
    _writer.write_table(with_views)
GOOD.append(bytes(_sink.getvalue()))


@settings(max_examples=1500, deadline=None, database=None)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 1 << 20),
)
def test_broken_streams_are_refused_or_are_rows_all_the_same(good: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    """Whatever bytes arrive: InvalidData, or well-formed rows. Never a crash, never foreign memory."""
    data = bytearray(good)
    for place, value in changes:
        data[place % len(data)] = value
    stream = bytes(data[: cut % (2 * len(data))])
    try:
        copy = b"".join(encode(stream, header(40), 1))
    except InvalidData:
        return
    assert len(fields_of(copy)) == 40


@given(st.binary(max_size=2000))
@settings(database=None)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        encode(data, header(1), 1)


def test_a_decimal_of_more_digits_than_its_type_is_refused() -> None:
    table = frame(1).to_arrow()
    unscaled = (10**12).to_bytes(16, "little")
    price = pa.Array.from_buffers(pa.decimal128(12, 2), 1, [None, pa.py_buffer(unscaled)])
    assert price[0].as_py() == Decimal("10000000000.00")
    table = table.set_column(table.schema.get_field_index("price"), "price", price)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InvalidData):
        encode(bytes(sink.getvalue()), header(1), 1)
