"""The Pulsar transport while its broker is killed, wiped and frozen. (What every transport owes: tests/contract.)"""

import asyncio
import signal
import time
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from jobber.errors import Unavailable
from jobber.local.pulsar import PulsarStandalone
from jobber.transport import Delivery, Group, Message
from jobber.transport.pulsar import PulsarConsumer, PulsarPublisher

pytestmark = pytest.mark.pulsar
NAMESPACE = "public/default"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulsarStandalone]:
    """A broker of this module's own, to be mistreated."""
    broker = PulsarStandalone(tmp_path_factory.mktemp("own-pulsar"))
    broker.start()
    yield broker
    broker.kill()


class Room:
    """A publisher and a consumer that live through everything, on a topic of their own."""

    def __init__(self, url: str) -> None:
        self.topic = f"{uuid.uuid4().hex[:8]}.fast"
        self.publisher = PulsarPublisher(url, NAMESPACE)
        self.consumer = PulsarConsumer(url, NAMESPACE, [Group((self.topic,), 10)], "test")

    async def publish(self, *bodies: bytes) -> None:
        await self.publisher.publish([Message(self.topic, body) for body in bodies])

    async def publish_at_last(self, *bodies: bytes) -> None:
        """As the jobs service does: again, until it works."""
        for _ in range(100):
            try:
                return await self.publish(*bodies)
            except Unavailable:
                await asyncio.sleep(0.2)
        raise AssertionError("the publisher never came back")

    async def receive(self, patience: float, enough: int = 1000) -> list[Delivery]:
        """What comes, over any outage, until there is enough."""

        def run() -> list[Delivery]:
            found: list[Delivery] = []
            deadline = time.monotonic() + patience
            while len(found) < enough and time.monotonic() < deadline:
                try:
                    found += self.consumer.receive(0.2)
                except Unavailable:
                    time.sleep(0.1)
            return found

        return await asyncio.to_thread(run)

    async def is_unavailable(self, within: float) -> bool:
        """Whether publishing and receiving say so."""
        with pytest.raises(Unavailable):
            await asyncio.wait_for(self.publish(b"lost"), within)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                await asyncio.to_thread(self.consumer.receive, 0.2)
            except Unavailable:
                return True
        return False

    async def close(self) -> None:
        await self.publisher.close()
        await asyncio.to_thread(self.consumer.close)


async def test_a_killed_broker_comes_back_with_what_it_had_confirmed(broker: PulsarStandalone) -> None:
    room = Room(broker.url)
    assert await room.receive(0.2) == []
    bodies = {b"%d" % number for number in range(50)}
    await room.publish(*bodies)
    held = await room.receive(10, 10)
    broker.kill()
    assert await room.is_unavailable(12)
    # Harmless: they come again.
    room.consumer.acknowledge(held)
    room.consumer.hand_back(held[:1], 0)
    await asyncio.to_thread(broker.start)
    began = time.monotonic()
    await room.publish_at_last(b"after")
    found = {item.body for item in await room.receive(10, 51)}
    assert found >= bodies | {b"after"}
    assert time.monotonic() - began < 20
    await room.close()


async def test_a_wiped_broker_is_as_good_as_a_new_one(broker: PulsarStandalone) -> None:
    room = Room(broker.url)
    assert await room.receive(0.2) == []
    await room.publish(b"before")
    broker.kill()
    broker.wipe()
    await asyncio.to_thread(broker.start)
    await room.publish_at_last(b"after")
    found = [item.body for item in await room.receive(20, 1)]
    assert found == [b"after"]
    await room.close()


async def test_a_deleted_topic_is_made_again(broker: PulsarStandalone) -> None:
    room = Room(broker.url)
    await room.publish(b"before")
    room.consumer.acknowledge(await room.receive(10, 1))
    address = f"{broker.admin_url}/admin/v2/persistent/{NAMESPACE}/jobber.{room.topic}?force=true"

    def delete() -> None:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            urllib.request.Request(address, method="DELETE"), timeout=20
        ):
            pass

    await asyncio.to_thread(delete)
    await room.publish_at_last(b"after")
    assert b"after" in {item.body for item in await room.receive(15, 1)}
    await room.close()


async def test_a_frozen_broker_is_waited_for(broker: PulsarStandalone) -> None:
    room = Room(broker.url)
    await room.publish(b"1")
    room.consumer.acknowledge(await room.receive(10, 1))
    assert broker.process
    broker.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(room.publish(b"2"), 12)
        # The loop's own threads stay free: the next one is answered in time, too.
        with pytest.raises(Unavailable):
            await asyncio.wait_for(room.publish(b"3"), 12)
    finally:
        broker.process.send_signal(signal.SIGCONT)
    await room.publish_at_last(b"4")
    found: set[bytes] = set()
    for _ in range(20):
        found |= {item.body for item in await room.receive(1, 1)}
        if b"4" in found:
            break
    assert b"4" in found
    await room.close()
