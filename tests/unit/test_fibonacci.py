"""Fibonacci: records that are computed."""

import polars as pl
import pytest

from jobber.job import discover, find
from jobber.jobtypes.fibonacci import MOST, sequence
from operators.enrich import enrich
from tests.support.outcome import outcome


def test_results_have_the_number_and_its_value() -> None:
    found = outcome(
        b'[{"iterations": 90}, {"iterations": 0}, {"iterations": 1}, {"iterations": 2}, {"iterations": 90}]', name="Fibonacci"
    )
    assert found.loaded == {
        1: {"iterations": 90, "value": "2880067194370816120"},
        2: {"iterations": 0, "value": "0"},
        3: {"iterations": 1, "value": "1"},
        4: {"iterations": 2, "value": "1"},
        5: {"iterations": 90, "value": "2880067194370816120"},
    }
    assert find("Fibonacci").target is None
    assert find("FIBONACCI") is find("Fibonacci")


def test_columns_are_in_the_order_of_the_download() -> None:
    discover()
    args = find("Fibonacci").decode_args(b"{}")
    frame = pl.DataFrame({"iterations": [3], "row_no": [7]}, schema={"iterations": pl.Int32, "row_no": pl.Int64})
    assert enrich(frame, args, {}).kept.to_dicts() == [{"row_no": 7, "iterations": 3, "value": "2"}]
    assert enrich(frame, args, {}).kept.columns == ["row_no", "iterations", "value"]


def test_each_number_is_the_sum_of_the_two_before() -> None:
    numbers = sequence(list(range(300)))
    for n in range(2, 300):
        assert int(numbers[n]) == int(numbers[n - 1]) + int(numbers[n - 2])


def test_the_largest_number_that_is_computed() -> None:
    assert len(sequence([MOST])[MOST]) == 2090


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (b'{"iterations": -1}', "RANGE"),
        (b'{"iterations": 10001}', "RANGE"),
        (b"{}", "REQUIRED"),
        (b'{"iterations": null}', "REQUIRED"),
        (b'{"iterations": 1.5}', "TYPE"),
        (b'{"iterations": "3"}', "TYPE"),
    ],
)
def test_what_is_refused(record: bytes, code: str) -> None:
    found = outcome(b"[" + record + b', {"iterations": 10}]', name="Fibonacci")
    assert found.faults == [(1, "iterations", code)]
    assert found.loaded == {2: {"iterations": 10, "value": "55"}}
