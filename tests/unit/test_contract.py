"""Contracts: what is compiled from a schema, and what cannot be."""

import datetime as dt
from decimal import Decimal

import dataframely as dy
import polars as pl
import pytest

from jobber.contract import Contract, rules_of
from jobber.jobtypes.load_products import Product


class Order(dy.Schema):
    number = dy.String(nullable=False, min_length=3, max_length=8, regex="^[A-Z]+$", description="as printed")
    amount = dy.Decimal(8, 2, nullable=False, min_exclusive=0)
    pieces = dy.Int16(nullable=True, max=500)
    weight = dy.Float64(nullable=True, max_exclusive=1000.5)
    urgent = dy.Bool(nullable=True)
    due = dy.Date(nullable=True, min=dt.date(2020, 1, 1))
    note = dy.String(nullable=True, min_length=1)
    grade = dy.Int32(nullable=True, is_in=[1, 2, 5], check={"odd": lambda grade: grade % 2 == 1})

    @dy.rule()
    def heavy_is_urgent(cls) -> pl.Expr:
        return (pl.col("weight") < 100) | pl.col("urgent")


def test_a_schema_is_compiled_once() -> None:
    assert Contract.of(Order) is Contract.of(Order)
    assert Contract.of(Order).name == "Order"


def test_columns_are_told_apart() -> None:
    columns = {column.name: column for column in Contract.of(Order).columns}
    assert [(name, column.kind, column.required) for name, column in columns.items()] == [
        ("number", "text", True),
        ("amount", "decimal", True),
        ("pieces", "integer", False),
        ("weight", "number", False),
        ("urgent", "boolean", False),
        ("due", "date", False),
        ("note", "text", False),
        ("grade", "integer", False),
    ]
    assert (columns["amount"].precision, columns["amount"].scale) == (8, 2)
    assert columns["amount"].dtype == pl.Decimal(8, 2)
    assert Contract.of(Order).column("due") == columns["due"]
    assert Contract.of(Order).column("nothing") is None


def test_what_a_type_can_hold_is_a_bound() -> None:
    columns = {column.name: column for column in Contract.of(Order).columns}
    assert (columns["amount"].minimum, columns["amount"].maximum) == (0, Decimal("999999.99"))
    assert (columns["pieces"].minimum, columns["pieces"].maximum) == (-32768, 500)
    assert columns["amount"].above_minimum
    assert not columns["amount"].below_maximum
    assert columns["weight"].below_maximum


def test_what_is_no_bound_of_a_text_is_kept_as_a_rule() -> None:
    rules = Contract.of(Order).rules
    assert [(rule.column, rule.name, rule.code) for rule in rules] == [
        ("grade", "check__odd", "CHECK_ODD"),
        ("grade", "is_in", "IS_IN"),
        (None, "heavy_is_urgent", "HEAVY_IS_URGENT"),
    ]


def test_rules_in_words() -> None:
    columns = {column.name: rules_of(column) for column in Contract.of(Order).columns}
    assert columns["number"] == ["at least 3 characters", "at most 8 characters", "matches ^[A-Z]+$"]
    assert columns["amount"] == ["above 0", "at most 999999.99", "at most 2 decimals"]
    assert columns["weight"] == ["below 1000.5"]
    assert columns["due"] == ["at least 2020-01-01"]
    assert columns["note"] == ["at least 1 characters"]


def test_table() -> None:
    assert Contract.of(Product).table()[2] == {
        "name": "price",
        "type": "decimal(12,2)",
        "required": "yes",
        "default": "",
        "rules": "at least 0, at most 9999999999.99, at most 2 decimals",
    }
    assert [row["default"] for row in Contract.of(Product).table()] == ["", "null", "", "null", "null", "null"]


def test_json_schema() -> None:
    schema = Contract.of(Product).json_schema()
    assert schema["type"] == "object"
    assert schema["required"] == ["name", "price"]
    assert schema["properties"]["name"] == {"type": "string", "description": "what it is called", "minLength": 1}
    assert schema["properties"]["price"] == {
        "type": "number",
        "description": "in the shop's currency, to the cent",
        "minimum": 0,
        "maximum": 9999999999.99,
        "multipleOf": 0.01,
    }
    assert schema["properties"]["stock"]["type"] == ["integer", "null"]
    assert schema["properties"]["stock"]["default"] is None
    order = Contract.of(Order).json_schema()["properties"]
    assert order["amount"]["exclusiveMinimum"] == 0
    assert order["weight"]["exclusiveMaximum"] == 1000.5
    assert order["number"] == {
        "type": "string",
        "description": "as printed",
        "minLength": 3,
        "maxLength": 8,
        "pattern": "^[A-Z]+$",
    }
    assert order["due"] == {"type": ["string", "null"], "format": "date", "default": None}


class Unique(dy.Schema):
    code = dy.String(unique=True)


class Keyed(dy.Schema):
    code = dy.String(primary_key=True)


class Compared(dy.Schema):
    code = dy.String()
    place = dy.Int32()

    @dy.rule()
    def one_for_each(cls) -> pl.Expr:
        return pl.len().over("code") == 1


class Timed(dy.Schema):
    at = dy.Datetime()


@pytest.mark.parametrize(
    ("schema", "words"),
    [(Unique, "unique"), (Keyed, "unique"), (Compared, "compares rows"), (Timed, "Datetime")],
)
def test_what_cannot_be_told_of_one_record_is_refused(schema: type[dy.Schema], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Contract.of(schema)


def test_the_template_is_a_file_without_records() -> None:
    from jobber.jobtypes.load_products import LoadProducts
    from jobber.model import InputOptions
    from operators.plan import plan

    contract = Contract.of(LoadProducts.contract)
    text = contract.template()
    assert text == "name,price,category,stock,rating,description\n"
    assert plan([text.encode()], contract, InputOptions()).rows == 0
