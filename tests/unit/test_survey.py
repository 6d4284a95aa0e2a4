"""A survey is a plan for any contract, made in one pass over what comes; where it is not cheap there is none."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.jobtypes.load_products import Product
from jobber.model import Compression, Format, InputOptions
from operators.pack import unpack
from operators.plan import plan
from operators.plan.survey import MOST_HELD, Survey, survey
from pipelines.opened import Planner
from pipelines.work import Source

LIMIT, MOST = 1 << 30, 4096
CONTRACT = Contract.of(Product)
RECORDS = st.lists(st.tuples(st.text("ab ,{[ä", min_size=1, max_size=20), st.integers(0, 99)), min_size=1, max_size=40)


def write(records: list[tuple[str, int]], form: Format) -> bytes:
    if form is Format.CSV:
        return b"name,price,more\n" + b"".join(f'"{name}",{price},\n'.encode() for name, price in records)
    values = [json.dumps({"name": name, "price": price}).encode() for name, price in records]
    return b"\n".join(values) + b"\n" if form is Format.NDJSON else b"[" + b",".join(values) + b"]"


def windows(data: bytes, size: int) -> Iterator[bytes]:
    return (data[place : place + size] for place in range(0, len(data), size))


def look(
    coming: Iterator[bytes] | list[bytes], options: InputOptions, blob: bytearray | None = None, **more: Any
) -> Survey | None:
    """What a survey says; `blob` becomes what it keeps."""
    kept = bytearray() if blob is None else blob
    given: dict[str, Any] = {"limit": LIMIT, "most": MOST, "keep": lambda chunks: kept.extend(b"".join(chunks)), **more}
    return survey(coming, options, **given)


def zstd(data: bytes) -> bytes:
    """As the zstd command writes it: without its size."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


