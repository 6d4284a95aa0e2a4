"""Plans: whole records in batches of the size that was asked for, the same however the input arrives, in little memory."""

import json
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.jobtypes.load_products import Product
from jobber.model import Format, InputOptions, Plan
from operators.plan import plan, plan_records
from tests.support.outcome import planned

CONTRACT = Contract.of(Product)
HEAD = b"name,price\n"
FORMATS = [Format.CSV, Format.NDJSON, Format.JSON]


def write(names: list[str], form: Format) -> bytes:
    if form is Format.CSV:
        return HEAD + b"".join(f'"{name}",1\n'.encode() for name in names)
    records = [json.dumps({"name": name, "price": 1}).encode() for name in names]
    return b"\n".join(records) + b"\n" if form is Format.NDJSON else b"[" + b", ".join(records) + b"]"


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab, \n\\{[", max_size=30), min_size=1, max_size=20),
    st.integers(1, 50),
    st.integers(1, 200),
    st.integers(1, 6),
)
def test_a_plan_does_not_depend_on_how_the_input_arrives(
    form: Format, names: list[str], window: int, size: int, rows: int
) -> None:
    data = write(names, form)
    made, _ = planned(data, format=form, batch_bytes=size, batch_rows=rows)
    assert planned(data, format=form, batch_bytes=size, batch_rows=rows, window=window) == (made, data)
    assert made.rows == len(names)
    for batch in made.batches:
        assert batch.length <= size + 1 or batch.rows == 1


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(JSON_VALUES, max_size=6),
    st.sampled_from([None, 0, 2]),
    st.text(" \n\t\r", max_size=3),
    st.tuples(st.integers(0, 80), st.binary(max_size=2), st.booleans()),
    st.integers(1, 300),
    st.integers(1, 8),
)
def test_the_quick_way_for_few_records_plans_what_the_scan_does(
    records: list[object], indent: int | None, blank: str, edit: tuple[int, bytes, bool], size: int, rows: int
) -> None:
    text = f"{blank}{json.dumps(records, indent=indent)}{blank}".encode()
    place, inserted, broken = edit
    if broken:  # and anything that is no such array fares as it would have
        text = text[:place] + inserted + text[place:]
    options = InputOptions(batch_bytes=size, batch_rows=rows)

    def outcome(quick: bool) -> Plan | tuple[str, str]:
        try:
            if quick:
                return plan_records(text, CONTRACT, options)
            return plan([text], CONTRACT, InputOptions(batch_bytes=size, batch_rows=rows, format=Format.JSON))
        except StructureFault as fault:
            return fault.fault, fault.message

    assert outcome(True) == outcome(False)


@pytest.mark.parametrize("form", FORMATS)
def test_batches_are_about_as_large_as_they_may_be(form: Format) -> None:
    made, _ = planned(write(["x" * 50] * 2_000, form), format=form, batch_bytes=10_000)
    assert all(9_000 < batch.length <= 10_000 for batch in made.batches[:-1])
    made, _ = planned(write(["x" * 50] * 2_000, form), format=form, batch_rows=300)
    assert [batch.rows for batch in made.batches] == [300] * 6 + [200]
    assert made.batches[1].first_row == 301


@pytest.mark.parametrize("form", FORMATS)
def test_a_batch_never_holds_the_header_or_what_parts_records(form: Format) -> None:
    data = write(["Cup", "Pot"], form)
    (batch,) = planned(data, format=form)[0].batches
    content = data[batch.offset : batch.offset + batch.length]
    assert content.startswith(b'"Cup"' if form is Format.CSV else b'{"name"')
    assert content.rstrip().endswith(b",1" if form is Format.CSV else b"}")
    assert batch.digest == blake3(content).digest()


def test_the_layout_says_how_to_read_it() -> None:
    layout = planned(b"Price,NAME,extra\n1,Cup,x\n", delimiter=",")[0].layout
    assert layout.columns == ("Price", "NAME", "extra")
    assert layout.fields == {"name": "NAME", "price": "Price"}
    assert planned(b"[]")[0].layout.fields == {column.name: column.name for column in CONTRACT.columns}


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"name,price\n", Format.CSV),
        (b"\n\n name,price\n", Format.CSV),
        (b'"name",price\n', Format.CSV),
        (b" [ ]", Format.JSON),
        (b"\xef\xbb\xbf\n[ ]", Format.JSON),
        (b'{"name": "Cup"}', Format.NDJSON),
        (b'{"name": "Cup"}\n{"name": "Cup"}\n', Format.NDJSON),
        (b'{\n"name": "Cup"}\n', Format.JSON),
        (b'{bad\n{"name": "Cup"}\n', Format.NDJSON),
    ],
)
def test_the_format_is_told_by_the_content(data: bytes, form: Format) -> None:
    assert planned(data)[0].layout.format is form


def test_a_huge_record_has_a_batch_of_its_own() -> None:
    huge = "x" * (9 << 20)
    for form in FORMATS:
        made, _ = planned(write(["a", "b", huge, "c", huge], form), format=form)
        assert [batch.rows for batch in made.batches] == [2, 1, 1, 1]


@pytest.mark.parametrize("form", FORMATS)
def test_planning_takes_the_memory_of_a_few_windows(form: Format) -> None:
    size, window = 80 << 20, 8 << 20
    record = {
        Format.CSV: b'"Cup, blue",1\n',
        Format.NDJSON: b'{"name":"Cup, blue","price":1}\n',
        Format.JSON: b'{"name":"Cup, blue","price":1},\n',
    }[form]
    piece = record * (window // len(record))

    def windows() -> Iterator[bytes]:
        yield {Format.CSV: HEAD, Format.NDJSON: b"", Format.JSON: b"["}[form]
        for _ in range(size // window):
            yield bytes(bytearray(piece))
        yield b'{"name":"Cup","price":1}]' if form is Format.JSON else record

    tracemalloc.start()
    try:
        made = plan(windows(), CONTRACT, InputOptions(format=form))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.rows == size // window * (window // len(record)) + 1
    assert peak < 7 * window


def test_an_endless_record_takes_bounded_memory() -> None:
    read = 0

    def windows() -> Iterator[bytes]:
        nonlocal read
        yield HEAD
        while True:
            read += 8 << 20
            yield b'"' * (8 << 20)

    with pytest.raises(StructureFault) as caught:
        plan(windows(), CONTRACT, InputOptions())
    assert caught.value.fault == "LINE_TOO_LONG"
    assert read <= 160 << 20


def test_small_inputs_are_planned_at_once() -> None:
    """The jobs service plans inline records while their sender waits."""

    def seconds() -> float:
        start = time.perf_counter()
        plan([b'[{"name": "Cup", "price": 1}]'], CONTRACT, InputOptions(format=Format.JSON))
        return time.perf_counter() - start

    assert min(seconds() for _ in range(50)) < 0.001


def test_short_records_are_not_looked_at_again_and_again() -> None:
    looked = []

    def windows(data: bytes) -> Iterator[bytes]:
        yield data

    def seconds(rows: int) -> float:
        start = time.process_time()
        made: Plan = plan(windows(HEAD + b"a,1\n" * 400_000), CONTRACT, InputOptions(batch_rows=rows, batch_bytes=4 << 20))
        looked.append(made.rows)
        return time.process_time() - start

    few, many = min(seconds(400_000) for _ in range(3)), min(seconds(4_000) for _ in range(3))
    assert looked == [400_000] * 6
    assert many < 8 * few
