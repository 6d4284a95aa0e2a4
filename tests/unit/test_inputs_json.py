"""What bad JSON arrays and NDJSON get: each row is bytes, what loads, and what is rejected or why the file does not load."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.outcome import outcome

A = b'{"name":"a","price":1}'
B = b'{"name":"b","price":1}'
#: A record, and the fault it is rejected for; "" means that it loads.
RECORDS = [
    ("duplicate key", b'{"name":"x","name":"y","price":1}', "DUPLICATE_KEY"),
    ("duplicate unknown key", b'{"name":"x","price":1,"q":1,"q":2}', "DUPLICATE_KEY"),
    ("duplicate nested key", b'{"name":"x","price":1,"q":{"r":1,"r":2}}', "DUPLICATE_KEY"),
    ("duplicate key by an escape", b'{"name":"x","n\\u0061me":"y","price":1}', "DUPLICATE_KEY"),
    ("duplicate key behind a space", b'{"price":1,"name":"x","name" :"y"}', "DUPLICATE_KEY"),
    ("deep 1,500", b'{"name":"x","price":1,"q":' + b"[" * 1500 + b"]" * 1500 + b"}", "DEPTH"),
    ("deep 200,000", b'{"name":"x","price":1,"q":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "DEPTH"),
    ("empty object", b"{}", "REQUIRED"),
    ("text in a number column", b'{"name":"x","price":"12"}', "TYPE"),
    ("true in a number column", b'{"name":"x","price":true}', "TYPE"),
    ("object in a number column", b'{"name":"x","price":{}}', "TYPE"),
    ("number in a text column", b'{"name":5,"price":1}', "TYPE"),
    ("2^63", b'{"name":"x","price":1,"stock":9223372036854775808}', "RANGE"),
    ("2^64", b'{"name":"x","price":1,"stock":18446744073709551616}', "RANGE"),
    ("5,000 digits", b'{"name":"x","price":' + b"9" * 5000 + b"}", "RANGE"),
    ("1e400", b'{"name":"x","price":1e400}', "RANGE"),
    ("1e-400", b'{"name":"x","price":1e-400}', "SCALE"),
    ("NaN", b'{"name":"x","price":NaN}', "SYNTAX"),
    ("Infinity", b'{"name":"x","price":-Infinity}', "SYNTAX"),
    ("leading zero", b'{"name":"x","price":01}', "SYNTAX"),
    ("lone surrogate", b'{"name":"\\ud800","price":1}', "ENCODING"),
    ("lone surrogate in an unknown key", b'{"name":"x","price":1,"q":"\\udc00"}', "ENCODING"),
    ("escaped NUL", b'{"name":"x\\u0000","price":1}', "NUL"),
    ("escaped control character", b'{"name":"x\\u0001","price":1}', "CONTROL"),
    ("raw control character", b'{"name":"x\x01","price":1}', "CONTROL"),
    ("invalid UTF-8", b'{"name":"x\xff","price":1}', "ENCODING"),
    ("array", b"[1]", "TYPE"),
    ("scalar", b"7", "TYPE"),
    ("text", b'"x"', "TYPE"),
    ("null", b"null", "TYPE"),
    ("broken", b"{bad}", "SYNTAX"),
    ("missing required key", b'{"price":1}', "REQUIRED"),
    ("null required key", b'{"name":null,"price":1}', "REQUIRED"),
    ("empty name", b'{"name":"","price":1}', "REQUIRED"),
    ("missing optional keys", b'{"name":"x","price":1}', ""),
    ("null optional key", b'{"name":"x","price":1,"stock":null}', ""),
    ("unknown key", b'{"name":"x","price":1,"zzz":[{"q":1}]}', ""),
    ("white space", b'{ "name" :\t"x" , "price" : 1 }', ""),
    ("surrogate pair", b'{"name":"x\\ud83d\\ude00","price":1}', ""),
    ("escapes", b'{"name":"x\\"\\\\:\\n","price":1}', ""),
    ("a colon behind a quote in a text", b'{"name":"x\\":y","price":1}', ""),
]
#: Documents and files that do not load as a whole.
ARRAYS = [
    ("truncated", b"[" + A + b"," + B[:9]),
    ("not closed", b"[" + A),
    ("trailing comma", b"[" + A + b",]"),
    ("leading comma", b"[," + A + b"]"),
    ("two commas", b"[" + A + b",," + A + b"]"),
    ("comment", b"[/* c */" + A + b"]"),
    ("comment in a record", b'[{"name": "a", /* c */ "price": 1}]'),
    ("line comment", b"[\n// c\n" + A + b"]"),
    ("junk behind", b"[" + A + b"] x"),
    ("second document", b"[" + A + b"] [" + A + b"]"),
    ("no separator begins so", b"[" + A + b", x" + A + b"]"),
]


@pytest.mark.parametrize(("record", "code"), [row[1:] for row in RECORDS], ids=[row[0] for row in RECORDS])
@pytest.mark.parametrize("form", ["array", "ndjson"])
@pytest.mark.parametrize("batch_rows", [50_000, 1])
def test_records(record: bytes, code: str, form: str, batch_rows: int) -> None:
    data = b"[" + b",".join([A, record, B]) + b"]" if form == "array" else b"\n".join([A, record, B])
    found = outcome(data, batch_rows=batch_rows)
    assert found.fault is None
    assert found.loaded[1]["name"] == "a"
    assert found.loaded[3]["name"] == "b"
    assert [(row, fault) for row, _, fault in found.faults] == (
        [(2, code)] if code and record != b"{}" else found_required(record, found.faults)
    )


def found_required(record: bytes, faults: list[tuple[int, str | None, str]]) -> list[tuple[int, str]]:
    """An empty object breaks the rule of each required column."""
    return [(2, "REQUIRED"), (2, "REQUIRED")] if record == b"{}" else []


@pytest.mark.parametrize("data", [row[1] for row in ARRAYS], ids=[row[0] for row in ARRAYS])
@pytest.mark.parametrize("window", [8 << 20, 3])
def test_documents(data: bytes, window: int) -> None:
    assert outcome(data, window=window).fault == "SYNTAX"


@pytest.mark.parametrize("data", [b"5", b"null", b'"x"', b"true"])
def test_a_scalar_is_no_document(data: bytes) -> None:
    assert outcome(data, format="JSON").fault == "SYNTAX"


def test_documents_that_load() -> None:
    assert outcome(b"[]").loaded == {}
    assert outcome(b" [ \n ] ").loaded == {}
    assert list(outcome(b"\xef\xbb\xbf[" + A + b"]").loaded) == [1]
    assert list(outcome(A).loaded) == [1]
    assert list(outcome(b'{\n  "name": "a",\n  "price": 1\n}\n').loaded) == [1]
    assert list(outcome(b" [ " + A + b" ,\n" + B + b" ] \n").loaded) == [1, 2]


def test_lines_that_load() -> None:
    assert list(outcome(b"\xef\xbb\xbf" + A + b"\n" + B).loaded) == [1, 2]
    assert list(outcome(A + b"\r\n" + B + b"\r\n").loaded) == [1, 2]
    assert list(outcome(A + b"\n\n \t\n" + B + b"\n\n").loaded) == [1, 2]
    assert list(outcome(A + b"\n" + b'{"name":"b","price":1,"late":true}\n').loaded) == [1, 2]


def test_a_truncated_last_line_is_a_reject() -> None:
    found = outcome(A + b"\n" + B[:10])
    assert list(found.loaded) == [1]
    assert found.faults == [(2, None, "SYNTAX")]
    assert found.raw == {2: B[:10].decode()}


def test_utf16_does_not_load() -> None:
    assert outcome((A.decode() + "\n").encode("utf-16")).fault == "ENCODING"


@pytest.mark.parametrize(
    ("number", "price"),
    [
        ("1e3", "1000.00"),
        ("1.5E1", "15.00"),
        ("-0", "0.00"),
        ("-0.0", "0.00"),
        ("125e-2", "1.25"),
        ("9999999999.99", "9999999999.99"),
    ],
)
def test_numbers_are_exact(number: str, price: str) -> None:
    assert outcome(b'[{"name":"a","price":%s}]' % number.encode()).loaded[1]["price"] == Decimal(price)


RECORD = st.fixed_dictionaries(
    {
        "name": st.text(
            st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from('":{}[],\\\n'),
            min_size=1,
            max_size=8,
        ),
        "price": st.integers(0, 10**6),
    },
    optional={
        "description": st.none() | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6),
        "x{": st.integers() | st.lists(st.text(max_size=3), max_size=2),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(RECORD, min_size=1, max_size=10),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_what_json_writes_comes_back(
    records: list[dict[str, Any]], ascii: bool, indent: int | None, array: bool, window: int, batch: int
) -> None:
    if array:
        data = json.dumps(records, ensure_ascii=ascii, indent=indent).encode()
    else:
        data = "\n".join(json.dumps(record, ensure_ascii=ascii) for record in records).encode()
    found = outcome(data, window=window, batch_bytes=batch)
    assert (found.fault, found.faults) == (None, [])
    assert [(row["name"], row["price"], row["description"]) for row in found.loaded.values()] == [
        (record["name"], Decimal(record["price"]), record.get("description")) for record in records
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORD, min_size=1, max_size=6), st.booleans(), st.data())
def test_a_cut_file_never_yields_a_wrong_record(records: list[dict[str, Any]], array: bool, data: st.DataObject) -> None:
    whole = (json.dumps(records) if array else "\n".join(map(json.dumps, records))).encode()
    found = outcome(whole[: data.draw(st.integers(0, len(whole)))], format="JSON" if array else "NDJSON")
    for row, record in found.loaded.items():
        assert (record["name"], record["price"]) == (records[row - 1]["name"], Decimal(records[row - 1]["price"]))
