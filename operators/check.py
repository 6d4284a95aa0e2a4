"""Check text records against a contract: all broken rules of a row are found, then the good rows are typed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import polars as pl

from jobber.contract import DECIMAL, INTEGER, NUMBER, Column, Contract
from operators.frames import FAULTS, Checked

_LEXICAL = {"integer": INTEGER, "decimal": DECIMAL, "number": NUMBER, "boolean": "^(true|false)$"}
#: Wide enough to compare a decimal with its bounds, however many decimals it has.
_EXACT = pl.Decimal(38, 18)
#: Whether a record meets every rule, as a column beside its own: no column of an input is called so.
_PLAIN = "\0"
_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_NAMES = {
    "integer": "a whole number",
    "decimal": "a number",
    "number": "a number",
    "boolean": "true or false",
    "date": "a date like 2026-11-24",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of one column; `broken` is never null."""

    column: str | None
    code: str
    broken: pl.Expr
    #: Ends with the value where it helps.
    message: str
    shows: pl.Expr | None = None


class Rules:
    """Rules that are held against one frame after the other: expressions are made once, as making one costs 20 µs."""

    def __init__(self, each: Sequence[Rule]) -> None:
        self.each = each
        self.any_broken = pl.any_horizontal(rule.broken.any() for rule in each) if each else None


@dataclass(frozen=True, slots=True)
class _Quick:
    """What judges records that are probably good."""

    casts: list[pl.Expr]
    plain: pl.Expr
    finish: list[pl.Expr]


def check(records: pl.DataFrame, contract: Contract, text: Callable[[pl.Series], pl.DataFrame] | None = None) -> Checked:
    """Keep the records that meet every rule, typed; name every rule that the others break.

    `records` and `text` as of `Decoded`; numbers in texts may have spaces around them. Order is kept. Rules of the schema's own
    judge the records whose values all have their type.
    """
    quick = _quick(contract, _typed_already(records, contract) if text else frozenset())
    found = records.with_columns(quick.casts).select(quick.plain.alias(_PLAIN), *quick.finish)
    plain, typed = found.get_column(_PLAIN), found.drop(_PLAIN)
    if plain.all():
        return _judged(typed, contract)
    fine = _judged(typed.filter(plain), contract)
    doubtful = records.filter(~plain)
    closer = _closer(text(doubtful["row_no"]) if text else doubtful, contract)
    return Checked(
        pl.concat([fine.kept, closer.kept]).sort("row_no"),
        pl.concat([fine.faults, closer.faults]).sort("row_no", maintain_order=True),
    )


def _typed_already(records: pl.DataFrame, contract: Contract) -> frozenset[str]:
    types = records.schema
    return frozenset(column.name for column in contract.columns if column.kind != "text" and types[column.name] != pl.String)


@lru_cache(256)
def _quick(contract: Contract, typed: frozenset[str]) -> _Quick:
    return _Quick(
        [
            (pl.col(column.name) if column.name in typed else _cast(column)).alias(_typed(column.name))
            for column in contract.columns
            if column.kind != "text"
        ],
        pl.all_horizontal(_plain(column, lexical=column.name not in typed) for column in contract.columns),
        _finish(contract),
    )


def _judged(typed: pl.DataFrame, contract: Contract) -> Checked:
    """By the schema's own rules."""
    broken, faults = _broken(typed, _own(contract))
    return Checked(typed if faults.is_empty() else typed.filter(~broken), faults)


