"""The transport on PostgreSQL: the embedded default. No broker to run; the same obligations.

A message is hidden for VISIBILITY while a consumer has it; no lock is held while it works. Each consumer holds an advisory
lock for its number, so that what a dead one held is given to others within a second.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from jobber.errors import Unavailable
from jobber.transport import Delivery, Group, Message

#: Seconds; a consumer that is frozen for longer loses what it held. Longer than the retries of a load.
VISIBILITY = 60
#: Seconds between two looks for messages of dead consumers.
LOOK_FOR_DEAD = 1.0
#: Seconds after which it looks without having been told to: a hand-back's delay has passed, or a visibility time.
LOOK_AGAIN = 0.25
CHANNEL: LiteralString = "jobber_transport"
#: Class of the consumers' advisory locks, and the lock that making the schema takes.
CONSUMER_LOCK, SCHEMA_LOCK = 0x4A0B, 0x4A0B0002

_SESSION: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    # What a crash of the database loses here is issued again.
    "options": "-c synchronous_commit=off -c application_name=jobber-transport",
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

RECEIVE: LiteralString = """
    UPDATE transport.messages m
       SET visible_at = clock_timestamp() + %(visibility)s * interval '1 second', consumer = %(consumer)s
      FROM (SELECT id FROM transport.messages
             WHERE topic = ANY (%(topics)s) AND visible_at <= clock_timestamp()
             ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED) d
     WHERE m.id = d.id
 RETURNING m.id, m.topic, m.body
"""
#: What dead consumers held becomes visible: those whose lock can be had. Our own could be had too, so it is left out.
RELEASE: LiteralString = """
    UPDATE transport.messages SET visible_at = clock_timestamp(), consumer = NULL
     WHERE consumer IN (SELECT consumer FROM (SELECT DISTINCT consumer FROM transport.messages
                                               WHERE consumer <> %(consumer)s AND visible_at > clock_timestamp()) held
                         WHERE pg_try_advisory_xact_lock(%(lock)s, consumer::integer))
"""


def make_schema(connection: psycopg.Connection[Any]) -> None:
    """Make the tables unless they are there; safe when several processes do it at once."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [SCHEMA_LOCK])
        made = connection.execute("SELECT to_regclass('transport.consumers') IS NOT NULL").fetchone()
        if made and not made[0]:
            connection.execute((Path(__file__).parent / "sql" / "transport.sql").read_bytes())


class PostgresPublisher:
    """Publishes; one connection, opened when needed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        """Answer once the database holds every message."""
        try:
            connection = await self._open()
            await connection.execute(
                "INSERT INTO transport.messages (topic, body) SELECT * FROM unnest(%s::text[], %s::bytea[])",
                [[message.topic for message in messages], [message.body for message in messages]],
            )
            # Apart from the insert: a NOTIFY inside a transaction serialises its commit with all others'.
            await connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable, OSError) as fault:
            await self.close()
            raise Unavailable("The transport's database does not answer.") from fault

    async def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            with psycopg.connect(self._dsn, **_SESSION) as first:
                make_schema(first)
            self._connection = await psycopg.AsyncConnection.connect(self._dsn, **_SESSION)
        return self._connection


class PostgresConsumer:
    """Receives on one connection, which also listens; acknowledges on another, from any thread."""

    def __init__(self, dsn: str, groups: Sequence[Group]) -> None:
        self._dsn = dsn
        self._groups = groups
        #: Nothing was there, and nothing was announced since; what becomes visible by time alone is found a little later.
        self._dry_until = 0.0
        self._turn = 0
        self._receiving: psycopg.Connection[Any] | None = None
        self._settling: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()
        self._consumer = 0
        self._looked = 0.0
        self._closed = False

    def receive(self, wait: float) -> list[Delivery]:
        """Messages of the group whose turn it is, or of the next one that has any."""
        deadline = time.monotonic() + wait
        with self._translated():
            while True:
                connection = self._open()
                if time.monotonic() >= self._dry_until:
                    # A notification that comes between the look and the wait stays in the connection and ends the wait.
                    found = self._look(connection)
                    if found:
                        return found
                    self._release(connection)
                    self._dry_until = time.monotonic() + LOOK_AGAIN
                left = deadline - time.monotonic()
                for _ in connection.notifies(timeout=max(min(left, self._dry_until - time.monotonic()), 0), stop_after=1):
                    self._dry_until = 0.0
                if left <= 0 and self._dry_until:
                    return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Forget the messages; what fails comes again."""
        self._settle("DELETE FROM transport.messages WHERE id = ANY (%(ids)s) AND consumer = %(consumer)s", deliveries, 0)

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Let the messages come again after `delay` seconds."""
        self._settle(
            "UPDATE transport.messages SET visible_at = clock_timestamp() + %(delay)s * interval '1 second', consumer = NULL"
            " WHERE id = ANY (%(ids)s) AND consumer = %(consumer)s",
            deliveries,
            delay,
        )

    def close(self) -> None:
        """Stop receiving: the end of the session frees its lock, and with it what it held."""
        self._closed = True
        with self._lock:
            for connection in (self._receiving, self._settling):
                if connection is not None:
                    with contextlib.suppress(psycopg.Error):
                        connection.close()
            self._receiving = self._settling = None

    def _look(self, connection: psycopg.Connection[Any]) -> list[Delivery]:
        for _ in self._groups:
            group = self._groups[self._turn % len(self._groups)]
            self._turn += 1
            rows = connection.execute(
                RECEIVE,
                {"topics": list(group.topics), "most": group.most, "visibility": VISIBILITY, "consumer": self._consumer},
            ).fetchall()
            if rows:
                return [Delivery(topic, bytes(body), (self._consumer, number)) for number, topic, body in sorted(rows)]
        return []

    def _release(self, connection: psycopg.Connection[Any]) -> None:
        if time.monotonic() - self._looked >= LOOK_FOR_DEAD:
            self._looked = time.monotonic()
            connection.execute(RELEASE, {"lock": CONSUMER_LOCK, "consumer": self._consumer})

    def _settle(self, query: LiteralString, deliveries: Sequence[Delivery], delay: float) -> None:
        by_consumer: dict[int, list[int]] = {}
        for delivery in deliveries:
            consumer, number = delivery.handle
            by_consumer.setdefault(consumer, []).append(number)
        with self._lock, contextlib.suppress(psycopg.OperationalError, psycopg.errors.UndefinedTable, OSError):
            if self._settling is None or self._settling.closed:
                self._settling = psycopg.connect(self._dsn, **_SESSION)
            for consumer, ids in by_consumer.items():
                self._settling.execute(query, {"ids": ids, "consumer": consumer, "delay": delay})
                if delay:
                    self._settling.execute("SELECT pg_notify(%s, '')", [CHANNEL])

    def _open(self) -> psycopg.Connection[Any]:
        if self._closed:
            raise Unavailable("The consumer is closed.")
        if self._receiving is None or self._receiving.closed:
            connection = psycopg.connect(self._dsn, **_SESSION)
            make_schema(connection)
            row = connection.execute("SELECT nextval('transport.consumers')").fetchone()
            assert row is not None
            self._consumer = row[0]
            connection.execute("SELECT pg_advisory_lock(%s, %s)", [CONSUMER_LOCK, self._consumer])
            connection.execute(f"LISTEN {CHANNEL}")
            self._receiving = connection
            self._dry_until = 0.0
        return self._receiving

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable, OSError) as fault:
            if self._receiving is not None:
                with contextlib.suppress(psycopg.Error):
                    self._receiving.close()
            self._receiving = None
            raise Unavailable("The transport's database does not answer.") from fault
