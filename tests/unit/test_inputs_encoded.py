"""What texts in other encodings get: with the option they load as UTF-8 does; without it the file fails and says what would."""

import csv
import gzip
import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.encoding import KNOWN, canonical, recoded
from tests.support.outcome import outcome

LATIN = "name,price,description\nGrößé,1.50,x\nbad\nÿþ,2,\n"
WORLD = 'name,price\n"🙂 שלום\n€",1\nПривет,2\n'
LOADS: dict[str, tuple[bytes, str, str]] = {
    "utf-16": (WORLD.encode("utf-16"), "utf-16", WORLD),
    "utf-16, the other way": (b"\xfe\xff" + WORLD.encode("utf-16-be"), "UTF-16", WORLD),
    "utf-16-le with its mark": (b"\xff\xfe" + WORLD.encode("utf-16-le"), "utf-16-le", WORLD),
    "utf-16-le": (WORLD.encode("utf-16-le"), "utf-16-le", WORLD),
    "utf-16-be": (WORLD.encode("utf-16-be"), "UTF-16BE", WORLD),
    "utf-32": (WORLD.encode("utf-32"), "utf-32", WORLD),
    "latin-1": (LATIN.encode("latin-1"), "latin-1", LATIN),
    "latin-1 by another name": (LATIN.encode("latin-1"), "ISO_8859-1", LATIN),
    "windows-1252": (LATIN.replace("x", "€").encode("cp1252"), "windows-1252", LATIN.replace("x", "€")),
    "windows-1251": ("name,price\nПривет,2\n".encode("cp1251"), "windows-1251", "name,price\nПривет,2\n"),
    "shift_jis": ("name,price\n表ソ,2\n".encode("shift_jis"), "Shift_JIS", "name,price\n表ソ,2\n"),  # its second bytes are \
    "gb18030": ("name,price\n🙂中,2\n".encode("gb18030"), "gb18030", "name,price\n🙂中,2\n"),
    "utf-8 by another name": (WORLD.encode(), "UTF8", WORLD),
    "utf-8 with a mark, said": (WORLD.encode("utf-8-sig"), "utf-8-sig", WORLD),
    "ascii is utf-8": (WORLD.encode(), "US-ASCII", WORLD),
    "gzip of utf-16": (gzip.compress(WORLD.encode("utf-16")), "utf-16", WORLD),
    "NDJSON": ('{"name": "é", "price": 1}\n{"name": "ü", "price": 2}\n'.encode("utf-16"), "utf-16", ""),
    "JSON": ('[{"name": "é", "price": 1}, {"name": "ü", "price": 2}]'.encode("cp1252"), "cp1252", ""),
}


@pytest.mark.parametrize("window", [8 << 20, 1, 3])
@pytest.mark.parametrize("case", LOADS)
def test_it_loads(case: str, window: int) -> None:
    data, encoding, text = LOADS[case]
    found = outcome(data, window=window, encoding=encoding)
    assert found.fault is None
    if text:
        assert found == outcome(text.encode())
    else:
        assert found.names == ["é", "ü"]
    assert found.loaded


#: The second of three records holds bytes that are no text in the encoding: it is rejected alone.
BROKEN: dict[str, tuple[str, bytes]] = {
    "windows-1252 has no 0x81": ("windows-1252", b"P\x81,1"),
    "half of a surrogate pair": ("utf-16-le", b"P\0\x00\xd8,\x001\0"),
    "the other half": ("utf-16-le", b"P\0\x00\xdc,\x001\0"),
    "half of a character": ("shift_jis", b"P\x83,1"),
    "bytes that would be UTF-8": ("gbk", "é".encode("gbk") + b"\xc3\xff,1"),
    "utf-32 beyond Unicode": ("utf-32-le", b"P\0\0\0\xff\xff\xff\x00" + ",1".encode("utf-32-le")),
}


@pytest.mark.parametrize("window", [8 << 20, 1])
@pytest.mark.parametrize("case", BROKEN)
def test_bytes_that_are_no_text_cost_their_record(case: str, window: int) -> None:
    encoding, record = BROKEN[case]
    data = "name,price\nBefore,1\n".encode(encoding) + record + "\nAfter,2\n".encode(encoding)
    found = outcome(data, window=window, encoding=encoding)
    assert found.names == ["Before", "After"]
    assert found.faults == [(2, None, "ENCODING")]
    assert found.messages == [f"the record holds bytes that are no {canonical(encoding)}"]


def test_a_text_that_ends_in_half_a_character_loses_its_last_record_only() -> None:
    found = outcome("name,price\nCup,1\nPot,2".encode("utf-16") + b"x", encoding="utf-16")
    assert found.names == ["Cup"]
    assert found.faults == [(2, None, "ENCODING")]