def _plain(column: Column, *, lexical: bool) -> pl.Expr:
    """Whether the column's value meets all its rules, told without looking closer; true is certain, false is not.

    `lexical`: it is a text, whose form counts.
    """
    text = pl.col(column.name)
    if column.kind == "text":
        fine = pl.lit(True)
        for rule in _text(column):
            fine = fine & ~rule.broken
        return text.is_not_null() & (text != "") & fine if column.required else fine
    typed = pl.col(_typed(column.name))
    low, high = _outside(column, typed)
    fine = typed.is_not_null() & ~low & ~high
    if not lexical:
        pass
    elif column.kind == "decimal":
        fine = fine & text.str.contains(
            rf"^-?[0-9]{{1,38}}(\.[0-9]{{1,{max(column.scale, 1)}}})?$" if column.scale else INTEGER
        )
    elif column.kind == "date":
        fine = fine & text.str.contains(_DATE)
    else:
        fine = fine & text.str.contains(_LEXICAL[column.kind])
    if column.kind == "number":
        fine = fine & typed.is_finite()
    return fine.fill_null(False) if column.required else (text.is_null() | fine.fill_null(False))


def _closer(records: pl.DataFrame, contract: Contract) -> Checked:
    """Every rule, for records of which some break some."""
    text = records.with_columns(
        pl.col(column.name).str.strip_chars(" ") for column in contract.columns if column.kind not in ("text", "boolean")
    )
    frame = text.with_columns(_cast(column).alias(_typed(column.name)) for column in contract.columns if column.kind != "text")
    broken, faults = _broken(frame, _all(contract))
    typed = frame.select(_finish(contract))
    if contract.rules:
        converted = frame.select(pl.all_horizontal(_converted(column) for column in contract.columns)).to_series()
        own, others = _broken(typed.filter(converted), _own(contract))
        faults = pl.concat([faults, others])
        broken = broken.scatter(converted.arg_true().filter(own), True)
    return Checked(typed.filter(~broken), faults)


@cache
def _all(contract: Contract) -> Rules:
    return Rules([rule for column in contract.columns for rule in _rules(column)])


def _converted(column: Column) -> pl.Expr:
    """Whether the value has its type, whatever bounds it breaks; one that is absent has."""
    if column.kind == "text":
        return pl.lit(True)
    text, typed = pl.col(column.name), pl.col(_typed(column.name))
    lexical = text.str.contains(_DATE if column.kind == "date" else _LEXICAL[column.kind]) & typed.is_not_null()
    if column.kind == "decimal":
        lexical &= text.str.contains(_decimal(column))
    if column.kind == "number":
        lexical &= typed.is_finite()
    return text.is_null() | (text == "") | lexical.fill_null(False)


def _decimal(column: Column) -> str:
    """The decimals that a column's scale allows."""
    return rf"^-?[0-9]+(\.[0-9]{{1,{column.scale}}})?$" if column.scale else INTEGER


def check_typed(frame: pl.DataFrame, contract: Contract, met: frozenset[str] = frozenset()) -> Checked:
    """Check the rows that a job type made against its target: the same rules, as far as types leave them open.

    Columns that are known to have `met` their rules are not looked at again.
    Raises TypeError for a column that has a type the target cannot have: that is a bug of the job type, never a reject.
    """
    absent, rules = _target(contract, tuple(frame.schema.items()), met)
    if absent:
        frame = frame.with_columns(absent)
    broken, faults = _broken(frame, rules)
    kept = frame if faults.is_empty() else frame.filter(~broken)
    return Checked(kept.select(_cast_to(contract)), faults)


@cache
def _cast_to(contract: Contract) -> list[pl.Expr]:
    return [*(pl.col(column.name).cast(column.dtype) for column in contract.columns), pl.col("row_no")]


@lru_cache(256)
def _target(
    contract: Contract, schema: tuple[tuple[str, pl.DataType], ...], met: frozenset[str]
) -> tuple[list[pl.Expr], Rules]:
    """Columns that a frame of this schema lacks, and the rules for those that it has, but for those that met theirs."""
    types = dict(schema)
    absent = []
    rules = []
    for column in contract.columns:
        if column.name in met:
            continue
        value = pl.col(column.name)
        given = types.get(column.name, pl.Null())
        if given == pl.Null:
            absent.append(pl.lit(None, column.dtype).alias(column.name))
        elif given != column.dtype and not _widens(column, given):
            raise TypeError(f"{column.name} must have the type {column.dtype}; got {given}")
        if column.kind == "decimal" and given != column.dtype and given.is_decimal():
            rounded = value.cast(pl.Decimal(38, column.scale), strict=False).cast(given, strict=False)
            message = f"{column.name} has at most {column.scale} decimals"
            rules.append(Rule(column.name, "SCALE", (rounded != value).fill_null(False), message, value))
        if column.required:
            rules.append(_required(column, value, text=given == pl.String))
        rules += _bounds(column, value)
    return absent, Rules([*rules, *_own(contract).each])


