"""The transport on Apache Pulsar: one Shared subscription, references as messages, acknowledged when the work is durable.

Traps of pulsar-client 3.13 that shape this module: `send` can hang far past its timeout, so that messages are sent
asynchronously with a deadline of our own; a full queue fails in the callback only; batching takes a whole batch back with one
negative acknowledge; the client logs to stdout; one client a process, made after any fork.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import pulsar

from jobber.errors import Unavailable
from jobber.transport import Delivery, Group, Message

SUBSCRIPTION = "jobber"
#: Seconds that a publish may take.
PUBLISH_DEADLINE = 5.0
#: Milliseconds of one receive: with traffic, and when nothing came for a while. Idle, a message waits that long at most.
BUSY_SLICE, IDLE_SLICE = 1, 5
#: Seconds without a message after which a consumer counts as idle.
IDLE_AFTER = 0.05
#: Seconds between two tries to connect.
RECONNECT_AFTER = 1.0


def _client(url: str) -> pulsar.Client:
    return pulsar.Client(
        url,
        io_threads=1,
        message_listener_threads=1,
        operation_timeout_seconds=5,
        connection_timeout_ms=3000,
        # It would write a line to stdout at each try; that the broker is away is said once, by whoever needs it.
        logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull),
    )


def _topic(namespace: str, name: str) -> str:
    return f"persistent://{namespace}/jobber.{name}"


class PulsarPublisher:
    """Publishes; a producer a topic, made when needed and again when it fails."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._namespace = namespace
        self._client: pulsar.Client | None = None
        self._producers: dict[str, pulsar.Producer] = {}
        self._lock = threading.Lock()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Answer once the broker has confirmed every message."""
        loop = asyncio.get_running_loop()
        confirmed: asyncio.Future[None] = loop.create_future()
        left = len(messages)

        def one(result: Any) -> None:
            nonlocal left
            left -= 1
            if confirmed.done():
                return
            if result != pulsar.Result.Ok:
                confirmed.set_exception(Unavailable(f"The broker did not take a message: {result}."))
            elif left == 0:
                confirmed.set_result(None)

        def callback(result: Any, message_id: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(one, result)

        try:
            async with asyncio.timeout(PUBLISH_DEADLINE):
                producers = await asyncio.to_thread(self._ready, {message.topic for message in messages})
                for message in messages:
                    producers[message.topic].send_async(message.body, callback)
                await confirmed
        except TimeoutError as fault:
            await asyncio.to_thread(self._reset)
            raise Unavailable("The broker does not answer.") from fault
        except pulsar.PulsarException as fault:
            await asyncio.to_thread(self._reset)
            raise Unavailable(f"The broker does not answer: {fault}.") from fault
        except Unavailable:
            await asyncio.to_thread(self._reset)
            raise

    async def close(self) -> None:
        """Close producers and client."""
        await asyncio.to_thread(self._reset)

    def _ready(self, topics: set[str]) -> dict[str, pulsar.Producer]:
        """Blocking: a producer for every topic."""
        with self._lock:
            if self._client is None:
                self._client = _client(self._url)
            for topic in topics - self._producers.keys():
                self._producers[topic] = self._client.create_producer(
                    _topic(self._namespace, topic),
                    send_timeout_millis=int(PUBLISH_DEADLINE * 1000),
                    block_if_queue_full=True,
                    batching_enabled=False,
                )
            return dict(self._producers)

    def _reset(self) -> None:
        """A broken producer may stay broken: begin anew with the next message."""
        with self._lock:
            client, self._client, self._producers = self._client, None, {}
        _close(client)


class PulsarConsumer:
    """Receives from one multi-topic consumer a group, in turn; acknowledges through the one that received."""

    def __init__(self, url: str, namespace: str, groups: Sequence[Group], name: str) -> None:
        self._url = url
        self._namespace = namespace
        self._groups = groups
        self._name = name
        self._client: pulsar.Client | None = None
        self._consumers: list[pulsar.Consumer] = []
        self._turn = 0
        self._heard = 0.0
        self._retry_at = 0.0
        self._closed = False
        self._lock = threading.Lock()
        self._later: list[tuple[float, pulsar.Consumer, Any]] = []

    def receive(self, wait: float) -> list[Delivery]:
        """Messages of the group whose turn it is, or of the next one that has any."""
        deadline = time.monotonic() + wait
        consumers = self._open()
        while True:
            self._hand_back_due()
            for _ in consumers:
                place = self._turn % len(consumers)
                self._turn += 1
                found = self._take(consumers[place], self._groups[place].most)
                if found:
                    self._heard = time.monotonic()
                    return found
            if time.monotonic() >= deadline:
                return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Forget the messages; what fails comes again."""
        for delivery in deliveries:
            consumer, message = delivery.handle
            with contextlib.suppress(pulsar.PulsarException):
                consumer.acknowledge(message)

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Let the messages come again: negatively acknowledged after the delay, by whoever receives next."""
        due = time.monotonic() + delay
        with self._lock:
            self._later.extend((due, *delivery.handle) for delivery in deliveries)

    def close(self) -> None:
        """Stop receiving; the broker gives what was not acknowledged to others."""
        self._closed = True
        self._drop()

    def _take(self, consumer: pulsar.Consumer, most: int) -> list[Delivery]:
        slice_ = IDLE_SLICE if time.monotonic() - self._heard > IDLE_AFTER else BUSY_SLICE
        found: list[Delivery] = []
        try:
            while len(found) < most:
                message = consumer.receive(slice_)
                topic = message.topic_name().rpartition("/jobber.")[2].partition("-partition-")[0]
                found.append(Delivery(topic, message.data(), (consumer, message)))
                slice_ = BUSY_SLICE
        except pulsar.Timeout:
            pass
        except pulsar.PulsarException as fault:
            if not found:
                self._drop()
                raise Unavailable(f"The broker does not answer: {fault}.") from fault
        return found

    def _open(self) -> list[pulsar.Consumer]:
        if self._closed:
            raise Unavailable("The consumer is closed.")
        if self._consumers:
            return self._consumers
        if time.monotonic() < self._retry_at:
            raise Unavailable("The broker does not answer.")
        client = _client(self._url)
        try:
            consumers = [
                client.subscribe(
                    [_topic(self._namespace, topic) for topic in group.topics],
                    SUBSCRIPTION,
                    consumer_type=pulsar.ConsumerType.Shared,
                    initial_position=pulsar.InitialPosition.Earliest,
                    # What waits here cannot be taken by another executor.
                    receiver_queue_size=max(group.most, 2),
                    max_total_receiver_queue_size_across_partitions=max(4 * group.most, 16),
                    negative_ack_redelivery_delay_ms=100,
                    consumer_name=None,
                )
                for group in self._groups
            ]
        except pulsar.PulsarException as fault:
            self._retry_at = time.monotonic() + RECONNECT_AFTER
            _close(client)
            raise Unavailable(f"The broker does not answer: {fault}.") from fault
        self._client, self._consumers = client, consumers
        return consumers

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
        _close(client)


def _close(client: pulsar.Client | None) -> None:
    """Closing waits for a broker that may be gone: it is given a second, and then left to end by itself."""
    if client is None:
        return

    def close() -> None:
        with contextlib.suppress(Exception):
            client.close()

    thread = threading.Thread(target=close, name="pulsar-close", daemon=True)
    thread.start()
    thread.join(1)
