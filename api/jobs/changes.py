"""Who follows jobs hears of their changes: at once from this replica, by NOTIFY (notices.py) from the others.

What changed is read from the database, so that only committed progress is seen. A thousand followers of one job that wake
together share one reading of it.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from api.jobs.model import Job
from api.jobs.store import Store

#: Seconds after which a follower looks for itself and whether it still may: a replica that was killed between its commit and
#: its NOTIFY told nobody.
LOOK_EVERY = 2.0
#: Changed jobs that a slow follower of all jobs may have waiting; it is told of the latest.
MAX_WAITING = 10_000

#: Raises Unauthenticated once the follower has logged out, say.
Check = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class _Watch:
    """One job, as long as somebody follows it."""

    version: int = 0
    followers: set[asyncio.Event] = field(default_factory=set)
    #: By who may see it: the version and the moment at which the reading began.
    readings: dict[str | None, tuple[int, float, asyncio.Task[Job | None]]] = field(default_factory=dict)

    async def read(self, store: Store, job_id: str, sees: str | None) -> Job | None:
        """The job as it is after the latest change that was heard of."""
        now = asyncio.get_running_loop().time()
        version, began, task = self.readings.get(sees, (-1, 0.0, None))
        if task is None or version != self.version or now - began >= LOOK_EVERY / 2:
            task = asyncio.create_task(store.job(job_id, sees))
            self.readings[sees] = (self.version, now, task)
        # Shielded: one follower that leaves must not end the reading of the others.
        return await asyncio.shield(task)


@dataclass(slots=True, eq=False)
class _Inbox:
    """What a follower of all jobs was not told of yet, in the order of the changes."""

    awake: asyncio.Event = field(default_factory=asyncio.Event)
    changed: dict[str, None] = field(default_factory=dict)

    def put(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self.changed.pop(job_id, None)
            self.changed[job_id] = None
        while len(self.changed) > MAX_WAITING:
            del self.changed[next(iter(self.changed))]
        self.awake.set()


class Changes:
    """Wakes followers."""

    def __init__(self, tell: Callable[[Iterable[str]], None] = lambda _: None) -> None:
        #: Tells the other replicas.
        self.tell = tell
        self._watches: dict[str, _Watch] = {}
        self._inboxes: set[_Inbox] = set()

    def publish(self, job_ids: Iterable[str]) -> None:
        """These jobs may have been changed here; the change is committed."""
        ids = list(job_ids)
        self.heard(ids)
        self.tell(ids)

    def heard(self, job_ids: Iterable[str]) -> None:
        """These jobs may have been changed, here or elsewhere."""
        ids = list(job_ids)
        for job_id in ids:
            self._wake(job_id)
        for inbox in self._inboxes:
            inbox.put(ids)

    def heard_too_little(self) -> None:
        """Something may have been missed: everybody looks."""
        for job_id in self._watches:
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        watch = self._watches.get(job_id)
        if watch:
            watch.version += 1
            for follower in watch.followers:
                follower.set()

    async def follow(
        self, store: Store, job_id: str, sees: str | None, after_seq: int | None, check: Check
    ) -> AsyncGenerator[Job, None]:
        """The job at every change beyond `after_seq`; ends after its final state. Nothing when the caller may not see it.

        Raises what `check` raises, within LOOK_EVERY seconds.
        """
        awake = asyncio.Event()
        watch = self._watches.setdefault(job_id, _Watch())
        watch.followers.add(awake)
        try:
            seen = -1 if after_seq is None else after_seq
            while (job := await watch.read(store, job_id, sees)) is not None:
                await check()
                if job.seq > seen or job.state.terminal:
                    seen = job.seq
                    yield job
                if job.state.terminal:
                    return
                await _woken(awake)
        finally:
            watch.followers.discard(awake)
            if not watch.followers:
                self._watches.pop(job_id, None)

    async def follow_all(self, store: Store, sees: str | None, check: Check) -> AsyncIterator[Job]:
        """Every job that changes from now on and that the caller may see, in its state at that time; never ends.

        Raises what `check` raises, within LOOK_EVERY seconds.
        """
        inbox = _Inbox()
        self._inboxes.add(inbox)
        try:
            while True:
                await _woken(inbox.awake)
                await check()
                ids, inbox.changed = list(inbox.changed), {}
                for job in await store.jobs_by_id(ids, sees) if ids else ():
                    yield job
        finally:
            self._inboxes.discard(inbox)

    async def ticks(self, check: Check) -> AsyncGenerator[None, None]:
        """At once, and whenever some job may have changed since; at the latest after LOOK_EVERY seconds; never ends.

        Raises what `check` raises.
        """
        inbox = _Inbox()
        self._inboxes.add(inbox)
        try:
            while True:
                await check()
                inbox.changed.clear()
                yield
                await _woken(inbox.awake)
        finally:
            self._inboxes.discard(inbox)


async def _woken(awake: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_EVERY):
            await awake.wait()
    awake.clear()
