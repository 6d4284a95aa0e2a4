"""What rules do, alone or at once: each asks the shipped code, enters what it learned in the book, and judges the answer."""

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import psycopg

from api.audit import OPERATOR
from api.jobs.model import Upload
from api.jobs.work import Claimed
from api.products.load import Loader
from api.products.model import Batch, Closed, Refused
from jobber.errors import Conflict, InvalidState, NotFound, Transient
from jobber.model import BatchKey, Receipt, State
from jobber.transport import Message
from tests.state_machine.book import Asked, Book, Input, Outcome
from tests.state_machine.promises import EMPTY, Snapshot, need
from tests.state_machine.world import World

Act = Callable[["Acts", int], Coroutine[Any, Any, None]]


class Acts:
    """Everybody around the SQL."""

    RACERS: ClassVar[Mapping[str, Act]]

    def __init__(self, world: World) -> None:
        self.world = world
        self.book = Book()
        #: The rows before this step.
        self.seen: Snapshot = EMPTY
        #: What executors hold, also those that everybody gave up.
        self.planners: list[tuple[str, int]] = []
        self.attempts: list[Claimed] = []
        self.receipts: list[Receipt] = []
        self.uploads: list[str] = []
        self._numbers = 0

    def expect(self, answer: object) -> None:
        """Raises what is neither an answer nor an error that the fault explains."""
        if isinstance(answer, BaseException) and not isinstance(answer, Transient | InvalidState):
            raise answer

    # People.

    def _new_id(self) -> str:
        self._numbers += 1
        return f"{self._numbers:08x}-0000-7000-8000-000000000000"

    def new_job(self, owner: str, key: str | None, given: Input, upload: int) -> Asked:
        """A job nobody asked for before; one that is to be planned may have its input in an upload."""
        asked = Asked(self._new_id(), owner, key, f"payload {self._numbers}", given)
        if given.cut is None and self.uploads and upload % 2:
            asked.upload = self.uploads[upload % len(self.uploads)]
        return asked

    def keyed(self) -> list[Asked]:
        """Jobs that were asked for with a key."""
        return [asked for asked in self.book.asked.values() if asked.key is not None]

    def same_job(self, pick: int, *, other: bool) -> Asked:
        """Another asking under a used key."""
        like = self.keyed()[pick % len(self.keyed())]
        return Asked(self._new_id(), like.owner, like.key, f"{like.payload}{'!' if other else ''}", like.input, like.upload)

    async def submit(self, asked: Asked) -> None:
        """Store.submit."""
        book = self.book
        book.asked[asked.job_id] = asked
        if asked.input.cut is not None:
            book.plans[asked.job_id].append(asked.input.plan(asked.input.cut))
        slot = (asked.owner, asked.key or "")
        try:
            job_id, replayed = await self.world.store.submit(asked.submission())
        except Conflict:
            there = next((job for job in self.seen.jobs.values() if (job.owner, job.key) == slot), None)
            rivals = [item for item in self.keyed() if (item.owner, item.key) == slot and item.payload != asked.payload]
            need(bool(rivals) and asked.key is not None, "I3", "a conflict with nothing")
            need(there is None or there.payload != asked.submission().payload_sha256, "I3", "a conflict with itself")
            return
        except NotFound:
            need(asked.upload is not None and asked.upload not in self.uploads, "I3", "an upload that is there was not found")
            return
        known = book.keys.get(slot) if asked.key else None
        need(replayed == (job_id != asked.job_id), "I3", f"{job_id} was said to be new: {not replayed}")
        need(known is None or known[0] == job_id, "I3", f"one key gave {known} and {job_id}")
        need(book.asked[job_id].payload == asked.payload, "I3", "another payload under the same key was taken")
        book.asked[job_id].answered = True
        if asked.key is not None:
            book.keys[slot] = (job_id, asked.payload)

    async def add_upload(self) -> None:
        """Store.add_upload."""
        upload_id = self._new_id()
        made = Upload(upload_id, upload_id, "file", f"uploads/{upload_id}", 1, b"", datetime.now(UTC))
        await self.world.store.add_upload(made, OPERATOR)
        self.uploads.append(upload_id)

    async def expire(self, pick: int) -> None:
        """An upload that no job needs goes."""
        if not self.uploads:
            return
        gone = self.uploads.pop(pick % len(self.uploads))
        async with self.world.pool.connection() as session:
            try:
                await session.execute("DELETE FROM jobs.uploads WHERE id = %s", [gone])
            except psycopg.errors.ForeignKeyViolation:
                self.uploads.append(gone)

    def job_id(self, pick: int) -> str:
        """One of the jobs, rather a late one."""
        ids = sorted(self.seen.jobs, reverse=True)
        return ids[pick % len(ids)]

    async def act(self, verb: Callable[[str, None], Coroutine[Any, Any, object]], job_id: str) -> object:
        """Steer a job; a state that does not allow it is an answer."""
        try:
            return await verb(job_id, None)
        except InvalidState as fault:
            return fault

    async def cancel(self, pick: int) -> None:
        """Store.cancel."""
        job_id = self.job_id(pick)
        self.book.canceled.add(job_id)
        await self.act(self.world.store.cancel, job_id)

    async def cancel_and_close(self, pick: int) -> None:
        """As the mutation: once it answers CANCELED the job is done with."""
        await self.cancel(pick)
        await self.close(0)
        job = await self.world.store.job(self.job_id(pick), None)
        if job is not None and job.state is State.CANCELED:
            self.book.done.add(job.id)

    async def pause(self, pick: int) -> None:
        """Store.pause."""
        self.book.paused.add(self.job_id(pick))
        await self.act(self.world.store.pause, self.job_id(pick))

    async def resume(self, pick: int) -> None:
        """Store.resume."""
        await self.act(self.world.store.resume, self.job_id(pick))

    # The dispatcher.

    async def dispatch(self, pick: int) -> None:
        """Dispatcher.round."""
        await self.world.dispatcher.round()

    async def sweep(self, pick: int) -> None:
        """Dispatcher.sweep."""
        await self.world.dispatcher.sweep()

    async def close(self, pick: int) -> None:
        """Dispatcher.close_jobs."""
        await self.world.dispatcher.close_jobs()

    async def publish(self, pick: int) -> None:
        """Dispatcher.publish, of all that wait for it."""
        for item in await self.world.work.publishable():
            await self.world.dispatcher.publish(item)

    # Executors.

    def take(self, picks: Sequence[int], *, keep: bool) -> list[dict[str, Any]]:
        """Messages of the transport, decoded; `keep`: they come again."""
        messages = self.world.transport.messages
        if not messages:
            return []
        taken: dict[int, Message] = {pick % len(messages): messages[pick % len(messages)] for pick in picks}
        if not keep:
            self.world.transport.messages = [item for place, item in enumerate(messages) if place not in taken]
        return [json.loads(message.body) for message in taken.values()]

    async def deliver(self, picks: Sequence[int], *, keep: bool) -> None:
        """An executor gets messages and claims what they name."""
        bodies = self.take(picks, keep=keep)
        await self.claim([(BatchKey(b["job_id"], b["batch_no"]), b["dispatch_no"]) for b in bodies if b["batch_no"] >= 0])
        for body in bodies:
            if body["batch_no"] < 0:
                await self.claim_plan(body["job_id"], body["dispatch_no"])

    async def forge(self, pick: int, ahead: int) -> None:
        """A message that names another dispatch than the last."""
        key = self._batch(pick)
        await self.claim([(key, self.seen.batches[key].dispatch_no + ahead)])

    async def claim(self, dispatches: Sequence[tuple[BatchKey, int]]) -> None:
        """Work.claim, which hands out what is current and nothing else."""
        claimed, specs = await self.world.work.claim(dispatches)
        self.attempts += claimed
        need({spec.job_id for spec in specs} == {item.key.job_id for item in claimed}, "I7", "batches came without their job")
        asked: dict[BatchKey, int] = {}
        for key, number in dispatches:
            asked[key] = max(number, asked.get(key, number))
        for item in claimed:
            before = self.seen.batches.get(item.key)
            if before is None:  # it was planned in this very step
                continue
            planned = (*(getattr(item.planned, name) for name in ("offset", "length", "first_row", "rows", "digest")),)
            need(planned == before.planned, "I7", f"{item.key} was handed out as other bytes")
            need(asked[item.key] >= before.dispatch_no, "I10", f"a dispatch of {item.key} that was superseded was handed out")
            need(item.attempt > before.attempts, "I9", f"an attempt at {item.key} was not counted")
            need(not before.settled, "I10", f"{item.key}, which has its receipt, was handed out")
            state = self.seen.jobs[item.key.job_id].state
            need(not state.terminal and state is not State.CANCELING, "I6", f"a batch of a job that is {state} was handed out")

    async def claim_plan(self, job_id: str, plan_no: int) -> None:
        """Work.claim_plan."""
        claimed = await self.world.work.claim_plan(job_id, plan_no)
        if claimed is not None:
            before = self.seen.jobs[job_id]
            need(plan_no >= before.plan_no and before.batches is None, "I10", f"{job_id} was handed out to be planned")
            need(claimed[1] > before.plan_attempts, "I9", f"an attempt to plan {job_id} was not counted")
            self.planners.append((job_id, plan_no))

    async def record_plan(self, pick: int, size: int, *, fault: bool) -> None:
        """Work.record_plan and record_fault, by a planner however late, who need not cut as another one did."""
        job_id, _ = self.planners[pick % len(self.planners)]
        if fault:
            self.book.errors[job_id].add("HEADER: no price")
            await self.world.work.record_fault(job_id, "HEADER: no price")
        else:
            plan = self.book.asked[job_id].input.plan(size)
            self.book.plans[job_id].append(plan)
            await self.world.work.record_plan(job_id, plan)

    async def renew_plan(self, pick: int) -> None:
        """Work.renew_plan."""
        job_id, plan_no = self.planners[pick % len(self.planners)]
        held, job = await self.world.work.renew_plan(job_id, plan_no), self.seen.jobs[job_id]
        need(not held or (job.plan_no <= plan_no and job.batches is None), "I10", f"a planner that lost {job_id} keeps it")

    async def load(self, picks: Sequence[int], version: int) -> None:
        """Loader.load, as one group, by attempts however old."""
        # The latest first: small numbers pick what was claimed last.
        chosen = {item.key: item for item in (self.attempts[-1 - pick % len(self.attempts)] for pick in picks)}
        await self.write([self.book.attempt(key, item.planned, version) for key, item in chosen.items()])

    async def write(self, made: Sequence[Outcome]) -> None:
        """Give a group of outcomes to products; those that compute have their receipt already."""
        self.receipts += [_receipt(item) for item in made if item.computes]
        batches = [self._encoded(item) for item in made if not item.computes]
        if not batches:
            return
        # One of its own for each call: those that meet are two replicas of products.
        for answer in await Loader(self.world.ledger, 1).load(batches):
            if isinstance(answer, Receipt):
                self.receipts.append(answer)
            elif isinstance(answer, Refused):
                self.book.errors[answer.key.job_id].add(answer.message)
                await self.world.work.fail(answer.key, answer.message)
            else:
                assert isinstance(answer, Closed)
                need(answer.key not in self.seen.ledger, "I10", f"{answer.key} is in the ledger, and lost its receipt")

    def _encoded(self, item: Outcome) -> Batch:
        first_id = next(self.world.first_ids)
        return Batch(item.header, first_id, item.copy(first_id))

    async def acknowledge(self, picks: Sequence[int]) -> None:
        """Work.acknowledge, of receipts however old, of any jobs."""
        chosen = {id(item): item for item in (self.receipts[-1 - pick % len(self.receipts)] for pick in picks)}
        await self.world.work.acknowledge(list(chosen.values()))

    async def serve(self, *, acknowledged: bool) -> None:
        """Executors that do what waits, without a fault."""
        count = len(self.attempts), len(self.receipts), len(self.planners)
        if waiting := len(self.world.transport.messages):
            await self.deliver(range(waiting), keep=False)
        for job_id, _ in self.planners[count[2] :]:
            plan = self.book.asked[job_id].input.plan(2)
            self.book.plans[job_id].append(plan)
            await self.world.work.record_plan(job_id, plan)
        if fresh := self.attempts[count[0] :]:
            await self.write([self.book.attempt(item.key, item.planned, 0) for item in fresh])
        if acknowledged:
            await self.world.work.acknowledge(self.receipts[count[1] :])

    def _batch(self, pick: int) -> BatchKey:
        keys = sorted(self.seen.batches, key=lambda key: (key.job_id, key.batch_no))
        return keys[pick % len(keys)]


