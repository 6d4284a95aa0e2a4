"""The dispatcher: publishes a bounded, fair window of planned batches, re-issues what was lost, closes what was cancelled.

Every replica of the jobs service runs one; rounds are serialised by an advisory lock, and any replica can do any round.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from api.jobs import metrics
from api.jobs.decide import choose, lost
from api.jobs.turn import Candidate, Ticket, Turn
from api.jobs.work import Staged, Work
from jobber import faults, tracing
from jobber.contract import Contract
from jobber.errors import JobberError, Transient
from jobber.job import JobType
from jobber.log import event
from jobber.model import BatchKey, Layout, Receipt, WriteMode, Writing
from jobber.targets import TARGETS
from jobber.transport import Message, Publisher

#: Seconds between two looks for what was lost. A look is one indexed query.
SWEEP_EVERY = 1.0
#: Owners of whom a replica remembers when it served them. Who is forgotten counts as never served, and goes first once.
REMEMBERED = 20_000


class Products(Protocol):
    """What the dispatcher needs of the products service."""

    async def charges(self) -> Mapping[str, str]:
        """Charge by category, as decimal text. Raises Unavailable."""

    async def close_job(self, job_id: str) -> Sequence[Receipt]:
        """Close the job for good; every receipt of it. Raises Unavailable."""

    async def publish_job(
        self, job_id: str, writing: Writing, columns: Sequence[str], allowed: int | None
    ) -> Sequence[Receipt] | str:
        """Make its staged rows visible; every receipt of it, or why the database refuses them. Raises Unavailable."""


class Dispatcher:
    """Keeps executors busy, one round at a time.

    `wake` after a submission, a plan or a receipt; without it the sweep finds the work within a second.
    """

    def __init__(
        self,
        work: Work,
        publisher: Publisher,
        products: Products,
        kinds: Mapping[str, JobType],
        *,
        window: int,
        job_window: int,
        changed: Callable[[set[str]], None],
    ) -> None:
        self._work = work
        self._publisher = publisher
        self._products = products
        self._kinds = kinds
        self._window = window
        self._job_window = job_window
        self._changed = changed
        self._awake = asyncio.Event()
        self._complete = asyncio.Event()
        #: Owners by the number of the turn that they had last, longest ago first. Each replica has its own: all are fair.
        self._served: dict[str, int] = {}
        self._turns = 0
        #: Jobs that this replica publishes now.
        self._publishing: set[str] = set()
        #: Seconds until a job with a rate has its next batch; found in the last rounds.
        self._paced: list[float] = []

    def wake(self) -> None:
        """There may be something to dispatch, to publish or to close."""
        self._awake.set()
        self._complete.set()

    async def run(self) -> None:
        """Dispatch, sweep and close until cancelled. What fails is logged and tried again: the rows are still there."""
        loops = (self._dispatch_for_ever(), self._sweep_for_ever(), self._publish_for_ever())
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _dispatch_for_ever(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            try:
                # A round takes all that it has room for: only a full one may have left something.
                while await self.round() >= self._window:
                    pass
                # Else the next sweep would let it out, up to a second late. Another replica's timers, or none, do no harm.
                for seconds in self._paced:
                    asyncio.get_running_loop().call_later(seconds, self._awake.set)
                self._paced.clear()
            except Exception as fault:
                _report("dispatch", fault)
                await asyncio.sleep(0.2)
                self._awake.set()

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception as fault:
                _report("sweep", fault)
            await asyncio.sleep(SWEEP_EVERY)

    async def _publish_for_ever(self) -> None:
        """Publications take seconds, and none waits for another one here: each is a task."""
        async with asyncio.TaskGroup() as group:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._complete.wait(), SWEEP_EVERY)
                self._complete.clear()
                try:
                    for item in await self._work.publishable():
                        if item.job_id not in self._publishing:
                            self._publishing.add(item.job_id)
                            group.create_task(self._publish_guarded(item))
                except Exception as fault:
                    _report("publish", fault)

    async def _publish_guarded(self, item: Staged) -> None:
        try:
            await self.publish(item)
        except Exception as fault:
            _report("publish", fault)
        finally:
            self._publishing.discard(item.job_id)

    async def round(self) -> int:
        """Dispatch once; answer how many messages were published."""
        async with self._work.dispatching() as turn:
            tickets = await turn.issue_plans(self._window)
            found, outstanding = await turn.candidates(self._window)
            lookups = await self._lookups(turn, found)
            ready = [item.hungry for item in found if item.has_lookups or item.hungry.job_id in lookups]
            room = self._window - outstanding
            chosen = choose(ready, room=room, job_window=self._job_window, served=self._served)
            if chosen:
                self._remember({item.job_id: item.owner_id for item in ready}, chosen)
                upto = {job_id: number + 1 for job_id, number in chosen}  # a job's batches come in order: the last one counts
                started = await turn.start(upto, {job: lookups[job] for job in upto if job in lookups})
                tickets += await turn.issue([item for item in chosen if item[0] in started])
                self._paced += [seconds for seconds in started.values() if seconds > 0]
            if tickets:
                faults.point("dispatch.before_commit")
        if tickets:
            faults.point("dispatch.after_commit")
        await self._publish(tickets)
        return len(tickets)

    def _remember(self, owners: Mapping[str, str], chosen: Sequence[tuple[str, int]]) -> None:
        """It is no matter when the round fails: its owners are served a little later."""
        for job_id, _ in chosen:
            self._turns += 1
            self._served.pop(owners[job_id], None)
            self._served[owners[job_id]] = self._turns
        while len(self._served) > REMEMBERED:
            del self._served[next(iter(self._served))]

    async def sweep(self) -> None:
        """Re-issue what was lost, close what waits for it, and dispatch what no wake-up told of."""
        async with self._work.dispatching() as turn:
            again = lost(await turn.outstanding())
            tickets = await turn.issue(again) if again else []
            if tickets:
                faults.point("sweep.before_commit")
        if tickets:
            faults.point("sweep.after_commit")
            metrics.REISSUED.inc(len(tickets))
            event("reissued", "Lost batches were published again.", level=logging.WARNING, count=len(tickets))
            await self._publish(tickets)
        await self.close_jobs()
        self._awake.set()

    async def publish(self, item: Staged) -> None:
        """Make a job's staged rows visible, and end it with all its receipts. Raises Unavailable."""
        receipts: Sequence[Receipt] | None = None
        if item.writing.mode is not WriteMode.INSERT or not item.writing.dry_run:
            columns = written(self._kinds[item.name], item.layout) if item.writing.keys else ()
            answer = await self._products.publish_job(item.job_id, item.writing, columns, item.allowed)
            faults.point("publish.after_answer")
            if isinstance(answer, str):
                await self._work.fail(BatchKey(item.job_id, 0), f"REFUSED: {answer}")
                self._awake.set()
                return
            receipts = answer
        await self._work.published(item.job_id, receipts)
        self._changed({item.job_id})
        self._awake.set()

    async def close_jobs(self) -> None:
        """Close in products every job that is CANCELING, and end it with all its receipts."""
        for job_id, name, dispatched in await self._work.closing():
            kind = self._kinds.get(name)
            receipts: Sequence[Receipt] = ()
            if dispatched and (kind is None or kind.target is not None):
                try:
                    receipts = await self._products.close_job(job_id)
                except Transient as fault:
                    _report("close", fault)
                    continue
            if await self._work.closed(job_id, receipts):
                event("job_closed", "A job was closed with all its receipts.", job=job_id, receipts=len(receipts))
            self._changed({job_id})

    async def _lookups(self, turn: Turn, found: Sequence[Candidate]) -> dict[str, int]:
        """Freeze reference data for the jobs that are about to start; those that need data we cannot get now wait."""
        fresh = [item for item in found if not item.has_lookups]
        if not fresh:
            return {}
        needed = {name: self._kinds[name].lookups if name in self._kinds else () for name in {item.name for item in fresh}}
        data: dict[str, Mapping[str, str]] = {}
        if any("charges" in names for names in needed.values()):
            try:
                data["charges"] = await self._products.charges()
            except Transient as fault:
                _report("lookups", fault)
        ids: dict[tuple[str, ...], int] = {}
        answer = {}
        for item in fresh:
            names = tuple(sorted(needed[item.name]))
            if any(name not in data for name in names):
                continue
            if names not in ids:
                body = msgspec.json.encode({name: dict(sorted(data[name].items())) for name in names})
                ids[names] = await turn.keep_lookups(hashlib.sha256(body).digest(), body)
            answer[item.hungry.job_id] = ids[names]
        return answer

    async def _publish(self, tickets: Sequence[Ticket]) -> None:
        """Publish after the commit. What a crash leaves out here stays dispatched and unclaimed: the sweep finds it."""
        if not tickets:
            return
        spans = [_span(item) for item in tickets]
        messages = [
            Message(f"{item.name}.{item.lane}", body(item), tracing.properties(span.parents))
            for item, span in zip(tickets, spans, strict=True)
        ]
        try:
            await self._publisher.publish(messages)
            for lane, count in Counter(item.lane for item in tickets).items():
                metrics.DISPATCHED.labels(lane).inc(count)
                event("dispatched", "Messages were published.", level=logging.DEBUG, lane=lane, count=count)
            faults.point("dispatch.after_publish")
        except Transient:
            metrics.UNPUBLISHED.inc(len(tickets))
            faults.point("dispatch.unpublished")
            for span in spans:
                span.fail("the transport did not take it")
            await self._work.unpublished(tickets)
            raise
        finally:
            for span in spans:
                span.end()