#: How a text is written, and the encoding that a job has to name, if it must be told to the survey as well.
WRITTEN = {
    "gzip": (gzip.compress, "utf-8"),
    "zstd": (zstd, "utf-8"),
    "utf-16": (lambda data: data.decode().encode("utf-16"), "utf-16"),
    "gzip of utf-16": (lambda data: gzip.compress(data.decode().encode("utf-16")), "utf-16"),
    "windows-1252": (lambda data: data.decode().encode("windows-1252"), "windows-1252"),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("form", [Format.CSV, Format.NDJSON, Format.JSON])
@settings(max_examples=12, deadline=None)
@given(RECORDS, st.integers(1, 300), st.integers(120, 400), st.integers(5, 50))
def test_it_packs_as_an_executor_does(
    written: str, form: Format, records: list[tuple[str, int]], window: int, size: int, rows: int
) -> None:
    to_bytes, encoding = WRITTEN[written]
    data, untold = to_bytes(write(records, form)), InputOptions(batch_bytes=size, batch_rows=rows)
    told = structs.replace(untold, encoding=encoding)
    blob = bytearray()
    # A byte-order mark says it; nothing says windows-1252.
    seen = look(windows(data, window), told if written == "windows-1252" else untold, blob)
    assert seen is not None
    assert seen.answers(told)
    assert seen.answers(untold) is (encoding == "utf-8")
    kept = Survey.load(seen.dump())
    assert kept is not None
    planner = Planner(Blobs("memory://"), LIMIT)
    planned = planner.plan(Source(inline=data), CONTRACT, told, lambda: None)
    assert planned.blob_key is not None
    assert kept.plan(CONTRACT, told, "plans/1") == replace(planned, blob_key="plans/1")
    assert planner.blobs.read(planned.blob_key, 0, len(blob)) == blob
    assert planner.blobs.size(planned.blob_key) == len(blob)
    texts = [unpack(bytes(blob[batch.offset : batch.offset + batch.length])) for batch in seen.batches]
    assert b"".join(texts).count(b"\n" if form is not Format.JSON else b'"name"') >= len(records)


def test_without_a_record_there_is_no_blob() -> None:
    seen = look([gzip.compress(b"name,price\n")], InputOptions(), keep=pytest.fail)
    assert seen is not None
    assert (seen.batches, seen.plan(CONTRACT, InputOptions()).blob_key) == ((), None)


class Tired(Exception):
    pass


#: A few bytes that stand for many, with records and without.
BOMBS = {"records": b"name,price\n" + b"A,1\n" * (1 << 20), "empty lines": b'{"name": 1}\n' + b"\n" * (1 << 22)}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_a_few_bytes_stand_for_is_given_up_in_the_middle(bomb: str) -> None:
    """However few came: an upload waits for the survey of its windows."""
    times = iter(range(3))

    def goes_on() -> None:
        if next(times, None) is None:
            raise Tired

    taken: list[bytes] = []
    with pytest.raises(Tired):
        look([gzip.compress(BOMBS[bomb], 1)], InputOptions(batch_bytes=1 << 16), keep=taken.extend, goes_on=goes_on)
    assert len(taken) <= 3


def test_memory_stays_within_a_few_windows_however_much_they_stand_for() -> None:
    size = 32 << 20
    data, options = gzip.compress(b"name,price\n" + b"Product,1\n" * (size // 10), 1), InputOptions(batch_bytes=1 << 20)
    taken: list[int] = []
    tracemalloc.start()
    try:
        seen = look(windows(data, 1 << 16), options, keep=lambda chunks: taken.extend(map(len, chunks)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen is not None
    assert len(taken) == len(seen.batches) > size / options.batch_bytes - 1
    assert peak < size / 2


def frame(data: bytes, *, window: int | None) -> bytes:
    """A zstd frame of one raw block (RFC 8878 3.1.1), with a window of 2**window bytes; None: a single segment of 64 MB."""
    header = bytes([0, window - 10 << 3]) if window is not None else b"\xa0" + (64 << 20).to_bytes(4, "little")
    return b"\x28\xb5\x2f\xfd" + header + (len(data) << 3 | 1).to_bytes(3, "little") + data


def test_what_takes_much_memory_to_expand_is_for_an_executor() -> None:
    text = b"name,price\nA,1\n"
    assert look([frame(text, window=23)], InputOptions()) is not None
    taken: list[bytes] = []

    def coming(first: bytes) -> Iterator[bytes]:
        yield first
        taken.append(first)
        yield b""

    for large in (frame(text, window=27), frame(text, window=None)):
        assert look(coming(large), InputOptions()) is None
    assert taken == [], "it was begun"


@pytest.mark.parametrize(
    ("data", "more"),
    [
        (gzip.compress(b"name,price\n" + b"A,1\n" * 50)[:-1], {}),
        (gzip.compress(b"name,price\n" + b"A,1\n" * 50 + b'"B"x,1\n'), {}),
        (gzip.compress(b"name,price\n" + b"A,1\n" * 50), {"limit": 100}),
        (gzip.compress(b"name,price\n" + b"A,1\n" * 50), {"most": 3}),
        (gzip.compress(b"name,price\n" + b"A,1\n" * 50) + b"more", {}),
    ],
    ids=["cut", "quotes", "large", "many", "more"],
)
def test_a_blob_is_broken_off_with_its_survey(data: bytes, more: dict[str, Any]) -> None:
    ended = []

    def keep(chunks: Iterator[bytes]) -> None:
        for _ in chunks:
            pass
        ended.append("whole")

    assert look(windows(data, 10), InputOptions(batch_bytes=40), keep=keep, **more) is None
    assert ended == [], "a blob was kept of what is for an executor"
    assert look([gzip.compress(b"name,price\nA,1\n")], InputOptions(), keep=keep) is not None
    assert ended == ["whole"]


@pytest.mark.parametrize("form", [Format.CSV, Format.NDJSON, Format.JSON])
@settings(max_examples=60, deadline=None)
@given(RECORDS, st.integers(1, 300), st.integers(120, 400), st.integers(5, 50))
def test_it_plans_as_an_executor_does(form: Format, records: list[tuple[str, int]], window: int, size: int, rows: int) -> None:
    data, options = write(records, form), InputOptions(batch_bytes=size, batch_rows=rows)
    seen = look(windows(data, window), options)
    assert seen is not None
    assert seen.answers(options)
    kept = Survey.load(seen.dump())
    assert kept is not None
    for asked in (options, structs.replace(options, mapping={"category": "more"} if form is Format.CSV else {"name": "id"})):
        assert kept.plan(CONTRACT, asked) == plan([data], CONTRACT, asked)


def test_what_the_header_lacks_is_told_as_by_an_executor() -> None:
    data, options = b"naem,price\nA,1\n", InputOptions()
    seen = look([data], options)
    assert seen is not None
    with pytest.raises(StructureFault) as told:
        plan([data], CONTRACT, options)
    with pytest.raises(StructureFault) as surveyed:
        seen.plan(CONTRACT, options)
    assert (surveyed.value.fault, surveyed.value.message) == (told.value.fault, told.value.message)


@pytest.mark.parametrize(
    "data",
    [
        "name,price\nÄ,1\n".encode("utf-16-le"),
        b"PAR1",
        gzip.compress(b"PAR1"),
        b"",
        b"name,price\nA,1\rB,2\n",
        b'name,price\nA "quoted" name,1\n',
        b"name,price\nA\x07,1\n",
        b'name,price\n"' + b"long" * (MOST_HELD // 4) + b'",1\n',
        b"[1, 2",
        b'{"name": "' + b"long" * (MOST_HELD // 4) + b'"}\n',
    ],
    ids=["utf-16", "parquet", "gzip of parquet", "empty", "returns", "quotes", "control", "long CSV", "cut JSON", "long JSON"],
)
def test_what_is_not_of_the_plain_kind_is_for_an_executor(data: bytes) -> None:
    assert look(windows(data, 1 << 20), InputOptions()) is None


def test_it_answers_only_what_it_was_asked() -> None:
    options = InputOptions()
    seen = look([b"name;price\nA;1\n"], options)
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
    json_seen = look([b"[1]"], options)
    assert json_seen is not None
    assert json_seen.answers(structs.replace(options, delimiter=";"))
    packed = look([gzip.compress(b"[1]")], options)
    assert packed is not None
    assert packed.answers(structs.replace(options, compression=Compression.GZIP))
    assert not packed.answers(structs.replace(options, compression=Compression.NONE))
    assert not packed.answers(structs.replace(options, compression=Compression.ZSTD))


def test_what_another_version_kept_is_not_read() -> None:
    assert Survey.load(b"\x80") is None
    assert Survey.load(b"nonsense") is None
