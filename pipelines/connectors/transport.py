"""The dataflows' source: deliveries of the transport, as long as there is room in flight."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bytewax.inputs import DynamicSource, StatelessSourcePartition

from jobber.errors import Unavailable
from jobber.log import event
from jobber.transport import Consumer
from pipelines.work import Flight

#: Seconds that a receive waits when nothing is in flight; a signal is seen between two.
IDLE_WAIT = 0.2
#: While something is in flight the dataflow must come back to it.
BUSY_WAIT = 0.001
#: Seconds between two tries while the transport is away.
AWAY = 0.5


class Room:
    """How many groups are on their way to a commit, of those that may be at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def idle(self) -> bool:
        """Nothing is on its way."""
        return self._taken == 0

    @property
    def full(self) -> bool:
        """No further group may be taken."""
        return self._taken >= self._most

    def take(self) -> None:
        """A group was taken from the transport."""
        with self._lock:
            self._taken += 1

    def give(self) -> None:
        """A group was settled."""
        with self._lock:
            self._taken -= 1


class TransportSource(DynamicSource[Flight]):
    """One consumer a worker; there is one worker a process (engine.md's finding: scale by processes)."""

    def __init__(self, consumer: Consumer, room: Room, stopping: threading.Event) -> None:
        self._consumer = consumer
        self._room = room
        self._stopping = stopping

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "TransportPartition":
        """The partition of the only worker."""
        return TransportPartition(self._consumer, self._room, self._stopping)


class TransportPartition(StatelessSourcePartition[Flight]):
    """Receives when there is room; ends when the process stops."""

    def __init__(
        self, consumer: Consumer, room: Room, stopping: threading.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._consumer = consumer
        self._room = room
        self._stopping = stopping
        self._awake: datetime | None = None
        self._away = False

    def next_batch(self) -> list[Flight]:
        """The deliveries that were received together, as one item. Ends with StopIteration."""
        if self._stopping.is_set():
            raise StopIteration
        self._awake = None
        if self._room.full:
            self._awake = _in(BUSY_WAIT)
            return []
        try:
            deliveries = self._consumer.receive(IDLE_WAIT if self._room.idle else BUSY_WAIT)
        except Unavailable as fault:
            self._note(fault)
            self._awake = _in(AWAY)
            return []
        self._note(None)
        if not deliveries:
            return []
        self._room.take()
        return [Flight(deliveries)]

    def next_awake(self) -> datetime | None:
        """When to ask again."""
        return self._awake

    def _note(self, fault: Unavailable | None) -> None:
        """Say once that the transport is away, and once that it is back."""
        if (fault is not None) == self._away:
            return
        self._away = fault is not None
        if fault:
            event("unavailable", fault.message, level=logging.WARNING, what="transport")
        else:
            event("found", "The transport answers again.", what="transport")


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
