"""CSV by property: what `csv` writes comes back, and every input fares as a plain reading of the rules has it."""

import csv
import io
import unicodedata
from collections.abc import Sequence

import dataframely as dy
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout
from operators.csv_grammar import Dialect, marks, strict
from operators.decode import decode
from operators.frames import MAX_FIELD
from operators.plan import plan
from tests.support.outcome import both_ways


class Texts(dy.Schema):
    a = dy.String(nullable=True)
    b = dy.String(nullable=True)
    c = dy.String(nullable=True)


CONTRACT = Contract.of(Texts)
Row = tuple[str | None, ...] | str


def read(data: bytes, *, window: int = 8 << 20, **options: object) -> list[Row] | str:
    """Each record as its texts, or the code it is rejected for; or why the file fails. By plan and decode."""
    pieces = (data[start : start + window] for start in range(0, len(data), window))
    try:
        made = plan(pieces, CONTRACT, InputOptions(format=Format.CSV, **options))  # type: ignore[arg-type]
    except StructureFault as fault:
        return fault.fault
    rows: dict[int, Row] = {}
    for batch in made.batches:
        decoded = both_ways(data, batch, made.layout, CONTRACT)
        found: dict[int, Row] = {row: values for *values_, row in decoded.records.iter_rows() for values in [tuple(values_)]}
        found |= {row: code for row, _, code, _ in decoded.faults.iter_rows()}
        assert decoded.records.height + decoded.faults.height == batch.rows
        assert sorted(found) == list(range(batch.first_row, batch.first_row + batch.rows))
        rows |= found
    return [rows[row] for row in sorted(rows)]


def plainly(data: bytes, columns: int) -> list[Row] | str:
    """The rules, read byte by byte: slow, short, and with nothing in common with the code that is tested."""
    rows: list[Row] = []
    fields: list[bytes] = []
    field, state, start, place = b"", "start", 0, 0  # start of a field, plain, quoted, behind a closing quote
    stray = False
    while place <= len(data):
        byte = data[place : place + 1]
        if state == "quoted":
            if not byte:
                return "QUOTE"
            if byte == b'"' and data[place + 1 : place + 2] == b'"':
                field, place = field + byte, place + 1
            elif byte == b'"':
                state = "behind"
            else:
                field += byte
        elif byte in (b"\n", b"") or data[place : place + 2] == b"\r\n":
            if fields or state != "start":
                rows.append(_row([*fields, field], data[start:place], columns, stray))
            place += byte == b"\r"
            fields, field, state, start, stray = [], b"", "start", place + 1, False
        elif byte == b"\r":
            return "LINE_END"
        elif byte == b",":
            fields, field, state = [*fields, field], b"", "start"
        elif byte == b'"' and state == "start":
            state = "quoted"
        else:
            stray |= state == "behind" or byte == b'"'
            field, state = field + byte, "behind" if state == "behind" else "plain"
        place += 1
    return rows


def _row(fields: list[bytes], record: bytes, columns: int, stray: bool) -> Row:
    if b"\0" in record:
        return "NUL"
    try:
        text = record.decode()
    except UnicodeDecodeError:
        return "ENCODING"
    if any(unicodedata.category(character) == "Cc" and character not in "\t\r\n" for character in text):
        return "CONTROL"
    if stray:
        return "QUOTE"
    if len(fields) != columns:
        return "SHORT_ROW" if len(fields) < columns else "LONG_ROW"
    return tuple(field.decode() or None for field in fields) + (None,) * (3 - columns)


TOKENS = [b'"', b'"', b",", b",", b"\n", b"\r\n", b"\r", b"a", b"1", b" ", b'""', b"\t", b"x\0y", b"\x07", b"\x7f", b"\xff"]
TOKENS += [
    "é".encode(),
    b"\xc3",
    b"\x85",
    "\u0085".encode(),
    "🙂".encode(),
    b"\\",
    b"a,b,c\n",
    b'"x","y\n",z\n',
    b",,\n",
    b"\n\n",
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(TOKENS), max_size=24), st.integers(1, 3), st.integers(1, 20), st.integers(1, 40), st.integers(1, 5)
)
@example([b"a,1,"], 2, 8, 40, 5)
@example([b'"a"\r', b"b\n"], 1, 8, 40, 5)
def test_any_bytes_fare_as_the_rules_have_it(tokens: list[bytes], columns: int, window: int, size: int, rows: int) -> None:
    body = b"".join(tokens)
    data = b",".join([b"a", b"b", b"c"][:columns]) + b"\n" + body
    expected = plainly(body, columns)
    for found in (read(data), read(data, window=window, batch_bytes=size, batch_rows=rows)):
        # Of a lone CR and a quote that never closes, either may be told.
        assert found == expected or (isinstance(found, str) and isinstance(expected, str))


