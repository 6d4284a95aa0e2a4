"""Frames as Arrow streams."""

from datetime import date
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest

from operators.arrow import from_ipc, to_block, to_ipc

FRAME = pl.DataFrame(
    {
        "name": ["Cup", None, "🙂"],
        "price": [Decimal("1.50"), None, Decimal("-0.01")],
        "on": [date(2026, 1, 1), None, None],
        "row_no": [1, 2, 3],
    },
    schema_overrides={"price": pl.Decimal(12, 2)},
)


@pytest.mark.parametrize("write", [to_ipc, to_block])
@pytest.mark.parametrize("frame", [FRAME, FRAME.head(0), FRAME.filter(pl.col("row_no") != 2), pl.concat([FRAME, FRAME])])
def test_a_frame_comes_back(write: object, frame: pl.DataFrame) -> None:
    assert callable(write)
    found = from_ipc(write(frame))
    assert found.equals(frame)
    assert found.schema == frame.schema


def test_a_block_is_compressed() -> None:
    frame = pl.DataFrame({"text": ["the same text"] * 10_000})
    assert len(to_block(frame)) * 10 < len(to_ipc(frame))


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 100, to_ipc(FRAME)[:50]])
def test_what_is_no_stream_is_told(data: bytes) -> None:
    with pytest.raises((pa.ArrowInvalid, OSError)):
        from_ipc(data)


def test_texts_that_no_row_shows_do_not_travel() -> None:
    many = pl.DataFrame({"text": [f"a text of more than twelve bytes, {number}" for number in range(20_000)]})
    few = many.filter(pl.int_range(pl.len()) % 100 == 0)
    assert len(to_ipc(few)) < len(to_ipc(many)) / 20
    assert from_ipc(to_ipc(few)).equals(few)
