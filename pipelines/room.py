"""How much is in flight, and what waits for its turn: what the source, the claim and the sink of a dataflow share."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from jobber.log import event
from pipelines import metrics
from pipelines.work import Flight

#: Seconds between two looks at a service that is away.
LOOK_AGAIN = 0.5
#: Seconds that the gate stays shut at least; doubled each time, because some outages (a full disk) only a load shows.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0


class Room:
    """Counts the flights that are on their way to a commit; keeps those that were claimed and do not fit yet.

    The dataflow's thread takes and keeps; the sink's threads give back.
    """

    def __init__(self, most: int) -> None:
        #: Flights that may be on their way at once.
        self.most = most
        self._taken = 0
        self._alone = False
        self._kept: deque[Flight] = deque()
        self._lock = threading.Lock()
        metrics.IN_FLIGHT_LIMIT.set(most)

    @property
    def idle(self) -> bool:
        """Nothing is on its way."""
        return self._taken == 0

    @property
    def full(self) -> bool:
        """No further flight may be taken."""
        return self._alone or self._taken >= self.most

    @property
    def keeps(self) -> bool:
        """Claimed flights wait here: they go first."""
        return bool(self._kept)

    def take(self, *, alone: bool = False) -> None:
        """A flight begins; `alone`: no other may begin before its end."""
        with self._lock:
            self._taken += 1
            self._alone = alone
        metrics.IN_FLIGHT.inc()

    def give(self) -> None:
        """A flight has come to its end."""
        with self._lock:
            self._taken -= 1
            self._alone = False
        metrics.IN_FLIGHT.dec()

    def keep(self, flights: Sequence[Flight]) -> None:
        """Claimed flights for which there is no room yet: memory is bounded by what is in flight."""
        self._kept.extend(flights)

    def next_kept(self) -> Flight | None:
        """The next claimed flight, taken, if it may begin now."""
        if not self._kept or self.full or (self._kept[0].alone and not self.idle):
            return None
        flight = self._kept.popleft()
        self.take(alone=flight.alone)
        return flight

    def clear(self) -> list[Flight]:
        """Every flight that waits; none does any more."""
        kept = list(self._kept)
        self._kept.clear()
        return kept


class Gate:
    """Shut while a service takes no loads, so that no batch is claimed, and no attempt counted, in vain."""

    def __init__(self, what: str, answers: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._answers = answers
        self._clock = clock
        self._shut = False
        self._look_at = 0.0
        self._pause = FIRST_PAUSE
        self._lock = threading.Lock()

    def shut(self) -> None:
        """A load could not be brought to its end, although it was tried for long."""
        with self._lock:
            if self._shut:
                return
            self._shut = True
            self._look_at = self._clock() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        event("unavailable", f"No load begins before {self._what} answers.", level=logging.WARNING, what=self._what)

    def passed(self) -> None:
        """A load came to its end."""
        if self._pause != FIRST_PAUSE:
            with self._lock:
                self._pause = FIRST_PAUSE

    @property
    def open(self) -> bool:
        """Whether loads may begin; asks the service, when it is time to."""
        if not self._shut:
            return True
        if self._clock() < self._look_at:
            return False
        if not self._answers():
            self._look_at = self._clock() + LOOK_AGAIN
            return False
        with self._lock:
            self._shut = False
        event("found", f"{self._what} answers again.", what=self._what)
        return True
