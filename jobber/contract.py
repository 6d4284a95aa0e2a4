"""Contracts: what a record must be. They are written as dataframely schemas and compiled here, once, for checking text.

dataframely judges typed frames; a failed cast there hides a row's other faults. So its declaration is taken as the source, and
the lexical part of each column (is this text such a number?) is derived from it. Custom `@dy.rule`s and `check`s run on typed
rows. They judge one row by itself: a contract sees a batch at a time, never the whole input.
"""

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any, Literal

import dataframely as dy
import polars as pl

Kind = Literal["text", "integer", "decimal", "number", "boolean", "date"]

#: Bounds of what the typed column can hold.
_INTEGERS: dict[type[dy.Column], tuple[Any, int, int]] = {
    kind: (dtype, low, high)
    for kind, dtype, low, high in (
        (dy.Int8, pl.Int8, -(1 << 7), (1 << 7) - 1),
        (dy.Int16, pl.Int16, -(1 << 15), (1 << 15) - 1),
        (dy.Int32, pl.Int32, -(1 << 31), (1 << 31) - 1),
        (dy.Int64, pl.Int64, -(1 << 63), (1 << 63) - 1),
        (dy.Integer, pl.Int64, -(1 << 63), (1 << 63) - 1),
        (dy.UInt8, pl.UInt8, 0, (1 << 8) - 1),
        (dy.UInt16, pl.UInt16, 0, (1 << 16) - 1),
        (dy.UInt32, pl.UInt32, 0, (1 << 32) - 1),
    )
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a contract."""

    name: str
    kind: Kind
    #: What the checked frame has.
    dtype: Any
    required: bool
    minimum: Decimal | int | date | None = None
    maximum: Decimal | int | date | None = None
    #: The bounds themselves are not allowed.
    above_minimum: bool = False
    below_maximum: bool = False
    #: Decimals: digits in all, and behind the point.
    precision: int = 0
    scale: int = 0
    #: Text, in characters.
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class OwnRule:
    """A rule that is an expression over typed columns; null means that it holds."""

    name: str
    holds: pl.Expr
    #: None: of the row as a whole.
    column: str | None = None

    @property
    def code(self) -> str:
        """What its rejects are called."""
        return self.name.replace("__", "_").upper()


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """The compiled rules of a schema. There is one of each schema: it is its own key, where expressions are none."""

    name: str
    columns: tuple[Column, ...]
    #: Rules of the schema's own, beyond what its columns say.
    rules: tuple[OwnRule, ...]

    @staticmethod
    @cache
    def of(schema: type[dy.Schema]) -> "Contract":
        """Compile the schema.

        Raises TypeError for a column type that a text cannot be checked against, and for rules that compare rows.
        """
        columns = tuple(_column(name, column) for name, column in schema.columns().items())
        rules = [rule for name, column in schema.columns().items() for rule in _checks(name, column)]
        rules += [OwnRule(name, rule.expr) for name, rule in schema._schema_validation_rules().items()]
        for rule in rules:
            if ".over(" in str(rule.holds):
                raise TypeError(
                    f"{schema.__name__}: the rule {rule.name!r} compares rows, but a contract sees a batch at a time"
                )
        return Contract(schema.__name__, columns, tuple(rules))

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of one record."""
        return {
            "type": "object",
            "properties": {column.name: _json(column) for column in self.columns},
            "required": [column.name for column in self.columns if column.required],
        }

    def template(self) -> str:
        """A CSV file of no records: the header that an input wants, required columns first."""
        return ",".join(_quoted(column.name) for column in sorted(self.columns, key=lambda column: not column.required)) + "\n"

    def table(self) -> list[dict[str, str]]:
        """A row a column: name, type, required, default, rules."""
        return [
            {
                "name": column.name,
                "type": type_of(column),
                "required": "yes" if column.required else "no",
                "default": "" if column.required else "null",
                "rules": ", ".join(rules_of(column)),
            }
            for column in self.columns
        ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"\r\n') else name


def type_of(column: Column) -> str:
    """The column's type in a word."""
    return f"decimal({column.precision},{column.scale})" if column.kind == "decimal" else column.kind


def rules_of(column: Column) -> list[str]:
    """The column's rules in words."""
    rules = []
    if column.minimum is not None:
        rules.append(f"{'above' if column.above_minimum else 'at least'} {column.minimum}")
    if column.maximum is not None:
        rules.append(f"{'below' if column.below_maximum else 'at most'} {column.maximum}")
    if column.kind == "decimal":
        rules.append(f"at most {column.scale} decimals")
    if column.min_length:
        rules.append(f"at least {column.min_length} characters")
    if column.max_length is not None:
        rules.append(f"at most {column.max_length} characters")
    if column.pattern is not None:
        rules.append(f"matches {column.pattern}")
    return rules


#: Rules of a column that are compiled to checks of its text.
_COMPILED = frozenset(
    {"nullability", "min", "min_exclusive", "max", "max_exclusive", "min_length", "max_length", "regex", "inf", "nan"}
)


def _checks(name: str, column: dy.Column) -> list[OwnRule]:
    """What else the column demands: `check`, `is_in` and the like. Nothing that is declared is left out."""
    if column.primary_key or column.unique:
        raise TypeError(f"{name}: a contract sees a batch at a time, and cannot tell whether a value is unique")
    rules = column.validation_rules(pl.col(name))
    return [OwnRule(rule, holds, name) for rule, holds in rules.items() if rule not in _COMPILED]


def _column(name: str, column: dy.Column) -> Column:
    required, about = not column.nullable, column.description
    if isinstance(column, dy.String):
        minimum = column.min_length or 0
        return Column(
            name,
            "text",
            pl.String,
            required,
            # An empty required text is missing, not short.
            min_length=minimum if minimum > required else None,
            max_length=column.max_length,
            pattern=column.regex,
            description=about,
        )
    low, high, above, below = _bounds(column)
    if isinstance(column, dy.Decimal):
        precision, scale = column.precision or 38, column.scale
        most = Decimal(10) ** (precision - scale) - Decimal(1).scaleb(-scale)
        high, below = (most, False) if high is None or high > most else (high, below)
        dtype = pl.Decimal(precision, scale)
        return Column(name, "decimal", dtype, required, low, high, above, below, precision, scale, description=about)
    for kind, (integer, least, most_) in _INTEGERS.items():
        if type(column) is kind:
            low, above = (least, False) if low is None or low < least else (low, above)
            high, below = (most_, False) if high is None or high > most_ else (high, below)
            return Column(name, "integer", integer, required, low, high, above, below, description=about)
    if isinstance(column, dy.Float64 | dy.Float | dy.Float32):
        return Column(name, "number", pl.Float64, required, low, high, above, below, description=about)
    if isinstance(column, dy.Bool):
        return Column(name, "boolean", pl.Boolean, required, description=about)
    if isinstance(column, dy.Date):
        return Column(name, "date", pl.Date, required, low, high, above, below, description=about)
    raise TypeError(f"{name}: a contract cannot have a column of type {type(column).__name__}")


def _bounds(column: Any) -> tuple[Any, Any, bool, bool]:
    low, high = getattr(column, "min", None), getattr(column, "max", None)
    above, below = getattr(column, "min_exclusive", None), getattr(column, "max_exclusive", None)
    return (
        above if above is not None else low,
        below if below is not None else high,
        above is not None,
        below is not None,
    )


_JSON_TYPES = {"text": "string", "integer": "integer", "decimal": "number", "number": "number", "boolean": "boolean"}


def _json(column: Column) -> dict[str, Any]:
    kind = _JSON_TYPES.get(column.kind, "string")
    schema: dict[str, Any] = {"type": kind if column.required else [kind, "null"]}
    if column.description:
        schema["description"] = column.description
    if column.minimum is not None and column.kind != "date":
        schema["exclusiveMinimum" if column.above_minimum else "minimum"] = _number(column.minimum)
    if column.maximum is not None and column.kind != "date":
        schema["exclusiveMaximum" if column.below_maximum else "maximum"] = _number(column.maximum)
    if column.kind == "decimal":
        schema["multipleOf"] = float(Decimal(1).scaleb(-column.scale))
    if column.kind == "text" and (column.min_length or column.required):
        schema["minLength"] = column.min_length or 1
    if column.max_length is not None:
        schema["maxLength"] = column.max_length
    if column.pattern is not None:
        schema["pattern"] = column.pattern
    if column.kind == "date":
        schema["format"] = "date"
    if not column.required:
        schema["default"] = None
    return schema


def _number(value: Any) -> int | float:
    return int(value) if value == int(value) else float(value)


#: How numbers are written. Nothing else is guessed: no thousands separators, signs in front, exponents or bare points.
INTEGER = re.compile(r"^-?[0-9]+$").pattern
DECIMAL = re.compile(r"^-?[0-9]+(\.[0-9]+)?$").pattern
NUMBER = re.compile(r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$").pattern