#: Mostly well formed: the fast path, with something odd here and there.
FIELDS = st.sampled_from(
    ["a", "", "é🙂", '"x"', '""', '"x,y"', '"x\ny"', '"x""y"', "x y", "1.5", "\\N", "\ufeff", '"\r\n"', "x" * 50]
)
ODD = st.sampled_from([b'x"y', b'"x"y', b"\xff", b"\0", b"x,y", b"\x1b", b' "x"'])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(FIELDS, min_size=2, max_size=3), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 29), ODD), max_size=2),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.integers(20, 200),
)
def test_files_with_a_few_broken_records(
    rows: list[list[str]], odd: list[tuple[int, bytes]], end: bytes, closed: bool, size: int
) -> None:
    lines = [",".join(row).encode() for row in rows]
    for place, content in odd:
        lines[place % len(lines)] += b"," + content
    body = end.join(lines) + (end if closed else b"")
    expected = plainly(body, 3)
    assert read(b"a,b,c\n" + body) == expected
    assert read(b"a,b,c\n" + body, window=11, batch_bytes=size) == expected


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from("\",\n\t;'"), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=12),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(['"', "'"]),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_what_csv_writes_comes_back(
    rows: list[tuple[str, str, str]], quoting: int, end: str, delimiter: str, quote: str, window: int, size: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=end, delimiter=delimiter, quotechar=quote)  # type: ignore[arg-type]
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    found = read(text.getvalue().encode(), window=window, batch_bytes=size, delimiter=delimiter, quote=quote)
    assert found == [tuple(field or None for field in row) for row in rows]


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_file_that_is_cut_in_a_pair_of_quotes_ends_there(cut: int) -> None:
    found = read(b'a,b,c\n"x","y","0""1"""\n'[: 14 + cut])
    closed = {3: "0", 6: '0"1', 8: '0"1"', 9: '0"1"'}
    assert found == ([("x", "y", closed[cut])] if cut in closed else "QUOTE")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=6), st.data())
