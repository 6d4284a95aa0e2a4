"""Uploads are looked at while they come: a job whose input was seen needs no planner, and nobody waits for a look."""

import asyncio
import gzip
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.audit import OPERATOR
from api.database import open_pool
from api.jobs import surveys
from api.jobs.model import Upload
from api.jobs.retention import Retention
from api.jobs.staging_store import StagingStore
from api.jobs.store import Store
from api.jobs.submission import Asked, Desk
from api.jobs.surveys import WAITING, WINDOW, Surveyor
from api.jobs.uploads import Uploads
from api.migrate import migrate
from jobber.blobs.store import Blobs
from jobber.errors import DiskFull, QuotaExceeded, Unavailable
from jobber.ids import uuid7
from jobber.job import discover
from jobber.model import InputOptions
from jobber.settings import JobsSettings
from operators.pack import unpack
from operators.plan.survey import Survey, survey
from tests.integration.test_retention import Ledger

OWNER = uuid7()
SETTINGS = JobsSettings(jwt_secret="of thirty-two bytes, and for tests", database_url="postgresql://nowhere", batch_rows=100)
CSV = b"name,price\n" + b"".join(b"Product %d,%d\n" % (row, row) for row in range(250))


class Room:
    def __init__(self, dsn: str, store: Store, folder: Path, at_once: int = 1) -> None:
        self.dsn, self.folder, self.store = dsn, folder, store
        self.blobs = blobs = Blobs(folder.as_uri())
        options = InputOptions(batch_bytes=SETTINGS.batch_bytes, batch_rows=SETTINGS.batch_rows)
        self.surveyor = Surveyor(options, at_once, Blobs(folder.as_uri()), 1 << 30)
        self.uploads = Uploads(store, blobs, 32 << 20, surveyor=self.surveyor)
        self.desk = Desk(store, blobs, SETTINGS)
        self.retention = Retention(store.pool, blobs, Ledger(), days=30, stray_age=3600)
        discover()

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as session:
            cursor = session.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def plans(self) -> set[str]:
        """The blobs of plans."""
        return {f"plans/{path.name}" for path in self.folder.glob("plans/*")}

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

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

    def fails(*_: object, **__: object) -> None:
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

    def slow(windows: Any, options: InputOptions, **_: Any) -> Survey | None:
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
    assert await room.job(await room.upload(PACKED)) == UNPLANNED
    assert room.plans() == set()


PACKED = gzip.compress(CSV, mtime=0)


@pytest.mark.parametrize(
    ("data", "options"),
    [(PACKED, {}), (CSV.decode().encode("utf-16"), {"encoding": "utf-16"})],
    ids=["gzip", "utf-16"],
)
async def test_what_cannot_be_read_in_parts_is_packed_while_it_comes(room: Room, data: bytes, options: dict[str, Any]) -> None:
    upload = await room.upload(data, chunk=100)
    assert await room.job(upload, **options) == PLANNED
    assert await room.job(upload, **options, max_errors=1) == PLANNED
    assert await room.job(upload, encoding="windows-1252") == UNPLANNED
    [(key,)] = room.sql("SELECT DISTINCT plan_blob FROM jobs.jobs WHERE batches IS NOT NULL")
    assert {key} == room.plans() == {kept for (kept,) in room.sql("SELECT plan_blob FROM jobs.uploads")}
    ranges = room.sql("SELECT DISTINCT start, length FROM jobs.batches ORDER BY start")
    assert b"".join(unpack(room.blobs.read(key, *place)) for place in ranges) == CSV.partition(b"\n")[2]


async def test_the_same_content_again_shares_one_plan(room: Room) -> None:
    first, second = await room.upload(PACKED), await room.upload(PACKED)
    [(older,), (newer,)] = room.sql("SELECT plan_blob FROM jobs.uploads ORDER BY created_at")
    assert older == newer in room.plans()
    await room.retention.round()
    assert room.plans() == {older}
    assert await room.job(second) == PLANNED
    room.sql("DELETE FROM jobs.uploads WHERE id = %s", first)
    assert room.plans() == {older}
    # Of another cut nothing is shared but the bytes.
    room.sql("UPDATE jobs.uploads SET survey = 'another'")
    assert await room.job(await room.upload(PACKED)) == PLANNED
    await room.retention.round()
    assert len(room.plans()) == 2
    assert len(list(room.folder.glob("uploads/*"))) == 1


async def test_a_plan_stays_for_as_long_as_its_upload_or_a_job_needs_it(room: Room) -> None:
    unused, used = await room.upload(PACKED), await room.upload(gzip.compress(CSV + b"B,1\n"))
    await room.job(used)
    kept = {key for (key,) in room.sql("SELECT plan_blob FROM jobs.jobs")}
    room.sql("UPDATE jobs.uploads SET created_at = created_at - interval '31 days'")
    room.sql("INSERT INTO jobs.strays (blob_key, seen_at) SELECT plan_blob, '-infinity' FROM jobs.uploads")
    assert len(room.plans()) == 2
    await room.retention.round()
    assert room.plans() == kept != set()
    assert await room.store.upload(OWNER, unused) is None
    # The job is forgotten, the upload stays for others.
    room.sql("UPDATE jobs.uploads SET created_at = clock_timestamp()")
    room.sql("UPDATE jobs.jobs SET state = 'CANCELED', ended_at = clock_timestamp() - interval '31 days'")
    await room.retention.round()
    assert room.sql("SELECT plan_blob FROM jobs.jobs") == [(None,)]
    assert room.plans() == kept
    room.sql("UPDATE jobs.uploads SET created_at = created_at - interval '31 days'")
    await room.retention.round()
    assert room.files() == []


