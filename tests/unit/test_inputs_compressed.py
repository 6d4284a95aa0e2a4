"""What compressed inputs get: they load as what they stand for does, or the file fails as a whole and nothing of it loads."""

import gzip
import random
import zlib
from collections.abc import Callable

import pyarrow as pa
import pytest

from jobber.errors import StructureFault
from jobber.model import Compression, InputOptions
from operators.expand import STEP, expanded
from operators.opening import opened
from tests.support.outcome import outcome
from tests.unit import test_inputs_csv as inputs_csv
from tests.unit import test_inputs_json as inputs_json

CSV = b"name,price\nCup,1\nbad\nPot,2\n"
HEAD = b"name,price\n"


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)  # type: ignore[no-any-return]


def zstd_stream(data: bytes) -> bytes:
    """Without the size in its header, as a pipe gives it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def raw_gzip(data: bytes) -> bytes:
    """With every optional part of RFC 1952's header."""
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = body.compress(data) + body.flush()
    header = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03" + b"\x04\0extr" + b"name.csv\0" + b"a comment\0"
    checksum = zlib.crc32(header).to_bytes(4, "little")[:2]
    return header + checksum + packed + zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")


SKIPPABLE = b"\x50\x2a\x4d\x18\x05\0\0\0hello"
LOADS: dict[str, bytes] = {
    "gzip": gzip.compress(CSV),
    "gzip, stored": gzip.compress(CSV, 0),
    "gzip, every header": raw_gzip(CSV),
    "gzip, members cut within a record": gzip.compress(CSV[:13]) + gzip.compress(CSV[13:14]) + gzip.compress(CSV[14:]),
    "gzip, an empty member": gzip.compress(CSV[:9]) + gzip.compress(b"") + gzip.compress(CSV[9:]) + gzip.compress(b""),
    "gzip, padded with zeros": gzip.compress(CSV) + b"\0" * 1000,
    "gzip, zeros between members": gzip.compress(CSV[:9]) + b"\0" * 10 + gzip.compress(CSV[9:]),
    "zstd": zstd(CSV),
    "zstd, a stream": zstd_stream(CSV),
    "zstd, frames cut within a record": zstd(CSV[:13]) + zstd_stream(CSV[13:14]) + zstd(CSV[14:]),
    "zstd, a skippable frame first": SKIPPABLE + zstd(CSV),
    "zstd, a skippable frame last": zstd(CSV) + SKIPPABLE,
}


@pytest.mark.parametrize("window", [8 << 20, 1, 7])
@pytest.mark.parametrize("case", LOADS)
def test_it_loads_as_what_it_stands_for(case: str, window: int) -> None:
    found = outcome(LOADS[case], window=window)
    assert found == outcome(CSV)
    assert found.names == ["Cup", "Pot"]
    assert found.raw == {2: "bad"}


@pytest.mark.parametrize("compress", [gzip.compress, zstd, zstd_stream])
@pytest.mark.parametrize(
    "data",
    [
        b'{"name": "Cup", "price": 1}\n{bad\n{"name": "Pot", "price": 2}\n',
        b'[{"name": "Cup", "price": 1}, 7, {"name": "Pot", "price": 2}]',
        b"\xef\xbb\xbfname,price\r\n\r\nCup,1\r\n",
        HEAD + b"".join(b"P%d,%d.50\n" % (number, number) for number in range(5_000)),
        b"[" + b",\n".join(b'{"name": "P%d", "price": 1}' % number for number in range(5_000)) + b"]",
        HEAD,
        b"[]",
    ],
    ids=["NDJSON", "JSON", "CSV, CRLF", "CSV, batches", "JSON, batches", "no records, CSV", "no records, JSON"],
)
def test_each_format_loads_compressed(compress: Callable[[bytes], bytes], data: bytes) -> None:
    found = outcome(compress(data), batch_bytes=10_000)
    assert found == outcome(data, batch_bytes=10_000)
    assert found.fault is None


