"""Who follows a job hears of its changes: at once from this replica, within a second from the others."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable

from api.jobs.model import Job
from api.jobs.store import Store

#: Seconds after which a follower looks for itself: another replica may have stored a receipt.
LOOK_EVERY = 1.0


class Changes:
    """Wakes the followers of a job; what changed they read from the database, so that only committed progress is seen."""

    def __init__(self) -> None:
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def publish(self, job_ids: Iterable[str]) -> None:
        """These jobs may have changed."""
        for job_id in job_ids:
            for follower in self._followers.get(job_id, ()):
                follower.set()

    async def follow(self, store: Store, job_id: str, sees: str | None, after_seq: int | None) -> AsyncIterator[Job]:
        """The job at every change beyond `after_seq`; ends after its final state. Nothing when the caller may not see it."""
        awake = asyncio.Event()
        self._followers[job_id].add(awake)
        try:
            seen = -1 if after_seq is None else after_seq
            while (job := await store.job(job_id, sees)) is not None:
                if job.seq > seen or job.state.terminal:
                    seen = job.seq
                    yield job
                if job.state.terminal:
                    return
                try:
                    async with asyncio.timeout(LOOK_EVERY):
                        await awake.wait()
                except TimeoutError:
                    pass
                awake.clear()
        finally:
            self._followers[job_id].discard(awake)
            if not self._followers[job_id]:
                del self._followers[job_id]
