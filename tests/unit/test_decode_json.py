"""JSON by property: what `json` writes comes back, and a batch fares as each of its records would alone."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import dataframely as dy
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.model import Format, InputOptions
from operators.decode import decode
from operators.decode.json import _decoders
from operators.decode.json_record import MAX_DEPTH, exact, written_out
from operators.plan import plan


class Things(dy.Schema):
    t = dy.String(nullable=True)
    n = dy.Decimal(12, 2, nullable=True)
    i = dy.Int32(nullable=True)
    b = dy.Bool(nullable=True)


CONTRACT = Contract.of(Things)
#: A record's texts, or the (column, code) pairs that it is rejected for.
Row = tuple[str | None, ...] | list[tuple[str | None, str]]


def read(data: bytes, form: Format, *, window: int = 8 << 20, **options: Any) -> list[Row] | str:
    """What becomes of each record, or why the file fails. By plan and decode."""
    pieces = (data[start : start + window] for start in range(0, len(data), window))
    try:
        made = plan(pieces, CONTRACT, InputOptions(format=form, **options))
    except StructureFault as fault:
        return fault.fault
    rows: dict[int, Row] = {}
    for batch in made.batches:
        decoded = decode(data[batch.offset : batch.offset + batch.length], made.layout, CONTRACT, batch.first_row)
        found: dict[int, Row] = {values[-1]: values[:-1] for values in decoded.records.iter_rows()}
        faulty: dict[int, list[tuple[str | None, str]]] = {}
        for row, column, code, _ in decoded.faults.iter_rows():
            faulty.setdefault(row, []).append((column, code))
        assert not found.keys() & faulty.keys()
        assert sorted([*found, *faulty]) == list(range(batch.first_row, batch.first_row + batch.rows))
        rows |= found
        rows |= faulty
    return [rows[row] for row in sorted(rows)]


def alone(record: bytes) -> Row:
    """The same of one record, by the exact decoder."""
    layout = plan([b"{}"], CONTRACT, InputOptions(format=Format.NDJSON)).layout
    values, faults = exact(record, layout, CONTRACT)
    return [(column, code) for column, code, _ in faults] or tuple(values)


def plainly(record: bytes) -> str | None:
    """The code that Python's own reader has for what is no record at all; None when it is one."""

    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise KeyError
        return dict(pairs)

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(record.decode(), object_pairs_hook=once, parse_constant=refuse, parse_int=str, parse_float=str)
    except UnicodeDecodeError:
        return "ENCODING"
    except KeyError:
        return "DUPLICATE_KEY"
    except ValueError:
        return "SYNTAX"
    return None if isinstance(value, dict) else "TYPE"


def lines_of(data: bytes) -> list[bytes]:
    return [line for line in (line.strip(b" \t\r") for line in data.split(b"\n")) if line]


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from('":{}[],\\\n/ '), max_size=6)
NUMBER = st.decimals(-1000, 1000, places=2).map(str) | st.sampled_from(
    ["1e3", "-0", "0.0", "5E-1", "12", "1e400", "null", "true", '"7"', "[]"]
)
EXTRA = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    members = {
        "t": json.dumps(draw(st.none() | TEXT), ensure_ascii=draw(st.booleans())),
        "n": draw(NUMBER),
        "i": draw(NUMBER),
        "b": draw(st.sampled_from(["true", "false", "null", "1"])),
    }
    kept = draw(st.lists(st.sampled_from(sorted(members)), unique=True, max_size=4))
    parts = [f'"{name}"{draw(st.sampled_from([":", ": ", " :"]))}{members[name]}' for name in kept]
    parts += [
        f"{json.dumps(key)}:{json.dumps(value)}"
        for key, value in draw(st.dictionaries(st.sampled_from(["x", "y", "é", '"', "n "]), EXTRA, max_size=2)).items()
    ]
    return ("{" + draw(st.sampled_from([",", ", "])).join(parts) + "}").encode()


EDITS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\\",
    b" ",
    b"\t",
    b"\r",
    b"0",
    b"e",
    b"-",
    b".",
    b"\xff",
    b"\0",
    b"\x7f",
    b"\x1f",
]
EDITS += [
    b'"t":1,',
    b'"n":2',
    b"\\u0000",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"null",
    b"NaN",
    b"}{",
    b"},{",
    b"}\n{",
    b'"x":[{"y":1}',
    b"/",
    b"\xc2\x85",
]


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, put in edits:
        at = place % (len(data) + 1)
        data = data[:at] + put + data[at + length :]
    return data


CHANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.sampled_from(EDITS) | st.just(b"")), max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.lists(records(), max_size=8), CHANGES, st.integers(1, 30), st.integers(1, 80))
@example([b'{"n":1}{"n":2}', b'{"t":"x",', b'"n":3}'], [], 8, 80)
@example([b'{"t":"a"}', b'{"x":1,"x":2}'], [], 8, 80)
def test_lines_fare_as_each_would_alone(
    found: list[bytes], changes: list[tuple[int, int, bytes]], window: int, size: int
) -> None:
    data = edited(b"\n".join(found), changes)
    if data.startswith(b"\xff\xfe") or b"\0" in data[:8]:
        return  # it looks like UTF-16
    expected = [alone(line) for line in lines_of(data)]
    for line, row in zip(lines_of(data), expected, strict=True):
        code = plainly(line)
        assert (code is None) or (isinstance(row, list) and row[0][0] is None)
        assert row[0] == (None, code) or code in (None, "SYNTAX")
    if not expected:
        assert read(data, Format.NDJSON) == "EMPTY"
        return
    assert read(data, Format.NDJSON) == expected
    assert read(data, Format.NDJSON, window=window, batch_bytes=size) == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(records(), max_size=8), st.sampled_from([b",", b" ,\n"]), CHANGES, st.integers(1, 30), st.integers(1, 80))
