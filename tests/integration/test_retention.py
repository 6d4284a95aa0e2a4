"""What expires and what strays goes, exactly that, whoever does what at the same time."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psycopg
import pytest

from api.audit import OPERATOR
from api.database import Pool, connection, open_pool
from api.jobs import retention as module
from api.jobs.decide import Limits
from api.jobs.model import Blob, Submission, Upload
from api.jobs.retention import Retention
from api.jobs.store import Store
from api.jobs.submission import Asked, Desk
from api.jobs.uploads import Uploads
from api.jobs.work import Work
from api.migrate import migrate
from jobber import faults
from jobber.blobs.store import Blobs
from jobber.errors import Conflict, NotFound, Unavailable
from jobber.ids import uuid7
from jobber.job import discover
from jobber.model import BatchKey, Format, InputOptions, Layout, Plan, PlannedBatch, Receipt, State
from jobber.settings import JobsSettings

OWNER = uuid7()
DAYS, AGE = 30.0, 3600.0
STRAY, YOUNGER = f"uploads/{uuid7()}", f"inline/{uuid7()}"
PLAN = Plan(Layout(format=Format.JSON), (PlannedBatch(0, 10, 1, 10, b"\1" * 32),))


class Ledger:
    """Remembers what it was told to forget; can be away."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.away = False

    async def forget_jobs(self, job_ids: Sequence[str]) -> None:
        if self.away:
            raise Unavailable
        self.forgotten += job_ids