def one_file(form: str) -> tuple[bytes, list[tuple[str | None, str]]]:
    """Every record of the lists that is rejected, each behind a good one; and for what."""
    cases = list((inputs_csv.REJECTS if form == "CSV" else inputs_json.REJECTS if form == "JSON" else inputs_json.ALL).values())
    cases = [case for case in cases if len(case[0]) < 3000]
    good = b"Cup,1" if form == "CSV" else b'{"name":"Cup","price":1}'
    records = [record for bad, _, _ in cases for record in (good, bad)]
    told = [(column, code) for _, code, column in cases]
    if form == "JSON":
        return b"[" + b",".join(records) + b"]", told
    return b"name,price\n" * (form == "CSV") + b"\n".join(records), told


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd])
@pytest.mark.parametrize("form", ["CSV", "NDJSON", "JSON"])
def test_each_record_fares_the_same_beside_all_others(form: str, compress: Callable[[bytes], bytes]) -> None:
    data, told = one_file(form)
    for size in (4 << 20, 700):
        found = outcome(compress(data), format=form, batch_bytes=size)
        first = {row: (column, code) for row, column, code in reversed(found.faults)}
        assert first == {2 * index: fault for index, fault in enumerate(told, 1)}
        assert found.names == ["Cup"] * len(told)


JUNK = b"something else"
FAILS: dict[str, tuple[bytes, str, str]] = {
    "gzip, junk behind": (gzip.compress(CSV) + JUNK, "CORRUPT", "behind its end"),
    "gzip, junk that begins like a member": (gzip.compress(CSV) + b"\x1f\x8b", "CORRUPT", "cut off"),
    "gzip, junk behind zeros": (gzip.compress(CSV) + b"\0\0" + JUNK, "CORRUPT", "behind its end"),
    "gzip, only its magic": (b"\x1f\x8b", "CORRUPT", "cut off"),
    "gzip, another method": (b"\x1f\x8b\x07" + gzip.compress(CSV)[3:], "CORRUPT", "damaged"),
    "gzip, bad checksum": (gzip.compress(CSV)[:-8] + b"\0\0\0\0" + gzip.compress(CSV)[-4:], "CORRUPT", "damaged"),
    "gzip, bad size": (gzip.compress(CSV)[:-4] + b"\0\0\0\0", "CORRUPT", "damaged"),
    "gzip, second member bad": (gzip.compress(CSV) + gzip.compress(CSV)[:-8] + b"\0" * 8, "CORRUPT", "damaged"),
    "zstd, junk behind": (zstd(CSV) + JUNK, "CORRUPT", "damaged"),
    "zstd, only its magic": (b"\x28\xb5\x2f\xfd", "CORRUPT", "damaged"),
    "zstd, damaged": (zstd(CSV)[:8] + b"\xff\xff" + zstd(CSV)[10:], "CORRUPT", "damaged"),
    "gzip of nothing": (gzip.compress(b""), "EMPTY", "empty"),
    "zstd of nothing": (zstd_stream(b""), "EMPTY", "empty"),
    "gzip of gzip": (gzip.compress(gzip.compress(CSV)), "FORMAT", "more than once"),
    "zstd of gzip": (zstd(gzip.compress(CSV)), "FORMAT", "more than once"),
    "gzip of zstd": (gzip.compress(zstd(CSV)), "FORMAT", "more than once"),
    "gzip of zip": (gzip.compress(b"PK\x03\x04abcdef"), "FORMAT", "zip"),
    "gzip of tar": (gzip.compress(b"a.csv".ljust(257, b"\0") + b"ustar" + b"\0" * 250 + CSV), "FORMAT", "tar"),
    "gzip of a broken file": (gzip.compress(HEAD + b'"open'), "QUOTE", "never closed"),
    "gzip of UTF-16": (gzip.compress(CSV.decode().encode("utf-16")), "ENCODING", '"utf-16"'),
}


