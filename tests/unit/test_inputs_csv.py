"""What bad CSV gets: each row is bytes, what loads, and what is rejected or why the file as a whole does not load."""

import csv
import io
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.outcome import outcome

H = b"name,price,stock\n"
#: (what it is, input, names that load by row, faults by row)
RECORDS = [
    ("byte-order mark", b"\xef\xbb\xbf" + H + b"a,1,2\n", {1: "a"}, []),
    ("CRLF", b"name,price,stock\r\na,1,2\r\nb,1,2\r\n", {1: "a", 2: "b"}, []),
    ("mixed line ends", H + b"a,1,2\r\nb,1,2\nc,1,2", {1: "a", 2: "b", 3: "c"}, []),
    ("quoted newline", H + b'"a\nb",1,2\nc,1,2\n', {1: "a\nb", 2: "c"}, []),
    ("quoted blank line", H + b'"a\n\nb",1,2\nc,1,2\n', {1: "a\n\nb", 2: "c"}, []),
    ("quoted CRLF", H + b'"a\r\nb",1,2\n', {1: "a\r\nb"}, []),
    ("doubled quote", H + b'"a""b",1,2\n', {1: 'a"b'}, []),
    ("quoted delimiter", H + b'"a,b",1,2\n', {1: "a,b"}, []),
    ("stray quote", H + b'a"b,1,2\nc,1,2\n', {2: "c"}, [(1, None, "QUOTE")]),
    (
        "stray quotes do not move records",
        H + b'a"b,1,2\nc,1,2\nd"e,1,2\nf,1,2\n',
        {2: "c", 4: "f"},
        [(1, None, "QUOTE"), (3, None, "QUOTE")],
    ),
    ("text behind a quote", H + b'"ab"cd,1,2\ne,1,2\n', {2: "e"}, [(1, None, "QUOTE")]),
    ("space before a quote", H + b'a, "1",2\ne,1,2\n', {2: "e"}, [(1, None, "QUOTE")]),
    ("short row", H + b"a,1\nb,1,2\n", {2: "b"}, [(1, None, "SHORT_ROW")]),
    ("long row", H + b"a,1,2,3\nb,1,2\n", {2: "b"}, [(1, None, "LONG_ROW")]),
    (
        "short and long make up for each other",
        H + b"a,1\nb,1,2,3\nc,1,2\n",
        {3: "c"},
        [(1, None, "SHORT_ROW"), (2, None, "LONG_ROW")],
    ),
    ("Latin-1 byte", H + b"a\xe9,1,2\nb,1,2\n", {2: "b"}, [(1, None, "ENCODING")]),
    ("NUL", H + b"a\0,1,2\nb,1,2\n", {2: "b"}, [(1, None, "NUL")]),
    ("control character", H + b"a\x01,1,2\nb,1,2\n", {2: "b"}, [(1, None, "CONTROL")]),
    ("delete character", H + b"a\x7f,1,2\nb,1,2\n", {2: "b"}, [(1, None, "CONTROL")]),
    ("C1 control character", H + "a\u0085,1,2\nb,1,2\n".encode(), {2: "b"}, [(1, None, "CONTROL")]),
    ("header in another case", b"NAME,Price,stock\na,1,2\n", {1: "a"}, []),
    ("padded header", b" name , price,stock \na,1,2\n", {1: "a"}, []),
    ("reordered columns", b"stock,price,name\n2,1,a\n", {1: "a"}, []),
    ("missing optional column", b"name,price\na,1\n", {1: "a"}, []),
    ("no final newline", H + b"a,1,2", {1: "a"}, []),
    ("blank lines", H + b"\na,1,2\n\n\r\nb,1,2\n\n", {1: "a", 2: "b"}, []),
    ("blank lines and a short row", H + b"\na,1\n\nb,1,2\n", {2: "b"}, [(1, None, "SHORT_ROW")]),
    ("empty fields", H + b",,\nb,1,2\n", {2: "b"}, [(1, "name", "REQUIRED"), (1, "price", "REQUIRED")]),
    ("quoted empty fields", H + b'"","",""\nb,1,2\n', {2: "b"}, [(1, "name", "REQUIRED"), (1, "price", "REQUIRED")]),
    (r"\. alone", H + b"\\.\na,1,2\n", {2: "a"}, [(1, None, "SHORT_ROW")]),
    (r"\N", H + b"\\N,1,2\n", {1: "\\N"}, []),
    ("formulas", H + b"=1+1,1,2\n@SUM(A1),1,2\n+x,1,2\n\tx,1,2\n", {1: "=1+1", 2: "@SUM(A1)", 3: "+x", 4: "\tx"}, []),
    ("emoji, right to left", H + "😀,1,2\nשלום,1,2\n".encode(), {1: "😀", 2: "שלום"}, []),
    ("mark in front of the first field", H + b"\xef\xbb\xbfa,1,2\n", {1: "\ufeffa"}, []),
    ("10 MB field", H + b"x" * (10 << 20) + b",1,2\nb,1,2\n", {2: "b"}, [(1, None, "SIZE")]),
    ("2 MB field", H + b"x" * (2 << 20) + b",1,2\nb,1,2\n", {2: "b"}, [(1, None, "SIZE")]),
    ("all rules of a row", H + b",-1,x\n", {}, [(1, "name", "REQUIRED"), (1, "price", "RANGE"), (1, "stock", "TYPE")]),
]
#: (what it is, input, fault, words of the message)
FILES = [
    ("unterminated quote", H + b'"a,1,2\nb,1,2\n', "QUOTE", "never closed"),
    ("lone CR", b"name,price,stock\ra,1,2\rb,1,2\r", "LINE_END", "carriage return"),
    ("lone CR among LF", H + b"a,1,2\rb,1,2\nc,1,2\n", "LINE_END", "carriage return"),
    ("semicolons", b"name;price;stock\na;1;2\n", "HEADER", 'delimiter ";"'),
    ("tabs", b"name\tprice\na\t1\n", "HEADER", 'delimiter "\\t"'),
    ("UTF-16", "name,price\na,1\n".encode("utf-16"), "ENCODING", "UTF-16"),
    ("UTF-16 without a mark", "name,price\na,1\n".encode("utf-16-le"), "ENCODING", "UTF-16"),
    ("duplicate header", b"name,price,name\na,1,b\n", "HEADER", "twice"),
    ("duplicate header in another case", b"name,price,Name\na,1,b\n", "HEADER", "twice"),
    ("missing column", b"name,stock\na,1\n", "HEADER", "'price'"),
    ("misspelt column", b"name,prices\na,1\n", "HEADER", "mapping"),
    ("no header", b"a,1,2\nb,1,2\n", "HEADER", "Seen: 'a', '1', '2'"),
    ("empty", b"", "EMPTY", "empty"),
    ("only newlines", b"\n\r\n\n", "EMPTY", "header"),
    ("2 M columns", b"name,price," + b"x," * 2_000_000 + b"y\n", "HEADER", "header"),
    ("no line end", b"x" * (3 << 20), "HEADER", "longer than 1 MiB"),
    ("gzip", b"\x1f\x8b\x08\0\0\0\0\0", "FORMAT", "gzip"),
    ("zip", b"PK\x03\x04\0\0\0\0", "FORMAT", "zip"),
    ("Parquet", b"PAR1\0\0\0\0PAR1", "FORMAT", "Parquet"),
]