FAILS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "UTF-16, not said": (WORLD.encode("utf-16"), {}, 'option encoding "utf-16" would load it'),
    "UTF-16 without a mark": (LATIN.encode("utf-16-le"), {}, '"utf-16-le"'),
    "UTF-16 the other way": (LATIN.encode("utf-16-be"), {}, '"utf-16-be"'),
    "UTF-16 JSON": ('[{"name": "a"}]'.encode("utf-16"), {}, '"utf-16"'),
    "UTF-32": (WORLD.encode("utf-32"), {}, '"utf-32"'),
    "UTF-16 without a mark, said": (LATIN.encode("utf-16-be"), {"encoding": "utf-16"}, '"utf-16-be"'),
    "UTF-8 with a mark, said to be UTF-16": (WORLD.encode("utf-8-sig"), {"encoding": "utf-16"}, '"utf-8"'),
    "UTF-16 of the other order": (WORLD.encode("utf-16"), {"encoding": "utf-16-be"}, '"utf-16"'),
    "UTF-16 said to be Latin-1": (WORLD.encode("utf-16"), {"encoding": "latin-1"}, '"utf-16"'),
    "Latin-1 header": ("name,price,größe\nCup,1,2\n".encode("latin-1"), {}, '"windows-1252" for example'),
    "header that is no windows-1252": (b"name,price,\x81\nCup,1,2\n", {"encoding": "windows-1252"}, "no windows-1252"),
    "no such encoding": (b"name,price\nCup,1\n", {"encoding": "no such thing"}, "'no such thing'"),
    "an encoding of no files": (b"name,price\nCup,1\n", {"encoding": "unicode_escape"}, "no encoding that is read"),
    "not even a text encoding": (b"name,price\nCup,1\n", {"encoding": "rot13"}, "no encoding that is read"),
}


@pytest.mark.parametrize("case", FAILS)
def test_the_file_fails(case: str) -> None:
    data, options, hint = FAILS[case]
    found = outcome(data, **options)
    assert (found.fault, found.loaded) == ("ENCODING", {})
    assert hint in found.message
    assert found.message.endswith(".")


@pytest.mark.parametrize("name", ["", "\0", "é", "idna", "punycode", "utf-7", "hex", "base64", "undefined", "x" * 10_000])
def test_what_is_no_encoding_of_files(name: str) -> None:
    assert canonical(name) is None


def test_every_encoding_that_is_known_is_pythons_own_name() -> None:
    assert {canonical(name) for name in KNOWN} == KNOWN - {"ascii"}


@given(st.text(), st.sampled_from(sorted(KNOWN - {"utf-8", "ascii"})), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_a_text_comes_back_however_it_is_cut(text: str, encoding: str, window: int) -> None:
    data = text.encode(encoding, "ignore")
    there = data.decode(encoding)
    windows = [data[start : start + window] for start in range(0, len(data), window)]
    assert b"".join(recoded(windows, encoding)).decode() == there


@given(st.binary(), st.sampled_from(sorted(KNOWN - {"utf-8", "ascii"})), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_bytes_are_text_in_utf8_only_where_they_are_in_their_encoding(data: bytes, encoding: str, window: int) -> None:
    data = "".encode(encoding) + data  # the mark of those that must have one
    made = b"".join(recoded([data[start : start + window] for start in range(0, len(data), window)], encoding))
    try:
        there = data.decode(encoding)
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            made.decode()
    else:
        assert made.decode() == there


FIELD = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@given(
    st.lists(st.tuples(FIELD, st.decimals(0, 10**6, places=2), FIELD), min_size=1, max_size=12),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(['"', "'"]),
    st.sampled_from(["utf-8", "utf-16", "utf-16-be", "utf-32", "gb18030"]),
    st.sampled_from([bytes, gzip.compress, lambda data: pa.Codec("zstd").compress(data, asbytes=True)]),
    st.integers(1, 100),
)
@settings(max_examples=150, deadline=None)
def test_records_come_back_from_any_dialect_encoding_and_compression(
    records: list[tuple[str, Decimal, str]],
    delimiter: str,
    quote: str,
    encoding: str,
    compress: Callable[[bytes], bytes],
    size: int,
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quotechar=quote, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("name", "price", "description"), *records])
    options: dict[str, Any] = {"delimiter": delimiter, "quote": quote, "encoding": encoding}
    found = outcome(compress(out.getvalue().encode(encoding)), batch_bytes=size, window=50, **options)
    assert (found.fault, found.faults) == (None, [])
    assert [(row["name"], row["price"], row["description"]) for row in found.loaded.values()] == records


@given(st.data(), st.sampled_from(["utf-16", "utf-32", "gb18030"]))
@settings(max_examples=100, deadline=None)
def test_a_cut_text_never_yields_a_wrong_record(data: st.DataObject, encoding: str) -> None:
    rows = [(f"P{number}é🙂", number) for number in range(10)]
    whole = ("name,price\n" + "".join(f'"{name}",{price}.00\n' for name, price in rows)).encode(encoding)
    found = outcome(whole[: data.draw(st.integers(0, len(whole)))], encoding=encoding)
    good = {(name, Decimal(price)) for name, price in rows}
    # The last price may be cut, as in any text: 1.00 to 1.0 or to 1.
    assert {(row["name"], row["price"]) for row in found.loaded.values()} <= good