def test_elements_fare_as_each_would_alone(
    found: list[bytes], parting: bytes, changes: list[tuple[int, int, bytes]], window: int, size: int
) -> None:
    data = b"[" + edited(parting.join(found), changes) + b"]"
    whole, cut = read(data, Format.JSON), read(data, Format.JSON, window=window, batch_bytes=size)
    assert cut == whole or (isinstance(whole, str) and isinstance(cut, str))
    if not changes:
        assert whole == [alone(record) for record in found]
    try:
        elements = msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    if b"/" not in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data):
        assert whole == [alone(bytes(element)) for element in elements]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"t": TEXT, "n": st.integers(-(10**6), 10**6)}, optional={"x{": EXTRA, "b": st.booleans()}),
        min_size=1,
        max_size=10,
    ),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_what_json_writes_comes_back(
    found: list[dict[str, Any]], ascii: bool, indent: int | None, window: int, size: int
) -> None:
    expected = [(r["t"], str(r["n"]), None, None if "b" not in r else str(r["b"]).lower()) for r in found]
    array = json.dumps(found, ensure_ascii=ascii, indent=indent).encode()
    assert read(array, Format.JSON, window=window, batch_bytes=size) == expected
    lines = "\r\n".join(json.dumps(record, ensure_ascii=ascii) for record in found).encode()
    assert read(lines, Format.NDJSON, window=window, batch_bytes=size) == expected
    if len(found) == 1:
        one = json.dumps(found[0], ensure_ascii=ascii, indent=indent).encode()
        assert read(one, Format.JSON, window=window, batch_bytes=size) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(records(), min_size=1, max_size=6), st.data())
def test_a_cut_file_never_yields_a_wrong_record(found: list[bytes], data: st.DataObject) -> None:
    expected = [alone(record) for record in found]
    array = b"[" + b",".join(found) + b"]"
    assert isinstance(read(array[: data.draw(st.integers(0, len(array) - 1))], Format.JSON), str)
    lines = b"\n".join(found)
    cut = lines[: data.draw(st.integers(1, len(lines)))]
    rows = read(cut, Format.NDJSON)
    assert isinstance(rows, list)
    whole = cut.count(b"\n")
    assert rows[:whole] == expected[:whole]
    # The last line is whole, or is rejected.
    assert all(row == expected[whole] or row in ([(None, "SYNTAX")], [(None, "ENCODING")]) for row in rows[whole:])


def test_large_batches_go_through_the_fast_path() -> None:
    lines = [json.dumps({"t": f'a "{n}": b', "n": n, "i": None, "b": n % 2 == 0, "x": n}) for n in range(5_000)]
    expected = [(f'a "{n}": b', str(n), None, str(n % 2 == 0).lower()) for n in range(5_000)]
    assert read("\n".join(lines).encode(), Format.NDJSON) == expected
    assert read(("[" + ",\n".join(lines) + "]").encode(), Format.JSON) == expected


@pytest.mark.parametrize("form", [Format.NDJSON, Format.JSON])
def test_one_broken_record_in_a_large_batch_is_found_wherever_it_is(form: Format) -> None:
    good = [b'{"t":"text","n":%d}' % n for n in range(2_000)]
    for place in (0, 1, 1_000, 1_999, 2_000):
        for record in (b'{"n":1,"n":2}', b'{"n":"1"}', b'{"t":"\xff"}', b'{"x":"\xff"}', b'{"t":1}', b'{"n" 1}', b"[]"):
            lines = [*good[:place], record, *good[place:]]
            rows = read(b"\n".join(lines) if form is Format.NDJSON else b"[" + b",".join(lines) + b"]", form)
            assert isinstance(rows, list)
            assert rows[place] == alone(record)
            assert sum(isinstance(row, list) for row in rows) == 1


def test_depth_is_judged_by_a_limit_of_its_own() -> None:
    """A decoder's own limit depends on how deep its caller is: the same record would load today and not tomorrow."""

    def deep(levels: int) -> bytes:
        return b'{"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"

    for first in (b'{"n":1}', deep(3)):
        rows = read(b"\n".join([first, deep(MAX_DEPTH), deep(MAX_DEPTH + 1), first]), Format.NDJSON)
        assert isinstance(rows, list)
        assert rows[2] == [(None, "DEPTH")]
        assert sum(isinstance(row, list) for row in rows) == 1
    # Many shallow ones are not deep.
    assert read(b"\n".join([deep(50)] * 100), Format.NDJSON) == [(None, None, None, None)] * 100


INTEGER, DECIMAL = CONTRACT.columns[2], CONTRACT.columns[1]


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,8})?([eE][+-]?[0-9]{1,2})?", fullmatch=True))
def test_numbers_are_written_out_exactly(token: str) -> None:
    text = written_out(token, DECIMAL)
    if abs(Decimal(token)) < Decimal("1e50") and (not Decimal(token) or Decimal(token).adjusted() > -50):
        assert Decimal(text) == Decimal(token)
    assert "e" not in text.lower()
    whole = written_out(token, INTEGER)
    if abs(Decimal(token)) < Decimal("1e50"):
        assert ("." in whole) == (Decimal(token) != Decimal(token).to_integral_value())


def test_keys_do_not_fill_the_memory() -> None:
    for n in range(200):
        read(b'{"key%d":1}' % n, Format.NDJSON)
    assert _decoders.cache_info().currsize <= 64
