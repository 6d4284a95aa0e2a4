"""Signs of life: who works at something for long says so now and then, and learns when nobody waits for it any more."""

import threading
import time
from collections.abc import Callable

from jobber.errors import Unavailable

#: Seconds between two signs. Jobs waits for 30 before another executor gets the work.
RENEW_EVERY = 5.0


class Stopped(Unavailable):
    """The executor stops; another one will do this."""


class Superseded(Exception):
    """The job does not wait for this any more."""


class SignsOfLife:
    """Tells jobs that the work goes on."""

    def __init__(
        self, renew: Callable[[], bool], stopping: threading.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`renew` answers whether the job still waits."""
        self._renew = renew
        self._stopping = stopping
        self._clock = clock
        self._given = clock()

    def give(self) -> None:
        """The work goes on. Raises Stopped, and Superseded when nobody waits for it."""
        if self._stopping.is_set():
            raise Stopped
        if self._clock() - self._given > RENEW_EVERY:
            self._given = self._clock()
            if not self._renew():
                raise Superseded
