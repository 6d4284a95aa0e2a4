"""A batch's rejects as one block."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from operators.frames import FAULTS, MAX_RAW, faults_of, is_plain, not_plain, shown
from operators.rejects import from_block, to_block


def raw(rows: Sequence[int]) -> list[str]:
    return [f"record {row}" for row in rows]


def test_no_rejects_are_no_bytes() -> None:
    assert to_block(faults_of([]), raw) == b""


def test_a_block_has_each_fault_with_its_record() -> None:
    faults = faults_of([(7, "price", "TYPE", "b"), (3, None, "QUOTE", "a"), (7, "stock", "RANGE", "c")])
    block = from_block(to_block(faults, raw))
    assert block.rows() == [
        (3, None, "QUOTE", "a", "record 3"),
        (7, "price", "TYPE", "b", "record 7"),
        (7, "stock", "RANGE", "c", "record 7"),
    ]
    assert block.schema == FAULTS | {"raw": pl.String}


def test_raw_texts_are_asked_for_once_a_record() -> None:
    asked: list[int] = []

    def counting(rows: Sequence[int]) -> list[str]:
        asked.extend(rows)
        return raw(rows)

    to_block(faults_of([(2, None, "A", ""), (1, None, "A", ""), (2, None, "B", "")]), counting)
    assert asked == [1, 2]


def test_a_block_is_small() -> None:
    block = to_block(faults_of([(row, "price", "TYPE", "price must be a number; got x") for row in range(10_000)]), raw)
    assert len(block) < 200_000


def test_raw_text_is_shown_as_far_as_it_is_text_and_cut() -> None:
    assert shown(b"Caf\xe9 \xf0\x9f\x99\x82") == "Caf\\xe9 🙂"
    assert shown(b"x" * MAX_RAW) == "x" * MAX_RAW
    assert shown(b"x" * (MAX_RAW + 1)) == "x" * MAX_RAW + "…"
    assert shown("🙂".encode() * (MAX_RAW + 1)) == "🙂" * MAX_RAW + "…"


def test_every_record_that_is_not_plain_text_is_found() -> None:
    records = [b"good \xc3\xa9\n", b"bad \xff\xfe\n", b"\xc2\x85 control\n", b"\xc3\n", b"\xa9\n", b"a\x7f\n", b"good"]
    starts = np.cumsum([0, *map(len, records)])[:-1]
    data = b"".join(records)
    assert not_plain(data, starts).tolist() == [False, True, True, True, True, True, False]
    assert not is_plain(data)
    assert [is_plain(record) for record in records] == [True, False, False, False, False, False, True]
    # As many bad ones as there are records take no more time than one.
    assert not_plain(data * 20_000, np.arange(20_000) * len(data)).all()
