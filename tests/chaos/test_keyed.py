"""The model of what is written by keys; tests/e2e/test_modes.py sees the products service do the same."""

from jobber.model import WriteMode, Writing
from tests.chaos.keyed import Products, written
from tests.chaos.model import Bad, Known


def job(mode: WriteMode, *records: tuple[str, str]) -> Known:
    good = dict(enumerate(records, 1))
    raw = {row: f"row {row}" for row in good}
    return Known("job", "LoadProducts", "key", None, good, {}, writing=Writing(mode=mode, keys=("name",)), raw=raw)


BEFORE: Products = {"a": (("1.00", "old", 7),), "twice": (("1.00", "old", 8), ("1.00", "old", 9))}


def test_records_are_written_as_if_one_by_one() -> None:
    asked = job(WriteMode.UPSERT, ("a", "2.00"), ("b", "1.00"), ("a", "3.00"), ("b", "1.00"), ("a", "3.00"), ("twice", "1.00"))
    made = written(BEFORE, asked)
    assert made.counts == (1, 2, 2)
    assert made.after == {**BEFORE, "a": (("3.00", "job", 3),), "b": (("1.00", "job", 2),)}
    assert {row: bad.code for row, bad in made.lost.items()} == {6: "NOT_UNIQUE"}
    assert BEFORE["a"] == (("1.00", "old", 7),)


def test_update_makes_none() -> None:
    made = written(BEFORE, job(WriteMode.UPDATE, ("a", "1.00"), ("b", "1.00")))
    assert (made.counts, made.after) == ((0, 0, 1), BEFORE)
    assert made.lost == {2: Bad("NOT_FOUND", "name", "there is no product with this name, and UPDATE makes none", "row 2")}


def test_new_rows_are_added_whatever_is_there() -> None:
    made = written(BEFORE, job(WriteMode.INSERT, ("a", "1.00")))
    assert made.after["a"] == (("1.00", "old", 7), ("1.00", "job", 1))
