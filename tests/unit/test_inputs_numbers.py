"""How numbers may be written, by example: in a CSV, and in JSON. Nothing is guessed and nothing is rounded."""

import gzip
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from tests.support.outcome import outcome

CSV_LOADS: list[tuple[str, str, Decimal | int | None]] = [
    ("price", " 1.50", Decimal("1.50")),
    ("price", "1.50  ", Decimal("1.50")),
    ("price", "1", Decimal(1)),
    ("price", "0", Decimal(0)),
    ("price", "-0", Decimal(0)),
    ("price", "-0.00", Decimal(0)),
    ("price", "0001.5", Decimal("1.5")),
    ("price", "9999999999.99", Decimal("9999999999.99")),
    ("stock", "007", 7),
    ("stock", "-0", 0),
    ("stock", "2147483647", 2147483647),
    ("stock", " 7 ", 7),
    ("stock", "", None),
    ("stock", "   ", None),
    ("rating", "5", Decimal(5)),
    ("rating", "5.00", Decimal(5)),
    ("rating", "", None),
]
CSV_REJECTS = [
    ("price", "1,234.56", "TYPE"),
    ("price", "1.234,56", "TYPE"),
    ("price", "1 234", "TYPE"),
    ("price", "1\u00a0234", "TYPE"),
    ("price", "\u00a01", "TYPE"),
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
    ("price", "١٢", "TYPE"),
    ("price", "$5", "TYPE"),
    ("price", "5%", "TYPE"),
    ("price", "1.", "TYPE"),
    ("price", ".5", "TYPE"),
    ("price", "+5", "TYPE"),
    ("price", "--5", "TYPE"),
    ("price", "-", "TYPE"),
    ("price", "- 5", "TYPE"),
    ("price", "5-", "TYPE"),
    ("price", "1.2.3", "TYPE"),
    ("price", "1\n", "TYPE"),
    ("price", "1\t", "TYPE"),
    ("price", "", "REQUIRED"),
    ("price", "  ", "REQUIRED"),
    ("price", "N/A", "TYPE"),
    ("price", "null", "TYPE"),
    ("price", "1.555", "SCALE"),
    ("price", "1.500", "SCALE"),
    ("price", "10000000000", "RANGE"),
    ("price", "10000000000.00", "RANGE"),
    ("price", "9" * 40, "RANGE"),
    ("price", "9" * 5000, "RANGE"),
    ("price", "-" + "9" * 5000, "RANGE"),
    ("stock", "2147483648", "RANGE"),
    ("stock", "9223372036854775808", "RANGE"),
    ("stock", "18446744073709551616", "RANGE"),
    ("stock", "9" * 5000, "RANGE"),
    ("stock", "-1", "RANGE"),
    ("stock", "-3", "RANGE"),
    ("stock", "-2147483649", "RANGE"),
    ("stock", "1.5", "TYPE"),
    ("stock", "1.0", "TYPE"),
    ("stock", "1e3", "TYPE"),
    ("stock", "true", "TYPE"),
    ("rating", "5.01", "RANGE"),
    ("rating", "-0.01", "RANGE"),
    ("rating", "4.555", "SCALE"),
    ("rating", "10", "RANGE"),
    ("rating", "1000", "RANGE"),
]


def csv_of(column: str, text: str, *, bare: bool = False) -> bytes:
    fields = {"name": "Cup", "price": "1", "stock": "", "rating": ""} | {column: text}
    record = ",".join(value if bare else '"' + value.replace('"', '""') + '"' for value in fields.values())
    return f"{','.join(fields)}\nBefore,1,2,3\n{record}\nAfter,1,2,3\n".encode()


def written(column: str, text: str) -> Iterator[bytes]:
    """In quotes, and where that is the same without them, also packed and with other line ends."""
    yield csv_of(column, text)
    if not set(text) & {",", "\n"}:
        bare = csv_of(column, text, bare=True)
        yield from (bare, bare.replace(b"\n", b"\r\n"), gzip.compress(bare))


@pytest.mark.parametrize(("column", "text", "value"), CSV_LOADS)
def test_csv_numbers_that_load(column: str, text: str, value: object) -> None:
    for data in written(column, text):
        found = outcome(data)
        assert found.faults == []
        assert found.loaded[2][column] == value
        assert not str(found.loaded[2][column]).startswith("-")


@pytest.mark.parametrize(("column", "text", "code"), CSV_REJECTS)
def test_csv_numbers_that_are_rejected(column: str, text: str, code: str) -> None:
    for data in written(column, text):
        found = outcome(data)
        assert found.faults == [(2, column, code)]
        assert found.names == ["Before", "After"]
        assert column in found.messages[0]
        assert len(found.messages[0]) < 200


