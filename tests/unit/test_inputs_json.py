"""What NDJSON and JSON documents get, by example."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.outcome import outcome

CUP = {"name": "Cup", "price": Decimal(1)}

LOADS: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "a line": (b'{"name": "Cup", "price": 1}', [CUP]),
    "lines": (b'{"name": "Cup", "price": 1}\n{"name": "Pot", "price": 2.5}\n', [CUP, {"name": "Pot", "price": Decimal("2.5")}]),
    "CRLF": (b'{"name":"Cup","price":1}\r\n{"name":"Cup","price":1}\r\n', [CUP, CUP]),
    "blank lines": (b'\n{"name":"Cup","price":1}\n\n \t \n\r\n{"name":"Cup","price":1}\n\n', [CUP, CUP]),
    "long blank lines": (
        b'{"name":"Cup","price":1}\n' + b" " * 5000 + b'\r\n\n{"name":"Cup","price":1}\n' + b"\t" * 999,
        [CUP, CUP],
    ),
    "spaces around": (b'  {"name":"Cup","price":1}  \n\t{"name":"Cup","price":1}\t\n', [CUP, CUP]),
    "byte-order mark": (b'\xef\xbb\xbf{"name":"Cup","price":1}\n{"name":"Cup","price":1}\n', [CUP, CUP]),
    "byte-order mark, array": (b'\xef\xbb\xbf[{"name":"Cup","price":1}]', [CUP]),
    "array": (b'[{"name":"Cup","price":1},{"name":"Cup","price":1}]', [CUP, CUP]),
    "array, printed": (b'\n[\n    {\n        "name": "Cup",\n        "price": 1\n    }\n]\n', [CUP]),
    "array, spread": (b' [ {"name":"Cup","price":1} ,\n  {"name":"Cup","price":1} ]  \r\n', [CUP, CUP]),
    "one object, printed": (b'{\n  "name": "Cup",\n  "price": 1\n}\n', [CUP]),
    "one object, commas first": (b'{ "name": "Cup"\n, "price": 1\n}\n', [CUP]),
    "one object on two lines": (b'{"name": "Cup", "description": "{",\n"price": 1}\n', [CUP | {"description": "{"}]),
    "missing optional key": (
        b'{"name":"Cup","price":1}\n{"name":"Cup","price":1,"stock":3}\n',
        [CUP | {"stock": None}, CUP | {"stock": 3}],
    ),
    "null in optional keys": (
        b'{"name":"Cup","price":1,"stock":null,"category":null}\n',
        [CUP | {"stock": None, "category": None}],
    ),
    "unknown key": (b'{"name":"Cup","price":1,"x":"y"}\n{"name":"Cup","x":{"r":[1,2]},"price":1}\n', [CUP, CUP]),
    "unknown key late": (b'{"name":"Cup","price":1}\n{"name":"Cup","price":1,"x":"y"}\n', [CUP, CUP]),
    "unknown keys of all kinds": (
        b'{"name":"Cup","price":1,"\\"":1,"\\\\":2,"a\\u0000":3,"":4}\n{"name":"Cup","price":1,"\\"":1}',
        [CUP, CUP],
    ),
    "unknown key in other letters": ('{"name":"Cup","price":1,"größe":"L"}\n'.encode(), [CUP]),
    "keys with escapes": (b'{"n\\u0061me":"Cup","pr\\u0069ce":1}\n', [CUP]),
    "space before a colon": (b'{"name" : "Cup" , "price"\t:1}\n', [CUP]),
    "keys in another order": (b'{"price":1,"name":"Cup"}\n{"name":"Cup","price":1}\n', [CUP, CUP]),
    "colons in texts": (
        b'{"name":"a: b","price":1,"description":"x\\": y : z"}\n',
        [{"name": "a: b", "description": 'x": y : z'}],
    ),
    "brackets in texts": (
        b'[{"name":"}],[{","price":1},{"name":"\\\\","price":1},{"name":"\\"]","price":1}]',
        [{"name": "}],[{"}, {"name": "\\"}, {"name": '"]'}],
    ),
    "slashes in texts": (
        b'[{"name":"// no /* comment","price":1},{"name":"\\/","price":1}]',
        [{"name": "// no /* comment"}, {"name": "/"}],
    ),
    "escapes": (b'{"name":"\\u00e9\\n\\t\\"\\ud83d\\ude42","price":1}\n', [{"name": 'é\n\t"🙂'}]),
    "emoji and right-to-left": ('{"name":"🙂 שלום","price":1}\n'.encode(), [{"name": "🙂 שלום"}]),
    "empty text in an optional column": (b'{"name":"Cup","price":1,"category":""}\n', [CUP | {"category": ""}]),
    "a text keeps its zeros": (b'{"name":"007","price":1}\n', [{"name": "007"}]),
    "nesting in an unknown key": (b'{"name":"Cup","price":1,"x":' + b"[" * 60 + b"]" * 60 + b"}\n", [CUP]),
    "control character in an unknown key": (b'{"name":"Cup","price":1,"x":"\\u0000"}\n', [CUP]),
}


@pytest.mark.parametrize("case", LOADS)
def test_it_loads(case: str) -> None:
    data, expected = LOADS[case]
    for window, size in ((8 << 20, 4 << 20), (3, 40)):
        found = outcome(data, batch_bytes=size, window=window)
        assert (found.fault, found.message, found.faults) == (None, "", [])
        assert list(found.loaded) == list(range(1, len(expected) + 1))
        for row, wanted in zip(found.loaded.values(), expected, strict=True):
            assert row == row | wanted


#: What stands between two good records, as a line or as an element; it is rejected alone.
REJECTS: dict[str, tuple[bytes, str, str | None]] = {
    "duplicate key": (b'{"name":"Cup","price":1,"price":2}', "DUPLICATE_KEY", None),
    "duplicate key by an escape": (b'{"name":"Cup","price":1,"pr\\u0069ce":2}', "DUPLICATE_KEY", None),
    "duplicate key behind a space": (b'{"name":"Cup","price":1,"price" :2}', "DUPLICATE_KEY", None),
    "duplicate unknown key": (b'{"name":"Cup","price":1,"x":1,"x":1}', "DUPLICATE_KEY", None),
    "duplicate key within": (b'{"name":"Cup","price":1,"x":{"y":1,"y":2}}', "DUPLICATE_KEY", None),
    "duplicate key with the same value": (b'{"name":"Cup","name":"Cup","price":1}', "DUPLICATE_KEY", None),
    "1,500 deep": (b'{"name":"Cup","price":1,"x":' + b"[" * 1500 + b"]" * 1500 + b"}", "DEPTH", None),
    "1,500 deep in a column": (b'{"name":"Cup","price":' + b"[" * 1500 + b"]" * 1500 + b"}", "DEPTH", None),
    "1,500 objects deep": (b'{"name":"Cup","price":1,"x":' + b'{"a":' * 1500 + b"1" + b"}" * 1500 + b"}", "DEPTH", None),
    "200,000 deep": (b'{"name":"Cup","price":1,"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "DEPTH", None),
    "an array 200,000 deep": (b"[" * 200_000 + b"]" * 200_000, "DEPTH", None),
    "half a surrogate": (b'{"name":"a\\ud800b","price":1}', "ENCODING", "name"),
    "half a surrogate at the end": (b'{"name":"a\\udc00","price":1}', "ENCODING", "name"),
    "surrogates the wrong way round": (b'{"name":"\\ude42\\ud83d","price":1}', "ENCODING", "name"),
    "half a surrogate in an unknown key": (b'{"name":"Cup","price":1,"x":["\\ud800"]}', "ENCODING", None),
    "half a surrogate in a key": (b'{"name":"Cup","price":1,"\\ud800":1}', "ENCODING", None),
    "NUL, escaped": (b'{"name":"a\\u0000b","price":1}', "NUL", "name"),
    "control character, escaped": (b'{"name":"a\\u001bb","price":1}', "CONTROL", "name"),
    "C1, escaped": (b'{"name":"a\\u0085b","price":1}', "CONTROL", "name"),
    "DEL, escaped": (b'{"name":"a\\u007fb","price":1}', "CONTROL", "name"),
    "DEL": (b'{"name":"a\x7fb","price":1}', "CONTROL", "name"),
    "C1": (b'{"name":"a\xc2\x85b","price":1}', "CONTROL", "name"),
    "NUL": (b'{"name":"a\0b","price":1}', "NUL", None),
    "control character": (b'{"name":"a\x1bb","price":1}', "CONTROL", None),
    "tab in a text": (b'{"name":"a\tb","price":1}', "CONTROL", None),
    "Latin-1": (b'{"name":"Caf\xe9","price":1}', "ENCODING", None),
    "UTF-8 of a surrogate": (b'{"name":"\xed\xa0\x80","price":1}', "ENCODING", None),
    "array": (b'["Cup", 1]', "TYPE", None),
    "text": (b'"Cup"', "TYPE", None),
    "number": (b"12", "TYPE", None),
    "true": (b"true", "TYPE", None),
    "null": (b"null", "TYPE", None),
    "trailing comma within": (b'{"name":"Cup","price":1,}', "SYNTAX", None),
    "no comma": (b'{"name":"Cup" "price":1}', "SYNTAX", None),
    "no colon": (b'{"name" "Cup","price":1}', "SYNTAX", None),
    "bare key": (b'{name:"Cup","price":1}', "SYNTAX", None),
    "single quotes": (b"{'name':1}", "SYNTAX", None),
    "bad escape": (b'{"name":"\\x41","price":1}', "SYNTAX", None),
    "cut escape": (b'{"name":"\\u12","price":1}', "SYNTAX", None),
    "missing required key": (b'{"name":"Cup"}', "REQUIRED", "price"),
    "key of another case": (b'{"name":"Cup","Price":1}', "REQUIRED", "price"),
    "field over a megabyte": (b'{"name":"' + b"x" * ((1 << 20) + 1) + b'","price":1}', "SIZE", "name"),
}
#: As a line only: in an array they would break its structure.
LINES: dict[str, tuple[bytes, str, str | None]] = {
    "brace and rubbish": (b"{bad", "SYNTAX", None),
    "cut": (b'{"name":"Cup","pri', "SYNTAX", None),
    "cut within a text": (b'{"name":"Cu', "SYNTAX", None),
    "brace too many": (b'{"name":"Cup","price":1}}', "SYNTAX", None),
    "two records in a line": (b'{"name":"Cup","price":1}{"name":"Cup","price":1}', "SYNTAX", None),
    "two records in a line, parted": (b'{"name":"Cup","price":1}, {"name":"Cup","price":1}', "SYNTAX", None),
    "comma at the end": (b'{"name":"Cup","price":1},', "SYNTAX", None),
    "bracket": (b"[", "SYNTAX", None),
    "comment": (b"// comment", "SYNTAX", None),
    "comment behind": (b'{"name":"Cup","price":1} // comment', "SYNTAX", None),
    "words": (b"Cup,1", "SYNTAX", None),
    "non-breaking space behind": (b'{"name":"Cup","price":1}\xc2\xa0', "SYNTAX", None),
    "vertical tab behind": (b'{"name":"Cup","price":1}\x0b', "SYNTAX", None),
    "byte-order mark in mid-file": (b'\xef\xbb\xbf{"name":"Cup","price":1}', "SYNTAX", None),
}
ALL = REJECTS | LINES
BEFORE, AFTER = b'{"name":"Before","price":1}', b'{"name":"After","price":1}'


def shown(record: bytes) -> str:
    text = record.decode(errors="backslashreplace")
    return text if len(text) <= 10_000 else text[:10_000] + "…"


@pytest.mark.parametrize("case", ALL)
def test_a_line_is_rejected_alone(case: str) -> None:
    record, code, column = ALL[case]
    for end in (b"\n", b"\r\n"):
        found = outcome(end.join([BEFORE, record, AFTER, b""]), format="NDJSON")
        assert (found.fault, found.faults, found.names) == (None, [(2, column, code)], ["Before", "After"])
        assert found.raw == {2: shown(record)}


@pytest.mark.parametrize("case", [case for case, (record, *_) in ALL.items() if len(record) < 1000])
def test_it_is_rejected_wherever_it_stands(case: str) -> None:
    record, code, column = ALL[case]
    good = [b'{"name":"P%d","price":1}' % number for number in range(8)]
    for place in (0, 3, 8):
        if place == 0 and record.startswith(b"\xef\xbb\xbf"):
            continue  # there it is the file's mark
        for last in (b"\n", b""):
            data = b"\n".join([*good[:place], record, *good[place:]]) + last
            found = outcome(data, format="NDJSON", batch_bytes=70, window=5)
            assert found.faults == [(place + 1, column, code)]
            assert found.names == [f"P{number}" for number in range(8)]


@pytest.mark.parametrize("case", REJECTS)
def test_an_element_is_rejected_alone(case: str) -> None:
    record, code, column = REJECTS[case]
    for before, between, behind in ((b"[", b",", b"]"), (b" [\n ", b" ,\n  ", b" \n]\n")):
        found = outcome(before + between.join([BEFORE, record, AFTER]) + behind)
        assert (found.fault, found.faults, found.names) == (None, [(2, column, code)], ["Before", "After"])
        assert found.raw == {2: shown(record)}


@pytest.mark.parametrize("case", ALL)
def test_a_record_fares_the_same_whatever_stands_beside_it(case: str) -> None:
    """The fast path and the exact one judge alike: alone, first, and behind a broken record."""
    record, code, column = ALL[case]
    if not record.startswith(b"\xef\xbb\xbf"):
        assert outcome(record, format="NDJSON").faults == [(1, column, code)]
        assert outcome(b"\n".join([record, AFTER]), format="NDJSON").faults == [(1, column, code)]
    assert outcome(b"{bad\n" + record, format="NDJSON").faults == [(1, None, "SYNTAX"), (2, column, code)]


def test_lines_that_belong_together_are_not_joined() -> None:
    """A decoder that takes newlines for white space sees as many records here as planning does: other ones."""
    double = b'{"name":"a","price":1}{"name":"b","price":2}'
    for lines in (
        [double, b'{"name":"c",', b'"price":3}'],
        [double.replace(b"}{", b"},{"), b'{"name":"c"', b'"price":3}'],
        [double.replace(b"}{", b"} {"), b'{"x":[{"y":1}', b'{"y":1}],"name":"c","price":1}'],
        [double, b'{"x":{"y":1}', b',"name":"c","price":1}'],
    ):
        found = outcome(b"\n".join([BEFORE, *lines, AFTER]), format="NDJSON")
        assert found.faults == [(row, None, "SYNTAX") for row in range(2, len(lines) + 2)]
        assert found.names == ["Before", "After"]


def test_a_truncated_last_line_is_a_reject() -> None:
    found = outcome(BEFORE + b"\n" + AFTER[:10])
    assert (found.names, found.faults, found.raw) == (["Before"], [(2, None, "SYNTAX")], {2: AFTER[:10].decode()})


@pytest.mark.parametrize("first", [b"{bad", BEFORE[:-1], b'{"name":"x', b'{"name":', b"{"])
def test_a_broken_first_line_does_not_make_a_document_of_lines(first: bytes) -> None:
    found = outcome(b"\n".join([first, BEFORE, AFTER]))
    assert (found.fault, found.codes, found.names) == (None, ["SYNTAX"], ["Before", "After"])


FAILS: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "EMPTY", "empty"),
    "truncated array": (b'[{"name":"Cup","price":1}', "SYNTAX", "not closed"),
    "truncated in an element": (b'[{"name":"Cup","price":1},{"name":"Po', "SYNTAX", "record 2"),
    "truncated in a text": (b'[{"name":"Cup","price":1},{"name":"]', "SYNTAX", "not closed"),
    "trailing comma": (b'[{"name":"Cup","price":1},]', "SYNTAX", "comma"),
    "trailing comma, printed": (b'[\n  {"name":"Cup","price":1},\n]\n', "SYNTAX", "comma"),
    "leading comma": (b'[,{"name":"Cup","price":1}]', "SYNTAX", "comma"),
    "only a comma": (b"[,]", "SYNTAX", "comma"),
    "empty element": (b'[{"name":"Cup","price":1}, ,{"name":"Cup","price":1}]', "SYNTAX", "comma"),
    "two commas": (b'[{"name":"Cup","price":1},,{"name":"Cup","price":1}]', "SYNTAX", "comma"),
    "behind the end": (b'[{"name":"Cup","price":1}] x', "SYNTAX", "behind"),
    "two arrays": (b'[{"name":"Cup","price":1}][]', "SYNTAX", "behind"),
    "behind an object": (b'{\n"name":"Cup",\n"price":1}\n,', "SYNTAX", "behind"),
    "comment": (b'[{"name":"Cup","price":1} /* one */]', "SYNTAX", "comment"),
    "comment before": (b'[ // one\n{"name":"Cup","price":1}]', "SYNTAX", "comment"),
    "comment in an object": (b'{\n"name":"Cup", // name\n"price":1}', "SYNTAX", "comment"),
    "strange element": (b'[{"name":"Cup","price":1}, x]', "SYNTAX", "'x'"),
    "closed by a brace": (b'[{"name":"Cup","price":1}}', "SYNTAX", "brace"),
    "truncated object": (b'{\n"name":"Cup",\n', "SYNTAX", "not closed"),
    "UTF-16": ('[{"name":"Cup"}]'.encode("utf-16"), "ENCODING", "UTF-16"),
    "UTF-16 without a mark": ('[{"name":"Cup"}]'.encode("utf-16-be"), "ENCODING", "UTF-16"),
    "UTF-16 lines": ('{"name":"Cup"}\n'.encode("utf-16-le"), "ENCODING", "UTF-16"),
}


@pytest.mark.parametrize("case", FAILS)
@pytest.mark.parametrize("window", [8 << 20, 2])
@pytest.mark.parametrize("size", [4 << 20, 10])
def test_the_document_fails(case: str, window: int, size: int) -> None:
    data, code, hint = FAILS[case]
    found = outcome(data, batch_bytes=size, window=window)
    assert found.fault == code
    assert hint in found.message


@pytest.mark.parametrize("data", [b"1", b"null", b"true", b'"text"', b"x", b"-", b"}", b"]"])
def test_a_scalar_is_no_document(data: bytes) -> None:
    assert outcome(data, format="JSON").fault == "SYNTAX"
    assert outcome(b" \n" + data + b"\n", format="JSON").fault == "SYNTAX"


@pytest.mark.parametrize("data", [b"1", b"null", b"true", b'"text"', b" \n null \n", b"\xef\xbb\xbfnull"])
def test_a_scalar_that_nobody_says_is_json_is_no_document_either(data: bytes) -> None:
    assert outcome(data).fault == "HEADER"


@pytest.mark.parametrize("data", [b"", b" ", b"\n\n", b"\xef\xbb\xbf\n"])
def test_nothing_is_no_document(data: bytes) -> None:
    assert outcome(data, format="JSON").fault == "EMPTY"
    assert outcome(data, format="NDJSON").fault == "EMPTY"


@pytest.mark.parametrize("data", [b"[]", b" [ \n ] \n", b"\xef\xbb\xbf[]", b"[" + b" " * 100_000 + b"]"])
def test_an_empty_array_is_a_job_of_no_records(data: bytes) -> None:
    for window in (8 << 20, 1 << 14):
        found = outcome(data, window=window, batch_bytes=10)
        assert (found.fault, found.batches) == (None, ())


def test_an_empty_record_is_rejected() -> None:
    assert outcome(b"[{}]").faults == [(1, "name", "REQUIRED"), (1, "price", "REQUIRED")]
    assert outcome(b"{}").faults == [(1, "name", "REQUIRED"), (1, "price", "REQUIRED")]


def test_all_faults_of_a_record_are_told() -> None:
    found = outcome(b'[{"name":1,"category":[],"price":"x","stock":true}]')
    assert found.faults == [(1, "name", "TYPE"), (1, "category", "TYPE"), (1, "price", "TYPE"), (1, "stock", "TYPE")]
    assert found.messages[0] == "name must be a text; got a number"


def test_white_space_without_end_takes_no_time() -> None:
    found = outcome(b'[{"name":"Cup","price":1},' + b" " * (4 << 20) + b'{"name":"Cup","price":1}]')
    assert found.names == ["Cup", "Cup"]
    found = outcome(b'{"name":"Cup","price":1}\n' + b" " * (4 << 20) + b'{"name":"Cup","price":1}\n')
    assert found.names == ["Cup", "Cup"]


def test_a_record_over_8_mib_is_rejected_and_never_parsed() -> None:
    big = b'{"name":"Big","price":1,"x":[' + b'"y",' * (3 << 20) + b"1]}"
    for data in (b"\n".join([BEFORE, big, AFTER]), b"[" + b",".join([BEFORE, big, AFTER]) + b"]"):
        found = outcome(data)
        assert found.faults == [(2, None, "SIZE")]
        assert found.names == ["Before", "After"]
        assert found.batches == (1, 1, 1)


def test_a_record_without_an_end_fails() -> None:
    endless = b'{"name":"' + b"x" * (130 << 20)
    assert outcome(BEFORE + b"\n" + endless, format="NDJSON").fault == "LINE_TOO_LONG"
    assert outcome(b"[" + BEFORE + b"," + endless).fault == "LINE_TOO_LONG"
    assert outcome(endless + b'\n"', format="JSON").fault == "LINE_TOO_LONG"


@pytest.mark.parametrize("form", ["NDJSON", "JSON"])
def test_mapping(form: str) -> None:
    data = b'{"Titel":"Cup","net \\"price\\"":1,"name":"not this"}'
    found = outcome(data, format=form, mapping={"name": "Titel", "price": 'net "price"'})
    assert (found.faults, found.names) == ([], ["Cup"])
    swapped = {"name": "description", "description": "name"}
    found = outcome(b'{"description":"Cup","name":"Blue","price":1}', format=form, mapping=swapped)
    assert found.loaded[1] == found.loaded[1] | {"name": "Cup", "description": "Blue"}
    found = outcome(b'{"name":"Cup","price":1}', format=form, mapping={"description": "name", "name": "name"})
    assert found.loaded[1] == found.loaded[1] | {"name": "Cup", "description": "Cup"}


def test_a_mapping_that_names_no_column_fails() -> None:
    found = outcome(b"[]", mapping={"nome": "x"})
    assert found.fault == "HEADER"
    assert "'nome'" in found.message


def test_row_numbers_go_on_over_batches() -> None:
    records = [b'{"name":"p%d","price":%s}' % (row, b"-1" if row % 7 == 0 else b"1") for row in range(1, 101)]
    for data in (b"\n".join(records), b"[" + b", ".join(records) + b"]"):
        found = outcome(data, batch_rows=9)
        assert found.batches == (9,) * 11 + (1,)
        assert list(found.raw) == list(range(7, 101, 7))
        assert found.raw[14] == '{"name":"p14","price":-1}'
        assert found.loaded[8]["name"] == "p8"
