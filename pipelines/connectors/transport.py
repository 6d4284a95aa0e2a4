"""The dataflows' source: deliveries of the transport, as long as there is room in flight.

Back-pressure is here and nowhere else: what was received is prepared at once, so nothing is received that has no room.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from bytewax.inputs import DynamicSource, StatelessSourcePartition

from jobber.errors import Unavailable
from jobber.log import event
from jobber.transport import Consumer
from pipelines import metrics
from pipelines.room import Room
from pipelines.work import Flight

#: Seconds that a receive waits when nothing is in flight; a signal is seen between two.
IDLE_WAIT = 0.2
#: While something is in flight the dataflow must come back to it.
BUSY_WAIT = 0.001
#: Seconds between two tries while the transport, or what loads, is away. A signal is seen between two.
AWAY = 0.2
#: When Bytewax is to ask again: at once, always. It compares any later time with the wall clock, and waits by that clock even
#: when it is told none: where it is set back by an hour, the source would stand still for an hour. So it is waited here.
AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)


class TransportSource(DynamicSource[Flight]):
    """One consumer a worker; there is one worker a process (engine.md's finding: scale by processes)."""

    def __init__(
        self,
        consumer: Consumer,
        room: Room,
        stopping: threading.Event,
        gate: Callable[[], bool] = lambda: True,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._consumer = consumer
        self._room = room
        self._stopping = stopping
        self._gate = gate
        self._beat = beat
        #: Whether the transport answered when it was last asked; None before that.
        self.answers: bool | None = None

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "TransportPartition":
        """The partition of the only worker."""
        return TransportPartition(self)

    def next(self) -> tuple[list[Flight], float]:
        """What begins now, and after how many seconds to ask again."""
        self._beat()
        if not self._gate():
            return [], AWAY
        if self._room.keeps:
            kept = self._room.next_kept()
            return ([kept], 0) if kept else ([], BUSY_WAIT)
        if self._room.full:
            return [], BUSY_WAIT
        try:
            deliveries = self._consumer.receive(IDLE_WAIT if self._room.idle else BUSY_WAIT)
        except Unavailable as fault:
            self._note(fault)
            return [], AWAY
        self._note(None)
        if not deliveries:
            return [], 0
        self._room.take()
        return [Flight(deliveries)], 0

    @property
    def stopping(self) -> bool:
        """Whether the process is to end."""
        return self._stopping.is_set()

    def wait(self, seconds: float) -> None:
        """Let time pass, by a clock that nobody sets; not once the process is to end."""
        self._stopping.wait(seconds)

    def leave(self) -> None:
        """Let others have what was claimed and did not begin."""
        for flight in self._room.clear():
            flight.end("handed back")
            self._consumer.hand_back(flight.deliveries, 0)

    def _note(self, fault: Unavailable | None) -> None:
        """Say once that the transport is away, and once that it is back."""
        if fault and self.answers is not False:
            event("waiting", f"Waiting for the transport: {fault.message}", level=logging.WARNING, what="the transport")
        elif not fault and self.answers is False:
            event("found", "The transport answers.", what="the transport")
        if self.answers is not (fault is None):
            metrics.TRANSPORT_UP.set(fault is None)
        self.answers = fault is None


class TransportPartition(StatelessSourcePartition[Flight]):
    """Asks the source again and again; ends when the process stops."""

    def __init__(self, source: TransportSource) -> None:
        self._source = source
        self._pause = 0.0

    def next_batch(self) -> list[Flight]:
        """The deliveries that were received together, as one item. Ends with StopIteration."""
        self._source.wait(self._pause)
        if self._source.stopping:
            self._source.leave()
            raise StopIteration
        # Nothing waits behind this: what was received went through all operators before Bytewax asked again.
        flights, pause = self._source.next()
        self._pause = 0 if flights else max(pause, BUSY_WAIT)
        return flights

    def next_awake(self) -> datetime | None:
        """When to ask again."""
        return AT_ONCE
