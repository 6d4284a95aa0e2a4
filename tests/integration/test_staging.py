"""Uploads in pieces, over HTTP on real PostgreSQL: on a folder and on a bucket, at any replica, whatever interrupts them."""

import asyncio
import base64
import fcntl
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest
from starlette.requests import ClientDisconnect

from api.database import open_pool
from api.jobs import staging as module
from api.jobs.upload_store import OWNER_LOCK
from api.migrate import migrate
from jobber.blobs.store import Blobs
from jobber.errors import DiskFull
from jobber.ids import uuid7
from tests.integration.staging_room import BODY, BYTES, FILES, LIMIT, MOST, OTHER, OWNER, TUS, World


@pytest.fixture(params=["folder", "bucket"])
async def world(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> AsyncIterator[World]:
    await migrate(database, "jobs", Path("api/jobs/sql"))
    pool = await open_pool(database, name="test", size=8, timeout=10)
    folder = tmp_path / "blobs" if request.param == "folder" else None
    yield World(database, pool, Blobs(folder.as_uri() if folder else "memory:///"), folder)
    await pool.close()


@pytest.fixture
def settle_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE", 1 << 20)


async def _cut(data: bytes) -> AsyncIterator[bytes]:
    """A body whose connection is lost at its end."""
    for start in range(0, len(data), 1 << 16):
        yield data[start : start + (1 << 16)]
    raise ClientDisconnect


async def test_a_file_comes_in_pieces_at_any_replica(world: World) -> None:
    url = await world.one.create(len(BYTES), filename="../../a\x00b.csv")
    cuts = [0, 1, 5_000_000, 5_000_000 + (9 << 20), len(BYTES)]
    for number, (start, end) in enumerate(itertools.pairwise(cuts)):
        replica = (world.one, world.two)[number % 2]
        assert await replica.offset(url) == start
        answer = await replica.patch(url, start, BYTES[start:end])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert ("upload-expires" in answer.headers) == (end < len(BYTES))
    assert await world.one.whole(url) == BYTES
    upload = await world.one.store.upload(OWNER, "ab.csv")
    assert upload is not None
    await world.retention.round()
    # On a folder no byte was copied: the file has grown to its end. In a bucket the parts have gone.
    assert await world.keys() == {upload.blob_key}
    assert world.sql("SELECT count(*) FROM jobs.staged") == world.sql("SELECT count(*) FROM jobs.parts") == [(0,)]


async def test_what_a_lost_connection_brought_is_kept(world: World, settle_often: None) -> None:
    url = await world.one.create(len(BYTES))
    await world.one.patch(url, 0, _cut(BYTES[:7_000_001]))
    there = await world.two.offset(url)
    assert there == 7_000_001
    assert (await world.two.patch(url, there, BYTES[there:])).status_code == 204
    assert await world.two.whole(url) == BYTES


async def test_a_request_that_hangs_is_ended_by_who_goes_on(world: World) -> None:
    """Its connection may be dead without anybody having noticed."""
    url = await world.one.create(len(BYTES))

    async def hangs() -> AsyncIterator[bytes]:
        yield BYTES[:3_000_000]
        await asyncio.sleep(3600)

    hanging = asyncio.create_task(world.one.patch(url, 0, hangs()))
    while not world.one.staging._writers:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    there = await world.one.offset(url)
    assert there == 3_000_000
    assert (await world.one.patch(url, there, BYTES[there:])).status_code == 204
    assert await world.one.whole(url) == BYTES
    assert (await hanging).headers["upload-offset"] == "3000000"


async def test_another_replica_goes_on_beside_one_that_is_stopped(world: World, settle_often: None) -> None:
    """What the stopped one held it keeps: the other writes into a part of its own, and its words count no more."""
    url = await world.one.create(len(BYTES))
    go_on = asyncio.Event()

    async def stops() -> AsyncIterator[bytes]:
        yield BYTES[: 2 << 20]
        await go_on.wait()
        yield b"x" * (len(BYTES) - (2 << 20))

    stopped = asyncio.create_task(world.one.patch(url, 0, stops()))
    while world.sql("SELECT received FROM jobs.staged") == [(0,)]:
        await asyncio.sleep(0.01)
    there = await world.two.offset(url)
    assert (await world.two.patch(url, there, BYTES[there : 9 << 20])).status_code == 204
    go_on.set()
    assert (await stopped).status_code == 409
    assert (await world.two.patch(url, 9 << 20, BYTES[9 << 20 :])).status_code == 204
    assert await world.two.whole(url) == BYTES
    if world.folder:
        assert world.sql("SELECT count(*) FROM jobs.strays") == [(2,)]


async def test_two_at_the_same_place_do_not_both_count(world: World) -> None:
    url = await world.one.create(10)
    answers = await asyncio.gather(world.one.patch(url, 0, b"01234"), world.two.patch(url, 0, b"abcde"))
    assert sorted(answer.status_code for answer in answers) == [204, 409]
    first = b"01234" if answers[0].status_code == 204 else b"abcde"
    assert (await world.one.patch(url, 5, b"56789")).status_code == 204
    assert await world.one.whole(url) == first + b"56789"


async def test_what_was_written_and_not_acknowledged_does_not_stay(world: World) -> None:
    """As a kill between the file and the commit leaves it."""
    url = await world.one.create(10)
    await world.one.patch(url, 0, b"01234")
    if world.folder:
        [path] = [path for path in world.folder.rglob("*") if path.is_file()]
        with path.open("ab") as file:
            file.write(b"garbage that is longer than all of the rest")
    assert (await world.two.patch(url, 5, b"56789")).status_code == 204
    assert await world.two.whole(url) == b"0123456789"


async def test_the_offset_is_the_length_only_once_the_upload_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    url = await world.one.create(10)
    await world.one.patch(url, 0, b"01234")

    async def fails(*_: object) -> str:
        raise DiskFull

    monkeypatch.setattr(world.blobs, "join", fails)
    assert (await world.one.patch(url, 5, b"56789")).status_code == 507
    assert await world.one.offset(url) == 5
    monkeypatch.undo()
    assert (await world.one.patch(url, 5, b"56789")).status_code == 204
    assert await world.one.whole(url) == b"0123456789"


async def test_a_full_disk_keeps_what_was_acknowledged_and_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    if world.folder is None:
        pytest.fail("a bucket has no disk") if await world.keys() else None
        return
    url = await world.one.create(8 << 20)
    await world.one.patch(url, 0, bytes(1 << 20))
    write = os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        if at >= 4 << 20:
            raise OSError(28, "No space left on device")
        return write(file, data[: 1 << 19], at)

    monkeypatch.setattr(os, "pwrite", full)
    assert (await world.one.patch(url, 1 << 20, bytes(7 << 20))).status_code == 507
    # No half of a piece is left that would take the room of others.
    [path] = [path for path in world.folder.rglob("*") if path.is_file()]
    assert path.stat().st_size == 1 << 20
    assert await world.one.offset(url) == 1 << 20
    monkeypatch.undo()
    assert (await world.one.patch(url, 1 << 20, bytes(7 << 20))).status_code == 204
    assert await world.one.whole(url) == bytes(8 << 20)


async def test_checksums_of_pieces_and_of_the_whole(world: World) -> None:
    def said(data: bytes, name: str = "sha1") -> str:
        return f"{name} {base64.b64encode(hashlib.new(name, data).digest()).decode()}"

    url = await world.one.create(10, sha256=hashlib.sha256(b"0123456789").hexdigest())
    assert (await world.one.patch(url, 0, b"01234", upload_checksum=said(b"x"))).status_code == 460
    assert await world.one.offset(url) == 0
    assert (await world.one.patch(url, 0, b"01234", upload_checksum=said(b"01234", "sha256"))).status_code == 204
    assert (await world.one.patch(url, 5, b"5678x", upload_checksum=said(b"56789"))).status_code == 460
    assert (await world.one.patch(url, 5, b"56789", upload_checksum="crc32 AAAA")).status_code == 400
    assert (await world.one.patch(url, 5, b"56789", upload_checksum=said(b"56789"))).status_code == 204
    assert await world.one.whole(url) == b"0123456789"
    other = await world.one.create(10, sha256=hashlib.sha256(b"0123456789").hexdigest())
    answer = await world.one.patch(other, 0, b"012345678x")
    assert (answer.status_code, "sha256" in answer.json()["message"]) == (400, True)
    assert (await world.one.http.head(other, headers=TUS)).status_code == 404
    await world.retention.round()
    assert len(await world.keys()) == 1


async def test_the_protocol(world: World) -> None:
    replica = world.one
    for url in ("/uploads/tus", "/uploads/tus/", f"/uploads/tus/{uuid7()}"):
        options = await replica.http.options(url)
        assert (options.status_code, options.headers["tus-version"], options.headers["tus-max-size"]) == (
            204,
            "1.0.0",
            str(LIMIT),
        )
        assert "creation" in options.headers["tus-extension"].split(",")
    assert (await replica.http.post("/uploads/tus/", headers={"upload-length": "1"})).status_code == 412
    for headers in ({}, {"upload-length": "-1"}, {"upload-length": "1e3"}, {"upload-defer-length": "1"}):
        answer = await replica.http.post("/uploads/tus/", headers={**TUS, **headers})
        assert (answer.status_code, answer.headers["tus-resumable"]) == (400, "1.0.0"), headers
    url = await replica.create(10, filename="a.csv", format="csv")
    head = await replica.http.head(url, headers=TUS)
    assert (head.headers["upload-length"], head.headers["cache-control"]) == ("10", "no-store")
    assert "filename YS5jc3Y=" in head.headers["upload-metadata"]
    assert (await replica.http.patch(url, content=b"1", headers={**TUS, "upload-offset": "0"})).status_code == 415
    assert (await replica.patch(url, 3, b"1")).status_code == 409
    assert (await replica.patch(url, 0, bytes(11))).status_code == 413
    assert (await replica.http.get(url, headers=TUS)).status_code == 405
    overridden = await replica.http.post(
        url, content=b"01234", headers={**BODY, "upload-offset": "0", "x-http-method-override": "PATCH"}
    )
    assert (overridden.status_code, overridden.headers["upload-offset"]) == (204, "5")
    assert (await replica.http.delete(url, headers=TUS)).status_code == 204
    assert (await replica.http.head(url, headers=TUS)).status_code == 404
    at_once = await replica.http.post("/uploads/tus/", content=b"0123456789", headers={**BODY, "upload-length": "10"})
    assert (at_once.status_code, at_once.headers["upload-offset"]) == (201, "10")
    assert await replica.whole(at_once.headers["location"]) == b"0123456789"
    empty = await replica.create(0)
    assert (await replica.whole(empty), await replica.offset(empty)) == (b"", 0)
    for name in ("x", "..%2f..%2fetc%2fpasswd", "%00", str(uuid7())):
        assert (await replica.http.head(f"/uploads/tus/{name}", headers=TUS)).status_code == 404


async def test_others_uploads_are_not_there_and_nothing_is_read_without_a_token(world: World) -> None:
    url = await world.one.create(10)
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"01234"

    for token, status in ((OTHER, 404), ("", 401)):
        headers = {**BODY, "upload-offset": "0", "authorization": token}
        assert (await world.one.http.head(url, headers=headers)).status_code == status
        assert (await world.one.http.patch(url, content=body(), headers=headers)).status_code == status
        assert (await world.one.http.delete(url, headers=headers)).status_code == status
    nobody = {"authorization": "", "content-type": "multipart/form-data; boundary=b"}
    assert (await world.one.http.post("/uploads", content=body(), headers=nobody)).status_code == 401
    assert (await world.one.http.post("/uploads/tus/", content=body(), headers={**BODY, **nobody})).status_code == 401
    assert (read, await world.one.offset(url)) == ([], 0)


async def test_zip_archives_are_refused_and_nothing_is_kept(world: World) -> None:
    data = b"PK\x03\x04" + bytes(100)
    url = await world.one.create(len(data))
    assert (await world.one.patch(url, 0, data)).status_code == 415
    slowly = await world.one.create(len(data))
    await world.one.patch(slowly, 0, data[:2])
    assert (await world.one.patch(slowly, 2, data[2:])).status_code == 415
    assert (await world.one.http.post("/uploads", files={"file": ("a.csv", data)})).status_code == 415
    for gone in (url, slowly):
        assert (await world.one.http.head(gone, headers=TUS)).status_code == 404
    await world.retention.round()
    assert await world.keys() == set()


async def test_the_same_content_of_an_owner_is_kept_once(world: World) -> None:
    files = {"file": ("a.csv", b"name,price\n")}
    first = (await world.one.http.post("/uploads", files=files)).json()
    second = (await world.two.http.post("/uploads", files={"file": ("b.csv", b"name,price\n")})).json()
    url = await world.one.create(11, filename="c.csv")
    await world.one.patch(url, 0, b"name,price\n")
    foreign = (await world.one.http.post("/uploads", files=files, headers={"authorization": OTHER})).json()
    assert len({first["id"], second["id"], url, foreign["id"]}) == 4
    assert first["sha256"] == second["sha256"] == foreign["sha256"]
    await world.retention.round()
    assert len(await world.keys()) == 2
    # The blob stays as long as anything refers to it.
    assert (await world.one.http.delete(f"/uploads/tus/{first['id']}", headers=TUS)).status_code == 204
    await world.retention.round()
    assert await world.one.whole(second["id"]) == await world.one.whole(url) == b"name,price\n"
    for id in (second["id"], url.rpartition("/")[2]):
        assert (await world.one.http.delete(f"/uploads/tus/{id}", headers=TUS)).status_code == 204
    await world.retention.round()
    assert len(await world.keys()) == 1


async def test_quotas(world: World) -> None:
    half = bytes(30 << 20)
    url = await world.one.create(30 << 20)
    await world.one.patch(url, 0, half)
    # What is announced counts; the same content again is no more.
    waiting = await world.one.create(25 << 20)
    for answer in (await world.one.post(6 << 20), await world.two.http.post("/uploads", files={"file": ("a", bytes(6 << 20))})):
        assert (answer.status_code, answer.json()["code"]) == (413, "QUOTA_EXCEEDED")

    async def unannounced() -> AsyncIterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(6):
            yield bytes(1 << 20)
        yield b"\r\n--b--\r\n"

    form = {"content-type": "multipart/form-data; boundary=b"}
    refused = await world.two.http.post("/uploads", content=unannounced(), headers=form)
    assert (refused.status_code, "keep more than" in refused.json()["message"]) == (413, True)
    assert (await world.one.post(LIMIT + 1, OTHER)).status_code == 413
    assert (await world.one.post(6 << 20, OTHER)).status_code == 201
    await world.one.http.delete(waiting, headers=TUS)
    assert (await world.one.post(6 << 20)).status_code == 201
    await world.retention.round()
    assert len(await world.keys()) == 1


async def test_uploads_at_once_do_not_all_find_room(world: World) -> None:
    answers = await asyncio.gather(*(replica.post(25 << 20) for replica in (world.one, world.two) * 2))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 413, 413]
    with psycopg.connect(world.dsn) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [OWNER_LOCK, OWNER])
        waiting = [asyncio.create_task(world.one.post(1)), asyncio.create_task(world.one.http.post("/uploads", files=FILES))]
        assert (await asyncio.wait(waiting, timeout=0.5))[0] == set()
    assert [(await task).status_code for task in waiting] == [201, 201]


