"""Chunks on the wire are what protobuf has there."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protos.jobber.products.v1.products_pb2 import LoadHeader, LoadRequest
from protos.load_parts import chunk_from, chunk_to


@given(st.binary(max_size=300))
@example(b"")
@example(b"x" * 127)
@example(b"x" * 128)
@example(b"x" * (1 << 21))
def test_a_chunk_is_written_and_read_as_protobuf_does(chunk: bytes) -> None:
    written = LoadRequest(chunk=chunk).SerializeToString()
    assert chunk_to(memoryview(chunk)) == written
    found = chunk_from(written)
    assert found is not None
    assert bytes(found) == chunk


@pytest.mark.parametrize(
    "message",
    [
        b"",
        LoadRequest(header=LoadHeader(rows=1)).SerializeToString(),
        LoadRequest(chunk=b"one").SerializeToString() * 2,  # the last one counts: protobuf knows
        b"\x12",
        b"\x12\x80",
        b"\x12\x05four",
        b"\x12\x03four",
        b"\x12\xff\xff\xff\xff\xff\x01",
    ],
)
def test_everything_else_is_left_to_protobuf(message: bytes) -> None:
    assert chunk_from(message) is None


@given(st.binary(max_size=20))
def test_it_never_reads_another_chunk_than_protobuf(message: bytes) -> None:
    found = chunk_from(message)
    assert found is None or LoadRequest.FromString(message) == LoadRequest(chunk=bytes(found))