def _widens(column: Column, given: pl.DataType) -> bool:
    """Whether values of the type given can be told to fit the column, or not, without losing anything."""
    if column.kind == "decimal":
        return given.is_decimal() or given.is_integer()
    return given.is_integer() if column.kind == "integer" else column.kind == "number" and given.is_numeric()


def _broken(frame: pl.DataFrame, rules: Rules) -> tuple[pl.Series, pl.DataFrame]:
    """Which rows break a rule, and each rule that each of them breaks. One pass tells whether there are any."""
    if rules.any_broken is None or not frame.select(rules.any_broken).item():
        return pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True), pl.DataFrame(schema=FAULTS)
    marks = frame.select(rule.broken.alias(str(index)) for index, rule in enumerate(rules.each))
    parts = []
    for index, rule in enumerate(rules.each):
        mask = marks.get_column(str(index))
        if not mask.any():
            continue
        message = pl.lit(rule.message)
        if rule.shows is not None:
            value = rule.shows.cast(pl.String).fill_null("nothing").str.slice(0, 80)
            message = pl.concat_str(message, pl.lit("; got "), value)
        parts.append(
            frame.filter(mask).select(
                "row_no",
                pl.lit(rule.column, pl.String).alias("column"),
                pl.lit(rule.code).alias("code"),
                message.alias("message"),
            )
        )
    broken = marks.select(pl.any_horizontal(pl.all())).to_series()
    return broken, pl.concat(parts).sort("row_no", maintain_order=True)


def _finish(contract: Contract) -> list[pl.Expr]:
    return [
        *(
            pl.col(column.name if column.kind == "text" else _typed(column.name)).alias(column.name)
            for column in contract.columns
        ),
        pl.col("row_no"),
    ]


def _typed(name: str) -> str:
    return f"\0{name}"  # no column of an input is called so


def _cast(column: Column) -> pl.Expr:
    text = pl.col(column.name)
    if column.kind == "boolean":
        return text.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    if column.kind == "date":
        return text.str.to_date("%Y-%m-%d", strict=False)
    return text.cast(column.dtype, strict=False)


def _rules(column: Column) -> list[Rule]:
    text, name = pl.col(column.name), column.name
    present = text.is_not_null() & (text != "")
    rules = []
    if column.required:
        rules.append(_required(column, text, text=True))
    if column.kind == "text":
        return [*rules, *_text(column)]
    typed = pl.col(_typed(name))
    if column.kind == "date":
        wrong = present & (typed.is_null() | ~text.str.contains(_DATE))
        rules.append(Rule(name, "TYPE", wrong.fill_null(False), f"{name} must be {_NAMES['date']}", text))
        return [*rules, *_bounds(column, typed)]
    lexical = text.str.contains(_LEXICAL[column.kind])
    rules.append(Rule(name, "TYPE", (present & ~lexical).fill_null(False), f"{name} must be {_NAMES[column.kind]}", text))
    if column.kind == "boolean":
        return rules
    if column.kind == "decimal":
        fine = text.str.contains(_decimal(column))
        message = f"{name} has at most {column.scale} decimals"
        rules.append(Rule(name, "SCALE", (lexical & ~fine).fill_null(False), message, text))
    # More digits than the type holds; 1E400 is infinite.
    unfit = (lexical & (~typed.is_finite() if column.kind == "number" else typed.is_null())).fill_null(False)
    # What has too many decimals was rounded on its way to its type.
    low, high = _outside(column, text.cast(_EXACT, strict=False) if column.kind == "decimal" else typed)
    negative = text.str.starts_with("-").fill_null(False)
    too_low = (unfit & negative) | (lexical & low).fill_null(False)
    too_high = (unfit & ~negative) | (lexical & high).fill_null(False)
    rules.append(Rule(name, "RANGE", too_low, _least(column), text))
    rules.append(Rule(name, "RANGE", too_high, _most(column), text))
    return rules