JSON_LOADS: list[tuple[str, str, Decimal | int | None]] = [
    ("price", "1.50", Decimal("1.50")),
    ("price", "1e3", Decimal(1000)),
    ("price", "1E+3", Decimal(1000)),
    ("price", "15e-1", Decimal("1.5")),
    ("price", "1.5e0", Decimal("1.5")),
    ("price", "0e400", Decimal(0)),
    ("price", "-0", Decimal(0)),
    ("price", "-0.0", Decimal(0)),
    ("price", "-0e5", Decimal(0)),
    ("price", "9999999999.99", Decimal("9999999999.99")),
    ("price", "0.1", Decimal("0.1")),
    ("stock", "7", 7),
    ("stock", "7.0", 7),
    ("stock", "7e2", 700),
    ("stock", "700e-2", 7),
    ("stock", "-0", 0),
    ("stock", "2147483647", 2147483647),
    ("stock", "null", None),
    ("rating", "5.0", Decimal(5)),
    ("rating", "null", None),
]
JSON_REJECTS = [
    ("price", "null", "REQUIRED"),
    ("price", "true", "TYPE"),
    ("price", '"12"', "TYPE"),
    ("price", '""', "TYPE"),
    ("price", "[1]", "TYPE"),
    ("price", '{"a": 1}', "TYPE"),
    ("price", "1e400", "RANGE"),
    ("price", "-1e400", "RANGE"),
    ("price", "1E999999999999999999", "RANGE"),
    ("price", "1E9999999999999999999999", "RANGE"),
    ("price", "1e" + "9" * 5000, "RANGE"),
    ("price", "1e-400", "SCALE"),
    ("price", "1e-999999999999999999", "SCALE"),
    ("price", "1e-9999999999999999999999", "SCALE"),
    ("price", "0." + "9" * 5000, "SCALE"),
    ("price", "0." + "9" * 5000 + "e0", "SCALE"),
    ("price", "9" * 5000, "RANGE"),
    ("price", "-" + "9" * 5000, "RANGE"),
    ("price", "1.500", "SCALE"),
    ("price", "1.555", "SCALE"),
    ("price", "-3", "RANGE"),
    ("price", "10000000000", "RANGE"),
    ("stock", "9223372036854775808", "RANGE"),
    ("stock", "18446744073709551616", "RANGE"),
    ("stock", "2147483648", "RANGE"),
    ("stock", "-1", "RANGE"),
    ("stock", "1.5", "TYPE"),
    ("stock", "1e-1", "TYPE"),
    ("stock", "1e-400", "TYPE"),
    ("stock", "1e400", "RANGE"),
    ("stock", "9" * 5000, "RANGE"),
    ("stock", "9" * 5000 + ".0", "RANGE"),
    ("stock", "1." + "0" * 5000 + "1", "TYPE"),
    ("stock", '"7"', "TYPE"),
    ("stock", "false", "TYPE"),
    ("rating", "5.01", "RANGE"),
    ("rating", '"good"', "TYPE"),
    ("name", "12", "TYPE"),
    ("name", "true", "TYPE"),
    ("name", "[]", "TYPE"),
    ("name", "{}", "TYPE"),
    ("name", "null", "REQUIRED"),
    ("name", '""', "REQUIRED"),
]
JSON_BROKEN = [
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "-01",
    "1.",
    ".5",
    "+5",
    "0x10",
    "1_000",
    "１２",
    "1e",
    "-",
    "1 2",
    "tru",
    "nul",
]


def lines_of(column: str, token: str) -> bytes:
    fields = {"name": '"Cup"', "price": "1"} | {column: token}
    record = ", ".join(f'"{name}": {value}' for name, value in fields.items())
    return f'{{"name": "Before", "price": 1}}\n{{{record}}}\n{{"name": "After", "price": 1}}\n'.encode()


def array_of(column: str, token: str) -> bytes:
    return b"[" + lines_of(column, token).strip().replace(b"\n", b",\n") + b"]"


Write = Callable[[str, str], bytes]


@pytest.mark.parametrize("write", [lines_of, array_of])
@pytest.mark.parametrize(("column", "token", "value"), JSON_LOADS)
def test_json_numbers_that_load(write: Write, column: str, token: str, value: object) -> None:
    found = outcome(write(column, token))
    assert found.faults == []
    assert found.loaded[2][column] == value


@pytest.mark.parametrize("write", [lines_of, array_of])
@pytest.mark.parametrize(("column", "token", "code"), JSON_REJECTS)
def test_json_numbers_that_are_rejected(write: Write, column: str, token: str, code: str) -> None:
    found = outcome(write(column, token))
    assert found.faults == [(2, column, code)]
    assert found.names == ["Before", "After"]
    assert column in found.messages[0]
    assert len(found.messages[0]) < 200
    assert token[:9000] in found.raw[2]


@pytest.mark.parametrize("token", JSON_BROKEN)
@pytest.mark.parametrize("write", [lines_of, array_of])
def test_what_is_no_json_number_breaks_its_record_alone(write: Write, token: str) -> None:
    found = outcome(write("price", token))
    assert found.faults == [(2, None, "SYNTAX")]
    assert found.names == ["Before", "After"]


def test_other_names_for_no_value_are_text() -> None:
    assert outcome(b"name,price\nN/A,1\nnull,1\n").names == ["N/A", "null"]
