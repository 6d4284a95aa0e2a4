"""What a Parquet file gets: typed values load as their text would; what is damaged or has another shape fails as a whole."""

import gzip
import io
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.outcome import outcome


def written(table: pa.Table | dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), sink, **options)
    return sink.getvalue()


def one(column: str, value: Any, kind: pa.DataType) -> dict[str, Any]:
    """A good product whose `column` is this."""
    return {"name": ["Cup"], "price": [Decimal(1)]} | {column: pa.array([value], kind)}


DEC = pa.decimal128
#: Column, value, its type in the file, and what is loaded.
LOADS: dict[str, tuple[str, Any, pa.DataType, Any]] = {
    "decimal": ("price", Decimal("99.99"), DEC(12, 2), Decimal("99.99")),
    "decimal of a larger scale": ("price", Decimal("1.5000"), DEC(20, 4), Decimal("1.50")),
    "decimal of no scale": ("price", Decimal(100), DEC(5, 0), Decimal(100)),
    "wide decimal": ("price", Decimal("1.50"), pa.decimal256(50, 10), Decimal("1.50")),
    "largest price": ("price", Decimal("9999999999.99"), DEC(38, 2), Decimal("9999999999.99")),
    "float price": ("price", 99.99, pa.float64(), Decimal("99.99")),
    "float32 price": ("price", 99.99, pa.float32(), Decimal("99.99")),
    "float16 price": ("price", 1.5, pa.float16(), Decimal("1.5")),
    "large float": ("price", 1e9, pa.float64(), Decimal(1_000_000_000)),
    "minus zero": ("price", -0.0, pa.float64(), Decimal(0)),
    "integer price": ("price", 7, pa.int64(), Decimal(7)),
    "text price": ("price", " 1.50", pa.string(), Decimal("1.50")),
    "stock": ("stock", 2**31 - 1, pa.int64(), 2**31 - 1),
    "small stock": ("stock", 7, pa.uint8(), 7),
    "whole float stock": ("stock", 7.0, pa.float64(), 7),
    "whole decimal stock": ("stock", Decimal("7.00"), DEC(10, 2), 7),
    "hundred as a decimal": ("stock", Decimal("100"), DEC(10, 0), 100),
    "text stock": ("stock", "007", pa.string(), 7),
    "absent": ("stock", None, pa.int32(), None),
    "a column of nothing": ("stock", None, pa.null(), None),
    "float rating": ("rating", 4.5, pa.float32(), Decimal("4.5")),
    "text": ("description", "é 🙂 שלום", pa.string(), "é 🙂 שלום"),
    "large text": ("description", "x", pa.large_string(), "x"),
    "categories, as pandas has them": ("category", "Toys", pa.dictionary(pa.int32(), pa.string()), "Toys"),
    "bytes that are text": ("description", "é".encode(), pa.binary(), "é"),
    "fixed bytes that are text": ("description", b"abcd", pa.binary(4), "abcd"),
    "integer as text": ("description", 7, pa.int16(), "7"),
    "decimal as text keeps its zeros": ("description", Decimal("1.50"), DEC(10, 2), "1.50"),
    "truth as text": ("description", True, pa.bool_(), "true"),
    "date as text": ("description", date(2026, 11, 24), pa.date32(), "2026-11-24"),
    "moment as text": ("description", datetime(2026, 11, 24, 10, 5), pa.timestamp("us"), "2026-11-24T10:05:00"),
    "midnight as text": ("description", datetime(2026, 11, 24), pa.timestamp("ns"), "2026-11-24T00:00:00"),
    "moment with parts of a second": (
        "description",
        datetime(2026, 11, 24, 10, 5, 1, 250_000),
        pa.timestamp("ms"),
        "2026-11-24T10:05:01.25",
    ),
    "moment with a time zone": (
        "description",
        datetime(2026, 11, 24, 10, 5, tzinfo=UTC),
        pa.timestamp("us", "Europe/Berlin"),
        "2026-11-24T10:05:00Z",
    ),
    "time as text": ("description", time(10, 5), pa.time64("us"), "10:05:00.000000"),
}


