"""JSON records of one shape, taken apart all at once: as exact as one by one, whatever is put among them."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobber.model import Format, InputOptions
from operators.decode import json as decoding
from operators.decode.json_batch import FEW, by_shape
from operators.decode.json_record import MAX_FIELD
from operators.plan import plan
from tests.unit.test_decode_json import CHANGES, CONTRACT, EXTRA, NUMBER, TEXT, alone, edited, lines_of, plainly, read

FORMATS = pytest.mark.parametrize("form", [Format.NDJSON, Format.JSON])


@pytest.fixture(autouse=True)
def _however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SMALL", 0)


def joined(records: list[bytes], form: Format) -> bytes:
    return b"\n".join(records) if form is Format.NDJSON else b"[" + b",".join(records) + b"]"


def left(records: list[bytes], form: Format) -> list[int]:
    """Which of the records are left to the other decoder."""
    data = joined(records, form)
    layout = plan([data], CONTRACT, InputOptions(format=form)).layout
    data = data.removeprefix(b"[").removesuffix(b"]") if form is Format.JSON else data
    source = decoding._Source(data, layout)
    shaped = by_shape(data, layout, CONTRACT, lambda: source.bounds)
    return list(range(len(records))) if shaped is None else np.flatnonzero(shaped.left).tolist()


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Records as one program writes them: some values are null or missing, and a few are odd."""
    ascii, space = draw(st.booleans()), draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    keys = draw(st.permutations(["t", "n", "i", "b", "x", "y"]))[: draw(st.integers(1, 6))]
    values = {
        "t": TEXT.map(lambda text: json.dumps(text, ensure_ascii=ascii)),
        "n": st.decimals(-(10**9), 10**9, places=2).map(str) | NUMBER,
        "i": st.integers(-(2**40), 2**40).map(str),
        "b": st.sampled_from(["true", "false"]),
        "x": TEXT.map(json.dumps) | st.integers().map(str),
        "y": draw(st.sampled_from([st.just('{"t":"","n":1}'), EXTRA.map(json.dumps), st.sampled_from(["[]", "[{}]"])])),
    }
    null = st.sampled_from([False] * 4 + [True]) if draw(st.booleans()) else st.just(False)
    records = []
    for _ in range(draw(st.integers(1, 20))):
        members = [f'"{key}"{space[1]}{"null" if draw(null) else draw(values[key])}' for key in keys if not draw(null)]
        records.append(("{" + space[0].join(members) + "}").encode())
    return records


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(alike(), st.sampled_from([b"\n", b"\r\n", b" \n\n"]), CHANGES)
def test_lines_of_one_shape_fare_as_each_would_alone(
    found: list[bytes], parting: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    data = edited(parting.join(found), changes)
    if data.startswith(b"\xff\xfe") or b"\0" in data[:8] or not lines_of(data):
        return
    assert read(data, Format.NDJSON) == [alone(line) for line in lines_of(data)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(alike(), st.sampled_from([b",", b",\n", b" ,\n  "]), st.sampled_from([b"", b"\n"]))
def test_elements_of_one_shape_fare_as_each_would_alone(found: list[bytes], parting: bytes, ends: bytes) -> None:
    assert read(b"[" + ends + parting.join(found) + ends + b"]", Format.JSON) == [alone(record) for record in found]


PLAIN = b'{"t":"text, plain","n":12.50,"x":7,"i":-3,"b":true}'


def test_one_byte_more_less_or_other_is_seen_wherever_it_is() -> None:
    """Every byte of a record counts."""
    records = []
    for place in range(len(PLAIN)):
        for put in (b"", b'"', b"0", b".", b"-", b"e", b" ", b"}", b"\t", b"\x7f", b"\xe9", b"q"):
            records += [PLAIN[:place] + put + PLAIN[place + taken :] for taken in (0, 1)]
            records += [PLAIN] * 2
    expected = list(map(alone, records))
    assert read(joined(records, Format.NDJSON), Format.NDJSON) == expected
    whole = [(record, row) for record, row in zip(records, expected, strict=True) if plainly(record) is None]
    assert read(joined([record for record, _ in whole], Format.JSON), Format.JSON) == [row for _, row in whole]


TOKENS = ["0", "-0", "1.5", "-1.25", "12345678", "123456.78", "-12345678901234.25", "9" * 32, "-" + "9" * 32, "null"]
NO_TOKENS = ["01", "-01", "00", "-", "--1", "1.", ".5", "-.5", "1..5", "1.2.3", "1-2", "+1", "1e", "0x1", "1_0", "nul", "nulls"]
NO_TOKENS += ["12345678.", "123456789.1.5", "1234567812345678x", "1,5", "NaN", "Infinity", "True", "1 2", "١", "/", ":"]


def test_numbers_are_what_the_grammar_says() -> None:
    good = {"n": "1", "i": "2", "x": "3"}

    def record(**changed: str) -> bytes:
        return ("{" + ",".join(f'"{key}":{token}' for key, token in (good | changed).items()) + "}").encode()

    for key in good:
        records = [record(**{key: token}) for token in TOKENS]
        assert read(joined(records, Format.NDJSON), Format.NDJSON) == list(map(alone, records))
        others = [record()] * FEW
        wanted = [n + FEW for n, token in enumerate(TOKENS) if key == "i" and "." in token]
        assert left([*others, *records], Format.NDJSON) in ([], wanted)
        for token in [*NO_TOKENS, "1" * 33, "1e2"]:
            records = [*others, record(**{key: token})]
            assert left(records, Format.NDJSON) == [FEW], token
            assert read(joined(records, Format.NDJSON), Format.NDJSON)[-1] == alone(records[-1])


@FORMATS
def test_a_text_of_any_length_comes_back(form: Format) -> None:
    """Up to twelve bytes stand in a view, longer ones are pointed to."""
    texts = ["größe"[: n % 6] + "x" * n for n in range(40)] + ["", "é" * 6, "é" * 7]
    for some in (texts, texts[:5], texts[:10], texts[14:]):
        records = [json.dumps({"t": text, "n": 1}, ensure_ascii=False).encode() for text in some]
        assert left(records, form) == []
        assert read(joined(records, form), form) == [(text, "1", None, None) for text in some]


@FORMATS
def test_nulls_missing_keys_and_escapes_need_no_other_decoder(form: Format) -> None:
    records = []
    for n in range(400):
        record = {"t": None if n % 3 == 0 else f"a \n{n}" if n % 7 == 0 else f"é {n}", "n": None if n % 5 == 0 else n, "x": "y"}
        if n % 4 == 0:
            del record["x"]
        records.append(json.dumps(record).encode())
    assert left(records, form) == []
    assert read(joined(records, form), form) == list(map(alone, records))


@FORMATS
def test_a_few_odd_records_are_left_alone(form: Format) -> None:
    records = [b'{"t":"text","n":%d}' % n for n in range(FEW * 8)]
    odd = {7: b'{"n":1e3,"t":"other"}', 100: b'{"t":"a","n":[{"t":"b","n":1},{"t":"c","n":2}]}', 300: b'{"t":"\\ud800","n":1}'}
    odd |= {
        301: b'{"t":"\\u0000","n":1}',
        302: b'{"t":"a\xc2\x85","n":1}',
        303: b'{"t":"\xff","n":1}',
        304: b'{"t":"\x7f","n":1}',
    }
    for place, record in odd.items():
        records[place] = record
    assert left(records, form) == sorted(odd)
    assert read(joined(records, form), form) == list(map(alone, records))


def test_what_looks_like_a_record_within_another_is_none() -> None:
    within = b'{"t":"a","n":1}'
    outer = b'{"x":[' + within + b"," + within + b'],"t":"b","n":2}'
    for records in ([within, outer, within], [outer, within], [within] * 9 + [outer], [outer] * 3):
        assert read(joined(records, Format.JSON), Format.JSON) == list(map(alone, records))


def test_printed_arrays_have_a_shape_too() -> None:
    found = [{"t": "{" * (n % 3), "n": n, "x": {"y": n}, "i": None} for n in range(100)]
    for some in (found, [{"t": "{", "n": n} for n in range(100)]):
        data = json.dumps(some, indent=2).encode()
        assert read(data, Format.JSON) == [(record["t"], str(record["n"]), None, None) for record in some]


def test_records_of_no_shape_are_decoded_all_the_same() -> None:
    records = [b'{"x":[%s],"n":%d}' % (b",".join([b"1"] * (n % 50)), n) for n in range(500)]
    for form in (Format.NDJSON, Format.JSON):
        assert read(joined(records, form), form) == [(None, str(n), None, None) for n in range(500)]
    # Keys in any order: no shape is that of many.
    keys = [b'"t":"a"', b'"n":1', b'"i":2', b'"b":true', b'"x":"b"']
    mixed = [b"{" + b",".join(np.random.default_rng(n).permutation(keys).tolist()) + b"}" for n in range(200)]
    assert read(joined(mixed, Format.NDJSON), Format.NDJSON) == [("a", "1", "2", "true")] * 200


@FORMATS
@pytest.mark.parametrize("odd", [b'{"t":"\\u0000","n":1}', b'{"t":"\\u0085","n":1}', b'{"t":null,"n":1}', b'{"t":5,"n":1}'])
def test_what_no_text_may_be_is_seen_among_texts_and_nulls(form: Format, odd: bytes) -> None:
    for good in (b'{"t":"a\\n","n":1}', b'{"t":null,"n":1}'):
        records = [good, odd, *[good] * 8]  # the sample is from the middle
        assert read(joined(records, form), form) == list(map(alone, records))


def test_a_whole_number_with_a_point_is_written_without_it_in_an_integer_column() -> None:
    records = [b'{"i":5}'] * 5 + [b'{"i":5.0}'] + [b'{"i":5}'] * 5
    assert read(joined(records, Format.NDJSON), Format.NDJSON) == [(None, None, "5", None)] * 11


def test_what_parts_elements_is_a_comma_each_time() -> None:
    within = b'{"n":1}'
    assert read(b"[" + b",".join([within] * 4) + b";" + within + b"]", Format.JSON) == [
        *[(None, "1", None, None)] * 3,
        [(None, "SYNTAX")],
    ]


def test_a_view_holds_nothing_behind_a_short_text() -> None:
    """Polars compares views before texts: equal texts are equal whatever stood behind them."""
    texts = ["x" * n for n in range(16)]
    records = [json.dumps({"t": text, "n": n}).encode() for n, text in enumerate(texts)]
    data = joined(records, Format.NDJSON)
    layout = plan([data], CONTRACT, InputOptions(format=Format.NDJSON)).layout
    for some in (records, records[:4], records[:13]):
        data = joined(some, Format.NDJSON)
        shaped = by_shape(data, layout, CONTRACT, lambda: (np.empty(0, np.int64), np.empty(0, np.int64)))
        assert shaped is not None
        assert (shaped.frame["t"] == pl.Series(texts[: len(some)])).all()
        assert shaped.frame["t"].n_unique() == len(some)


@pytest.mark.parametrize(
    "record",
    [
        b'{"n":1,"n":2}',
        b'{"x":{"n":7},"n":1}',
        b'{"x":{"n":7}}',
        b'{"n":1,"\\u006e":2}',
        b'{"\\u006e":2,"t":"a"}',
        b'{"n":1,"t":"a"} x',
        b'{"n":1,"t":"' + b"a" * (MAX_FIELD + 1) + b'"}',
    ],
    ids=lambda record: record[:24].decode(),
)
def test_records_that_are_alike_are_not_therefore_good(record: bytes) -> None:
    for records in ([record] * 3, [b'{"n":1,"t":"a"}', record, *[b'{"n":1,"t":"a"}'] * 3]):
        assert read(joined(records, Format.NDJSON), Format.NDJSON) == list(map(alone, records))


def test_what_looks_like_a_record_behind_a_comma_within_another_is_none() -> None:
    within = b'{"t":"a","n":1}'
    outer = b'{"x":[1,' + within + b"," + within + b',2],"t":"b","n":2}'
    records = [within, outer, *[within] * 8]
    assert read(joined(records, Format.JSON), Format.JSON) == list(map(alone, records))