def _receipt(item: Outcome) -> Receipt:
    inserted, _, _, rejected, rejects, staged = item.content
    return Receipt(item.key, inserted, 0, 0, rejected, rejects, b"results", None, staged)


def _when(holds: Callable[[Acts], object], act: Act) -> Act:
    async def perhaps(acts: Acts, pick: int) -> None:
        if holds(acts):
            await act(acts, pick)

    return perhaps


#: What may run at once with others: a number picks its object.
Acts.RACERS = {
    "acknowledge": _when(lambda acts: acts.receipts, lambda acts, pick: acts.acknowledge([pick])),
    "acknowledge several": _when(lambda acts: acts.receipts, lambda acts, pick: acts.acknowledge([pick, pick + 1, pick // 4])),
    "cancel": Acts.cancel,
    "cancel and close": Acts.cancel_and_close,
    "close": Acts.close,
    "deliver": lambda acts, pick: acts.deliver([pick, pick + 1], keep=pick % 2 == 1),
    "dispatch": Acts.dispatch,
    "expire": Acts.expire,
    "load": _when(lambda acts: acts.attempts, lambda acts, pick: acts.load([pick], pick % 2)),
    "load several": _when(lambda acts: acts.attempts, lambda acts, pick: acts.load([pick, pick + 1], pick // 2 % 2)),
    "pause": Acts.pause,
    "record plan": _when(
        lambda acts: acts.planners, lambda acts, pick: acts.record_plan(pick, 1 + pick % 3, fault=pick % 5 == 4)
    ),
    "publish": Acts.publish,
    "resume": Acts.resume,
    "submit again": _when(Acts.keyed, lambda acts, pick: acts.submit(acts.same_job(pick, other=pick % 8 == 7))),
    "sweep": Acts.sweep,
}
