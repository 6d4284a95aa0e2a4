"""What the dispatcher does, done wrong: the sweep, the order of commit and publish, windows, rates."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from api.jobs import decide, dispatch
from api.jobs.decide import Hungry
from api.jobs.dispatch import Dispatcher
from jobber.transport import Message
from tests.simulation import jobs as schema
from tests.simulation import rows, services, turn
from tests.simulation.database import Transaction
from tests.simulation.jobs import Jobs
from tests.simulation.mutants.table import mutant, replaced
from tests.simulation.rows import JobRow


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
