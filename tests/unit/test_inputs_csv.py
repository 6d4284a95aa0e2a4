"""What a CSV gets, by example: it loads, a record is rejected alone, or the file fails as a whole."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.outcome import outcome, planned

HEAD = b"name,category,price,stock,rating,description\n"
EMOJI = "🙂 שלום"

LOADS: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "plain": (
        HEAD + b"Cup,Home,1.50,7,4.5,Blue\n",
        [{"name": "Cup", "category": "Home", "price": Decimal("1.50"), "stock": 7}],
    ),
    "byte-order mark": (b"\xef\xbb\xbfname,price\nCup,1\n", [{"name": "Cup", "price": Decimal(1)}]),
    "byte-order mark before a quoted header": (b'\xef\xbb\xbf"name","price"\nCup,1\n', [{"name": "Cup"}]),
    "byte-order mark in a name": (b"name,price\n\xef\xbb\xbfCup,1\n", [{"name": "\ufeffCup"}]),
    "CRLF": (b"name,price\r\nCup,1\r\nPot,2\r\n", [{"name": "Cup"}, {"name": "Pot", "price": Decimal(2)}]),
    "LF and CRLF": (b"name,price\nCup,1\r\nPot,2\n", [{"name": "Cup", "price": Decimal(1)}, {"name": "Pot"}]),
    "quoted newline": (b'name,price\n"Cup\nblue",1\n', [{"name": "Cup\nblue"}]),
    "quoted CRLF and lone CR": (b'name,price\n"Cup\r\nblue\rred",1\n', [{"name": "Cup\r\nblue\rred"}]),
    "quoted delimiter": (b'name,price\n"Cup, blue",1\n', [{"name": "Cup, blue"}]),
    "doubled quote": (b'name,price\n"5"" cup",1\n', [{"name": '5" cup'}]),
    "only a doubled quote": (b'name,price\n"""",1\n', [{"name": '"'}]),
    "doubled quotes at both ends": (b'name,price\n"""Cup""",1\n', [{"name": '"Cup"'}]),
    "all quoted": (b'"name","price"\n"Cup","1"\n', [{"name": "Cup", "price": Decimal(1)}]),
    "no final newline": (b"name,price\nCup,1", [{"name": "Cup", "price": Decimal(1)}]),
    "no final newline, quoted": (b'name,price\n1,1\nCup,"1"', [{"name": "1"}, {"name": "Cup", "price": Decimal(1)}]),
    "header of another case": (b"NAME,Price\nCup,1\n", [{"name": "Cup", "price": Decimal(1)}]),
    "padded header": (b" name , price \nCup,1\n", [{"name": "Cup"}]),
    "quoted newline in the header": (b'name,"price","a\r\nb"\r\nCup,1,x\r\n', [{"name": "Cup"}]),
    "reordered columns": (b"price,name\n1,Cup\n", [{"name": "Cup", "price": Decimal(1)}]),
    "unknown column": (b"name,colour,price\nCup,blue,1\n", [{"name": "Cup", "price": Decimal(1)}]),
    "unknown columns without a name": (b"name,price,,\nCup,1,,\n", [{"name": "Cup"}]),
    "blank lines": (b"\n\nname,price\n\nCup,1\n\r\n\nPot,2\n\n", [{"name": "Cup"}, {"name": "Pot"}]),
    "blank lines among quotes": (b'name,price\n\n"Cup\n\nx",1\n\nPot,2\n', [{"name": "Cup\n\nx"}, {"name": "Pot"}]),
    "backslash N": (b"name,price\n\\N,1\n", [{"name": "\\N"}]),
    "formulas": (
        b"name,price\n=1+1,1\n@SUM(A1),1\n+x,1\n\ttab,1\n-x,1\n",
        [{"name": "=1+1"}, {"name": "@SUM(A1)"}, {"name": "+x"}, {"name": "\ttab"}, {"name": "-x"}],
    ),
    "emoji and right-to-left": (f"name,price\n{EMOJI},1\n".encode(), [{"name": EMOJI}]),
    "comment sign, NULL, NA": (b"name,price\n#Cup,1\nNULL,1\nNA,1\n", [{"name": "#Cup"}, {"name": "NULL"}, {"name": "NA"}]),
    "spaces in text are kept": (b"name,price\n Cup ,1\n", [{"name": " Cup "}]),
    "empty optional fields are null": (HEAD + b'Cup,,1,"",,\n', [{"category": None, "stock": None, "rating": None}]),
    "empty fields at the end": (HEAD + b'Cup,,1,,,\n"Pot, big",,2,,,\n', [{"name": "Cup"}, {"name": "Pot, big"}]),
    "a text keeps its zeros": (b"name,price\n007,1\n", [{"name": "007"}]),
    "exactly a megabyte": (b"name,price\n" + b"x" * (1 << 20) + b",1\n", [{"price": Decimal(1)}]),
    "non-breaking space": ("name,price\nCup\u00a0blue,1\n".encode(), [{"name": "Cup\u00a0blue"}]),
}


