"""What numbers get, as text in a CSV: nothing is guessed and nothing is rounded."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.outcome import outcome

GOOD: list[tuple[str, str, Any]] = [
    ("price", " 1.50", Decimal("1.50")),
    ("price", "1.5 ", Decimal("1.50")),
    ("price", "-0", Decimal("0.00")),
    ("price", "007", Decimal("7.00")),
    ("price", "9999999999.99", Decimal("9999999999.99")),
    ("stock", "007", 7),
    ("stock", "2147483647", 2147483647),
    ("stock", "", None),
    ("rating", "5.00", Decimal("5.00")),
    ("rating", "0", Decimal("0.00")),
]
BAD = [
    ("price", '"1,234.56"', "TYPE"),
    ("price", '"1.234,56"', "TYPE"),
    ("price", "1 234", "TYPE"),
    ("price", "1e3", "TYPE"),
    ("price", "1E400", "TYPE"),
    ("price", "NaN", "TYPE"),
    ("price", "inf", "TYPE"),
    ("price", "-Infinity", "TYPE"),
    ("price", "-3", "RANGE"),
    ("price", "-0.01", "RANGE"),
    ("price", "0x10", "TYPE"),
    ("price", "1_000", "TYPE"),
    ("price", "１２", "TYPE"),
    ("price", "$5", "TYPE"),
    ("price", "5%", "TYPE"),
    ("price", "1.", "TYPE"),
    ("price", ".5", "TYPE"),
    ("price", "+5", "TYPE"),
    ("price", "--5", "TYPE"),
    ("price", "-", "TYPE"),
    ("price", "", "REQUIRED"),
    ("price", "N/A", "TYPE"),
    ("price", "null", "TYPE"),
    ("price", "1.505", "SCALE"),
    ("price", "1.500", "SCALE"),
    ("price", "10000000000", "RANGE"),
    ("price", "9" * 50, "RANGE"),
    ("price", "-" + "9" * 50, "RANGE"),
    ("stock", "-1", "RANGE"),
    ("stock", "1.5", "TYPE"),
    ("stock", "1.0", "TYPE"),
    ("stock", "2147483648", "RANGE"),
    ("stock", "9" * 30, "RANGE"),
    ("stock", "N/A", "TYPE"),
    ("rating", "5.01", "RANGE"),
    ("rating", "-0.5", "RANGE"),
    ("rating", "4.505", "SCALE"),
]


def record(column: str, text: str) -> bytes:
    values = {"price": "1", "stock": "1", "rating": "1", column: text}
    return f"name,price,stock,rating\na,{values['price']},{values['stock']},{values['rating']}\nb,1,1,1\n".encode()


@pytest.mark.parametrize(("column", "text", "value"), GOOD)
def test_good(column: str, text: str, value: Any) -> None:
    found = outcome(record(column, text))
    assert found.faults == []
    assert found.loaded[1][column] == value


@pytest.mark.parametrize(("column", "text", "code"), BAD)
def test_bad(column: str, text: str, code: str) -> None:
    found = outcome(record(column, text))
    assert found.faults == [(1, column, code)]
    assert list(found.loaded) == [2]


def test_a_text_keeps_its_zeros() -> None:
    assert outcome(b"name,price\n007,1\n").loaded[1]["name"] == "007"


def test_the_charge_is_added_to_the_cent() -> None:
    found = outcome(b"name,price,category\na,0.10,Books\nb,0.10,books\nc,0.10,\nd,9999999998.50,Books\n")
    assert {row: str(item["price"]) for row, item in found.loaded.items()} == {1: "1.60", 2: "0.10", 3: "0.10"}
    assert found.faults == [(4, "price", "RANGE")]


@pytest.mark.parametrize(("number", "value"), [(0, "0"), (1, "1"), (2, "1"), (10, "55"), (90, "2880067194370816120")])
def test_fibonacci(number: int, value: str) -> None:
    data = b'[{"iterations": %d}]' % number
    assert outcome(data, name="Fibonacci").loaded[1]["value"] == value


@pytest.mark.parametrize("data", [b'[{"iterations": -1}]', b'[{"iterations": 10001}]', b"[{}]", b'[{"iterations": 1.5}]'])
def test_fibonacci_refuses(data: bytes) -> None:
    assert outcome(data, name="Fibonacci").rejected == [1]
