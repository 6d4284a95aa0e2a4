"""The bulk write: groups of batches wait for a COPY session; what waits together is committed together.

    Load call ──┐ small ─┐
    Load call ──┤        ├──► a worker per session ──► one transaction ──► outcomes, to each call its own
    Load call ──┘ large ─┘

Small groups that wait are put into one transaction: under load a commit costs as much as thousands of rows. Small and large
ones take turns, so that a ten-row job never waits for more than the group that is being written.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from api.products import metrics
from api.products.ledger import Ledger
from api.products.model import Batch, DataRefused, GroupTooLarge, Outcome, Overloaded, Refused, TryAgain
from jobber import tracing
from jobber.errors import Unavailable
from jobber.log import event
from jobber.model import BatchKey, Receipt

#: A group of at most so many bytes may share a transaction, which takes groups up to COMBINED_BYTES. COPY is at its full speed
#: from 5,000 rows on, some 1 MB.
SMALL_BYTES, COMBINED_BYTES = 512 << 10, 4 << 20
#: Bytes that one call may bring, and the part of them that comes back in its answer: gRPC's limit is 64 MiB for each message.
GROUP_BYTES, GROUP_REJECTS_BYTES = 64 << 20, 48 << 20
#: Bytes of all calls together, arriving and waiting; some eight seconds of COPY.
WAITING_BYTES = 192 << 20
#: Times that a transaction is tried which the database undid in favour of another.
TRIES = 6


class Budget:
    """Memory for what arrives and waits: taken by bytes, given back when the call ends."""

    def __init__(self, limit: int = WAITING_BYTES, group: int = GROUP_BYTES) -> None:
        self.limit = limit
        self.group = group
        self.used = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """What one call uses."""
        share = Share(self)
        try:
            yield share
        finally:
            share.add(-share.used)

    def _take(self, share: "Share", size: int) -> None:
        if share.used + size > self.group:
            raise GroupTooLarge(f"A group may have {self.group:,} bytes; send fewer batches in one call.")
        if size > 0 and self.used + size > self.limit:
            raise Overloaded
        share.used += size
        self.used += size
        metrics.WAITING.set(self.used)


class Share:
    """Bytes that one call holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.used = 0

    def add(self, size: int) -> None:
        """Hold so many more, or fewer when negative. Raises GroupTooLarge, Overloaded."""
        self._budget._take(self, size)


@dataclass(slots=True, eq=False)
class _Group:
    """A call that waits."""

    batches: Sequence[Batch]
    size: int
    outcomes: "asyncio.Future[dict[BatchKey, Outcome]]"
    #: The caller's spans.
    traces: Sequence[str]


class Loader:
    """Writes groups, `sessions` transactions at once."""

    def __init__(self, ledger: Ledger, sessions: int) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._small: deque[_Group] = deque()
        self._large: deque[_Group] = deque()
        self._large_next = False
        self._workers: set[asyncio.Task[None]] = set()

    async def load(self, batches: Sequence[Batch]) -> list[Outcome]:
        """What became of each batch, in order, once that is durable; the first of equal keys counts for all.

        A caller that is cancelled before its turn leaves nothing behind; one in its turn cannot stop it any more. Raises
        Unavailable and its kind: ask again, what was written already then answers its receipt.
        """
        size = sum(batch.size for batch in batches)
        group = _Group(batches, size, asyncio.get_running_loop().create_future(), tracing.current())
        (self._small if size <= SMALL_BYTES else self._large).append(group)
        if len(self._workers) < self._sessions:
            self._workers.add(asyncio.create_task(self._work(), name="copy session"))
        outcomes = await group.outcomes
        return [outcomes[batch.key] for batch in batches]

    async def drain(self) -> None:
        """Answer when all that waits is written."""
        while self._workers:
            await asyncio.wait(self._workers)

    async def _work(self) -> None:
        """Be one session, until nothing waits."""
        while groups := self._next():
            batches: dict[BatchKey, Batch] = {}
            for group in groups:
                for batch in group.batches:
                    batches.setdefault(batch.key, batch)
            try:
                with tracing.span("commit", [parent for group in groups for parent in group.traces], batches=len(batches)):
                    outcomes = await self._settle(list(batches.values()))
            except Exception as fault:
                for group in groups:
                    if not group.outcomes.done():
                        group.outcomes.set_exception(fault)
            else:
                for group in groups:
                    if not group.outcomes.done():
                        group.outcomes.set_result(outcomes)
        # At once, not in a callback: a group that comes in between would take it for a worker and wait for ever.
        self._workers.discard(asyncio.current_task())

    def _next(self) -> list[_Group]:
        """The groups of the next transaction; those whose caller has gone are dropped."""
        for line in (self._small, self._large):
            while line and line[0].outcomes.cancelled():
                line.popleft()
        if self._large and (self._large_next or not self._small):
            self._large_next = False
            return [self._large.popleft()]
        self._large_next = True
        groups: list[_Group] = []
        size = 0
        while self._small and size + self._small[0].size <= COMBINED_BYTES:
            group = self._small.popleft()
            if not group.outcomes.cancelled():
                groups.append(group)
                size += group.size
        return groups

    async def _settle(self, batches: Sequence[Batch]) -> dict[BatchKey, Outcome]:
        """Write the batches; when the database refuses the data, find the guilty ones by halves, and load all others."""
        try:
            outcomes = await self._write(batches)
        except DataRefused as fault:
            if len(batches) == 1:
                key = batches[0].key
                metrics.BATCHES.labels("refused").inc()
                return {key: Refused(key, f"The database refused batch {key.batch_no}: {fault}.")}
            why = f"The database refused the data of a group of {len(batches)}, which is loaded in parts: {fault}"
            event("load_retried", why, level=logging.WARNING, batches=len(batches))
            half = len(batches) // 2
            return await self._settle(batches[:half]) | await self._settle(batches[half:])
        for outcome in outcomes.values():
            metrics.BATCHES.labels("receipt" if isinstance(outcome, Receipt) else "closed").inc()
        return outcomes

    async def _write(self, batches: Sequence[Batch]) -> dict[BatchKey, Outcome]:
        began = time.monotonic()
        for tried in range(1, TRIES + 1):
            try:
                outcomes = await self._ledger.write(batches)
            except TryAgain as fault:
                if tried == TRIES:
                    raise Unavailable("The database is too busy for this group; try again in a moment.") from fault
                # Both sides of a deadlock come again: not at the same time.
                await asyncio.sleep(random.uniform(0, 0.02 * 2**tried))
            else:
                seconds = time.monotonic() - began
                rows = sum(batch.header.rows for batch in batches)
                metrics.COMMIT_SECONDS.observe(seconds)
                event("loaded", "Committed a group.", level=logging.DEBUG, batches=len(batches), rows=rows, seconds=seconds)
                return {**outcomes}
        raise AssertionError("not reached")
