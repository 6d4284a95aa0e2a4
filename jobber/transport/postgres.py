"""The transport on PostgreSQL: the embedded default. No broker to run; the same obligations.

A message is hidden while a consumer holds it, and no lock is held while it works. Each consumer has a number, and an advisory
lock of that number as long as its session lives: what a dead one held is given to others within a second or two. A living one
renews what it holds; a frozen one does not, and loses it after VISIBILITY.

Waiting costs nothing: a consumer sleeps on its socket until a NOTIFY names one of its topics.
"""

import asyncio
import contextlib
import json
import random
import select
import threading
import time
from collections.abc import Iterator, Sequence
from typing import LiteralString

from jobber import faults
from jobber.errors import Unavailable
from jobber.ids import uuid7
from jobber.transport import Delivery, Group, Message
from jobber.transport.postgres_session import LOST, AsyncSession, Session, connect, connect_async, unavailable
from jobber.transport.postgres_settlement import ANNOUNCE, CHANNEL, VISIBILITY, Handle, Settlement

#: Seconds between two looks for what no NOTIFY told of: messages of dead consumers, and those whose delay has passed.
LOOK_AGAIN = 1.0
#: Seconds between two tries to connect.
RECONNECT_AFTER = 0.2
#: Seconds that a publish may take, connecting included.
PUBLISH_DEADLINE = 6.0
#: Seconds of one sleep at most: `close` is seen after it.
LONGEST_SLEEP = 0.5
#: Class of the consumers' advisory locks.
CONSUMER_LOCK = 0x4A0B

# The function scan drives the join: topics are looked at in the order in which they are given.
TAKE: LiteralString = """
    WITH due AS MATERIALIZED (
        SELECT found.topic, found.id
          FROM unnest(%(topics)s::text[]) AS turn (topic)
         CROSS JOIN LATERAL (SELECT topic, id FROM transport.messages waiting
                              WHERE waiting.topic = turn.topic AND visible_at <= clock_timestamp()
                              ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED) found
         LIMIT %(most)s)
    UPDATE transport.messages m
       SET visible_at = clock_timestamp() + %(visibility)s * interval '1 second', holder = %(holder)s
      FROM due
     WHERE m.topic = due.topic AND m.id = due.id
 RETURNING m.topic, m.id, m.body, m.properties
"""
# A holder is dead when its lock can be had. Our own could be had too, as locks of one session do not exclude each other.
RELEASE: LiteralString = """
    UPDATE transport.messages SET visible_at = '-infinity', holder = NULL
     WHERE holder IN (SELECT holder
                        FROM (SELECT DISTINCT holder FROM transport.messages WHERE holder <> %(holder)s OFFSET 0) others
                       WHERE pg_try_advisory_xact_lock_shared(%(lock)s, holder))
"""


