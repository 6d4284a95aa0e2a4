"""`bench operators` does all that a load does, in every format, and sees when rows or rejects are missing."""

from pathlib import Path

import pytest

from benchmarks.end_to_end.inputs import FORMATS
from benchmarks.operators import __main__ as operators
from jobber.job import discover


@pytest.fixture(autouse=True)
def _known() -> None:
    discover()


def test_every_format_takes_every_step_that_it_needs(tmp_path: Path) -> None:
    found = operators.measure(tmp_path, 300, list(FORMATS), 1, 0.0)
    for line in operators.summary(found, 300, "wall"):
        packed = line["format"] in ("csv.gz", "parquet")
        assert (line["unpack"] > 0) is packed, line
        assert all(line[step] > 0 for step in operators.STEPS if step != "unpack"), line


def test_broken_records_are_rejected_and_counted(tmp_path: Path) -> None:
    assert operators.measure(tmp_path, 300, ["csv", "parquet"], 1, 0.02)


def test_a_lost_row_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "spoilt", lambda *_: None)
    with pytest.raises(AssertionError, match="300 rows and 0 rejects"):
        operators.measure(tmp_path, 300, ["csv"], 1, 0.02)