async def test_no_row_refers_to_a_plan_that_was_given_up(room: Room) -> None:
    key, strayed = f"plans/{uuid7()}", f"plans/{uuid7()}"
    now = room.sql("INSERT INTO jobs.strays (blob_key, doomed_at) VALUES (%s, now()), (%s, NULL) RETURNING now()", key, strayed)
    [late, slow] = (
        Upload(uuid7(), OWNER, "a", f"uploads/{uuid7()}", 5, plan.encode(), now[0][0], survey=b"", plan_blob=plan)
        for plan in (key, strayed)
    )
    with pytest.raises(Unavailable):
        await room.store.add_upload(late, OPERATOR)
    await room.store.add_upload(slow, OPERATOR)
    assert room.sql("SELECT plan_blob FROM jobs.uploads") == [(strayed,)]
    assert room.sql("SELECT blob_key FROM jobs.strays") == [(key,)]


async def test_a_deleted_upload_lets_go_of_its_plan(room: Room) -> None:
    upload = await room.upload(PACKED)
    store = StagingStore(room.store.pool, quota=0, most=1, hours=1, days=1)
    await store.delete(OWNER, upload, OPERATOR)
    await room.retention.round()
    assert room.files() == []


async def test_an_upload_that_is_refused_leaves_no_plan(room: Room) -> None:
    surveyor = Surveyor(room.surveyor.options, 2, room.blobs, 1 << 30)
    full = Uploads(room.store, room.blobs, 32 << 20, quota=2000, surveyor=surveyor)

    async def receive(seed: int) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield gzip.compress(b"name,price\n%s,1\n" % random.Random(seed).randbytes(1000).hex().encode())

        return (await full.receive(OWNER, "a.csv.gz", chunks(), OPERATOR)).id

    # Each finds room when it begins, and one of them none when it ends.
    both = await asyncio.gather(receive(1), receive(2), return_exceptions=True)
    assert {type(one) for one in both} == {str, QuotaExceeded}
    assert (len(room.files()), len(room.plans())) == (2, 1)
    await surveyor.close()


@pytest.mark.parametrize(
    "data", [PACKED[:-1], PACKED + b"more", gzip.compress(CSV + b'x"y,1\n')], ids=["cut", "more", "quotes"]
)
async def test_what_turns_out_to_be_for_an_executor_leaves_no_blob(room: Room, data: bytes) -> None:
    assert await room.job(await room.upload(data)) == UNPLANNED
    assert (room.plans(), len(room.files())) == (set(), 1)


async def gone(room: Room) -> None:
    async with asyncio.timeout(10):
        while room.plans():
            await asyncio.sleep(0.01)


class Gate:
    """A survey that waits, before or after its look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
        self.opens, self.after, self.ended = threading.Event(), after, threading.Event()
        self.kept = False
        monkeypatch.setattr(surveys, "survey", self.look)

    def look(
        self, windows: Iterator[bytes], options: InputOptions, *, keep: Callable[[Any], Any], **more: Any
    ) -> Survey | None:
        def kept(chunks: Any) -> None:
            keep(chunks)
            self.kept = True

        try:
            self.opens.wait(0 if self.after else 10)
            seen = survey(windows, options, keep=kept, **more)
            self.opens.wait(10)
            return seen
        finally:
            self.ended.set()


@pytest.mark.parametrize("after", [False, True])
async def test_an_upload_waits_so_long_for_its_survey_and_no_longer(
    room: Room, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    with monkeypatch.context() as patched:
        gate = Gate(patched, after=after)
        patched.setattr(surveys, "PATIENCE", 0.01)
        # More windows than may wait.
        data = gzip.compress(CSV) + b"\0" * ((WAITING + 3) * WINDOW if not after else 0)
        upload = await room.upload(data, 1 << 18)
        assert not gate.ended.is_set(), "the upload waited for the end of its survey"
        gate.opens.set()
        assert await asyncio.to_thread(gate.ended.wait, 10)
    assert gate.kept is after
    await gone(room)
    assert await room.job(upload) == UNPLANNED
    assert await room.job(await room.upload(CSV)) == PLANNED


async def test_an_upload_that_is_cancelled_leaves_no_blob(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        gate = Gate(patched, after=True)
        coming = asyncio.create_task(room.upload(PACKED))
        while not room.plans():
            await asyncio.sleep(0.01)
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        gate.opens.set()
        await gone(room)
    assert room.sql("SELECT count(*) FROM jobs.uploads") == [(0,)]


async def test_a_survey_that_nobody_asks_for_leaves_no_blob(room: Room) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield PACKED

    looking = room.surveyor.begin()
    assert looking is not None
    async for _ in looking.along(chunks()):
        pass
    asking = asyncio.create_task(looking.found())
    await asyncio.sleep(0)
    # The survey ends, and its upload is cancelled before it hears of that.
    assert looking._found.result(10) is not None
    assert len(room.plans()) == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    looking.close()
    await gone(room)


async def test_an_upload_is_stored_unseen_where_its_plan_is_not(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: object) -> None:
        raise DiskFull

    with monkeypatch.context() as patched:
        patched.setattr(room.surveyor.blobs, "put", full)
        assert await room.job(await room.upload(PACKED)) == UNPLANNED
    assert len(room.files()) == 1
    # A full disk is no bug of ours.
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["WARNING"]