class Room:
    def __init__(self, dsn: str, pool: Pool, folder: Path) -> None:
        self.dsn, self.folder = dsn, folder
        self.blobs, self.store, self.work, self.ledger = Blobs(folder.as_uri()), Store(pool), Work(pool), Ledger()
        self.uploads = Uploads(self.store, self.blobs, 1 << 20)
        self.retention = Retention(pool, self.blobs, self.ledger, days=DAYS, stray_age=AGE)
        settings = JobsSettings(jwt_secret="of thirty-two bytes, and for tests", database_url=dsn, inline_bytes=100)
        discover()
        self.desk = Desk(self.store, self.blobs, settings)

    def sql(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as session:
            cursor = session.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    async def upload(self, name: str = "a.csv", old: bool = False) -> Upload:
        stored = await self.uploads.receive(OWNER, name, _once(b"name,price\n"), OPERATOR)
        if old:
            self.sql("UPDATE jobs.uploads SET created_at = created_at - interval '31 days' WHERE id = %s", stored.id)
        return stored

    def submission(self, blob: Blob | None = None) -> Submission:
        inline = b"[]" if blob is None else None
        limits, options = Limits(), InputOptions()
        return Submission(uuid7(), OWNER, "LoadProducts", b"{}", options, limits, 1, None, b"", inline, blob, PLAN)

    async def job(self, blob: Blob | None = None, *, ended: str | None = "31 days") -> str:
        """A job with rejects, ended so long ago; None: it runs."""
        job_id, _ = await self.store.submit(self.submission(blob))
        self.sql("UPDATE jobs.jobs SET state = 'RUNNING', started_at = created_at WHERE id = %s", job_id)
        if ended:
            await self.work.acknowledge([Receipt(BatchKey(job_id, 0), 9, 0, 0, 1, b"rejects", b"results", None)])
            self.sql("UPDATE jobs.jobs SET ended_at = ended_at - %s::interval WHERE id = %s", ended, job_id)
        return job_id

    def kept(self, job_id: str) -> bool:
        """Whether the job's input and rejects are there, all of them; or else nothing of them."""
        parts = self.sql(
            """SELECT inline_data IS NOT NULL OR blob_key IS NOT NULL, rejects <> '', results <> '', expired_at IS NULL
                 FROM jobs.jobs j JOIN jobs.receipts r ON r.job_id = j.id WHERE j.id = %s""",
            job_id,
        )[0]
        assert len(set(parts)) == 1, parts
        return bool(parts[0])

    def files(self) -> set[str]:
        return {f"{path.relative_to(self.folder)}" for path in self.folder.rglob("*") if path.is_file()}

    async def stray(self, key: str = STRAY, *, old: bool = False) -> str:
        """A blob that nothing refers to, on the list."""
        await self.blobs.put(key, _once(b"bytes"), 100)
        await self.retention.look_for_strays()
        if old:
            self.sql("UPDATE jobs.strays SET seen_at = seen_at - interval '2 hours'")
        return key


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
async def room(database: str, tmp_path: Path) -> AsyncIterator[Room]:
    await migrate(database, "jobs", Path("api/jobs/sql"))
    pool = await open_pool(database, name="test", size=8, timeout=10)
    room = Room(database, pool, tmp_path / "blobs")
    room.sql("UPDATE jobs.migrations SET applied_at = clock_timestamp() - interval '1 day'")
    yield room
    await pool.close()


async def test_inputs_and_rejects_go_when_their_time_is_over_and_counts_stay(room: Room) -> None:
    old, young = await room.job(), await room.job(ended="29 days")
    running = await room.job(ended=None)
    await room.retention.round()
    assert (room.kept(old), room.kept(young)) == (False, True)
    assert room.sql("SELECT inline_data IS NOT NULL FROM jobs.jobs WHERE id = %s", running) == [(True,)]
    assert room.ledger.forgotten == [old]
    job = await room.store.job(old, OWNER)
    assert job is not None
    assert (job.state, job.expired, job.total, job.tally.loaded, job.tally.rejected) == (State.PARTIAL, True, 10, 9, 1)


async def test_a_job_is_kept_until_products_has_forgotten_it(room: Room) -> None:
    job_id = await room.job()
    room.ledger.away = True
    with pytest.raises(Unavailable):
        await room.retention.round()
    assert room.kept(job_id)
    room.ledger.away = False
    await room.retention.round()
    assert not room.kept(job_id)


async def test_an_upload_goes_when_no_job_uses_it_any_more(room: Room) -> None:
    unused, fresh, used = await room.upload(old=True), await room.upload(), await room.upload(old=True)
    blob = Blob(used.blob_key, used.size, used.id)
    job_id, other = await room.job(blob), await room.job(blob, ended="1 day")
    await room.retention.round()
    assert not room.kept(job_id)
    assert room.kept(other)
    assert room.files() == {fresh.blob_key, used.blob_key}
    assert await room.store.upload(OWNER, unused.id) is None
    room.sql("UPDATE jobs.jobs SET ended_at = ended_at - interval '31 days' WHERE id = %s", other)
    await room.retention.round()
    assert room.files() == {fresh.blob_key}
    assert await room.store.upload(OWNER, used.id) is None


async def test_the_blob_of_a_plan_goes_with_the_last_job_that_reads_it(room: Room) -> None:
    key, recorded = f"plans/{uuid7()}", f"plans/{uuid7()}"
    job_id, other = await room.job(), await room.job(ended="1 day")
    await room.stray(key)
    await room.stray(recorded, old=True)  # its planner was killed, or another one was first
    room.sql("UPDATE jobs.jobs SET plan_blob = %s WHERE id = ANY (%s::uuid[])", key, [job_id, other])
    await room.retention.round()
    assert not room.kept(job_id)
    assert room.files() == {key}
    room.sql("UPDATE jobs.jobs SET ended_at = ended_at - interval '31 days' WHERE id = %s", other)
    await room.retention.round()
    assert room.files() == set()
    assert room.sql("SELECT count(*) FROM jobs.jobs WHERE plan_blob IS NOT NULL") == [(0,)]


async def test_an_upload_that_a_submission_holds_does_not_expire_under_it(room: Room) -> None:
    upload = await room.upload(old=True)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def submit() -> None:
        async with connection(room.store.pool) as session, session.transaction():
            await session.execute("SELECT 1 FROM jobs.uploads WHERE id = %s FOR KEY SHARE", [upload.id])
            reached.set()
            await go_on.wait()
            await session.execute(
                "INSERT INTO jobs.jobs (id, owner_id, name, args, input_options, payload_sha256, upload_id, blob_key, state)"
                " VALUES (%s, %s, 'LoadProducts', '', '', '', %s, %s, 'QUEUED')",
                [uuid7(), OWNER, upload.id, upload.blob_key],
            )

    submitting = asyncio.create_task(submit())
    await reached.wait()
    await room.retention.round()
    go_on.set()
    await submitting
    await room.retention.round()
    assert room.files() == {upload.blob_key}
    assert await room.store.upload(OWNER, upload.id) is not None


async def test_a_submission_that_comes_too_late_is_refused(room: Room) -> None:
    upload = await room.upload(old=True)
    with psycopg.connect(room.dsn) as session:
        wanted = {"days": DAYS, "most": 10}
        locked = [row[0] for row in session.execute(module.LOCK_UPLOADS.encode(), wanted).fetchall()]
        session.execute(module.EXPIRE_UPLOADS.encode(), {"ids": locked})
        submitting = asyncio.create_task(room.store.submit(room.submission(Blob(upload.blob_key, upload.size, upload.id))))
        await asyncio.sleep(0.3)
        assert not submitting.done()
    with pytest.raises(NotFound):
        await submitting


async def test_an_upload_that_came_into_use_after_it_was_chosen_stays(room: Room) -> None:
    upload = await room.upload(old=True)
    await room.job(Blob(upload.blob_key, upload.size, upload.id), ended=None)
    with psycopg.connect(room.dsn) as session:
        assert session.execute(module.EXPIRE_UPLOADS.encode(), {"ids": [upload.id]}).rowcount == 0
    assert await room.store.upload(OWNER, upload.id) is not None


async def test_a_stray_blob_goes_after_its_time_and_no_other_does(room: Room) -> None:
    upload = await room.upload()
    stray = await room.stray()
    await room.retention.round()
    assert room.files() == {upload.blob_key, stray}
    await room.stray(old=True)
    await room.stray(YOUNGER)
    await room.retention.round()
    assert room.files() == {upload.blob_key, YOUNGER}


async def test_what_others_keep_beside_our_blobs_is_theirs(room: Room) -> None:
    await room.stray("backups/of-somebody.gz", old=True)
    await room.retention.round()
    assert room.files() == {"backups/of-somebody.gz"}


async def test_a_blob_whose_row_comes_late_is_no_stray(room: Room) -> None:
    key = await room.stray(old=True)
    upload = Upload(uuid7(), OWNER, "late.csv", key, 5, b"", room.sql("SELECT clock_timestamp()")[0][0])  # type: ignore[arg-type]
    await room.store.add_upload(upload, OPERATOR)
    # In the same transaction: a sweeper that chose it before the commit, and locks it after, must find it gone.
    assert room.sql("SELECT count(*) FROM jobs.strays") == [(0,)]
    await room.retention.round()
    assert room.files() == {key}
    assert room.sql("SELECT count(*) FROM jobs.strays") == [(0,)]


async def test_no_row_is_made_for_a_blob_that_was_given_up(room: Room) -> None:
    key = await room.stray(old=True)
    await room.retention.round()
    upload = Upload(uuid7(), OWNER, "late.csv", key, 5, b"", room.sql("SELECT clock_timestamp()")[0][0])  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await room.store.add_upload(upload, OPERATOR)
    with pytest.raises(Unavailable):
        await room.store.submit(room.submission(Blob(key, 5)))
    assert room.sql("SELECT (SELECT count(*) FROM jobs.uploads) + (SELECT count(*) FROM jobs.jobs)") == [(0,)]


async def test_a_row_that_is_just_being_written_saves_its_blob(room: Room) -> None:
    key = await room.stray(old=True)
    with psycopg.connect(room.dsn) as session:
        session.execute("DELETE FROM jobs.strays WHERE blob_key = %s", [key])
        await room.retention.round()
        assert room.files() == {key}
        session.execute(
            "INSERT INTO jobs.uploads (id, owner_id, file_name, blob_key, bytes, sha256) VALUES (%s, %s, '', %s, 5, '')",
            [uuid7(), OWNER, key],
        )
    await room.retention.look_for_strays()
    await room.retention.round()
    assert room.files() == {key}
    assert room.sql("SELECT count(*) FROM jobs.strays") == [(0,)]


async def test_blobs_that_are_older_than_the_database_are_another_ones(room: Room) -> None:
    # A service was pointed at an empty database: every input in the bucket looks like a stray.
    made = int(time.time() * 1000) - 3_600_000
    old = f"uploads/{made >> 16:08x}-{made & 0xFFFF:04x}-7000-8000-000000000000"
    room.sql("UPDATE jobs.migrations SET applied_at = clock_timestamp() - interval '30 minutes'")
    assert await room.stray(old) == old
    new = await room.stray(f"uploads/{uuid7()}", old=True)
    assert room.sql("SELECT blob_key FROM jobs.strays") == [(new,)]
    await room.retention.round()
    assert room.files() == {old}


async def test_what_a_killed_sweeper_doomed_the_next_one_deletes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.stray(old=True)

    async def killed(key: str) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(room.blobs, "delete", killed)
        with pytest.raises(RuntimeError):
            await room.retention.round()
    await room.retention.round()
    assert room.files() == set()
    assert room.sql("SELECT deleted_at IS NOT NULL FROM jobs.strays") == [(True,)]
    room.sql("UPDATE jobs.strays SET deleted_at = deleted_at - interval '31 days'")
    await room.retention.round()
    assert room.sql("SELECT count(*) FROM jobs.strays") == [(0,)]


async def test_replicas_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOBS", "UPLOADS", "BLOBS"):
        monkeypatch.setattr(module, name, 3)
    jobs = [await room.job() for _ in range(10)]
    for number in range(10):
        await room.upload(f"{number}.csv", old=True)
    await asyncio.gather(*(room.retention.round() for _ in range(4)))
    assert not any(room.kept(job_id) for job_id in jobs)
    assert room.files() == set()
    assert room.sql("SELECT count(*) FROM jobs.uploads") == [(0,)]


@pytest.mark.parametrize("point", ["upload.after_commit", "submit.after_commit"])
async def test_a_lost_answer_to_commit_loses_no_blob(room: Room, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """The row is there, whatever who wrote it believes: its blob must be, too."""

    def fail(name: str) -> None:
        if name == point:
            raise Unavailable("the answer to COMMIT was lost")

    monkeypatch.setattr(faults, "point", fail)
    rows = b"[" + b",".join([b'{"name": "a", "price": 1}'] * 10) + b"]"
    act = room.upload() if point == "upload.after_commit" else room.desk.submit(Asked(OWNER, OPERATOR, "LoadProducts", rows))
    with pytest.raises(Unavailable):
        await act
    rowed = "SELECT blob_key FROM jobs.uploads UNION SELECT blob_key FROM jobs.jobs"
    assert {key for (key,) in room.sql(rowed)} == room.files() != set()


async def test_a_submission_that_is_refused_leaves_no_blob(room: Room) -> None:
    rows = b"[" + b",".join([b'{"name": "a", "price": 1}'] * 10) + b"]"
    await room.desk.submit(Asked(OWNER, OPERATOR, "LoadProducts", rows, idempotency_key="k"))
    before = room.files()
    await room.desk.submit(Asked(OWNER, OPERATOR, "LoadProducts", rows, idempotency_key="k"))
    with pytest.raises(Conflict):
        await room.desk.submit(Asked(OWNER, OPERATOR, "LoadProducts", rows.replace(b"1", b"2"), idempotency_key="k"))
    assert room.files() == before
