"""What one replica of the jobs service tells the others: which jobs changed, by PostgreSQL's NOTIFY.

Never inside the transaction that does the work: commits of transactions that notify wait for each other. It is told after
the commit, many jobs at once. What gets lost (a replica that was killed in between, a connection that broke) the followers
find by looking for themselves now and then.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable

import psycopg

from api.database import SESSION, Pool, connection
from jobber.errors import Transient
from jobber.log import event

CHANNEL = "jobber_jobs_changed"
#: Seconds for which changes are gathered: at most so many NOTIFYs a second, however many jobs change.
GATHER = 0.03
#: PostgreSQL takes 8,000 bytes; an id has 36 and a comma.
MOST_IDS = 200
#: Seconds before a lost connection is tried again.
RETRY = 1.0


class Notices:
    """Tells, and listens."""

    def __init__(
        self, pool: Pool, dsn: str, *, heard: Callable[[Iterable[str]], None], heard_too_little: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._dsn = dsn
        self._heard = heard
        self._heard_too_little = heard_too_little
        #: What comes back from ourselves we know.
        self._me = uuid.uuid4().hex[:12]
        self._waiting: dict[str, None] = {}
        self._awake = asyncio.Event()

    def tell(self, job_ids: Iterable[str]) -> None:
        """These jobs changed, and it is committed."""
        self._waiting.update(dict.fromkeys(job_ids))
        if self._waiting:
            self._awake.set()

    async def run(self) -> None:
        """Tell and listen until cancelled."""
        tasks = [asyncio.create_task(self._tell_for_ever()), asyncio.create_task(self._listen_for_ever())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell_for_ever(self) -> None:
        while True:
            await self._awake.wait()
            await asyncio.sleep(GATHER)
            self._awake.clear()
            ids, self._waiting = list(self._waiting), {}
            try:
                for start in range(0, len(ids), MOST_IDS):
                    await self._notify(ids[start : start + MOST_IDS])
            except (Transient, psycopg.Error):
                # Followers look for themselves meanwhile; what is told late is told for nothing.
                await asyncio.sleep(RETRY)

    async def _notify(self, ids: list[str]) -> None:
        async with connection(self._pool) as session, session.transaction():
            # Nothing that has to be durable: no fsync for it.
            await session.execute("SET LOCAL synchronous_commit = off")
            await session.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"{self._me}:{','.join(ids)}"])

    async def _listen_for_ever(self) -> None:
        while True:
            with contextlib.suppress(psycopg.Error, OSError):
                await self._listen()
            event("unavailable", "The connection that listens for changes is lost.", level=logging.WARNING, what="notices")
            await asyncio.sleep(RETRY)

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, application_name="jobber-jobs-notices", **SESSION
        ) as session:
            await session.execute(f"LISTEN {CHANNEL}")
            self._heard_too_little()  # of what changed while nobody listened
            async for notice in session.notifies():
                sender, _, ids = notice.payload.partition(":")
                if sender != self._me:
                    self._heard(ids.split(","))
