"""Inputs by URL: only from configured places, nothing beside them, and frozen once the job is there."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.audit import OPERATOR
from api.database import open_pool
from api.jobs.sources import Sources
from api.jobs.store import Store
from api.jobs.submission import Asked, Desk
from api.jobs.uploads import Uploads
from api.migrate import migrate
from jobber.blobs.store import Blobs
from jobber.errors import Conflict, Forbidden, InvalidData, InvalidState, NotFound, QuotaExceeded, Unavailable, UnsupportedMedia
from jobber.ids import uuid7
from jobber.job import discover
from jobber.settings import JobsSettings
from tests.integration.test_blobs import Bucket, bucket

__all__ = ["bucket"]

OWNER = uuid7()
CSV = b"name,price\nx,1\n"


class Room:
    def __init__(self, dsn: str, store: Store, folder: Path, *places: str) -> None:
        self.dsn, self.store, self.folder = dsn, store, folder
        self.blobs = Blobs((folder / "blobs").as_uri())
        self.uploads = Uploads(store, self.blobs, 1 << 20, quota=3 << 20)
        settings = JobsSettings(jwt_secret="of thirty-two bytes, and for tests", database_url=dsn, sources=places)
        self.sources = Sources(settings.sources, self.uploads)
        self.desk = Desk(store, self.blobs, settings, self.sources)
        discover()

    async def submit(self, url: str, key: str | None = None, owner: str = OWNER) -> tuple[str, bool]:
        asked = Asked(owner, OPERATOR, "LoadProducts", url=url, idempotency_key=key or uuid7())
        stored = await self.desk.submit(asked)
        return stored.job_id, stored.replayed

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as session:
            return session.execute(query.encode(), parameters).fetchall()

    def input_of(self, job_id: str) -> bytes:
        [[key, size]] = self.sql("SELECT blob_key, blob_bytes FROM jobs.jobs WHERE id = %s", job_id)
        return self.blobs.read(key, 0, size)

    def uploaded(self) -> int:
        return int(self.sql("SELECT count(*) FROM jobs.uploads")[0][0])


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    await migrate(database, "jobs", Path("api/jobs/sql"))
    pool = await open_pool(database, name="test", size=4, timeout=10)
    yield Store(pool)
    await pool.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "in box"
    (folder / "deep").mkdir(parents=True)
    (folder / "a b.csv").write_bytes(CSV)
    (folder / "deep" / "b.csv").write_bytes(CSV + b"y,2\n")
    (tmp_path / "secret.csv").write_bytes(b"name,price\nsecret,1\n")
    return folder


@pytest.fixture
def room(database: str, store: Store, tmp_path: Path, inbox: Path) -> Room:
    return Room(database, store, tmp_path, inbox.as_uri())


async def test_a_file_is_copied_and_stays_what_it_was(room: Room, inbox: Path) -> None:
    place = inbox.as_uri()
    job_id, _ = await room.submit(f"{place}/a b.csv")
    deep, _ = await room.submit(f"{place}/deep/b.csv")
    (inbox / "a b.csv").write_bytes(b"name,price\nchanged,1\n")
    assert room.input_of(job_id) == CSV
    assert room.input_of(deep) == CSV + b"y,2\n"
    stored = room.sql("SELECT file_name, owner_id::text, sha256 FROM jobs.uploads ORDER BY created_at LIMIT 1")
    assert stored == [("a b.csv", OWNER, hashlib.sha256(CSV).digest())]


async def test_the_same_key_copies_once(room: Room, inbox: Path) -> None:
    url = f"{inbox.as_uri()}/a b.csv"
    answers = await asyncio.gather(*(room.submit(url, "k") for _ in range(3)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False, True, True]
    assert room.uploaded() == 1
    (inbox / "a b.csv").unlink()
    assert await room.submit(url, "k") == (answers[0][0], True)
    with pytest.raises(Conflict):
        await room.submit(f"{inbox.as_uri()}/deep/b.csv", "k")
    assert room.uploaded() == 1


TRICKS = (
    "{place}/../secret.csv",
    "{place}/deep/../../secret.csv",
    "{place}/%2e%2e/secret.csv",
    "{place}/..%2fsecret.csv",
    "{place}/./a b.csv",
    "{place}//a b.csv",
    "{place}/",
    "{place}",
    "{place}x/a.csv",
    "{place}/a b.csv\x00",
    "{place}/a b.csv?x",
    "{place}/a b.csv#x",
    "{place}/deep\\..\\..\\secret.csv",
    "{parent}/secret.csv",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "s3://inputs/a.csv",
)


@pytest.mark.parametrize("trick", TRICKS)
async def test_nothing_beside_the_place_is_read(room: Room, inbox: Path, trick: str) -> None:
    with pytest.raises(Forbidden):
        await room.submit(trick.format(place=inbox.as_uri(), parent=inbox.parent.as_uri()))
    assert room.uploaded() == 0


@pytest.mark.parametrize(
    "url", ["", "x", "/etc/passwd", "http://127.0.0.1/", "https://x/y", "FILE:///etc/passwd", "ftp://x/y", "data:,x"]
)
async def test_other_schemes_are_refused(room: Room, url: str) -> None:
    with pytest.raises(InvalidData):
        await room.submit(url)


async def test_links_folders_pipes_and_what_is_not_there_are_not_found(room: Room, inbox: Path) -> None:
    (inbox / "link.csv").symlink_to(inbox.parent / "secret.csv")
    (inbox / "up").symlink_to(inbox.parent)
    os.mkfifo(inbox / "pipe")
    for name in ("link.csv", "up/secret.csv", "pipe", "deep", "missing.csv", "a b.csv/x"):
        with pytest.raises(NotFound):
            await asyncio.wait_for(room.submit(f"{inbox.as_uri()}/{name}"), 10)
    assert room.uploaded() == 0


async def test_what_changes_while_it_is_read_is_not_kept(room: Room, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read

    def slow(file: int, most: int) -> bytes:
        data = read(file, most)
        if data:
            with (inbox / "a b.csv").open("r+b") as other:
                other.write(b"NAME")
        return data

    monkeypatch.setattr("api.jobs.sources.os.read", slow)
    with pytest.raises(InvalidState, match="changed while it was read"):
        await room.submit(f"{inbox.as_uri()}/a b.csv")
    monkeypatch.undo()
    assert room.uploaded() == 0
    assert not [path for path in (room.folder / "blobs").rglob("*") if path.is_file()]


async def test_limits_are_those_of_uploads(room: Room, inbox: Path) -> None:
    (inbox / "large.csv").write_bytes(bytes(2 << 20))
    (inbox / "z.csv").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(QuotaExceeded):
        await room.submit(f"{inbox.as_uri()}/large.csv")
    with pytest.raises(UnsupportedMedia):
        await room.submit(f"{inbox.as_uri()}/z.csv")
    assert room.uploaded() == 0


async def test_without_a_place_there_are_none(database: str, store: Store, tmp_path: Path, inbox: Path) -> None:
    room = Room(database, store, tmp_path)
    with pytest.raises(InvalidData, match="No place is configured"):
        await room.submit(f"{inbox.as_uri()}/a b.csv")
    gone = Room(database, store, tmp_path, (tmp_path / "gone").as_uri())
    with pytest.raises(Unavailable):
        await gone.submit(f"{(tmp_path / 'gone').as_uri()}/a.csv")


async def test_objects_of_a_bucket(database: str, store: Store, tmp_path: Path, bucket: Bucket) -> None:
    bucket.objects |= {"/inputs/daily/a.csv": CSV, "/inputs/daily/large.csv": bytes(900_000), "/inputs/other.csv": b"secret"}
    room = Room(database, store, tmp_path, "s3://inputs/daily")
    assert room.input_of((await room.submit("s3://inputs/daily/a.csv"))[0]) == CSV
    assert room.input_of((await room.submit("s3://inputs/daily/large.csv"))[0]) == bytes(900_000)
    with pytest.raises(NotFound):
        await room.submit("s3://inputs/daily/missing.csv")
    for url in (
        "s3://inputs/other.csv",
        "s3://inputs/daily/../other.csv",
        "s3://other/daily/a.csv",
        "s3://inputs/dailyx/a.csv",
    ):
        with pytest.raises(Forbidden):
            await room.submit(url)
    bucket.broken = True
    with pytest.raises(Unavailable) as fault:
        await room.submit("s3://inputs/daily/a.csv")
    assert "secret" not in str(fault.value)


@pytest.mark.parametrize(
    "place", ["http://x/y", "file://", "file:///", "s3://", "s3://key:secret@bucket", "s3://b?x=1", "/data"]
)
def test_what_is_no_place_is_no_setting(place: str) -> None:
    with pytest.raises(ValueError, match="places of sources are"):
        JobsSettings(jwt_secret="of thirty-two bytes, and for tests", database_url="x", sources=(place,))