@pytest.mark.parametrize("case", LOADS)
def test_it_loads(case: str) -> None:
    column, value, kind, loaded = LOADS[case]
    found = outcome(written(one(column, value, kind)))
    assert (found.fault, found.message, found.faults) == (None, "", [])
    assert found.loaded[1][column] == loaded


#: Column, value, its type, code.
REJECTS: dict[str, tuple[str, Any, pa.DataType, str]] = {
    "NaN": ("price", float("nan"), pa.float64(), "TYPE"),
    "infinite": ("price", float("inf"), pa.float64(), "TYPE"),
    "minus infinite": ("rating", float("-inf"), pa.float32(), "TYPE"),
    "three decimals": ("price", Decimal("1.555"), DEC(12, 3), "SCALE"),
    "three decimals in a float": ("price", 1.555, pa.float64(), "SCALE"),
    "a float that is nearly": ("price", 0.1 + 0.2, pa.float64(), "SCALE"),
    "a small float": ("price", 1e-7, pa.float64(), "SCALE"),
    "negative": ("price", Decimal(-3), DEC(12, 2), "RANGE"),
    "too large": ("price", Decimal(10) ** 10, DEC(38, 2), "RANGE"),
    "far too large": ("price", 1e300, pa.float64(), "RANGE"),
    "stock 2^31": ("stock", 2**31, pa.int64(), "RANGE"),
    "stock 2^63": ("stock", 2**63, pa.uint64(), "RANGE"),
    "stock 1.5": ("stock", 1.5, pa.float64(), "TYPE"),
    "stock 1.50": ("stock", Decimal("1.50"), DEC(10, 2), "TYPE"),
    "rating 5.01": ("rating", 5.01, pa.float64(), "RANGE"),
    "absent": ("price", None, DEC(12, 2), "REQUIRED"),
    "empty": ("name", "", pa.string(), "REQUIRED"),
    "truth as a price": ("price", True, pa.bool_(), "TYPE"),
    "words as a price": ("price", "twelve", pa.string(), "TYPE"),
    "a moment as a price": ("price", datetime(2026, 1, 1), pa.timestamp("us"), "TYPE"),
    "bytes that are no text": ("name", b"Caf\xe9", pa.binary(), "ENCODING"),
    "text that is none": ("name", b"Caf\xe9", pa.string(), "ENCODING"),
    "text that is none, in a dictionary": ("name", b"Caf\xe9", pa.dictionary(pa.int32(), pa.string()), "ENCODING"),
    "NUL": ("name", "Cu\0p", pa.string(), "NUL"),
    "control character": ("name", "Cu\x07p", pa.string(), "CONTROL"),
    "C1 control character": ("name", "Cu\x85p", pa.string(), "CONTROL"),
    "over a megabyte": ("name", "x" * ((1 << 20) + 1), pa.string(), "SIZE"),
}


def three(column: str, value: Any, kind: pa.DataType) -> pa.Table:
    """This between two good products."""
    if pa.types.is_dictionary(kind):
        texts = pa.array([b"Before", value, b"After"], pa.binary()).view(pa.string())
        array = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts, safe=False)
    elif pa.types.is_string(kind) and isinstance(value, bytes):
        array = pa.array([b"Before", value, b"After"], pa.binary()).view(pa.string())
    else:
        good = {"name": ("Before", "After"), "price": (1, 1)}.get(column, (None, None))
        if pa.types.is_binary(kind):
            good = (b"Before", b"After")
        if column == "price" and (pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind)):
            good = (None, None)
        array = pa.array([good[0], value, good[1]], kind)
    return pa.table({"name": ["Before", "Bad", "After"], "price": [Decimal(1)] * 3} | {column: array})


@pytest.mark.parametrize("case", REJECTS)
def test_a_record_is_rejected_alone(case: str) -> None:
    column, value, kind, code = REJECTS[case]
    found = outcome(written(three(column, value, kind)))
    assert found.fault is None
    assert (2, column, code) in found.faults
    assert {(row, where) for row, where, _ in found.faults} <= {(2, column), (1, "price"), (3, "price")}
    if column != "price":
        assert found.rejected == [2]
        assert found.names == ["Before", "After"]