@pytest.mark.parametrize("window", [8 << 20, 1])
@pytest.mark.parametrize("case", FAILS)
def test_the_file_fails(case: str, window: int) -> None:
    data, code, hint = FAILS[case]
    found = outcome(data, window=window)
    assert (found.fault, found.loaded) == (code, {})
    assert hint in found.message
    assert found.message.endswith(".")


@pytest.mark.parametrize("compress", [gzip.compress, raw_gzip, zstd, zstd_stream])
def test_a_file_that_is_cut_anywhere_loads_nothing(compress: Callable[[bytes], bytes]) -> None:
    whole = compress(HEAD + b"".join(b"P%d,%d\n" % (number, number) for number in range(50)))
    for size in range(4, len(whole)):
        found = outcome(whole[:size])
        assert (size, found.fault, found.loaded) == (size, "CORRUPT", {})


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_file_with_a_byte_changed_is_refused_or_the_same(compress: Callable[[bytes], bytes]) -> None:
    """zstd's checksum is an option; where there is none, what a changed byte stands for may be another text."""
    data = HEAD + b"".join(b"P%d,%d\n" % (number, number) for number in range(50))
    whole, right = compress(data), outcome(data)
    for place in range(4, len(whole)):
        for other in (255, whole[place] ^ 1):
            found = outcome(whole[:place] + bytes([other]) + whole[place + 1 :])
            if compress is gzip.compress:
                assert found == right or found.fault is not None
            assert found.fault is not None or found.loaded


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_bomb_fails_at_its_limit(compress: Callable[[bytes], bytes]) -> None:
    rows = b"Cup,1\n" * 500_000
    data = compress(HEAD + rows)
    assert len(data) < len(rows) / 200
    found = outcome(data, limit=len(rows))
    assert (found.fault, found.loaded) == ("TOO_LARGE", {})
    assert "3,000,000 bytes" in found.message
    assert outcome(data, limit=len(HEAD + rows)).batches != ()


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_no_more_of_a_bomb_is_in_memory_than_a_step(compression: Compression) -> None:
    bomb = {Compression.GZIP: gzip.compress, Compression.ZSTD: zstd}[compression](b"\0" * (50 << 20))
    sizes = [len(piece) for piece in expanded([bomb], compression, 1 << 40)]
    assert (max(sizes), sum(sizes)) == (STEP, 50 << 20)


def test_what_reading_raises_is_passed_on() -> None:
    def windows(data: bytes) -> object:
        yield data[: len(data) // 2]
        raise TimeoutError

    for compress in (gzip.compress, zstd_stream):
        whole = compress(random.Random(1).randbytes(1 << 20))
        with pytest.raises(TimeoutError):
            list(opened(windows(whole), InputOptions(), 1 << 30).windows)  # type: ignore[arg-type]


def test_the_option_says_what_is_expected() -> None:
    assert outcome(gzip.compress(CSV), compression=Compression.GZIP).names == ["Cup", "Pot"]
    assert outcome(CSV, compression=Compression.NONE).names == ["Cup", "Pot"]
    for data, told in (
        (gzip.compress(CSV), Compression.NONE),
        (gzip.compress(CSV), Compression.ZSTD),
        (zstd(CSV), Compression.GZIP),
        (CSV, Compression.GZIP),
        (b"", Compression.GZIP),
    ):
        found = outcome(data, compression=told)
        assert found.fault == "FORMAT"
        assert "said to be" in found.message


def test_a_gzip_that_is_cut_ends_in_a_fault_though_its_records_do_not() -> None:
    body = zlib.compressobj(9, zlib.DEFLATED, 31)
    cut = body.compress(CSV) + body.flush(zlib.Z_FULL_FLUSH)
    assert zlib.decompressobj(31).decompress(cut) == CSV
    with pytest.raises(StructureFault):
        list(expanded([cut], Compression.GZIP, 1 << 20))
