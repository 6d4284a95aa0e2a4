"""The transport on Apache Pulsar: one Shared subscription, references as messages, acknowledged when the work is durable.

Traps of pulsar-client 3.13 that shape this module: `send` can hang far past its timeout, so that messages are sent
asynchronously with a deadline of our own; a full queue fails in the callback only; batching takes a whole batch back with one
negative acknowledge; the client logs to stdout; one client a process, made after any fork. And, measured: after an outage of
100 s it takes another 32 s to come back (it doubles its delay up to a minute), so that what stays cut off is made anew here.
"""

import asyncio
import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pulsar

from jobber import faults
from jobber.errors import Unavailable
from jobber.transport import Delivery, Group, Message
from jobber.transport.pulsar_partitions import Partitions

SUBSCRIPTION = "jobber"
#: Seconds that a publish may take.
PUBLISH_DEADLINE = 5.0
#: Seconds of one receive: with traffic, and when nothing came for a while. Idle, a message waits that long at most; two lanes
#: then cost 1.2 % of a core.
BUSY_SLICE, IDLE_SLICE = 0.001, 0.005
#: Seconds without a message after which a consumer counts as idle.
IDLE_AFTER = 0.05
#: Seconds between two looks whether the broker is still there, and those that the client has to find it again by itself.
LOOK_EVERY, CUT_OFF = 0.5, 3.0
#: Seconds between two tries to connect, and those that a host may take to let us in.
RECONNECT_AFTER, CONNECT_WITHIN = 0.5, 1.0
DEFAULT_PORTS = {"pulsar": 6650, "pulsar+ssl": 6651}


