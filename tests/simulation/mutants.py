"""Each mechanism taken away once: the simulation must see that a promise breaks.

A mutant is a context in which one function is another one, and what of it the campaign should report.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from api.jobs import decide, dispatch
from api.jobs.decide import Hungry, Tally, Verdict
from api.jobs.dispatch import Dispatcher
from api.products.wire import receipt_to
from jobber.model import BatchKey, Receipt, State
from jobber.transport import Message
from pipelines import work as executor
from pipelines.connectors.bulk_write import Settler
from pipelines.work import Flight
from tests.simulation import jobs as schema
from tests.simulation import products, rows, services, turn
from tests.simulation.broker import Consumer
from tests.simulation.database import Database, Transaction
from tests.simulation.jobs import Jobs
from tests.simulation.rows import Cut, JobRow

Mutant = Callable[[], Any]
MUTANTS: dict[str, Mutant] = {}


def mutant(name: str) -> Callable[[Mutant], Mutant]:
    """Give a mutant its name in the table."""

    def keep(made: Mutant) -> Mutant:
        MUTANTS[name] = contextmanager(made)
        return made

    return keep


@contextmanager
def replaced(owner: Any, name: str, other: Any) -> Iterator[Any]:
    """`owner.name` is another one for a while; gives the shipped one."""
    shipped = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield shipped
    finally:
        setattr(owner, name, shipped)


# products


@mutant("no ledger: a batch that comes again is written again")
def no_ledger() -> Iterator[None]:
    def get(self: Transaction, key: Any) -> Any:
        return None if key[0] == "ledger" else shipped(self, key)

    with replaced(Transaction, "get", get) as shipped:
        yield


@mutant("ledger in a transaction of its own, before the rows")
def ledger_first() -> Iterator[None]:
    def commit(self: Database, session: Transaction) -> None:
        rows = {key: row for key, row in session.writes.items() if key[0] == "rows"}
        if rows:
            for key in rows:
                del session.writes[key]
            shipped(self, session)
            # A crash here loses the rows, whose receipt is there.
            session.writes.clear()
            session.writes.update(rows)
            self.kernel.step()
            session.check()
        shipped(self, session)

    with replaced(Database, "_commit", commit) as shipped:
        yield


@mutant("no closed-job check in the transaction of the rows")
def no_closed_check() -> Iterator[None]:
    def get(self: Transaction, key: Any) -> Any:
        return None if key[0] == "closed" else shipped(self, key)

    with replaced(Transaction, "get", get) as shipped:
        yield


@mutant("closing a job does not wait for the loads in their transactions")
def close_does_not_wait() -> Iterator[None]:
    with replaced(Transaction, "share", lambda self, key: None):
        yield


@mutant("the receipts of a closed job are not stored")
def closed_without_receipts() -> Iterator[None]:
    async def closed(self: Jobs, job_id: str, receipts: Sequence[Receipt]) -> bool:
        answer: bool = await shipped(self, job_id, ())
        return answer

    with replaced(Jobs, "closed", closed) as shipped:
        yield


# executors


@mutant("receipts are given to jobs before products has committed")
def receipt_first() -> Iterator[None]:
    def settle(self: Settler, flight: Flight) -> None:
        made = [
            receipt_to(Receipt(item.key, item.rows, 0, 0, item.rejected, b"()", b"", products.THEN))
            for item in flight.items
            if isinstance(item, executor.Prepared)
        ]
        if made and not flight.returned:
            self._jobs.acknowledge(made, [])
        shipped(self, flight)

    with replaced(Settler, "settle", settle) as shipped:
        yield


@mutant("the message is acknowledged on receipt")
def acknowledge_on_receipt() -> Iterator[None]:
    def settle(self: Settler, flight: Flight) -> None:
        self._consumer.acknowledge(flight.deliveries)
        shipped(self, flight)

    def receive(self: Any, wait: float) -> Any:
        deliveries = shipped_receive(self, wait)
        self.acknowledge(deliveries)
        return deliveries

    with (
        replaced(Settler, "settle", settle) as shipped,
        replaced(Consumer, "receive", receive) as shipped_receive,
    ):
        yield


@mutant("what could not be written is acknowledged all the same, and no sweep")
def forget_failures() -> Iterator[None]:
    def hand_back(self: Settler, flight: Flight) -> None:
        self._consumer.acknowledge(flight.deliveries)

    with replaced(Settler, "_hand_back", hand_back), no_sweep():
        yield


@mutant("attempts are not counted")
def attempts_uncounted() -> Iterator[None]:
    def claim(self: Jobs, dispatches: Any) -> Any:
        return [replace(item, attempt=1) for item in shipped(self, dispatches)]

    with replaced(Jobs, "claim", claim) as shipped:
        yield


@mutant("a batch that was begun four times fails its job")
def attempts_limited() -> Iterator[None]:
    def claim(self: Jobs, dispatches: Any) -> Any:
        claimed = shipped(self, dispatches)
        for item in claimed:
            if item.attempt > executor.SUSPECT:
                with self.database.transaction() as session:
                    session.lock(("job", item.key.job_id))
                    self._end(session, item.key.job_id, Verdict(State.FAILED, "too often", closing=True))
        return claimed

    with replaced(Jobs, "claim", claim) as shipped:
        yield


# dispatch


@contextmanager
def no_sweep() -> Iterator[None]:
    """Nothing that was lost is issued again."""
    with replaced(dispatch, "lost", lambda outstanding: []):
        yield


@mutant("no sweeper")
def no_sweeper() -> Iterator[None]:
    with no_sweep():
        yield


@mutant("claimed batches are never issued again")
def claimed_for_ever() -> Iterator[None]:
    with replaced(decide, "UNSETTLED_AFTER", 1e12), replaced(decide, "UNSETTLED_LONGEST", 1e12):
        yield


@mutant("planners are never replaced")
def planner_for_ever() -> Iterator[None]:
    with replaced(rows, "PLAN_LEASE", 1e12):
        yield


@mutant("messages are published before their numbers are committed")
def publish_first() -> Iterator[None]:
    brokers: dict[int, Any] = {}
    kernels: dict[int, Any] = {}

    def init(self: services.Cluster, kernel: Any, network: Any, broker: Any, jobs: Jobs, ledger: Any) -> None:
        shipped_init(self, kernel, network, broker, jobs, ledger)
        brokers[id(jobs)], kernels[id(jobs)] = broker, kernel

    async def issue(self: turn.Turn, batches: Any) -> Any:
        tickets = await shipped_issue(self, batches)
        if tickets:
            messages = [Message(f"{item.name}.{item.lane}", dispatch.body(item)) for item in tickets]
            await brokers[id(self._jobs)].publish(messages)
            # A commit that waits for its disk: the message is there first.
            kernels[id(self._jobs)].sleep(0.02)
        return tickets

    async def publish(self: Dispatcher, tickets: Any) -> None:
        await shipped_publish(self, [item for item in tickets if item.lane == "plan"])

    with (
        replaced(services.Cluster, "__init__", init) as shipped_init,
        replaced(turn.Turn, "issue", issue) as shipped_issue,
        replaced(Dispatcher, "_publish", publish) as shipped_publish,
    ):
        yield


@mutant("dispatchers do not exclude each other")
def no_dispatch_lock() -> Iterator[None]:
    def lock(self: Transaction, key: Any) -> None:
        if key != schema.DISPATCH_LOCK:
            shipped(self, key)

    with replaced(Transaction, "lock", lock) as shipped:
        yield


@mutant("no window")
def no_window() -> Iterator[None]:
    def choose(jobs: Sequence[Hungry], **_: Any) -> Any:
        return decide.choose(jobs, room=100, job_window=100)

    with replaced(dispatch, "choose", choose):
        yield


@mutant("a job with a rate gets batches as any other")
def no_pace() -> Iterator[None]:
    def choose(jobs: Sequence[Hungry], **limits: Any) -> Any:
        return decide.choose([dataclasses.replace(job, paced=False) for job in jobs], **limits)

    with replaced(dispatch, "choose", choose):
        yield


@mutant("the rate is forgotten")
def no_rate() -> Iterator[None]:
    def rows(self: turn.Turn) -> list[JobRow]:
        return [replace(row, paced_until=None) for row in shipped(self)]

    with replaced(turn.Turn, "_rows", rows) as shipped:
        yield


@mutant("every dispatch starts the plan anew")
def start_again() -> Iterator[None]:
    async def start(self: Any, upto: Mapping[str, int], lookups: Mapping[str, int]) -> Any:
        return await shipped(self, {job: max(number - 1, 1) for job, number in upto.items()}, lookups)

    with replaced(turn.Turn, "start", start) as shipped:
        yield


# the jobs schema


@mutant("counter instead of sum")
def counter() -> Iterator[None]:
    counts: dict[tuple[int, str], list[int]] = {}

    def acknowledge(self: Jobs, receipts: Sequence[Receipt]) -> Any:
        for receipt in receipts:
            count = counts.setdefault((id(self), receipt.key.job_id), [0, 0, 0])
            count[0] += 1
            count[1] += receipt.inserted
            count[2] += receipt.rejected
        return shipped(self, receipts)

    def tally(self: Jobs, session: Transaction, job_id: str) -> Tally:
        count = counts.get((id(self), job_id), [0, 0, 0])
        return Tally(count[0], count[1], 0, 0, count[2])

    with replaced(Jobs, "acknowledge", acknowledge) as shipped, replaced(Jobs, "tally", tally):
        yield


@mutant("replan: the last plan counts")
def replan() -> Iterator[None]:
    def record_plan(self: Jobs, job_id: str, cut: Cut) -> None:
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.state.terminal or row.state is State.CANCELING:
                return
            session.put(("job", job_id), replace(schema._planned(row, cut), changes=row.changes + 1))
            self._insert(session, job_id, cut)

    with replaced(Jobs, "record_plan", record_plan):
        yield


@mutant("a job ends before its last receipt")
def ends_early() -> Iterator[None]:
    def verdict(tally: Tally, *, total: int, batches: int, limits: Any) -> Any:
        return decide.verdict(tally, total=total, batches=max(batches - 1, 1), limits=limits)

    with replaced(schema, "verdict", verdict):
        yield


@mutant("limits of rejects are not closed in products")
def fails_without_closing() -> Iterator[None]:
    def verdict(tally: Tally, *, total: int, batches: int, limits: Any) -> Any:
        end = decide.verdict(tally, total=total, batches=batches, limits=limits)
        return Verdict(end.state, end.error) if end and end.closing else end

    with replaced(schema, "verdict", verdict):
        yield


@mutant("a cancel ends the job at once")
def cancels_at_once() -> Iterator[None]:
    def cancel(self: Jobs, job_id: str) -> State:
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            if row.state.terminal:
                return row.state
            session.put(("job", job_id), replace(row, state=State.CANCELED, closing="CANCELED", changes=row.changes + 1))
            return State.CANCELED

    with replaced(Jobs, "cancel", cancel):
        yield


@mutant("a job that has ended can still change")
def terminal_is_not_final() -> Iterator[None]:
    def cancel(self: Jobs, job_id: str) -> State:
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            session.put(("job", job_id), replace(row, state=State.CANCELING, closing="CANCELED", changes=row.changes + 1))
            return State.CANCELING

    with replaced(Jobs, "cancel", cancel):
        yield


@mutant("resume forgets what was dispatched, and no sweep")
def resume_forgets() -> Iterator[None]:
    def resume(self: Jobs, job_id: str) -> None:
        with self.database.transaction() as session:
            row = self._locked(session, job_id)
            state = State.QUEUED if row.started_at is None else State.RUNNING
            session.put(("job", job_id), replace(row, state=state, changes=row.changes + 1))

    with replaced(Jobs, "resume", resume), no_sweep():
        yield


@mutant("idempotency keys are not looked at")
def no_idempotency() -> Iterator[None]:
    def submit(self: Jobs, asked: JobRow, cut: Cut | None) -> tuple[str, bool]:
        answer: tuple[str, bool] = shipped(self, replace(asked, key=None), cut)
        return answer

    with replaced(Jobs, "submit", submit) as shipped:
        yield


@mutant("the payload of a used key is not compared")
def no_payload_check() -> Iterator[None]:
    def submit(self: Jobs, asked: JobRow, cut: Cut | None) -> tuple[str, bool]:
        answer: tuple[str, bool] = shipped(self, replace(asked, payload=""), cut)
        return answer

    with replaced(Jobs, "submit", submit) as shipped:
        yield


@mutant("a submission is answered before it is committed")
def answers_first() -> Iterator[None]:
    def submit(self: Jobs, asked: JobRow, cut: Cut | None) -> tuple[str, bool]:
        self.database.kernel.current.spawn(lambda: _quietly(lambda: shipped(self, asked, cut)))
        return asked.id, False

    with replaced(Jobs, "submit", submit) as shipped:
        yield


def _quietly(work: Callable[[], Any]) -> None:
    try:
        work()
    except Exception:
        return


@mutant("the ledger keeps keys, not receipts")
def ledger_without_receipts() -> Iterator[None]:
    def write(self: products.Ledger, batches: Any) -> Any:
        outcomes = shipped(self, batches)
        return {key: _blank(outcome, self) for key, outcome in outcomes.items()}

    known: set[tuple[int, BatchKey]] = set()

    def _blank(outcome: Any, ledger: products.Ledger) -> Any:
        if not isinstance(outcome, Receipt):
            return outcome
        if (id(ledger), outcome.key) in known:
            return Receipt(outcome.key, 0, 0, 0, 0, b"()", b"", products.THEN)
        known.add((id(ledger), outcome.key))
        return outcome

    with replaced(products.Ledger, "write", write) as shipped:
        yield