def test_the_raw_text_is_the_record_as_json() -> None:
    table = {"name": ["é"], "price": pa.array([Decimal("1.555")], DEC(12, 3)), "new": [True], "no": pa.array([None], pa.int8())}
    assert outcome(written(table)).raw == {1: '{"name": "é", "price": "1.555", "new": true, "no": null}'}


GOOD = {"name": [f"P{number}" for number in range(1000)], "price": [Decimal(number) for number in range(1000)]}
WHOLE = written(GOOD)
FAILS: dict[str, tuple[bytes, str, str]] = {
    "only the magic": (b"PAR1", "CORRUPT", "damaged"),
    "twice the magic": (b"PAR1PAR1", "CORRUPT", "damaged"),
    "wrong magic at the end": (WHOLE[:-4] + b"PAR2", "CORRUPT", "magic"),
    "an encrypted footer": (WHOLE[:-4] + b"PARE", "CORRUPT", "damaged"),
    "no footer": (WHOLE[:-8], "CORRUPT", "damaged"),
    "cut footer": (WHOLE[:-20], "CORRUPT", "damaged"),
    "footer of another length": (WHOLE[:-8] + b"\xff\xff\xff\x7f" + WHOLE[-4:], "CORRUPT", "damaged"),
    "junk behind": (WHOLE + b"junk", "CORRUPT", "damaged"),
    "column twice": (written(pa.table([[1], [2], [3]], names=["name", "price", "name"])), "HEADER", "twice"),
    "column twice, in another case": (written({"name": [1], "price": [1], "NAME": [1]}), "HEADER", "twice"),
    "a list": (written({"name": ["a"], "price": [1], "tags": [["x"]]}), "HEADER", "'tags' is nested"),
    "a struct": (written({"name": ["a"], "price": [1], "size": [{"w": 1}]}), "HEADER", "'size' is nested"),
    "a map": (
        written({"name": ["a"], "price": [1], "m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8()))}),
        "HEADER",
        "'m' is nested",
    ),
    "no price": (written({"name": ["a"]}), "HEADER", "'price'"),
    "nearly the price": (written({"name": ["a"], "prize": [1]}), "HEADER", 'mapping {"price": "prize"}'),
    "no columns": (written(pa.table({})), "HEADER", "'name'"),
    "a control character in a name": (written({"name": ["a"], "price": [1], "a\tb\x07": [1]}), "HEADER", "control"),
}


@pytest.mark.parametrize("case", FAILS)
def test_the_file_fails(case: str) -> None:
    data, code, hint = FAILS[case]
    found = outcome(data)
    assert (found.fault, found.loaded) == (code, {})
    assert hint in found.message
    assert found.message.endswith(".")


def test_what_was_said_must_be_so() -> None:
    assert outcome(WHOLE, format="PARQUET").fault is None
    for data, told in ((b"name,price\nCup,1\n", "PARQUET"), (WHOLE, "CSV"), (b"", "PARQUET")):
        assert outcome(data, format=told).fault == "FORMAT"


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"compression": "none", "use_dictionary": False}])
def test_columns_are_matched_as_a_header_is(options: dict[str, Any]) -> None:
    table = {"Price": [Decimal(1)], "colour": ["blue"], " NAME ": ["Cup"]}
    found = outcome(written(table, **options))
    assert found.names == ["Cup"]
    assert found.warnings == ("Ignored columns that the contract does not have: 'colour'.",)
    assert outcome(written({"titel": ["Cup"], "price": [1]}), mapping={"name": "Titel"}).names == ["Cup"]


def test_no_rows_are_a_job_of_no_records() -> None:
    for table in (pa.table(GOOD).slice(0, 0), pa.table({"name": [], "price": []})):
        found = outcome(written(table))
        assert (found.fault, found.batches) == (None, ())


@pytest.mark.parametrize("group", [10, 333, 1000])
@pytest.mark.parametrize("version", ["1.0", "2.6"])
def test_batches_are_cut_by_rows_and_bytes_whatever_the_row_groups(group: int, version: str) -> None:
    data = written(GOOD, row_group_size=group, version=version, data_page_version=version[:2] + "0")
    found = outcome(data, batch_rows=300)
    assert found.batches == (300, 300, 300, 100)
    assert found.names == GOOD["name"]
    assert max(outcome(data, batch_bytes=2_000).batches) < 100
    assert outcome(data, batch_bytes=2_000).names == GOOD["name"]


