"""Checking: every broken rule of every record is told, and what is kept is typed and exact."""

import datetime as dt
import re
from decimal import Decimal

import dataframely as dy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobber.contract import Contract
from operators.check import check, check_typed
from operators.frames import Checked
from tests.unit.test_contract import Order

GOOD: dict[str, str | None] = {
    "number": "ABC",
    "amount": "1.5",
    "pieces": "3",
    "weight": "2.5",
    "due": "2026-11-24",
    "grade": "1",
}


def checked(*records: dict[str, str | None], schema: type[dy.Schema] = Order) -> Checked:
    contract = Contract.of(schema)
    columns = {column.name: [record.get(column.name) for record in records] for column in contract.columns}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return check(frame.with_columns(row_no=pl.int_range(1, len(records) + 1, dtype=pl.Int64)), contract)


def faults_of(found: Checked) -> list[tuple[int, str | None, str]]:
    return [(row, column, code) for row, column, code, _ in found.faults.iter_rows()]


def test_good_records_are_typed() -> None:
    found = checked(GOOD | {"urgent": "true", "note": "x"})
    assert found.faults.is_empty()
    assert found.kept.row(0, named=True) == {
        "number": "ABC",
        "amount": Decimal("1.50"),
        "pieces": 3,
        "weight": 2.5,
        "urgent": True,
        "due": dt.date(2026, 11, 24),
        "note": "x",
        "grade": 1,
        "row_no": 1,
    }
    assert found.kept.schema["amount"] == pl.Decimal(8, 2)
    assert found.kept.schema["pieces"] == pl.Int16


@pytest.mark.parametrize(
    ("column", "text", "code", "message"),
    [
        ("number", None, "REQUIRED", "number is required"),
        ("number", "", "REQUIRED", "number is required"),
        ("number", "ABCDEFGHI", "LENGTH", "number has at most 8 characters; got ABCDEFGHI"),
        ("number", "ABc", "PATTERN", "number must match ^[A-Z]+$; got ABc"),
        ("note", "", "LENGTH", "note needs at least 1 characters; got "),
        ("amount", "0", "RANGE", "amount must be above 0; got 0"),
        ("amount", "1000000", "RANGE", "amount must be at most 999999.99; got 1000000"),
        ("amount", "0.001", "SCALE", "amount has at most 2 decimals; got 0.001"),
        ("amount", "-1000000", "RANGE", "amount must be above 0; got -1000000"),
        ("pieces", "501", "RANGE", "pieces must be at most 500; got 501"),
        ("pieces", "-32769", "RANGE", "pieces must be at least -32768; got -32769"),
        ("weight", "1000.5", "RANGE", "weight must be below 1000.5; got 1000.5"),
        ("weight", "1e400", "RANGE", "weight must be below 1000.5; got 1e400"),
        ("weight", "-1e400", "RANGE", "weight is out of range; got -1e400"),
        ("weight", "NaN", "TYPE", "weight must be a number; got NaN"),
        ("urgent", "yes", "TYPE", "urgent must be true or false; got yes"),
        ("urgent", " true", "TYPE", "urgent must be true or false; got  true"),
        ("due", "2026-02-30", "TYPE", "due must be a date like 2026-11-24; got 2026-02-30"),
        ("due", "24.11.2026", "TYPE", "due must be a date like 2026-11-24; got 24.11.2026"),
        ("due", "2026-1-1", "TYPE", "due must be a date like 2026-11-24; got 2026-1-1"),
        ("due", "2019-12-31", "RANGE", "due must be at least 2020-01-01; got 2019-12-31"),
        ("grade", "7", "IS_IN", "the rule 'is in' does not hold; got 7"),
        ("grade", "2", "CHECK_ODD", "the rule 'check odd' does not hold; got 2"),
    ],
)
def test_a_broken_rule_is_told_in_a_sentence(column: str, text: str | None, code: str, message: str) -> None:
    found = checked(GOOD, GOOD | {column: text}, GOOD)
    assert found.faults.rows() == [(2, column, code, message)]
    assert found.kept["row_no"].to_list() == [1, 3]


def test_all_broken_rules_of_a_record_are_told() -> None:
    found = checked({"number": "a", "amount": "x", "pieces": "999", "weight": "-", "urgent": "1", "due": "?", "grade": "4"})
    assert faults_of(found) == [
        (1, "number", "LENGTH"),
        (1, "number", "PATTERN"),
        (1, "amount", "TYPE"),
        (1, "pieces", "RANGE"),
        (1, "weight", "TYPE"),
        (1, "urgent", "TYPE"),
        (1, "due", "TYPE"),
    ]


def test_rules_of_the_schema_judge_what_has_its_type_whatever_else_is_broken() -> None:
    heavy: dict[str, str | None] = {"weight": "500", "urgent": "false"}
    assert faults_of(checked(GOOD | heavy)) == [(1, None, "HEAVY_IS_URGENT")]
    assert faults_of(checked(GOOD | heavy | {"pieces": "501", "grade": "4"})) == [
        (1, "pieces", "RANGE"),
        (1, "grade", "CHECK_ODD"),
        (1, "grade", "IS_IN"),
        (1, None, "HEAVY_IS_URGENT"),
    ]
    # A value that is none, or would have been rounded, is not judged.
    assert faults_of(checked(GOOD | heavy | {"amount": "x"})) == [(1, "amount", "TYPE")]
    assert faults_of(checked(GOOD | heavy | {"amount": "1.555"})) == [(1, "amount", "SCALE")]
    assert faults_of(checked(GOOD | heavy | {"pieces": "99999"})) == [(1, "pieces", "RANGE")]
    # Absent values break nothing.
    assert faults_of(checked(GOOD | {"weight": None, "urgent": None})) == []


