"""PostgreSQL, as far as the decision code can tell: READ COMMITTED transactions on rows, row locks, and a server that dies.

A transaction reads what is committed and what it wrote itself; who writes a row holds its lock until the end; who wants a held
row waits, and then sees the newest. Commit may be lost on the way there (nothing happened) or on the way back (all happened).
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from jobber.errors import Unavailable
from tests.simulation.kernel import Kernel, Process

Key = tuple[Hashable, ...]
#: Seconds after which the server ends a transaction that sits between two statements (PostgreSQL's setting of the services).
IDLE_TIMEOUT = 10.0
#: Seconds that a statement waits for a lock.
LOCK_TIMEOUT = 8.0


class Transaction:
    """One transaction of one process."""

    __slots__ = ("aborted", "database", "held", "process", "shared", "used", "writes")

    def __init__(self, database: "Database", process: Process) -> None:
        self.database = database
        self.process = process
        self.writes: dict[Key, Any] = {}
        self.held: list[Key] = []
        self.shared: list[Key] = []
        self.aborted = False
        self.used = database.kernel.now

    def get(self, key: Key) -> Any:
        """The row, or None."""
        return self.writes[key] if key in self.writes else self.database.rows.get(key)

    def lock(self, key: Key) -> None:
        """FOR UPDATE, or an exclusive advisory lock. Raises Unavailable when it is not had in time."""
        self._take(key, lambda: self._free(key) and not self._shared_by_others(key))
        if key not in self.held:
            self.database.holders[key] = self
            self.held.append(key)

    def try_lock(self, key: Key) -> bool:
        """An exclusive advisory lock, if nobody has it."""
        self.check()
        if not self._free(key) or self._shared_by_others(key):
            return False
        self.lock(key)
        return True

    def share(self, key: Key) -> None:
        """A shared advisory lock."""
        self._take(key, lambda: self._free(key))
        self.database.sharers.setdefault(key, []).append(self)
        self.shared.append(key)

    def put(self, key: Key, row: Any) -> None:
        """Write the row."""
        self.lock(key)
        self.writes[key] = row

    def _take(self, key: Key, free: Callable[[], bool]) -> None:
        self.check()
        if not free() and not self.database.kernel.wait(lambda: self.aborted or free(), LOCK_TIMEOUT):
            raise Unavailable(f"lock timeout on {key}")
        self.check()

    def _free(self, key: Key) -> bool:
        return self.database.holders.get(key, self) is self

    def _shared_by_others(self, key: Key) -> bool:
        return any(holder is not self for holder in self.database.sharers.get(key, ()))

    def check(self) -> None:
        """Raises Unavailable when the server has ended it."""
        self.used = self.database.kernel.now
        if self.aborted:
            raise Unavailable("the server ended the transaction")

    def release(self) -> None:
        """Let go of all locks."""
        for key in self.held:
            del self.database.holders[key]
        for key in self.shared:
            self.database.sharers[key].remove(self)
        self.held, self.shared = [], []


class Database:
    """The server: what is committed, who holds what, and whether it is up."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.rows: dict[Key, Any] = {}
        self.holders: dict[Key, Transaction] = {}
        self.sharers: dict[Key, list[Transaction]] = {}
        self.open: list[Transaction] = []
        self.down_until = 0.0
        #: Chance that the answer to a COMMIT is lost.
        self.lose_answers = 0.0
        #: Told of every commit, with what it is about to change.
        self.committed: list[Callable[[dict[Key, Any]], None]] = []
        self._numbers = 0

    def number(self) -> int:
        """From a sequence: never twice."""
        self._numbers += 1
        return self._numbers

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Committed when the block ends well. Raises Unavailable: it was undone, or only the answer to COMMIT was lost."""
        self.kernel.step()
        if self.kernel.now < self.down_until:
            raise Unavailable("the database is down")
        session = Transaction(self, self.kernel.current)
        self.open.append(session)
        try:
            yield session
            self._commit(session)
        finally:
            self._end(session)

    def _commit(self, session: Transaction) -> None:
        self.kernel.step()
        session.check()
        if session.writes:
            for tell in self.committed:
                tell(session.writes)
            self.rows.update(session.writes)
        self._end(session)
        lost = self.lose_answers and self.kernel.random.random() < self.lose_answers
        self.kernel.step()
        if session.aborted or lost:
            raise Unavailable("the answer to COMMIT was lost")

    def _end(self, session: Transaction) -> None:
        session.release()
        if session in self.open:
            self.open.remove(session)

    def client_died(self, process: Process) -> None:
        """The server notices that a client has gone, and undoes what it had begun."""
        self._abort(lambda session: session.process is process)

    def tidy(self) -> None:
        """End what has sat idle for too long: a frozen client must not hold its locks for ever."""
        limit = self.kernel.now - IDLE_TIMEOUT
        self._abort(lambda session: session.process.frozen and session.used < limit)

    def crash(self, seconds: float) -> None:
        """SIGKILL of the server, and `seconds` until it is up again. What was committed stays."""
        self._abort(lambda session: True)
        self.down_until = self.kernel.now + seconds

    def _abort(self, which: Callable[[Transaction], bool]) -> None:
        for session in [session for session in self.open if which(session)]:
            session.aborted = True
            self._end(session)
