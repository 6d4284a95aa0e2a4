"""Decode one JSON record by a decoder that sees every key: exact, and told what is wrong; for the few that need it."""

import json
import re
from decimal import Decimal
from typing import Any

import numpy as np

from jobber.contract import Column, Contract
from jobber.model import Layout
from operators.frames import CONTROL, not_text
from operators.json_grammar import Scan
from operators.plan.buffer import OWN_BATCH

#: A longer text is a file of another kind in the wrong place.
MAX_FIELD = 1 << 20
#: Deeper values are refused: a decoder's own limit depends on how deep its caller is.
MAX_DEPTH = 100
#: Numbers beyond ten to this power fit no column; they are not written out.
MOST_DIGITS = 60
#: Bytes scanned at once.
STEP = 256 << 10
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

Fault = tuple[str | None, str, str]


def is_text(column: Column) -> bool:
    """Whether the column's values are JSON strings."""
    return column.kind in ("text", "date")


class _Duplicate(ValueError):
    """A key stands twice in one object."""


class _Number(str):
    """A number's token."""

    __slots__ = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Duplicate(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def exact(record: bytes, layout: Layout, contract: Contract) -> tuple[list[str | None], list[Fault]]:
    """One record's values, or its faults."""
    if len(record) > OWN_BATCH:
        return [], [(None, "SIZE", f"the record has {len(record):,} bytes; at most {OWN_BATCH:,} are read")]
    if _depth(record) > MAX_DEPTH:
        return [], [(None, "DEPTH", f"the record is nested more than {MAX_DEPTH} deep")]
    try:
        text = record.decode()
        value = json.loads(text, object_pairs_hook=_pairs, parse_int=_Number, parse_float=_Number, parse_constant=_constant)
    except UnicodeDecodeError as fault:
        return [], [(None, *not_text(record, fault.start, layout.encoding))]
    except _Duplicate as fault:
        return [], [(None, "DUPLICATE_KEY", f"the key {str(fault)[:60]!r} stands twice")]
    except ValueError as fault:
        code = "NUL" if b"\0" in record else "CONTROL" if "control character" in str(fault) else "SYNTAX"
        return [], [(None, code, f"the record is not JSON: {fault}")]
    if not isinstance(value, dict):
        return [], [(None, "TYPE", f"a record must be an object; got {_kind(value)}")]
    values: list[str | None] = []
    faults: list[Fault] = []
    for column in contract.columns:
        taken, broken = _taken(
            value.get(layout.fields.get(column.name, ""), None) if column.name in layout.fields else None, column
        )
        values.append(taken)
        if broken:
            faults.append((column.name, *broken))
    if not faults and _SURROGATE.search(record) and not _encodable(value):
        faults.append((None, "ENCODING", "the record holds half of a surrogate pair, which is no character"))
    return values, faults


def _depth(record: bytes) -> int:
    """How deeply the record's values are nested, found without recursion."""
    if record.count(b"{") + record.count(b"[") <= MAX_DEPTH:
        return 0
    array, scan, deepest = np.frombuffer(record, np.uint8), Scan(), 0
    for start in range(0, array.size, STEP):
        deepest = max(deepest, int(scan.step(array[start : start + STEP])[2].max(initial=0)))
    return deepest


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _taken(value: Any, column: Column) -> tuple[str | None, tuple[str, str] | None]:
    if value is None:
        return None, None
    if column.kind == "boolean":
        return (str(value).lower(), None) if isinstance(value, bool) else (None, _wrong(column, "true or false", value))
    if isinstance(value, _Number):
        return (None, _wrong(column, "a text", value)) if is_text(column) else (written_out(value, column), None)
    if not isinstance(value, str) or not is_text(column):
        return None, _wrong(column, "a text" if is_text(column) else "a number", value)
    if "\0" in value:
        return None, ("NUL", f"{column.name} holds a NUL character")
    if CONTROL.search(value):
        return None, ("CONTROL", f"{column.name} holds a control character")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return None, ("ENCODING", f"{column.name} holds half of a surrogate pair, which is no character")
    if size > MAX_FIELD:
        return None, ("SIZE", f"{column.name} has more than {MAX_FIELD:,} bytes")
    return value, None


def _wrong(column: Column, wanted: str, value: Any) -> tuple[str, str]:
    return "TYPE", f"{column.name} must be {wanted}; got {_kind(value)}"


def _kind(value: Any) -> str:
    if isinstance(value, _Number):
        return "a number"
    return {str: "a text", bool: "true or false", dict: "an object", list: "an array", type(None): "null"}[type(value)]


def is_number(token: str) -> bool:
    """Whether a JSON value's token is a number's."""
    return token[:1] in "-0123456789"


def written_out(token: str, column: Column) -> str:
    """A JSON number without an exponent, with the same value; a whole one without a point in an integer column.

    Beyond MOST_DIGITS it becomes a number of as many digits: out of the range of any column, and never large in memory.
    """
    exponential = "e" in token or "E" in token
    if column.kind == "number" or not (exponential or (column.kind == "integer" and "." in token)):
        return token
    minus = "-" if token[0] == "-" else ""
    digits, _, power = token.removeprefix("-").replace("E", "e").partition("e")
    if not digits.strip("0."):
        return minus + "0"
    whole, _, fraction = digits.partition(".")
    # Where the point stands, counted from the first digit. An exponent that is not small is as good as endless.
    shift = int(power or 0) if len(power) <= 6 else (-1 if power[0] == "-" else 1) * 10**6
    point = len(whole) + shift
    if len(whole.lstrip("0")) + shift > MOST_DIGITS:
        return minus + "1" + "0" * MOST_DIGITS
    if point < -MOST_DIGITS:
        return minus + "0." + "0" * MOST_DIGITS + "1"
    digits = whole + fraction
    text = format(Decimal(f"{minus}{digits}e{point - len(digits)}"), "f")
    if column.kind == "integer" and "." in text and not text.partition(".")[2].strip("0"):
        text = text.partition(".")[0]
    return text