def test_order_is_kept_and_nothing_is_lost() -> None:
    texts = ["1", " 2", "x", "3 ", "-1", "4", "", "5.555", "6"]
    found = checked(*(GOOD | {"amount": text} for text in texts))
    assert found.kept["row_no"].to_list() == [1, 2, 4, 6, 9]
    assert [row for row, _, _ in faults_of(found)] == [3, 5, 7, 8]


class Numbers(dy.Schema):
    whole = dy.Int32(nullable=True, min=-50, max=1000)
    money = dy.Decimal(6, 2, nullable=True, min=-50, max=Decimal("1000.5"))
    plain = dy.Decimal(5, 0, nullable=True)


TOKENS = st.text(st.sampled_from("0123456789.-+ eE,"), max_size=7) | st.integers(-2000, 2000).map(str)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TOKENS, TOKENS, TOKENS), min_size=1, max_size=12))
def test_numbers_are_judged_as_arithmetic_has_it(rows: list[tuple[str, str, str]]) -> None:
    """Against a judge of its own: regular expressions and exact decimals, a value at a time."""
    records: list[dict[str, str | None]] = [{"whole": a or None, "money": b or None, "plain": c or None} for a, b, c in rows]
    found = checked(*records, schema=Numbers)
    expected, kept = [], []
    for row, record in enumerate(records, 1):
        faults, values = [], []
        for column, scale, low, high in (
            ("whole", -1, -50, 1000),
            ("money", 2, -50, Decimal("1000.5")),
            ("plain", 0, -99999, 99999),
        ):
            text = (record[column] or "").strip(" ")
            value = None
            if text:
                number = re.fullmatch(r"-?[0-9]+" if scale < 0 else r"-?[0-9]+(\.[0-9]+)?", text, re.ASCII)
                if not number:
                    faults.append((row, column, "TYPE"))
                else:
                    value = Decimal(text)
                    if number.lastindex and len(number[1]) > scale + 1:
                        faults.append((row, column, "SCALE"))
                    if not low <= value <= high:
                        faults.append((row, column, "RANGE"))
            values.append(value)
        expected += faults
        if not faults:
            kept.append((*values, row))
    assert faults_of(found) == expected
    assert found.kept.rows() == kept


ROW = pl.DataFrame(
    {"number": ["ABC"], "amount": [Decimal("1.50")], "row_no": [1]}, schema_overrides={"amount": pl.Decimal(8, 2)}
)


def test_rows_that_a_job_type_made_get_the_target_s_types() -> None:
    frame = ROW.with_columns(pieces=pl.lit(3, pl.Int64), grade=pl.lit(None), amount=pl.col("amount").cast(pl.Decimal(20, 4)))
    found = check_typed(frame, Contract.of(Order))
    assert found.faults.is_empty()
    assert found.kept.columns == [*(column.name for column in Contract.of(Order).columns), "row_no"]
    assert found.kept.schema["pieces"] == pl.Int16
    assert found.kept.schema["due"] == pl.Date
    assert found.kept["amount"].to_list() == [Decimal("1.50")]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"amount": pl.lit(Decimal("1.555"), pl.Decimal(10, 3))},
            ("amount", "SCALE", "amount has at most 2 decimals; got 1.555"),
        ),
        ({"amount": pl.lit(Decimal(0), pl.Decimal(10, 2))}, ("amount", "RANGE", "amount must be above 0; got 0.00")),
        ({"amount": pl.lit(10**12)}, ("amount", "RANGE", "amount must be at most 999999.99; got 1000000000000.00")),
        ({"amount": pl.lit(None, pl.Decimal(10, 2))}, ("amount", "REQUIRED", "amount is required")),
        ({"amount": pl.lit(None)}, ("amount", "REQUIRED", "amount is required")),
        ({"number": pl.lit("")}, ("number", "REQUIRED", "number is required")),
        ({"number": pl.lit("abc")}, ("number", "PATTERN", "number must match ^[A-Z]+$; got abc")),
        ({"pieces": pl.lit(1 << 40)}, ("pieces", "RANGE", f"pieces must be at most 500; got {1 << 40}")),
        ({"weight": pl.lit(5000)}, ("weight", "RANGE", "weight must be below 1000.5; got 5000")),
        ({"weight": pl.lit(float("nan"))}, ("weight", "RANGE", "weight must be a finite number; got NaN")),
        ({"weight": pl.lit(float("-inf"))}, ("weight", "RANGE", "weight must be a finite number; got -inf")),
        ({"grade": pl.lit(4)}, ("grade", "IS_IN", "the rule 'is in' does not hold; got 4")),
    ],
)
def test_a_row_that_the_target_cannot_hold_is_a_reject(change: dict[str, pl.Expr], fault: tuple[str, str, str]) -> None:
    two = pl.concat([ROW, ROW.with_columns(row_no=pl.lit(2, pl.Int64))])
    frame = two.with_columns(
        pl.when(pl.col("row_no") == 2).then(value).otherwise(pl.col(name) if name in ROW.columns else None).alias(name)
        for name, value in change.items()
    )
    found = check_typed(frame, Contract.of(Order))
    assert (2, *fault) in found.faults.rows()
    assert found.kept["row_no"].to_list() == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"amount": pl.lit(1.5)},
        {"number": pl.lit(1)},
        {"pieces": pl.lit(1.5)},
        {"due": pl.lit("2026-11-24")},
        {"urgent": pl.lit(1)},
    ],
)
def test_a_type_that_the_target_cannot_have_is_a_bug(change: dict[str, pl.Expr]) -> None:
    with pytest.raises(TypeError, match=next(iter(change))):
        check_typed(ROW.with_columns(**change), Contract.of(Order))