def test_a_cut_file_never_yields_a_wrong_record(rows: list[tuple[str, str, str]], data: st.DataObject) -> None:
    """But for its last record: one that is cut behind its last delimiter cannot be told from one that ends so.

    Nor can one that is cut between two quotes which stand for one: there the first closes the field.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    whole = text.getvalue().encode()
    found = read(whole[: data.draw(st.integers(len(b'"a","b","c"\n'), len(whole)))])
    if isinstance(found, str):
        assert found == "QUOTE"
        return
    for values, row in zip(found, rows, strict=False):
        expected = tuple(field or None for field in row)
        closed = [row[2][:place] or None for place, letter in enumerate(row[2]) if letter == '"']
        assert values in (expected, "SHORT_ROW", *((*expected[:2], last) for last in (None, *closed)))
        if values != expected:
            assert values is found[-1]


@pytest.mark.parametrize("size", [4 << 20, 1 << 10])
def test_python_s_reader_agrees_on_a_large_file(size: int) -> None:
    rows: Sequence[tuple[str, ...]] = [(f'{n} "x", y', "" if n % 3 else "é\n", "z" * (n % 50)) for n in range(5_000)]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows([("a", "b", "c"), *rows])
    assert read(text.getvalue().encode(), batch_bytes=size) == [tuple(field or None for field in row) for row in rows]


def test_one_broken_record_in_a_large_file_is_found_wherever_it_is() -> None:
    good = [b"%d,text,%d" % (n, n) for n in range(6_000)]
    for place in (0, 1, 3_000, 5_999, 6_000):
        for record, code in ((b"x,y", "SHORT_ROW"), (b"x,y,z,", "LONG_ROW"), (b"x,y,z\xff", "ENCODING"), (b'x,"y"z,', "QUOTE")):
            found = read(b"a,b,c\n" + b"\n".join([*good[:place], record, *good[place:]]))
            assert isinstance(found, list)
            assert found[place] == code
            assert sum(isinstance(row, str) for row in found) == 1


def test_fields_are_measured_without_their_quotes() -> None:
    layout = Layout(format=Format.CSV, columns=("a",), fields={"a": "a"})
    for text, fits in (("x" * MAX_FIELD, True), ('""' * (MAX_FIELD // 2 + 1), True), ("x" * (MAX_FIELD + 1), False)):
        assert decode(f'"{text}"\n'.encode(), layout, CONTRACT, 1).faults.is_empty() == fits


def test_columns_that_the_contract_does_not_have_are_counted_but_not_kept() -> None:
    layout = Layout(format=Format.CSV, columns=("x", "B", "y"), fields={"b": "B"})
    decoded = decode(b"1,2,3\n1,2\n\n4,,6\n", layout, CONTRACT, 10)
    assert decoded.records.rows() == [(None, "2", None, 10), (None, None, None, 12)]
    assert decoded.faults["row_no"].to_list() == [11]
    assert decoded.raw([12, 11]) == ["4,,6", "1,2"]


@pytest.mark.parametrize(
    ("data", "well_quoted"),
    [
        (b"a,b\n", True),
        (b'"a",b\n', True),
        (b'a,"b"', True),
        (b'"a""b","c\n""d"""\r\n"",""\n', True),
        (b'"a"\r\nb,"c"\n', True),
        (b'a"b,c\n', False),
        (b'a"b"c\n', False),
        (b'"a"b"c"\n', False),
        (b'"a" ,b\n', False),
        (b' "a",b\n', False),
        (b'"a,b\n', False),
        (b'a,b"', False),
    ],
)
def test_quotes_are_strict_or_not(data: bytes, well_quoted: bool) -> None:
    """Whether the fast path takes it: the exact one would give the same records, only slowly."""
    array = np.frombuffer(data, np.uint8)
    assert strict(array, marks(array, Dialect()).quotes, Dialect()) is well_quoted


def test_a_huge_record_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.decode.csv.marks", None)
    layout = Layout(format=Format.CSV, columns=("a",), fields={"a": "a"})
    decoded = decode(b'"' * (9 << 20) + b"\r\n", layout, CONTRACT, 5)
    assert decoded.faults.row(0)[:3] == (5, None, "SIZE")
    assert decoded.records.is_empty()
    assert decoded.raw([5]) == ['"' * 10_000 + "…"]


def test_blank_lines_and_broken_records_do_not_make_a_batch_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.decode.csv._by_grammar", None)
    for body in (b"\n1,2,3\n4,5,6,\n7,8,9\n", b"1,2,3\n\n4,5,6,\r\n\r\n7,8,9", b'"1",2,3\n\n\n4,"5"x,6\n7,8,9\n\n'):
        found = read(b"a,b,c\n" + body)
        assert [row for row in found if not isinstance(row, str)] == [("1", "2", "3"), ("7", "8", "9")]


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (b'a,b,c\n1,"2, and more",3\r\n4,5,6\n', True),
        ("a,b,c\nä,ß,語\n".encode(), True),
        (b"a,b,c\n1,2\n", True),  # how many fields a record has is seen when it is taken apart
        (b'a,b,c\n1,2"3,4\n', False),
        (b"a,b,c\n1,\0,3\n", False),
        (b"a,b,c\n1,\x7f,3\n", False),
        (b"a,b,c\n1,\xe4,3\n", False),
        (b"a,b,c\n1,\xc2\x85,3\n", False),
        (b"a,b,c\n1," + b"x" * MAX_FIELD + b",3\n", False),
    ],
)
def test_what_planning_calls_plain(data: bytes, plain: bool) -> None:
    (batch,) = plan([data], CONTRACT, InputOptions(format=Format.CSV)).batches
    assert batch.plain is plain
    both_ways(data, batch, plan([data], CONTRACT, InputOptions(format=Format.CSV)).layout, CONTRACT)
