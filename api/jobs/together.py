"""Submissions that are in flight at once share a commit: an fsync costs as much as a hundred rows.

    a ──► one group ── commit ──► a answered
      b, c, d wait ─► one group ── commit ──► b, c, d answered

Nobody waits for company: a group begins as soon as the one before has ended, or takes long.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psycopg

from api.jobs.model import Submission
from api.jobs.submit import Stored
from jobber.errors import Conflict, RateLimited, Unavailable

#: Submissions, and bytes of input, of one group at most.
GROUP, GROUP_BYTES = 256, 8 << 20
#: Submissions that may wait; more are told to come again.
WAITING = 4096
#: Seconds after which a group no longer keeps others from beginning: it waits for a lock, of a process that was stopped, say.
LATE = 0.05
#: Groups at once, at most.
GROUPS = 4
#: Seconds that a submission waits for its answer; a connection of the pool is waited for for 8.
PATIENCE = 20.0

Store = Callable[[Sequence[Submission]], Awaitable[Sequence[Stored | Conflict]]]


@dataclass(slots=True, eq=False)
class _Waiting:
    asked: Submission
    outcome: "asyncio.Future[Stored]"

    def end(self, outcome: Stored | BaseException) -> None:
        if self.outcome.done():
            return
        if isinstance(outcome, BaseException):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)


class Together:
    """Stores submissions in groups."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[_Waiting] = deque()
        self._groups: set[asyncio.Task[None]] = set()

    async def submit(self, asked: Submission) -> Stored:
        """Answer once it is durable.

        Raises what storing it alone would raise; RateLimited when too many wait.
        """
        if len(self._waiting) >= WAITING:
            raise RateLimited("Too many submissions wait to be stored; come again in a moment.", retry_after=1)
        mine = _Waiting(asked, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if not self._groups:
            self._begin()
        try:
            async with asyncio.timeout(PATIENCE):
                return await mine.outcome
        except TimeoutError as fault:
            raise Unavailable("The database does not answer; try again in a moment.") from fault

    def _begin(self) -> None:
        if self._waiting and len(self._groups) < GROUPS:
            task = asyncio.create_task(self._work(), name="submissions")
            self._groups.add(task)
            task.add_done_callback(self._groups.discard)

    async def _work(self) -> None:
        """Store group after group, until nobody waits."""
        while group := self._next():
            late = asyncio.get_running_loop().call_later(LATE, self._begin)
            try:
                await self._settle(group)
            finally:
                late.cancel()
        # At once, not in the callback: who comes in between would take this for a group that goes on.
        task = asyncio.current_task()
        assert task is not None
        self._groups.discard(task)

    def _next(self) -> list[_Waiting]:
        """Those that go next; whose caller has gone is dropped."""
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < GROUP:
            mine = self._waiting[0]
            size += len(mine.asked.inline or b"")
            if group and size > GROUP_BYTES:
                break
            self._waiting.popleft()
            if not mine.outcome.done():
                group.append(mine)
        return group

    async def _settle(self, group: Sequence[_Waiting]) -> None:
        try:
            outcomes = await self._store([mine.asked for mine in group])
        except psycopg.Error as fault:
            # The database does not take the data of one of them: the others must not suffer for it. Nothing was stored.
            if len(group) == 1:
                group[0].end(fault)
            for mine in group if len(group) > 1 else ():
                await self._settle([mine])
        except BaseException as fault:
            for mine in group:
                mine.end(fault if isinstance(fault, Exception) else Unavailable("The service stops; send it again."))
            if not isinstance(fault, Exception):
                raise
        else:
            for mine, outcome in zip(group, outcomes, strict=True):
                mine.end(outcome)
