"""What becomes of messages that were delivered: forgotten, handed back, or held for longer."""

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple

from jobber import faults
from jobber.errors import Unavailable
from jobber.transport import Delivery
from jobber.transport.postgres_session import LOST, Session, connect

#: Seconds after which a frozen consumer loses what it holds; about as long as Pulsar's broker waits for one.
VISIBILITY = 60
#: Seconds between two renewals of what a living consumer holds.
RENEW_EVERY = 20.0
#: Seconds between two tries to reach a database that was away.
RETRY_AFTER = 0.5
CHANNEL: LiteralString = "jobber_transport"

ANNOUNCE: LiteralString = "SELECT pg_notify(%(channel)s, topic) FROM unnest(%(topics)s::text[]) AS about (topic)"
# Whoever holds it now: the work is done.
FORGET: LiteralString = """
    DELETE FROM transport.messages m USING unnest(%(topics)s::text[], %(ids)s::uuid[]) AS done (topic, id)
     WHERE m.topic = done.topic AND m.id = done.id
"""
# Only what is still held: another consumer may be at work on it by now.
RETURN: LiteralString = """
    UPDATE transport.messages m
       SET visible_at = clock_timestamp() + back.delay * interval '1 second', holder = NULL
      FROM unnest(%(topics)s::text[], %(ids)s::uuid[], %(holders)s::int[], %(delays)s::float8[])
           AS back (topic, id, holder, delay)
     WHERE m.topic = back.topic AND m.id = back.id AND m.holder = back.holder
"""
RENEW: LiteralString = """
    UPDATE transport.messages SET visible_at = clock_timestamp() + %(visibility)s * interval '1 second'
     WHERE holder = ANY (%(holders)s)
"""
LEAVE: LiteralString = """
    UPDATE transport.messages SET visible_at = '-infinity', holder = NULL WHERE holder = %(holder)s RETURNING topic
"""


class Handle(NamedTuple):
    """Names a message, and who was handed it."""

    id: Any
    holder: int


class Settlement:
    """Tells the database what became of a consumer's deliveries, from any thread; what fails is told again later.

    Threads that settle at once share a statement: one speaks for all that are waiting.
    """

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        #: Held while the database is asked.
        self._speaking = threading.Lock()
        self._session: Session | None = None
        self._retry_at = 0.0
        #: Guards the lists.
        self._lock = threading.Lock()
        self._held: set[Handle] = set()
        self._done: list[Delivery] = []
        #: With the time at which they are to come again.
        self._back: list[tuple[Delivery, float]] = []
        self._ended = threading.Event()
        self._renewer: threading.Thread | None = None

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """These were handed to us: renew them until they are settled."""
        with self._lock:
            self._held.update(delivery.handle for delivery in deliveries)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name="transport-renew", daemon=True)
                self._renewer.start()

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Forget the messages."""
        with self._lock:
            self._done += deliveries
            self._held.difference_update(delivery.handle for delivery in deliveries)
        self.tell()

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Let the messages come again after `delay` seconds."""
        due = time.monotonic() + delay
        with self._lock:
            self._back += [(delivery, due) for delivery in deliveries]
            self._held.difference_update(delivery.handle for delivery in deliveries)
        self.tell()

    def tell(self) -> None:
        """Tell the database what it does not know yet."""
        with self._speaking:
            with self._lock:
                done, self._done = self._done, []
                back, self._back = self._back, []
            if (done or back) and not self._told(done, back):
                with self._lock:
                    self._done = done + self._done
                    self._back = back + self._back

    def close(self, holder: int) -> None:
        """Let others have at once what `holder` still holds."""
        self.tell()
        with self._speaking:
            if holder and self._can_speak():
                with contextlib.suppress(*LOST):
                    session = self._open()
                    topics = {row[0] for row in session.execute(LEAVE, {"holder": holder})}
                    session.execute(ANNOUNCE, {"channel": CHANNEL, "topics": sorted(topics)})
            self._ended.set()
            self._drop()

    def _told(self, done: Sequence[Delivery], back: Sequence[tuple[Delivery, float]]) -> bool:
        if not self._can_speak():
            return False
        try:
            session = self._open()
            if done:
                wanted = {"topics": [item.topic for item in done], "ids": [item.handle.id for item in done]}
                faults.point("transport.before_acknowledge")
                session.execute(FORGET, wanted, prepare=True)
                faults.point("transport.after_acknowledge")
            if back:
                now = time.monotonic()
                session.execute(
                    RETURN,
                    {
                        "topics": [item.topic for item, _ in back],
                        "ids": [item.handle.id for item, _ in back],
                        "holders": [item.handle.holder for item, _ in back],
                        "delays": [max(due - now, 0) for _, due in back],
                    },
                )
                soon = {item.topic for item, due in back if due <= now}
                session.execute(ANNOUNCE, {"channel": CHANNEL, "topics": sorted(soon)})
        except (*LOST, Unavailable):
            self._drop()
            return False
        return True

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_EVERY):
            with self._lock:
                holders = {handle.holder for handle in self._held}
            with self._speaking:
                if holders and self._can_speak():
                    try:
                        self._open().execute(RENEW, {"holders": list(holders), "visibility": VISIBILITY})
                    except LOST:
                        self._drop()

    def _can_speak(self) -> bool:
        return not self._ended.is_set() and time.monotonic() >= self._retry_at

    def _open(self) -> Session:
        if self._session is None:
            self._session = connect(self._dsn, self._name)
        return self._session

    def _drop(self) -> None:
        """Of no use any more; wait a little before the next."""
        session, self._session = self._session, None
        self._retry_at = time.monotonic() + RETRY_AFTER
        if session is not None:
            session.close()