@pytest.mark.parametrize("codec", ["snappy", "gzip", "brotli", "lz4", "zstd"])
def test_every_codec(codec: str) -> None:
    assert outcome(written(GOOD, compression=codec)).names == GOOD["name"]


def test_a_parquet_file_in_gzip_or_zstd_loads() -> None:
    for data in (gzip.compress(WHOLE), pa.Codec("zstd").compress(WHOLE, asbytes=True)):
        assert outcome(data) == outcome(WHOLE)


def test_a_column_that_is_no_text_in_one_part_only() -> None:
    names = [f"P{number}".encode() for number in range(20_000)]
    names[15_000] = b"\xff"
    table = pa.table({"name": pa.array(names, pa.binary()).view(pa.string()), "price": pa.array([1] * 20_000)})
    found = outcome(written(table))
    assert found.faults == [(15_001, "name", "ENCODING")]
    assert len(found.loaded) == 19_999


def test_more_than_the_limit_is_too_large() -> None:
    same = {"name": ["x" * 1000] * 20_000, "price": [1] * 20_000}
    data = written(same)
    assert len(data) < 10_000
    assert outcome(data, limit=10_000_000).fault == "TOO_LARGE"
    assert outcome(data).fault is None


def test_a_damaged_page_fails_the_file_before_any_record() -> None:
    data = written(GOOD, write_page_checksum=True, row_group_size=100)
    for place in range(100, 5_000, 97):
        found = outcome(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        assert found.fault == "CORRUPT" or found.names == GOOD["name"], place


@given(st.integers(0, len(WHOLE) - 1))
@settings(max_examples=150, deadline=None)
def test_a_file_that_is_cut_loads_nothing(size: int) -> None:
    found = outcome(WHOLE[:size])
    assert found.fault is not None
    assert found.loaded == {}


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
RECORD = st.fixed_dictionaries(
    {
        "name": TEXT,
        "price": st.decimals(0, 10**9, places=2),
        "stock": st.none() | st.integers(0, 2**31 - 1),
        "rating": st.none() | st.decimals(0, 5, places=2),
        "description": st.none() | TEXT,
    }
)
KINDS = {
    "name": [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    "price": [DEC(12, 2), DEC(38, 6), pa.string()],
    "stock": [pa.int32(), pa.int64(), pa.float64(), DEC(12, 2), pa.string()],
    "rating": [DEC(3, 2), pa.float64(), pa.float32()],
    "description": [pa.string()],
}


@given(
    st.lists(RECORD, min_size=1, max_size=30),
    st.fixed_dictionaries({name: st.sampled_from(kinds) for name, kinds in KINDS.items()}),
    st.sampled_from(
        [{}, {"row_group_size": 3}, {"use_dictionary": False}, {"compression": "zstd", "data_page_version": "2.0"}]
    ),
    st.integers(1, 40),
)
@settings(max_examples=100, deadline=None)
def test_records_come_back(records: list[dict[str, Any]], kinds: dict[str, pa.DataType], options: Any, rows: int) -> None:
    def array(name: str, kind: pa.DataType) -> pa.Array:
        values = [record[name] for record in records]
        if pa.types.is_string(kind) and name in ("price", "stock"):
            values = [None if value is None else str(value) for value in values]
        if pa.types.is_floating(kind):
            values = [None if value is None else float(value) for value in values]
        return pa.array(values, pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values, kind)

    table = pa.table({name: array(name, kind) for name, kind in kinds.items()})
    found = outcome(written(table, **options), batch_rows=rows)
    assert found.faults == []
    assert [{name: row[name] for name in KINDS} for row in found.loaded.values()] == records


def test_a_day_in_a_column_of_dates() -> None:
    from operators.plan.parquet import _value

    days = [datetime(2026, 11, 24), datetime(2026, 11, 24) + timedelta(hours=1), None]
    assert _value(pa.array(days, pa.timestamp("ns")), True).to_pylist() == ["2026-11-24", "2026-11-24T01:00:00", None]
