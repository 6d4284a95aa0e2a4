"""A survey is a plan for any contract, made in one pass over what comes; where it is not cheap there is none."""

import gzip
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.jobtypes.load_products import Product
from jobber.model import Compression, Format, InputOptions
from operators.plan import plan
from operators.plan.survey import MOST_HELD, Survey, survey

CONTRACT = Contract.of(Product)
RECORDS = st.lists(st.tuples(st.text("ab ,{[ä", min_size=1, max_size=20), st.integers(0, 99)), min_size=1, max_size=40)


def write(records: list[tuple[str, int]], form: Format) -> bytes:
    if form is Format.CSV:
        return b"name,price,more\n" + b"".join(f'"{name}",{price},\n'.encode() for name, price in records)
    values = [json.dumps({"name": name, "price": price}).encode() for name, price in records]
    return b"\n".join(values) + b"\n" if form is Format.NDJSON else b"[" + b",".join(values) + b"]"


def windows(data: bytes, size: int) -> Iterator[bytes]:
    return (data[place : place + size] for place in range(0, len(data), size))


@pytest.mark.parametrize("form", [Format.CSV, Format.NDJSON, Format.JSON])
@settings(max_examples=60, deadline=None)
@given(RECORDS, st.integers(1, 300), st.integers(120, 400), st.integers(5, 50))
def test_it_plans_as_an_executor_does(form: Format, records: list[tuple[str, int]], window: int, size: int, rows: int) -> None:
    data, options = write(records, form), InputOptions(batch_bytes=size, batch_rows=rows)
    seen = survey(windows(data, window), options)
    assert seen is not None
    assert seen.answers(options)
    kept = Survey.load(seen.dump())
    assert kept is not None
    for asked in (options, structs.replace(options, mapping={"category": "more"} if form is Format.CSV else {"name": "id"})):
        assert kept.plan(CONTRACT, asked) == plan([data], CONTRACT, asked)


def test_what_the_header_lacks_is_told_as_by_an_executor() -> None:
    data, options = b"naem,price\nA,1\n", InputOptions()
    seen = survey([data], options)
    assert seen is not None
    with pytest.raises(StructureFault) as told:
        plan([data], CONTRACT, options)
    with pytest.raises(StructureFault) as surveyed:
        seen.plan(CONTRACT, options)
    assert (surveyed.value.fault, surveyed.value.message) == (told.value.fault, told.value.message)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b"name,price\nA,1\n"),
        "name,price\nÄ,1\n".encode("utf-16"),
        b"PAR1",
        b"",
        b"name,price\nA,1\rB,2\n",
        b'name,price\nA "quoted" name,1\n',
        b"name,price\nA\x07,1\n",
        b'name,price\n"' + b"long" * (MOST_HELD // 4) + b'",1\n',
        b"[1, 2",
        b'{"name": "' + b"long" * (MOST_HELD // 4) + b'"}\n',
    ],
    ids=["gzip", "utf-16", "parquet", "empty", "returns", "quotes", "control", "long CSV", "cut JSON", "long JSON"],
)
def test_what_is_not_of_the_plain_kind_is_for_an_executor(data: bytes) -> None:
    assert survey(windows(data, 1 << 20), InputOptions()) is None


def test_it_answers_only_what_it_was_asked() -> None:
    options = InputOptions()
    seen = survey([b"name;price\nA;1\n"], options)
    assert seen is not None
    for others in (
        structs.replace(options, delimiter=";"),
        structs.replace(options, quote="'"),
        structs.replace(options, encoding="windows-1252"),
        structs.replace(options, format=Format.NDJSON),
        structs.replace(options, compression=Compression.GZIP),
        structs.replace(options, batch_bytes=100),
        structs.replace(options, batch_rows=100),
    ):
        assert not seen.answers(others)
    same = structs.replace(options, format=Format.CSV, encoding="UTF8", compression=Compression.NONE)
    assert seen.answers(same)
    json_seen = survey([b"[1]"], options)
    assert json_seen is not None
    assert json_seen.answers(structs.replace(options, delimiter=";"))


def test_what_another_version_kept_is_not_read() -> None:
    assert Survey.load(b"\x80") is None
    assert Survey.load(b"nonsense") is None
