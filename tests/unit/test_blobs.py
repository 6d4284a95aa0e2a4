"""The blob store, on a folder and on a bucket without a network."""

import asyncio
import errno
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobber.blobs.place import PIECE, pieces
from jobber.blobs.store import Blobs
from jobber.errors import DiskFull, NotFound, QuotaExceeded, Unavailable

LIMIT = 1 << 30


async def feed(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs(f"file://{tmp_path}/blobs" if request.param == "folder" else "memory:///")


async def test_what_is_put_is_read(blobs: Blobs) -> None:
    text = b"0123456789"
    stored = await blobs.put("uploads/1", feed(text[:3], b"", text[3:]), LIMIT)
    assert (stored.bytes, stored.sha256) == (10, hashlib.sha256(text).digest())
    assert blobs.size("uploads/1") == 10
    assert blobs.read("uploads/1", 0, 10) == text
    assert blobs.read("uploads/1", 4, 3) == b"456"
    assert blobs.read("uploads/1", 4, 0) == b""
    assert list(blobs.windows("uploads/1", 4)) == [b"0123", b"4567", b"89"]


async def test_large_inputs_pass_in_pieces(blobs: Blobs) -> None:
    chunk = bytes(range(256)) * 300
    stored = await blobs.put("a", feed(*[chunk] * 200), LIMIT)
    whole = chunk * 200
    assert (stored.bytes, stored.sha256) == (len(whole), hashlib.sha256(whole).digest())
    assert b"".join(blobs.windows("a")) == whole
    assert blobs.read("a", 9_000_001, 1000) == whole[9_000_001:9_001_001]


async def test_an_empty_input_is_kept(blobs: Blobs) -> None:
    assert (await blobs.put("empty", feed(), LIMIT)).bytes == 0
    assert blobs.size("empty") == 0
    assert list(blobs.windows("empty")) == []


async def test_what_is_deleted_is_not_found(blobs: Blobs) -> None:
    await blobs.put("a", feed(b"1"), LIMIT)
    await blobs.delete("a")
    await blobs.delete("a")
    reads: list[Callable[[], object]] = [
        lambda: blobs.size("a"),
        lambda: blobs.read("a", 0, 1),
        lambda: list(blobs.windows("a")),
    ]
    for read in reads:
        with pytest.raises(NotFound):
            read()


@pytest.mark.parametrize(("offset", "length"), [(8, 10), (10, 1), (20, 5)])
async def test_a_range_that_is_not_there_is_not_found(blobs: Blobs, offset: int, length: int) -> None:
    await blobs.put("a", feed(b"0123456789"), LIMIT)
    with pytest.raises(NotFound):
        blobs.read("a", offset, length)


async def test_what_is_too_large_leaves_nothing(blobs: Blobs) -> None:
    assert (await blobs.put("fits", feed(b"12345"), 5)).bytes == 5
    with pytest.raises(QuotaExceeded):
        await blobs.put("a", feed(b"123", b"456"), 5)
    with pytest.raises(QuotaExceeded):
        await blobs.put("a", feed(*[bytes(PIECE)] * 20), 19 * PIECE)
    with pytest.raises(NotFound):
        blobs.size("a")


@pytest.mark.parametrize("fault", [ConnectionResetError("gone"), FileNotFoundError("theirs"), ValueError("bad")])
async def test_what_the_chunks_raise_is_passed_on_and_leaves_nothing(blobs: Blobs, fault: Exception) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(3 * PIECE)
        raise fault

    with pytest.raises(type(fault), match=str(fault)):
        await blobs.put("a", broken(), LIMIT)
    with pytest.raises(NotFound):
        blobs.size("a")


@pytest.mark.parametrize(
    "key", ["", "/", "/etc/passwd", "../a", "a/../b", "a//b", ".incoming/x", "a/.b", "a\0", "a\\b", "a b", "ä"]
)
def test_a_key_that_could_name_another_file_is_a_bug(blobs: Blobs, key: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        blobs.size(key)


async def test_a_cancelled_put_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(f"file://{tmp_path}")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(PIECE)
            await asyncio.sleep(0)

    for moment in (0.0, 0.001, 0.01, 0.03):
        putting = asyncio.create_task(blobs.put("a", endless(), LIMIT))
        await asyncio.sleep(moment)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert files(tmp_path) == []


async def test_a_put_that_is_cancelled_at_its_end_leaves_all_or_nothing(tmp_path: Path) -> None:
    blobs = Blobs(f"file://{tmp_path}")
    for turn in range(40):
        putting = asyncio.create_task(blobs.put("a", feed(b"1"), LIMIT))
        await asyncio.sleep(turn / 10_000)
        putting.cancel()
        outcome = (await asyncio.gather(putting, return_exceptions=True))[0]
        assert files(tmp_path) == ([] if isinstance(outcome, asyncio.CancelledError) else ["a"])
        await blobs.delete("a")


async def test_nothing_has_its_name_before_it_is_whole(tmp_path: Path) -> None:
    blobs = Blobs(f"file://{tmp_path}")
    seen: list[list[str]] = []

    async def watched() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(PIECE)
            seen.append(files(tmp_path / "uploads"))

    await blobs.put("uploads/a", watched(), LIMIT)
    assert seen == [[], [], []]
    assert files(tmp_path) == ["uploads/a"]


async def test_what_a_killed_writer_left_is_deleted_and_what_another_one_writes_is_not(tmp_path: Path) -> None:
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "left").write_bytes(b"half")
    with (incoming / "written").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        await Blobs(f"file://{tmp_path}").put("a", feed(b"1"), LIMIT)
        assert files(tmp_path) == [".incoming/written", "a"]


async def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b%41"
    blobs = Blobs(folder.as_uri())
    await blobs.put("a", feed(b"1"), LIMIT)
    assert files(folder) == ["a"]


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(1, 30))
def test_pieces_lose_nothing(chunks: list[bytes], size: int) -> None:
    async def run() -> list[bytes]:
        return [piece async for piece in pieces(feed(*chunks), LIMIT, size)]

    found = asyncio.run(run())
    assert b"".join(found) == b"".join(chunks)
    assert all(len(piece) >= size for piece in found[:-1])


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, Unavailable), (errno.EROFS, Unavailable)],
)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
async def test_a_full_or_broken_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[Exception]
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise OSError(number, "as if")

    blobs = Blobs(f"file://{tmp_path}")
    with monkeypatch.context() as broken:
        broken.setattr(Path if call == "rename" else os, call, fails)
        with pytest.raises(error):
            await blobs.put("uploads/a", feed(b"1"), LIMIT)
    assert files(tmp_path) == []
    await blobs.put("uploads/a", feed(b"1"), LIMIT)
    assert files(tmp_path) == ["uploads/a"]