class PulsarPublisher:
    """Publishes; a producer a topic, made when needed and again when it is cut off. One thread of its own does what blocks."""

    def __init__(self, url: str, namespace: str, partitions: Partitions | None = None) -> None:
        self._partitions = partitions or Partitions()
        self._url = url
        self._namespace = namespace
        self._client: pulsar.Client | None = None
        self._producers: dict[str, pulsar.Producer] = {}
        self._thread = ThreadPoolExecutor(1, "pulsar-publish")

    async def publish(self, messages: Sequence[Message]) -> None:
        """Answer once the broker has confirmed every message."""
        if not messages:
            return
        faults.point("transport.before_publish")
        loop = asyncio.get_running_loop()
        # Holds a fault as its result: what nobody comes to await, as sending failed meanwhile, must not be logged as a bug.
        confirmed: asyncio.Future[Unavailable | None] = loop.create_future()
        left = len(messages)

        def one(result: Any) -> None:
            nonlocal left
            left -= 1
            if confirmed.done():
                return
            if result != pulsar.Result.Ok:
                confirmed.set_result(Unavailable(f"The broker did not take a message: {result}."))
            elif left == 0:
                confirmed.set_result(None)

        def callback(result: Any, message_id: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(one, result)

        try:
            async with asyncio.timeout(PUBLISH_DEADLINE):
                await loop.run_in_executor(self._thread, self._send, messages, callback)
                refused = await confirmed
            if refused is not None:
                raise refused
            faults.point("transport.after_publish")
        except TimeoutError as fault:
            self._thread.submit(self._reset)
            raise Unavailable("The broker does not answer.") from fault
        except pulsar.PulsarException as fault:
            self._thread.submit(self._reset)
            raise Unavailable(f"The broker does not answer: {fault}.") from fault
        except Unavailable:
            self._thread.submit(self._reset)
            raise

    async def close(self) -> None:
        """Close producers and client."""
        resetting = asyncio.get_running_loop().run_in_executor(self._thread, self._reset)
        await asyncio.wait({resetting}, timeout=PUBLISH_DEADLINE)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _send(self, messages: Sequence[Message], callback: Any) -> None:
        """Blocking: to find the topics' producers, and to wait for room in their queues."""
        producers = {topic: self._producer(topic) for topic in {message.topic for message in messages}}
        for message in messages:
            producers[message.topic].send_async(message.body, callback, properties=dict(message.properties) or None)

    def _producer(self, topic: str) -> pulsar.Producer:
        known = self._producers.get(topic)
        if known is not None and known.is_connected():
            return known
        if self._client is None:
            self._client = _client(self._url)
        elif known is not None:
            _look_for_broker(self._url)
            _close(self._producers.pop(topic))
        self._partitions.make(_topic(self._namespace, topic))
        self._producers[topic] = self._client.create_producer(
            _topic(self._namespace, topic),
            send_timeout_millis=int(PUBLISH_DEADLINE * 1000),
            block_if_queue_full=True,
            batching_enabled=False,
        )
        return self._producers[topic]

    def _reset(self) -> None:
        """A broken producer may stay broken: begin anew with the next message."""
        client, self._client, self._producers = self._client, None, {}
        _close(client)


class PulsarConsumer:
    """Receives from one multi-topic consumer a group, in turn; acknowledges through the one that received."""

    def __init__(
        self, url: str, namespace: str, groups: Sequence[Group], name: str, partitions: Partitions | None = None
    ) -> None:
        self._partitions = partitions or Partitions()
        self._url = url
        self._namespace = namespace
        self._groups = groups
        self._name = f"{name}@{socket.gethostname()}:{os.getpid()}"
        self._receiving = threading.Lock()
        self._client: pulsar.Client | None = None
        self._consumers: list[pulsar.Consumer] = []
        self._turn = 0
        self._heard = self._look_at = self._retry_at = 0.0
        #: When it was last seen to be connected.
        self._connected = 0.0
        self._closed = False
        self._lock = threading.Lock()
        self._later: list[tuple[float, pulsar.Consumer, Any]] = []

    def receive(self, wait: float) -> list[Delivery]:
        """Messages of the group whose turn it is, or of the next one that has any."""
        deadline = time.monotonic() + wait
        if not self._receiving.acquire(timeout=max(wait, 0)):
            return []
        try:
            return self._receive(deadline)
        except pulsar.PulsarException as fault:
            self._drop()
            raise Unavailable(f"The broker does not answer: {fault}.") from fault
        finally:
            self._receiving.release()

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Forget the messages; what fails comes again."""
        with contextlib.suppress(Unavailable):
            faults.point("transport.before_acknowledge")
            for delivery in deliveries:
                consumer, message = delivery.handle
                with contextlib.suppress(pulsar.PulsarException):
                    consumer.acknowledge(message)
            faults.point("transport.after_acknowledge")

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Let the messages come again: negatively acknowledged after the delay, by whoever receives next."""
        if delay <= 0:
            # At once, whether anything is received here any more or not.
            for delivery in deliveries:
                consumer, message = delivery.handle
                with contextlib.suppress(pulsar.PulsarException):
                    consumer.negative_acknowledge(message)
            return
        due = time.monotonic() + delay
        with self._lock:
            self._later.extend((due, *delivery.handle) for delivery in deliveries)

    def close(self) -> None:
        """Stop receiving; the broker gives what was not acknowledged to others."""
        self._closed = True
        with self._receiving:
            self._drop()

    def _receive(self, deadline: float) -> list[Delivery]:
        idle = False
        while not self._closed:
            consumers = self._open()
            self._hand_back_due()
            # When all is quiet it waits for one after the other; looking at all of them each time would cost twice as much.
            for _ in () if idle else consumers:
                found = self._take(consumers, 0)
                if found:
                    return found
            now = time.monotonic()
            if now >= deadline:
                return []
            idle = now - self._heard > IDLE_AFTER
            found = self._take(consumers, min(IDLE_SLICE if idle else BUSY_SLICE, deadline - now))
            if found:
                return found
        raise Unavailable("The consumer is closed.")

    def _take(self, consumers: list[pulsar.Consumer], wait: float) -> list[Delivery]:
        """Messages of the group whose turn it is, and the turn to the next."""
        place = self._turn % len(consumers)
        self._turn += 1
        found: list[Delivery] = []
        milliseconds = max(round(wait * 1000), 1) if wait > 0 else 0
        with contextlib.suppress(pulsar.Timeout):
            while len(found) < self._groups[place].most:
                try:
                    message = consumers[place].receive(milliseconds)
                except pulsar.Timeout:
                    break
                except pulsar.PulsarException:
                    if found:
                        break
                    raise
                name, properties = _name(message.topic_name()), message.properties()
                found.append(Delivery(name, message.data(), (consumers[place], message), properties))
                milliseconds = 0
        if found:
            self._heard = time.monotonic()
        return found

    def _open(self) -> list[pulsar.Consumer]:
        now = time.monotonic()
        if self._consumers:
            if now < self._look_at:
                return self._consumers
            self._look_at = now + LOOK_EVERY
            if all(consumer.is_connected() for consumer in self._consumers):
                self._connected = now
            if now - self._connected < CUT_OFF:
                return self._consumers
            self._drop()
        if now < self._retry_at:
            raise Unavailable("The broker does not answer.")
        try:
            self._client = _client(self._url)
            self._consumers = [self._subscribe(self._client, group) for group in self._groups]
        except (pulsar.PulsarException, Unavailable):
            self._drop()
            raise
        self._connected = self._look_at = time.monotonic()
        return self._consumers

    def _subscribe(self, client: pulsar.Client, group: Group) -> pulsar.Consumer:
        topics = [_topic(self._namespace, topic) for topic in group.topics]
        for topic in topics:
            self._partitions.make(topic)
        return client.subscribe(
            topics,
            SUBSCRIPTION,
            consumer_type=pulsar.ConsumerType.Shared,
            initial_position=pulsar.InitialPosition.Earliest,
            # What waits here cannot be taken by another executor.
            receiver_queue_size=max(group.most, 2),
            max_total_receiver_queue_size_across_partitions=max(4 * group.most, 16),
            negative_ack_redelivery_delay_ms=100,
            consumer_name=self._name,
        )

    def _hand_back_due(self) -> None:
        if not self._later:
            return
        now = time.monotonic()
        with self._lock:
            due = [item for item in self._later if item[0] <= now]
            self._later = [item for item in self._later if item[0] > now]
        for _, consumer, message in due:
            with contextlib.suppress(pulsar.PulsarException):
                consumer.negative_acknowledge(message)

    def _drop(self) -> None:
        client, self._client, self._consumers = self._client, None, []
        self._retry_at = time.monotonic() + RECONNECT_AFTER
        _close(client)


def _client(url: str) -> pulsar.Client:
    """A client of a broker that lets us in. Raises Unavailable."""
    _look_for_broker(url)
    return pulsar.Client(
        url,
        io_threads=1,
        message_listener_threads=1,
        operation_timeout_seconds=5,
        connection_timeout_ms=3000,
        # It would write a line to stdout at each try; that the broker is away is said once, by whoever needs it.
        logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull),
    )


def _look_for_broker(url: str) -> None:
    """Raise Unavailable unless one of the hosts lets us in: the client itself would try for its whole timeout."""
    parts = urlsplit(url)
    reason: OSError | None = None
    for place in parts.netloc.split(","):
        host = urlsplit(f"//{place}")
        try:
            address = (host.hostname or "localhost", host.port or DEFAULT_PORTS.get(parts.scheme, 6650))
            socket.create_connection(address, CONNECT_WITHIN).close()
            return
        except OSError as fault:
            reason = fault
    raise Unavailable(f"The broker does not answer: {reason}.")


def _topic(namespace: str, name: str) -> str:
    return f"persistent://{namespace}/jobber.{quote(name, safe='')}"


def _name(topic: str) -> str:
    return unquote(re.sub(r"-partition-\d+$", "", topic.rpartition("/jobber.")[2]))


def _close(closable: pulsar.Client | pulsar.Producer | None) -> None:
    """Closing waits for a broker that may be gone: it is given a second, and then left to end by itself."""
    if closable is None:
        return

    def close() -> None:
        with contextlib.suppress(Exception):
            closable.close()

    thread = threading.Thread(target=close, name="pulsar-close", daemon=True)
    thread.start()
    thread.join(1)