def written(kind: JobType, layout: bytes) -> list[str]:
    """The target's columns that the job writes to a row that is there: those that its input lacks stay as they are."""
    contract, fields = Contract.of(kind.contract), msgspec.json.decode(layout, type=Layout).fields
    target = Contract.of(TARGETS[kind.target or ""])
    return [item.name for item in target.columns if contract.column(item.name) is None or item.name in fields]


def body(ticket: Ticket) -> bytes:
    """The message of a dispatch: a reference to work, never the work itself."""
    return msgspec.json.encode({"job_id": ticket.job_id, "batch_no": ticket.batch_no, "dispatch_no": ticket.dispatch_no})


def _span(ticket: Ticket) -> tracing.Span:
    """A dispatch, in its job's trace."""
    if ticket.traceparent is None:
        return tracing.NONE
    return tracing.begin(
        "dispatch",
        [ticket.traceparent],
        kind="producer",
        job=ticket.job_id,
        batch=ticket.batch_no,
        dispatch=ticket.dispatch_no,
    )


def _report(step: str, fault: Exception) -> None:
    """What the next round can mend is a warning; anything else is a bug and keeps its trace."""
    if isinstance(fault, JobberError):
        event("unavailable", f"{step} has to wait: {fault.message}", level=logging.WARNING, step=step)
    else:
        event("bug", f"{step} failed.", level=logging.ERROR, error=fault, step=step)