async def test_too_many_that_are_not_finished(world: World) -> None:
    for _ in range(MOST):
        await world.one.create(10)
    answer = await world.two.post(10)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")

    async def hangs() -> AsyncIterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        await asyncio.sleep(3600)

    form = {"content-type": "multipart/form-data; boundary=b"}
    hanging = [asyncio.create_task(world.one.http.post("/uploads", content=hangs(), headers=form)) for _ in range(MOST)]
    await asyncio.sleep(0.2)
    assert (await world.one.http.post("/uploads", files={"file": ("a", b"1")})).status_code == 429
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    assert (await world.one.http.post("/uploads", files={"file": ("a", b"1")})).status_code == 201


async def test_what_does_not_go_on_expires(world: World) -> None:
    old, young = await world.one.create(10), await world.one.create(10)
    for url in (old, young):
        await world.one.patch(url, 0, b"01234")
    world.sql("UPDATE jobs.staged SET touched_at = touched_at - interval '25 hours' WHERE id = %s", old.rpartition("/")[2])
    assert (await world.one.http.head(old, headers=TUS)).status_code == 404
    await world.retention.look_for_strays()
    await world.retention.round()
    assert len(await world.keys()) == 1
    await world.one.patch(young, 5, b"56789")
    assert await world.one.whole(young) == b"0123456789"


async def test_parts_are_no_strays(world: World) -> None:
    url = await world.one.create(10)
    await world.one.patch(url, 0, b"01234")
    world.sql("UPDATE jobs.migrations SET applied_at = clock_timestamp() - interval '1 day'")
    await world.retention.look_for_strays()
    world.sql("UPDATE jobs.strays SET seen_at = seen_at - interval '2 hours'")
    await world.retention.round()
    await world.one.patch(url, 5, b"56789")
    assert await world.one.whole(url) == b"0123456789"


def test_who_finds_the_last_part_locked_begins_another(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    names = iter(("a", "b"))
    name: Callable[[], str] = lambda: next(names)  # noqa: E731

    async def run() -> None:
        first = blobs.growing(None, name)
        await first.hold()
        await first.add(b"01")
        [part] = await first.settle()
        second = blobs.growing(part, name)
        await second.hold()
        await second.add(b"23")
        [other] = await second.settle()
        assert (part.key, part.size, other.key, other.size) == ("a", 2, "b", 2)
        with (tmp_path / "b").open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        await first.close()
        third = blobs.growing(part, name)
        await third.hold()
        await third.add(b"4")
        assert [(part.key, part.size) for part in await third.settle()] == [("a", 3)]

    asyncio.run(run())