def _text(column: Column) -> list[Rule]:
    text, name, rules = pl.col(column.name), column.name, []
    if column.min_length is not None:
        short = (text.str.len_chars() < column.min_length) & _given(column)
        rules.append(
            Rule(name, "LENGTH", short.fill_null(False), f"{name} needs at least {column.min_length} characters", text)
        )
    if column.max_length is not None:
        long = text.str.len_chars() > column.max_length
        rules.append(Rule(name, "LENGTH", long.fill_null(False), f"{name} has at most {column.max_length} characters", text))
    if column.pattern is not None:
        wrong = ~text.str.contains(column.pattern) & _given(column)
        rules.append(Rule(name, "PATTERN", wrong.fill_null(False), f"{name} must match {column.pattern}", text))
    return rules


def _given(column: Column) -> pl.Expr:
    """Whether there is a text to judge: an empty one is missing where the column is required."""
    return pl.col(column.name) != "" if column.required else pl.lit(True)


def _bounds(column: Column, typed: pl.Expr) -> list[Rule]:
    if column.kind == "text":
        return _text(column)
    low, high = _outside(column, typed)
    rules = []
    if column.kind == "number":
        infinite = (~typed.is_finite()).fill_null(False)
        rules.append(Rule(column.name, "RANGE", infinite, f"{column.name} must be a finite number", typed))
        low, high = low & ~infinite, high & ~infinite
    if column.minimum is not None:
        rules.append(Rule(column.name, "RANGE", low.fill_null(False), _least(column), typed))
    if column.maximum is not None:
        rules.append(Rule(column.name, "RANGE", high.fill_null(False), _most(column), typed))
    return rules


def _outside(column: Column, typed: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    low = high = pl.lit(False)
    if column.minimum is not None:
        bound = _literal(column, column.minimum)
        low = typed <= bound if column.above_minimum else typed < bound
    if column.maximum is not None:
        bound = _literal(column, column.maximum)
        high = typed >= bound if column.below_maximum else typed > bound
    return low, high


def _literal(column: Column, value: Any) -> pl.Expr:
    if column.kind == "date":
        return pl.lit(value, pl.Date)
    if column.kind == "decimal":
        return pl.lit(Decimal(value), pl.Decimal(38, column.scale))
    return pl.lit(float(value)) if column.kind == "number" else pl.lit(int(value), pl.Int64)


def _required(column: Column, value: pl.Expr, *, text: bool) -> Rule:
    missing = value.is_null() | (value == "").fill_null(False) if text else value.is_null()
    return Rule(column.name, "REQUIRED", missing, f"{column.name} is required")


def _least(column: Column) -> str:
    if column.minimum is None:
        return f"{column.name} is out of range"
    return f"{column.name} must be {'above' if column.above_minimum else 'at least'} {column.minimum}"


def _most(column: Column) -> str:
    if column.maximum is None:
        return f"{column.name} is out of range"
    return f"{column.name} must be {'below' if column.below_maximum else 'at most'} {column.maximum}"


@cache
def _own(contract: Contract) -> Rules:
    """Rules of the schema's own, over typed columns; one that comes to null (a value is absent) is not broken."""
    return Rules(
        [
            Rule(
                rule.column,
                rule.code,
                (~rule.holds).fill_null(False),
                f"the rule {rule.name.replace('__', '_').replace('_', ' ')!r} does not hold",
                pl.col(rule.column) if rule.column else None,
            )
            for rule in contract.rules
        ]
    )
