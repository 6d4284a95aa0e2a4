"""The jobs room on real PostgreSQL, with a broker and a products service that tests hold in their hands."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.database import Pool, open_pool
from api.jobs.decide import Limits
from api.jobs.dispatch import Dispatcher
from api.jobs.model import Submission
from api.jobs.store import Store
from api.jobs.work import Work
from api.migrate import migrate
from jobber.errors import Unavailable
from jobber.ids import uuid7
from jobber.job import Args, JobType
from jobber.model import BatchKey, Format, InputOptions, Layout, Plan, PlannedBatch, Receipt, State, Writing
from jobber.transport import Message

OWNER, OTHER = uuid7(), uuid7()
ROWS = 10


class LoadProducts(Args, frozen=True):
    target = "products"
    lookups = ("charges",)


NO_LIMITS = Limits()
KINDS = {"LoadProducts": JobType("LoadProducts", (), "", "1", LoadProducts)}


class Broker:
    """Remembers what was published; can be away."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.away = False

    async def publish(self, messages: object) -> None:
        if self.away:
            raise Unavailable
        self.messages.extend(messages)  # type: ignore[arg-type]

    async def close(self) -> None:
        return None


class Warehouse:
    """Answers charges and closes jobs, as products does; remembers its ledger."""

    def __init__(self) -> None:
        self.ledger: dict[BatchKey, Receipt] = {}
        self.closed: set[str] = set()
        #: How the last publication was asked for, and why the database refuses it.
        self.asked: object = None
        self.refusal = ""
        self.away = False

    async def charges(self) -> dict[str, str]:
        if self.away:
            raise Unavailable
        return {"Books": "1.50"}

    async def close_job(self, job_id: str) -> list[Receipt]:
        if self.away:
            raise Unavailable
        self.closed.add(job_id)
        return [receipt for key, receipt in self.ledger.items() if key.job_id == job_id]

    async def publish_job(
        self, job_id: str, writing: Writing, columns: Sequence[str], allowed: int | None
    ) -> list[Receipt] | str:
        if self.away:
            raise Unavailable
        self.asked = (writing, tuple(columns), allowed)
        for key, staged in self.ledger.items():
            if key.job_id == job_id:
                self.ledger[key] = replace(staged, inserted=staged.inserted + staged.staged, staged=0)
        return self.refusal or [receipt for key, receipt in self.ledger.items() if key.job_id == job_id]


class Room:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.store, self.work, self.broker, self.products = Store(pool), Work(pool), Broker(), Warehouse()
        self.changed: list[str] = []
        self.dispatcher = Dispatcher(
            self.work, self.broker, self.products, KINDS, window=20, job_window=4, changed=self.changed.extend
        )

    async def submit(
        self,
        batches: int | None = 1,
        *,
        key: str | None = None,
        payload: bytes = b"p",
        owner: str = OWNER,
        limits: Limits = NO_LIMITS,
    ) -> str:
        """Store a job of so many batches; None: it has to be planned."""
        return (await self.store.submit(self.asked(batches, key=key, payload=payload, owner=owner, limits=limits)))[0]

    def asked(
        self,
        batches: int | None = 1,
        *,
        key: str | None = None,
        payload: bytes = b"p",
        owner: str = OWNER,
        limits: Limits = NO_LIMITS,
    ) -> Submission:
        """The submission of such a job."""
        digest = hashlib.sha256(payload).digest()
        plan = None if batches is None else plan_of(batches)
        return Submission(
            uuid7(), owner, "LoadProducts", b"{}", InputOptions(), limits, 1, key, digest, inline=b"[]", plan=plan
        )

    async def dispatched(self) -> list[tuple[BatchKey, int]]:
        import msgspec

        await self.dispatcher.round()
        taken = [msgspec.json.decode(message.body) for message in self.broker.messages if ".plan" not in message.topic]
        self.broker.messages.clear()
        return [(BatchKey(item["job_id"], item["batch_no"]), item["dispatch_no"]) for item in taken]

    async def state(self, job_id: str) -> State:
        job = await self.store.job(job_id, None)
        assert job is not None
        return job.state

    async def later(self, seconds: float) -> None:
        """Let the database's clock have gone on, as far as batches can tell."""
        async with self.pool.connection() as connection:
            await connection.execute(
                "UPDATE jobs.batches SET dispatched_at = dispatched_at - %s * interval '1 s',"
                " claimed_at = claimed_at - %s * interval '1 s'",
                [seconds, seconds],
            )


def plan_of(batches: int) -> Plan:
    return Plan(
        Layout(format=Format.JSON),
        tuple(PlannedBatch(i * 100, 100, i * ROWS + 1, ROWS, b"\1" * 32) for i in range(batches)),
    )


def receipt(key: BatchKey, rejected: int = 0) -> Receipt:
    return Receipt(key, ROWS - rejected, 0, 0, rejected, b"x" if rejected else b"", b"", datetime.now(UTC))


@pytest.fixture
async def room(database: str) -> AsyncIterator[Room]:
    await migrate(database, "jobs", Path("api/jobs/sql"))
    pool = await open_pool(database, name="test", size=8, timeout=10)
    yield Room(pool)
    await pool.close()
