"""Connections that a test can cut before or after any round trip, and of several at once let one go at a time."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

RV = TypeVar("RV")


class Player(Protocol):
    """Who stands between a session and the server."""

    async def before(self, session: "Session") -> None:
        """A round trip is to be made."""

    async def after(self, session: "Session") -> None:
        """It was made."""


_player: ContextVar[Player | None] = ContextVar("player", default=None)


class Session(psycopg.AsyncConnection[TupleRow]):
    """Every round trip, BEGIN and COMMIT too, passes the player of the task that makes it."""

    #: Text of a statement -> what a mutant has in its place.
    rewritten: ClassVar[dict[str, str]] = {}

    async def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.AsyncCursor[TupleRow]:
        """As the shipped one."""
        if self.rewritten and isinstance(query, str):
            for shipped, other in self.rewritten.items():
                query = query.replace(shipped, other)
        return await super().execute(query, params, **options)

    async def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:
        """As the shipped one."""
        player = _player.get()
        if player is None:
            return await super().wait(gen, *args, **options)
        await player.before(self)
        answer = await super().wait(gen, *args, **options)
        await player.after(self)
        return answer


class Cut:
    """Ends the connection before or after the n-th round trip, from 0; once."""

    def __init__(self, trip: int, *, after: bool) -> None:
        self._trip = trip
        self._left = trip
        self._after = after
        #: The server's process of what was cut.
        self.pid: int | None = None

    def __repr__(self) -> str:
        return f"Cut({self._trip}, after={self._after})"

    async def before(self, session: Session) -> None:
        """Cut, or let it pass."""
        if not self._after:
            self._step(session)

    async def after(self, session: Session) -> None:
        """The same; the server has done what was asked of it, and nobody learns of it."""
        if self._after:
            self._step(session)

    def _step(self, session: Session) -> None:
        self._left -= 1
        if self._left == -1:
            self.pid = session.info.backend_pid
            session.pgconn.finish()
            raise psycopg.OperationalError("cut by the test")


async def under(player: Player, work: Coroutine[Any, Any, RV]) -> RV:
    """Do it with this player in between."""
    token = _player.set(player)
    try:
        return await work
    finally:
        _player.reset(token)


class _Runner:
    """One of several that run at once: it stops before each round trip until it is its turn."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.task = asyncio.create_task(under(self, work))
        self.pid = 0
        self.gate: asyncio.Future[None] | None = None

    async def before(self, session: Session) -> None:
        self.pid = session.info.backend_pid
        self.gate = asyncio.get_running_loop().create_future()
        await self.gate

    async def after(self, session: Session) -> None:
        return None

    def go(self) -> None:
        assert self.gate is not None
        self.gate.set_result(None)
        self.gate = None


async def interleave(
    works: Sequence[Coroutine[Any, Any, Any]], turns: Sequence[int], blocked: Callable[[Sequence[int]], set[int]]
) -> list[Any]:
    """Run them at once, one round trip at a time, in the order of `turns`; answer their results or exceptions.

    Who waits for a lock is passed over until it has it, so that the same turns give the same order on every machine.
    `blocked`: which of these server processes wait for a lock.
    """
    runners = [_Runner(work) for work in works]
    turn = iter(turns)
    while not all(runner.task.done() for runner in runners):
        ready = await _still(runners, blocked)
        if ready:
            ready[next(turn, 0) % len(ready)].go()
    return await asyncio.gather(*(runner.task for runner in runners), return_exceptions=True)


async def _still(runners: Sequence[_Runner], blocked: Callable[[Sequence[int]], set[int]]) -> list[_Runner]:
    """Those that can go on, once every other one has ended or waits for a lock."""
    looks = 0
    while True:
        await asyncio.sleep(0 if looks < 20 else 0.0005)
        looks += 1
        moving = [runner for runner in runners if not runner.task.done() and runner.gate is None]
        ready = [runner for runner in runners if runner.gate is not None]
        if not moving:
            return ready
        assert looks < 20_000, "neither a lock of the database nor a turn is what they wait for"
        # Most round trips end before anybody has to ask.
        if looks > 20 and ready and blocked([runner.pid for runner in moving]) == {runner.pid for runner in moving}:
            return ready