@pytest.mark.parametrize("case", LOADS)
@pytest.mark.parametrize("window", [8 << 20, 7])
def test_it_loads(case: str, window: int) -> None:
    data, expected = LOADS[case]
    found = outcome(data, window=max(window, len(data) // 1000))
    assert (found.fault, found.message, found.faults) == (None, "", [])
    assert list(found.loaded) == list(range(1, len(expected) + 1))
    for row, wanted in zip(found.loaded.values(), expected, strict=True):
        assert row == row | wanted


#: Between two good records: each of these is rejected alone.
REJECTS: dict[str, tuple[bytes, str, str | None]] = {
    "quote in the middle": (b'a"b,1', "QUOTE", None),
    "two quotes in the middle": (b'a"b"c,1', "QUOTE", None),
    "text behind a quoted field": (b'"ab"cd,1', "QUOTE", None),
    "text behind the last quoted field": (b'ab,"1"2', "QUOTE", None),
    "space before a quote": (b'ab, "1"', "QUOTE", None),
    "short": (b"Cup", "SHORT_ROW", None),
    "long": (b"Cup,1,2", "LONG_ROW", None),
    "long by an empty field": (b"Cup,1,", "LONG_ROW", None),
    "short, quoted": (b'"Cup,1"', "SHORT_ROW", None),
    "long, quoted": (b'"Cup",1,2', "LONG_ROW", None),
    "Latin-1": (b"Caf\xe9,1", "ENCODING", None),
    "cut UTF-8": (b"Caf\xc3,1", "ENCODING", None),
    "UTF-8 of a surrogate": (b"\xed\xa0\x80,1", "ENCODING", None),
    "overlong UTF-8": (b"\xc0\xaf,1", "ENCODING", None),
    "NUL": (b"Cu\0p,1", "NUL", None),
    "control character": (b"Cu\x07p,1", "CONTROL", None),
    "control character in quotes": (b'"Cu\x1bp",1', "CONTROL", None),
    "DEL": (b"Cu\x7fp,1", "CONTROL", None),
    "C1 control character": (b"Cu\xc2\x85p,1", "CONTROL", None),
    "only empty fields": (b",", "REQUIRED", "name"),
    "empty required, quoted": (b'"",1', "REQUIRED", "name"),
    "backslash dot": (b"\\.", "SHORT_ROW", None),
    "spaces alone": (b"   ", "SHORT_ROW", None),
    "field over a megabyte": (b"x" * ((1 << 20) + 1) + b",1", "SIZE", None),
    "quoted field over a megabyte": (b'"' + b"x" * ((1 << 20) + 1) + b'",1', "SIZE", None),
}


def shown(record: bytes) -> str:
    text = record.decode(errors="backslashreplace")
    return text if len(text) <= 10_000 else text[:10_000] + "…"


@pytest.mark.parametrize("case", REJECTS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("after", [b'"After ""it""",2', b"After,2"], ids=["quotes", "plain"])
def test_a_record_is_rejected_alone(case: str, end: bytes, after: bytes) -> None:
    record, code, column = REJECTS[case]
    found = outcome(end.join([b"name,price", b"Before,1", record, after, b""]))
    assert found.fault is None
    assert [name[:5] for name in found.names] == ["Befor", "After"]
    assert found.faults[0] == (2, column, code)
    assert set(found.faults) <= {(2, column, code), (2, "price", "REQUIRED")}
    assert found.raw == {2: shown(record)}


@pytest.mark.parametrize("case", [case for case, (record, *_) in REJECTS.items() if len(record) < 1000])
def test_it_is_rejected_wherever_it_stands(case: str) -> None:
    record, code, column = REJECTS[case]
    good = [b"P%d,%d" % (number, number) for number in range(20)]
    for place in (0, 7, 20):
        lines = [*good[:place], record, *good[place:]]
        for last in (b"\n", b""):
            found = outcome(b"name,price\n" + b"\n".join(lines) + last, batch_bytes=40, window=7)
            assert found.faults[0] == (place + 1, column, code)
            assert found.names == [f"P{number}" for number in range(20)]


def test_short_and_long_rows_do_not_make_up_for_each_other() -> None:
    found = outcome(b"name,price,stock\na,1\nb,1,2,3\nc,1,2\n")
    assert found.faults == [(1, None, "SHORT_ROW"), (2, None, "LONG_ROW")]
    assert found.messages == ["the record has 2 of 3 fields", "the record has 4 fields; the header has 3"]
    found = outcome(b'name,price,stock\n"a,b",1\nc,1,2\n')
    assert found.faults == [(1, None, "SHORT_ROW")]


def test_stray_quotes_do_not_move_records() -> None:
    found = outcome(b'name,price\na"b,1\nc,1\nd"e,1\nf,1\n')
    assert found.faults == [(1, None, "QUOTE"), (3, None, "QUOTE")]
    assert found.names == ["c", "f"]


@pytest.mark.parametrize("stray", [b'a"bc,1', b'a"b"c,', b'"ab"c,', b'"a"b,1', b'ab,1"2'])
def test_stray_quotes_do_not_move_batches(stray: bytes) -> None:
    plain = [b"P%03d,1" % number for number in range(400)]

    def cut(lines: list[bytes], size: int) -> list[tuple[int, int, int]]:
        made, _ = planned(b"name,price\n" + b"\n".join(lines), batch_bytes=size, window=500)
        return [(batch.offset, batch.length, batch.rows) for batch in made.batches]

    for size in (40, 1000):
        for place in (0, 7, 255, 399):
            assert cut([*plain[:place], stray, *plain[place + 1 :]], size) == cut(plain, size)


FAILS: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "EMPTY", "empty"),
    "only newlines": (b"\n\r\n\n", "EMPTY", "header"),
    "only a byte-order mark": (b"\xef\xbb\xbf", "EMPTY", "empty"),
    "lone CR": (b"name,price\rCup,1\rPot,2\r", "LINE_END", "LF or CRLF"),
    "lone CR in a large file": (b"name,price\r" + b"Cup,1\r" * 1_000_000, "LINE_END", "LF or CRLF"),
    "lone CR behind the header": (b"name,price\nCup,1\rPot,2\n", "LINE_END", "LF or CRLF"),
    "lone CR at the end": (b"name,price\nCup,1\r", "LINE_END", "LF or CRLF"),
    "lone CR at the header's end": (b"name,price\r", "LINE_END", "LF or CRLF"),
    "lone CR, quotes before": (b'name,price\n"Cup",1\rPot,2\n', "LINE_END", "LF or CRLF"),
    "lone CR behind a quote": (b'name,price\n"Cup"\rPot,2\n', "LINE_END", "LF or CRLF"),
    "lone CR with a stray quote": (b'name,price\n5" Cup,1\rPot,2\n', "LINE_END", "LF or CRLF"),
    "lone CR and quotes, stray quote before": (b'name,price\na"b,1\n"Cup"\rPot,2\n', "LINE_END", "LF or CRLF"),
    "lone CR at the end, stray quote before": (b'name,price\na"b,1\r', "LINE_END", "LF or CRLF"),
    "unterminated quote": (b'name,price\nCup,1\n"Pot,2\nLid,3\n', "QUOTE", "record 2"),
    "unterminated quote, first": (b'name,price\n"Pot,2\nLid,3\n', "QUOTE", "record 1"),
    "unterminated quote in the header": (b'name,"price\nCup,1\n', "QUOTE", "header"),
    "unterminated quote behind a stray one": (b'name,price\na"b,1\n"Pot,2\n', "QUOTE", "record 2"),
    "semicolons": (b"name;price\nCup;1\n", "HEADER", 'delimiter ";"'),
    "tabs": (b"name\tprice\nCup\t1\n", "HEADER", 'delimiter "\\t"'),
    "bars": (b"name|price\nCup|1\n", "HEADER", 'delimiter "|"'),
    "duplicate header": (b"name,price,name\nCup,1,x\n", "HEADER", "twice"),
    "duplicate header of another case": (b"name,price, NAME\nCup,1,x\n", "HEADER", "twice"),
    "missing required column": (b"name,stock\nCup,1\n", "HEADER", "'price'"),
    "nearly the required column": (b"name,prize\nCup,1\n", "HEADER", 'mapping {"price": "prize"}'),
    "no header": (b"Cup,1\nPot,2\n", "HEADER", "'Cup', '1'"),
    "UTF-16 with a mark": ("name,price\nCup,1\n".encode("utf-16"), "ENCODING", "UTF-16"),
    "UTF-16 without a mark": ("name,price\nCup,1\n".encode("utf-16-le"), "ENCODING", "UTF-16"),
    "UTF-16 the other way": ("name,price\nCup,1\n".encode("utf-16-be"), "ENCODING", "UTF-16"),
    "UTF-32": ("name,price\nCup,1\n".encode("utf-32"), "ENCODING", "UTF-"),
    "Latin-1 header": (b"name,price,gr\xf6\xdfe\nCup,1,2\n", "ENCODING", "UTF-8"),
    "control character in the header": (b"name,price,a\x00b\nCup,1,2\n", "HEADER", "control"),
    "NUL characters": (b"\0" * 1000, "FORMAT", "NUL"),
    "zip": (b"PK\x03\x04abcdef", "FORMAT", "zip"),
    "bzip2": (b"BZh91AY&SYabcdef", "FORMAT", "bzip2"),
    "ten thousand columns and two": (b"name,price," + b",".join(b"c%d" % n for n in range(10_000)) + b"\n", "HEADER", "10,002"),
    "header beyond a megabyte": (b"name,price," + b"x" * (1 << 20) + b"\nCup,1,2\n", "HEADER", "1 MiB"),
    "ten million columns": (b"a," * 10_000_000 + b"\n", "HEADER", "MiB"),
}


@pytest.mark.parametrize("case", FAILS)
def test_the_file_fails(case: str) -> None:
    data, code, hint = FAILS[case]
    for window in (8 << 20, 3) if len(data) < 1000 else (8 << 20,):
        found = outcome(data, window=window)
        assert found.fault == code
        assert hint in found.message
        assert found.message.endswith(".")


@pytest.mark.parametrize("data", [HEAD, HEAD.strip(), HEAD + b"\n\r\n", b"\xef\xbb\xbf" + HEAD])
def test_only_a_header_is_a_job_of_no_records(data: bytes) -> None:
    found = outcome(data)
    assert (found.fault, found.batches) == (None, ())


def test_a_line_of_200_mb_fails() -> None:
    piece = b"x" * (200 << 20)
    assert outcome(b"name,price\n" + piece).fault == "LINE_TOO_LONG"
    assert outcome(piece).fault == "HEADER"


def test_a_record_of_100_mb_is_rejected_and_never_parsed() -> None:
    found = outcome(b"name,price\nCup,1\n" + b"x" * (100 << 20) + b",1\nPot,2\n")
    assert found.faults == [(2, None, "SIZE")]
    assert found.names == ["Cup", "Pot"]
    assert found.batches == (1, 1, 1)
    assert len(found.raw[2]) == 10_001


def test_a_record_over_8_mib_is_rejected_though_its_fields_are_small() -> None:
    head = b",".join([b"name", b"price", *(b"c%d" % number for number in range(20))])
    good = [b"%s,1%s" % (name, b"," * 20) for name in (b"Cup", b"Pot")]
    found = outcome(b"\n".join([head, good[0], b"Big,1," + b",".join([b"x" * 450_000] * 20), good[1]]))
    assert found.faults == [(2, None, "SIZE")]
    assert found.names == ["Cup", "Pot"]


def test_the_delimiter_and_the_quote_are_options() -> None:
    found = outcome(b"name;price\n'Cup; \"blue\", it''s';1\na'b;2\n", delimiter=";", quote="'")
    assert found.names == ['Cup; "blue", it\'s']
    assert found.faults == [(2, None, "QUOTE")]
    assert outcome(b"name\tprice\nCup, blue\t1\n", delimiter="\t").names == ["Cup, blue"]


@pytest.mark.parametrize("delimiter", ["", ",,", "\n", "\r", "é", "\0", "\x01", '"'])
def test_a_delimiter_that_cannot_be(delimiter: str) -> None:
    assert outcome(b"name,price\nCup,1\n", delimiter=delimiter).fault == "DIALECT"


@pytest.mark.parametrize("quote", ["", '""', "\n", " ", "é", "\0", ","])
def test_a_quote_that_cannot_be(quote: str) -> None:
    assert outcome(b"name,price\nCup,1\n", quote=quote).fault == "DIALECT"


def test_unknown_columns_are_named() -> None:
    found = outcome(b"name,price,colour,\nCup,1,blue,\n")
    assert found.warnings == ("Ignored columns that the contract does not have: 'colour', ''.",)


@pytest.mark.parametrize(
    ("mapping", "head"),
    [
        ({"name": "Titel"}, b"titel,price"),
        ({"name": "Titel"}, b"titel,price,name"),
        ({"name": "price", "price": "name"}, b"price,name"),
    ],
)
def test_mapping(mapping: dict[str, str], head: bytes) -> None:
    found = outcome(head + b"\nCup,1" + b",x" * (head.count(b",") - 1) + b"\n", mapping=mapping)
    assert found.names == ["Cup"]


@pytest.mark.parametrize(
    ("mapping", "hint"),
    [
        ({"name": "Titel"}, "'Titel'"),
        ({"name": " "}, "' '"),
        ({"nome": "name"}, "'nome'"),
        ({"name": "PRICE"}, "'price'"),  # given away: price has no column of its own left
    ],
)
def test_a_mapping_that_does_not_fit(mapping: dict[str, str], hint: str) -> None:
    found = outcome(b"name,price,\nCup,1,\n", mapping=mapping)
    assert found.fault == "HEADER"
    assert hint in found.message


def test_a_file_told_to_be_csv_is_read_as_csv() -> None:
    assert outcome(b"[1,name,price\n1,Cup,1\n", format="CSV").names == ["Cup"]


def test_a_single_column() -> None:
    found = outcome(b'iterations\n10\n\n""\n" 3 "\n,\n7', name="Fibonacci")
    assert {row: values["value"] for row, values in found.loaded.items()} == {1: "55", 3: "2", 5: "13"}
    assert found.faults == [(2, "iterations", "REQUIRED"), (4, None, "LONG_ROW")]
    assert found.raw == {2: '""', 4: ","}


def test_all_broken_rules_of_a_record_are_told() -> None:
    found = outcome(HEAD + b",,-1,1.5,9,\n")
    assert found.faults == [(1, "name", "REQUIRED"), (1, "price", "RANGE"), (1, "stock", "TYPE"), (1, "rating", "RANGE")]
    assert found.messages == [
        "name is required",
        "price must be at least 0; got -1",
        "stock must be a whole number; got 1.5",
        "rating must be at most 5; got 9",
    ]


def test_raw_text_is_as_it_stood() -> None:
    found = outcome(b'name,price\n"a\r\n""b""",x\r\n\xff\xfe,1\r\n', batch_rows=1)
    assert found.raw == {1: '"a\r\n""b""",x', 2: "\\xff\\xfe,1"}


def test_row_numbers_go_on_over_batches() -> None:
    lines = b"".join(b"p%d,%s\n" % (row, b"x" if row % 7 == 0 else b"1") for row in range(1, 101))
    found = outcome(b"name,price\n" + lines, batch_rows=9)
    assert found.batches == (9,) * 11 + (1,)
    assert list(found.raw) == list(range(7, 101, 7))
    assert found.raw[14] == "p14,x"
    assert found.loaded[8]["name"] == "p8"