async def test_it_is_on_the_disk_when_put_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        # Hard to look at from outside: the name that the synced file or folder has at that moment.
        name = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append("file" if name.is_file() else f"{name.relative_to(tmp_path)} {files(tmp_path)[-1:]}")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    await Blobs(f"file://{tmp_path}/blobs").put("uploads/a", feed(b"1"), LIMIT)
    after = "['blobs/uploads/a']"
    assert synced == ["file", f"blobs/uploads {after}", f"blobs {after}", f". {after}"]


async def test_all_keys_are_told_in_pages(blobs: Blobs) -> None:
    keys = {f"uploads/{number}" for number in range(7)} | {"inline/1"}
    for key in keys:
        await blobs.put(key, feed(b"1"), LIMIT)
    pages = [page async for page in blobs.keys(3)]
    assert {key for page in pages for key in page} == keys
    assert max(map(len, pages)) <= 3
    assert [page async for page in blobs.keys(100)] != []


async def test_there_are_no_keys_before_the_first_blob(tmp_path: Path) -> None:
    assert [page async for page in Blobs(f"file://{tmp_path}/none").keys(3)] == []


async def test_what_is_being_written_is_neither_told_nor_tidied_away(tmp_path: Path) -> None:
    blobs, other = Blobs(f"file://{tmp_path}"), Blobs(f"file://{tmp_path}")
    seen: list[list[str]] = []

    async def slowly() -> AsyncIterator[bytes]:
        yield b"1" * PIECE
        while not list(tmp_path.glob(".incoming/*")):
            await asyncio.sleep(0.01)
        (tmp_path / ".incoming" / "of-a-killed-one").touch()
        await other.tidy()
        seen.extend([page async for page in other.keys(3)])
        yield b"2"

    await blobs.put("uploads/a", slowly(), LIMIT)
    assert seen == []
    assert files(tmp_path) == ["uploads/a"]
