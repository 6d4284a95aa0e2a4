"""Uploads are looked at while they come: a job whose input was seen needs no planner, and nobody waits for a look."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.audit import OPERATOR
from api.database import open_pool
from api.jobs import surveys
from api.jobs.store import Store
from api.jobs.submission import Asked, Desk
from api.jobs.surveys import WAITING, WINDOW, Surveyor
from api.jobs.uploads import Uploads
from api.migrate import migrate
from jobber.blobs.store import Blobs
from jobber.errors import QuotaExceeded
from jobber.ids import uuid7
from jobber.job import discover
from jobber.model import InputOptions
from jobber.settings import JobsSettings
from operators.plan.survey import Survey

OWNER = uuid7()
SETTINGS = JobsSettings(jwt_secret="of thirty-two bytes, and for tests", database_url="postgresql://nowhere", batch_rows=100)
CSV = b"name,price\n" + b"".join(b"Product %d,%d\n" % (row, row) for row in range(250))


class Room:
    def __init__(self, dsn: str, store: Store, folder: Path, at_once: int = 1) -> None:
        self.dsn = dsn
        blobs = Blobs(folder.as_uri())
        options = InputOptions(batch_bytes=SETTINGS.batch_bytes, batch_rows=SETTINGS.batch_rows)
        self.surveyor = Surveyor(options, at_once)
        self.uploads = Uploads(store, blobs, 32 << 20, surveyor=self.surveyor)
        self.desk = Desk(store, blobs, SETTINGS)
        discover()

    async def upload(self, data: bytes, chunk: int = 1000) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            for place in range(0, len(data), chunk):
                yield data[place : place + chunk]

        return (await self.uploads.receive(OWNER, "products.csv", chunks(), OPERATOR)).id

    async def job(self, upload_id: str, **options: Any) -> tuple[Any, ...]:
        """State, error, records and batches of a job of the upload."""
        stored = await self.desk.submit(Asked(OWNER, OPERATOR, "LoadProducts", file_name=upload_id, options=options))
        with psycopg.connect(self.dsn, autocommit=True) as session:
            found = session.execute(
                "SELECT state, error, total, batches, (SELECT count(*) FROM jobs.batches WHERE job_id = id)"
                " FROM jobs.jobs WHERE id = %s",
                [stored.job_id],
            ).fetchone()
        assert found
        return found


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    await migrate(database, "jobs", Path("api/jobs/sql"))
    pool = await open_pool(database, name="test", size=4, timeout=10)
    yield Store(pool)
    await pool.close()


@pytest.fixture
async def room(database: str, store: Store, tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(database, store, tmp_path)
    yield made
    await made.surveyor.close()


PLANNED, UNPLANNED = ("QUEUED", None, 250, 3, 3), ("QUEUED", None, None, None, 0)


async def test_a_job_of_what_was_seen_is_planned_with_its_submission(room: Room) -> None:
    upload = await room.upload(CSV)
    assert await room.job(upload) == PLANNED
    assert await room.job(upload, max_errors=1) == PLANNED
    # What asks for another look gets it, from an executor.
    assert await room.job(upload, delimiter=";") == UNPLANNED
    assert await room.job(await room.upload(gzip.compress(CSV))) == UNPLANNED
    state, error, *rest = await room.job(await room.upload(CSV.replace(b"price", b"prize", 1)))
    assert (state, rest) == ("FAILED", [None, None, 0])
    assert error.startswith("HEADER: The required column 'price' is not in the header.")


async def test_the_same_content_again_is_seen_again(room: Room) -> None:
    first, second = await room.upload(CSV), await room.upload(CSV, chunk=7)
    assert first != second
    assert await room.job(second) == PLANNED


async def test_there_is_room_for_others_however_an_upload_ends(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QuotaExceeded):
        await room.upload(CSV + b"x,1\n" * (32 << 18), chunk=1 << 16)

    async def broken() -> AsyncIterator[bytes]:
        yield CSV
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await room.uploads.receive(OWNER, "broken.csv", broken(), OPERATOR)

    def fails(*_: object) -> None:
        raise RuntimeError("a bug of the survey")

    with monkeypatch.context() as patched:
        patched.setattr(surveys, "survey", fails)
        assert await room.job(await room.upload(CSV)) == UNPLANNED
    assert await room.job(await room.upload(CSV)) == PLANNED


async def test_beyond_some_at_once_uploads_come_unseen(room: Room) -> None:
    going = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield CSV
        await going.wait()

    first = asyncio.create_task(room.uploads.receive(OWNER, "slow.csv", slow(), OPERATOR))
    await asyncio.sleep(0)
    assert await room.job(await room.upload(CSV)) == UNPLANNED
    going.set()
    assert await room.job((await first).id) == PLANNED


async def test_a_slow_look_holds_few_windows(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    handed: list[int] = []

    def slow(windows: Any, options: InputOptions) -> Survey | None:
        for window in windows:
            assert len(handed) - len(taken) <= WAITING + 2, "more windows wait than may"
            taken.append(len(window))
            time.sleep(0.03)
        return None

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            handed.append(WINDOW)
            yield b"x" * WINDOW

    monkeypatch.setattr(surveys, "survey", slow)
    await room.uploads.receive(OWNER, "large.csv", chunks(), OPERATOR)
    assert taken == handed


async def test_too_many_batches_are_not_stored_within_a_request(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveys, "MOST_BATCHES", 2)
    assert await room.job(await room.upload(CSV)) == UNPLANNED