@pytest.mark.parametrize(("data", "names", "faults"), [row[1:] for row in RECORDS], ids=[row[0] for row in RECORDS])
@pytest.mark.parametrize("window", [8 << 20, 7], ids=["whole", "cut"])
def test_records(data: bytes, names: dict[int, str], faults: list[tuple[int, str | None, str]], window: int) -> None:
    if window == 7 and len(data) > 1 << 20:
        window = 1 << 20
    found = outcome(data, window=window)
    assert found.fault is None
    assert {row: record["name"] for row, record in found.loaded.items()} == names
    assert found.faults == faults


@pytest.mark.parametrize(("data", "fault", "words"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_files(data: bytes, fault: str, words: str) -> None:
    found = outcome(data, window=1 << 20)
    assert found.fault == fault
    assert words in found.message


def test_a_header_alone_loads_nothing() -> None:
    found = outcome(H)
    assert (found.fault, found.loaded, found.batches) == (None, {}, 0)


def test_unknown_columns_are_named() -> None:
    assert outcome(b"name,price,colour\na,1,red\n").warnings == ("Ignored columns that the contract does not have: 'colour'.",)


def test_options_load_other_dialects() -> None:
    assert outcome(b"name;price\n'a;b';1\n", delimiter=";", quote="'").loaded[1]["name"] == "a;b"
    assert outcome(b"titel,price\na,1\n", mapping={"name": "titel"}).loaded[1]["name"] == "a"
    assert outcome(b"name,price\na,1\n", mapping={"name": "titel"}).fault == "HEADER"
    assert outcome(b"name,price\na,1\n", mapping={"nam": "name"}).fault == "HEADER"


def test_the_raw_text_of_a_reject_is_what_stood_in_the_file() -> None:
    found = outcome(H + b'a,1,2\n"b\n""c",x,2\nd\xe9,1,2\r\n', batch_rows=1)
    assert found.raw == {2: '"b\n""c",x,2', 3: "d\\xe9,1,2"}


def test_row_numbers_go_on_over_batches() -> None:
    lines = b"".join(b"p%d,%s,1\n" % (row, b"x" if row % 7 == 0 else b"1") for row in range(1, 101))
    found = outcome(H + lines, batch_rows=9)
    assert found.batches == 12
    assert found.rejected == list(range(7, 101, 7))
    assert found.loaded[8]["name"] == "p8"


def test_a_record_of_more_than_128_mib_is_no_record() -> None:
    assert outcome(H + b"a,1,2\n" + b"x" * (130 << 20), window=8 << 20).fault == "LINE_TOO_LONG"


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from('",\n'), min_size=1, max_size=8)
ROWS = st.lists(st.tuples(TEXT, st.integers(0, 10**6), TEXT), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    ROWS,
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_what_csv_writes_comes_back(rows: list[tuple[str, int, str]], quoting: int, end: str, window: int, batch: int) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow(["name", "price", "description"])
    writer.writerows(rows)
    found = outcome(text.getvalue().encode(), window=window, batch_bytes=batch)
    assert found.faults == []
    assert [(row["name"], row["price"], row["description"]) for row in found.loaded.values()] == [
        (name, Decimal(price), description) for name, price, description in rows
    ]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.data())
def test_a_cut_file_never_yields_a_wrong_record(rows: list[tuple[str, int, str]], data: st.DataObject) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    # The last column is required: a file that is cut behind its delimiter cannot be told from one that ends so.
    writer.writerow(["name", "description", "price"])
    writer.writerows((name, description, price) for name, price, description in rows)
    whole = text.getvalue().encode()
    found = outcome(whole[: data.draw(st.integers(0, len(whole)))])
    for row, record in found.loaded.items():
        name, price, description = rows[row - 1]
        assert (record["name"], record["price"], record["description"]) == (name, Decimal(price), description)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b'"', b",", b"\n", b"a", b"1", b'""', b"\r\n", b"a,1,2\n", b'"x",1,2\n']), max_size=30),
    st.integers(1, 30),
    st.integers(1, 40),
)
def test_cutting_into_batches_changes_nothing(tokens: list[bytes], window: int, batch: int) -> None:
    data = H + b"".join(tokens)
    whole, cut = outcome(data), outcome(data, window=window, batch_bytes=batch)
    assert (whole.fault, whole.loaded, whole.faults, whole.raw) == (cut.fault, cut.loaded, cut.faults, cut.raw)