class PostgresPublisher:
    """Publishes over one connection, opened when needed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._session: AsyncSession | None = None
        self._turn = asyncio.Lock()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Answer once the database holds every message."""
        if not messages:
            return
        topics = [message.topic for message in messages]
        # In the order of their time, those of one millisecond too.
        ids = sorted(uuid7() for _ in messages)
        bodies = [message.body for message in messages]
        properties = [json.dumps(dict(message.properties)) if message.properties else None for message in messages]
        faults.point("transport.before_publish")
        try:
            async with asyncio.timeout(PUBLISH_DEADLINE), self._turn:
                session = await self._open()
                await session.execute(
                    "INSERT INTO transport.messages (topic, id, body, properties)"
                    " SELECT * FROM unnest(%s::text[], %s::uuid[], %b::bytea[], %s::text[])",
                    [topics, ids, bodies, properties],
                )
                faults.point("transport.after_publish")
                # In a transaction of its own: a NOTIFY beside the insert would serialise its commit with all others'.
                await session.execute(ANNOUNCE, {"channel": CHANNEL, "topics": sorted(set(topics))})
        except (*LOST, TimeoutError) as fault:
            await self.close()
            raise unavailable(fault) from fault

    async def close(self) -> None:
        """Let go of the connection; the next publish opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self) -> AsyncSession:
        if self._session is None or self._session.closed:
            (await asyncio.to_thread(connect, self._dsn, "schema")).close()
            self._session = await connect_async(self._dsn, "publisher")
        return self._session


class PostgresConsumer:
    """Receives on one connection, which also listens; settles (acknowledges, hands back) on another, from any thread."""

    def __init__(self, dsn: str, groups: Sequence[Group], name: str = "") -> None:
        self._dsn = dsn
        self._groups = groups
        self._name = name
        self._receiving = threading.Lock()
        self._session: Session | None = None
        self._retry_at = 0.0
        #: Our number; kept over a reconnection, so that what we hold stays ours.
        self._holder = 0
        self._turn = 0
        #: Places of the groups that may have messages: something was announced, or it is time to look.
        self._promising: set[int] = set()
        self._look_at = 0.0
        self._settlement = Settlement(dsn, name)
        self._closed = False

    def receive(self, wait: float) -> list[Delivery]:
        """Messages of the group whose turn it is, or of the next one that has any."""
        deadline = time.monotonic() + wait
        if not self._receiving.acquire(timeout=max(wait, 0)):
            return []
        try:
            with self._translated():
                return self._receive(deadline)
        finally:
            self._receiving.release()

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Forget the messages; while the database is away, as soon as it is back."""
        self._settlement.acknowledge(deliveries)

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Let the messages come again after `delay` seconds."""
        self._settlement.hand_back(deliveries, delay)
        self._look_at = min(self._look_at, time.monotonic() + delay)

    def close(self) -> None:
        """Stop receiving; what was not acknowledged is there for others at once."""
        self._closed = True
        with self._receiving:
            self._settlement.close(self._holder)
            if self._session is not None:
                self._session.close()
            self._session = None

    def _receive(self, deadline: float) -> list[Delivery]:
        session = self._open()
        self._hear(session, 0)
        while not self._closed:
            if time.monotonic() >= self._look_at:
                self._settlement.tell()
                session.execute(RELEASE, {"lock": CONSUMER_LOCK, "holder": self._holder})
                self._promising.update(range(len(self._groups)))
                self._look_at = time.monotonic() + LOOK_AGAIN
            found = self._take(session)
            if found:
                self._settlement.hold(found)
                return found
            now = time.monotonic()
            if now >= deadline:
                return []
            self._hear(session, min(deadline, self._look_at, now + LONGEST_SLEEP) - now)
        raise Unavailable("The consumer is closed.")

    def _take(self, session: Session) -> list[Delivery]:
        """From the next group in turn that has any."""
        for place in [(self._turn + step) % len(self._groups) for step in range(len(self._groups))]:
            if place not in self._promising:
                continue
            # Before the look: what is announced during it counts.
            self._promising.discard(place)
            group = self._groups[place]
            # Topics of a group take turns as well.
            first = self._turn % len(group.topics)
            topics = [*group.topics[first:], *group.topics[:first]]
            wanted = {"topics": topics, "most": group.most, "visibility": VISIBILITY, "holder": self._holder}
            rows = session.execute(TAKE, wanted, prepare=True).fetchall()
            if rows:
                self._promising.add(place)
                self._turn += 1 + (place - self._turn) % len(self._groups)
                return [
                    Delivery(topic, bytes(body), Handle(number, self._holder), json.loads(properties) if properties else {})
                    for topic, number, body, properties in rows
                ]
        return []

    def _hear(self, session: Session, wait: float) -> None:
        """Take in what is announced; when that is nothing, sleep until something is, for `wait` seconds at most."""
        self._take_in(session)
        # What libpq has read already does not make the socket readable.
        if wait > 0 and not self._promising:
            readable = select.poll()
            readable.register(session.fileno(), select.POLLIN)
            readable.poll(wait * 1000)
            self._take_in(session)

    def _take_in(self, session: Session) -> None:
        session.pgconn.consume_input()
        while (announced := session.pgconn.notifies()) is not None:
            self._promise(announced.extra.decode())

    def _promise(self, topic: str) -> None:
        self._promising.update(place for place, group in enumerate(self._groups) if topic in group.topics)

    def _open(self) -> Session:
        if self._closed:
            raise Unavailable("The consumer is closed.")
        if self._session is None:
            if time.monotonic() < self._retry_at:
                raise Unavailable("The transport's database does not answer.")
            session = connect(self._dsn, self._name)
            try:
                self._enrol(session)
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session

    def _enrol(self, session: Session) -> None:
        """Take a number that nobody else has, and listen."""
        # Ours may still be taken by our former session, which the server has not given up yet.
        while not self._holder or session.execute(
            "SELECT pg_try_advisory_lock(%s, %s)", [CONSUMER_LOCK, self._holder]
        ).fetchone() != (True,):
            self._holder = random.randrange(1, 1 << 31)
        session.add_notify_handler(lambda announced: self._promise(announced.payload))
        session.execute(f"LISTEN {CHANNEL}")
        self._promising.update(range(len(self._groups)))
        # After a restart of the database everybody must come back first: living consumers keep what they hold.
        self._look_at = time.monotonic() + LOOK_AGAIN

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except LOST as fault:
            if self._session is not None:
                self._session.close()
            self._session = None
            self._retry_at = time.monotonic() + RECONNECT_AFTER
            raise unavailable(fault) from fault
