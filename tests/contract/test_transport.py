"""What every transport owes, held against each of them: PostgreSQL always, Apache Pulsar where it is asked for."""

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobber.errors import Unavailable
from jobber.local.pulsar import PulsarStandalone
from jobber.settings import TransportSettings
from jobber.transport import Consumer, Delivery, Group, Message
from jobber.transport.connect import open_consumer, open_publisher

HOLDER = """
import sys, time
from jobber.settings import TransportSettings
from jobber.transport import Group
from jobber.transport.connect import open_consumer
settings = TransportSettings(**{sys.argv[1]: sys.argv[2], "transport": sys.argv[3]})
consumer = open_consumer(settings, [Group((sys.argv[4],), 10)], "held")
print(len(consumer.receive(10)), flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="session")
def pulsar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real broker for the whole session; a missing Java is an error."""
    broker = PulsarStandalone(tmp_path_factory.mktemp("pulsar"))
    broker.start()
    yield broker.url
    broker.stop()


@pytest.fixture(params=["postgres", pytest.param("pulsar", marks=pytest.mark.pulsar)])
def settings(request: pytest.FixtureRequest) -> TransportSettings:
    if request.param == "postgres":
        return TransportSettings(transport="postgres", transport_database_url=request.getfixturevalue("database"))
    return TransportSettings(transport="pulsar", pulsar_service_url=request.getfixturevalue("pulsar"))


class Post:
    """Publishes and receives on topics of one test's own."""

    def __init__(self, settings: TransportSettings) -> None:
        self.settings = settings
        self.prefix = uuid.uuid4().hex[:8]
        self.consumers: list[Consumer] = []

    def topic(self, name: str = "a") -> str:
        return f"{self.prefix}-{name}.fast"

    def fresh(self, *groups: tuple[tuple[str, ...], int]) -> Consumer:
        """A consumer that has not connected yet."""
        wanted = [Group(tuple(self.topic(name) for name in names), most) for names, most in groups or [(("a",), 10)]]
        consumer = open_consumer(self.settings, wanted, "test")
        self.consumers.append(consumer)
        return consumer

    def consumer(self, *groups: tuple[tuple[str, ...], int]) -> Consumer:
        """One that has connected, before anything was published."""
        consumer = self.fresh(*groups)
        assert consumer.receive(0) == []
        return consumer

    def publish(self, *bodies: bytes, to: str = "a") -> None:
        async def run() -> None:
            publisher = await open_publisher(self.settings)
            await publisher.publish([Message(self.topic(to), body) for body in bodies])
            await publisher.close()

        asyncio.run(run())


@pytest.fixture
def post(settings: TransportSettings) -> Iterator[Post]:
    made = Post(settings)
    yield made
    for consumer in made.consumers:
        consumer.close()


def gather(consumer: Consumer, count: int, settle: Callable[[list[Delivery]], None], patience: float = 20) -> list[bytes]:
    """Bodies received until there are `count`, or patience ends."""
    found: list[bytes] = []
    deadline = time.monotonic() + patience
    while len(found) < count and time.monotonic() < deadline:
        deliveries = consumer.receive(0.5)
        settle(deliveries)
        found += [delivery.body for delivery in deliveries]
    return found


def test_what_is_published_is_received_with_its_topic(post: Post) -> None:
    consumer = post.consumer()
    post.publish(b"1", b"2")
    received: list[Delivery] = []
    while len(received) < 2:
        received += consumer.receive(10)
    assert sorted((item.topic, item.body) for item in received) == [(post.topic(), b"1"), (post.topic(), b"2")]


def test_what_was_published_before_anybody_received_is_there(post: Post) -> None:
    post.publish(b"early")
    first = post.fresh()
    assert gather(first, 1, first.acknowledge) == [b"early"]


def test_to_publish_nothing_is_nothing(post: Post) -> None:
    post.publish()


def test_nothing_is_received_when_there_is_nothing(post: Post) -> None:
    assert post.consumer().receive(0.2) == []


def test_each_message_goes_to_one_consumer(post: Post) -> None:
    bodies = sorted(b"%d" % number for number in range(200))
    found: list[bytes] = []

    def consume(consumer: Consumer) -> int:
        mine, quiet = 0, 0
        while quiet < (3 if len(found) >= len(bodies) else 100):
            deliveries = consumer.receive(0.2)
            consumer.acknowledge(deliveries)
            found.extend(item.body for item in deliveries)
            mine, quiet = mine + len(deliveries), 0 if deliveries else quiet + 1
            time.sleep(0.005)
        return mine

    consumers = [post.consumer((("a",), 5)), post.consumer((("a",), 5))]
    post.publish(*bodies)
    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(consume, consumers))
    assert sorted(found) == bodies
    assert min(shares) > 0


def test_threads_may_receive_from_one_consumer(post: Post) -> None:
    consumer = post.consumer((("a",), 5))
    bodies = sorted(b"%d" % number for number in range(200))
    post.publish(*bodies)
    found: list[bytes] = []

    def consume(_: int) -> None:
        deadline = time.monotonic() + 20
        while len(found) < len(bodies) and time.monotonic() < deadline:
            deliveries = consumer.receive(0.2)
            consumer.acknowledge(deliveries)
            found.extend(item.body for item in deliveries)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(consume, range(4)))
    assert sorted(found) == bodies


def test_a_waiting_consumer_is_woken(post: Post) -> None:
    consumer = post.consumer((("a",), 5), (("b",), 5))
    late = 0.0
    with ThreadPoolExecutor(1) as pool:
        for _ in range(10):
            waiting = pool.submit(consumer.receive, 30)
            time.sleep(0.1)
            post.publish(b"1", to="b")
            published = time.monotonic()
            consumer.acknowledge(waiting.result())
            late += time.monotonic() - published
    # A few milliseconds each; to look by itself once a second would be several seconds.
    assert late < 1.5


def test_topics_of_any_name_are_told_apart(post: Post) -> None:
    names = ("a", "a.b", "a/b", "a%2Fb", "ä ö", "a-partition-1")
    consumer = post.consumer((names, 10))
    for name in names:
        post.publish(name.encode(), to=name)
    received: list[Delivery] = []
    while len(received) < len(names):
        found = consumer.receive(10)
        assert found
        received += found
    assert {(item.topic, item.body) for item in received} == {(post.topic(name), name.encode()) for name in names}


def test_what_is_acknowledged_does_not_come_again(post: Post) -> None:
    consumer = post.consumer()
    post.publish(b"1")
    assert gather(consumer, 1, consumer.acknowledge) == [b"1"]
    time.sleep(1.2)
    consumer.close()
    assert gather(post.fresh(), 1, lambda _: None, 2) == []


def test_what_is_not_acknowledged_comes_again_when_its_consumer_closes(post: Post) -> None:
    first, second = post.consumer(), post.consumer()
    post.publish(b"1")
    held: list[Consumer] = []
    while not held:
        held = [consumer for consumer in (first, second) if consumer.receive(0.3)]
    other = second if held[0] is first else first
    held[0].close()
    assert gather(other, 1, other.acknowledge) == [b"1"]


def test_what_a_killed_process_held_comes_again(post: Post, settings: TransportSettings) -> None:
    key = "pulsar_service_url" if settings.transport == "pulsar" else "transport_database_url"
    arguments = [key, settings.url, str(settings.transport), post.topic()]
    post.consumer().close()
    with subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True) as holder:
        time.sleep(1)
        post.publish(b"1")
        assert holder.stdout
        assert holder.stdout.readline().strip() == "1"
        holder.kill()
    consumer = post.fresh()
    assert gather(consumer, 1, consumer.acknowledge) == [b"1"]


def test_what_is_handed_back_comes_again_later(post: Post) -> None:
    consumer = post.consumer()
    post.publish(b"1")
    assert gather(consumer, 1, lambda items: consumer.hand_back(items, 1.5)) == [b"1"]
    assert consumer.receive(0.5) == []
    assert gather(consumer, 1, consumer.acknowledge) == [b"1"]


def test_what_is_handed_back_goes_to_others_too(post: Post) -> None:
    first, second = post.consumer(), post.consumer()
    post.publish(b"1")
    held: list[Delivery] = []
    while not held:
        for consumer, other in ((first, second), (second, first)):
            held = held or consumer.receive(0.3)
            if held:
                consumer.hand_back(held, 0)
                consumer.receive(0)
                consumer.close()
                assert gather(other, 1, other.acknowledge) == [b"1"]
                break


def test_what_is_handed_back_too_late_disturbs_nobody(post: Post) -> None:
    first = post.consumer()
    post.publish(b"1")
    held = first.receive(10)
    first.close()
    second = post.fresh()
    again = second.receive(10)
    assert [item.body for item in again] == [b"1"]
    first.hand_back(held, 0)
    assert second.receive(1.5) == []
    second.acknowledge(again)


def test_a_closed_consumer_receives_nothing_and_takes_no_harm(post: Post) -> None:
    consumer = post.consumer()
    post.publish(b"1")
    held = consumer.receive(10)
    consumer.close()
    consumer.close()
    consumer.acknowledge(held)
    with pytest.raises(Unavailable):
        consumer.receive(0)


def test_a_consumer_can_be_closed_while_it_waits(post: Post) -> None:
    consumer = post.consumer()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(consumer.receive, 60)
        time.sleep(0.2)
        consumer.close()
        with pytest.raises(Unavailable):
            waiting.result(10)


def test_groups_take_turns(post: Post) -> None:
    consumer = post.consumer((("bulk",), 1), (("a",), 10))
    post.publish(*(b"bulk" for _ in range(50)), to="bulk")
    post.publish(b"small")
    time.sleep(0.5)
    found: list[bytes] = []
    for _ in range(6):
        deliveries = consumer.receive(1)
        consumer.acknowledge(deliveries)
        found += [item.body for item in deliveries]
    assert b"small" in found
    assert found.count(b"bulk") >= 2


def test_topics_of_a_group_take_turns(post: Post) -> None:
    consumer = post.consumer((("a", "b"), 1))
    post.publish(*(b"many" for _ in range(50)), to="a")
    post.publish(*(b"few" for _ in range(2)), to="b")
    time.sleep(0.5)
    found = [body for _ in range(20) for body in gather(consumer, 1, consumer.acknowledge)]
    assert found.count(b"few") == 2


def test_a_group_gives_no_more_than_its_most(post: Post) -> None:
    consumer = post.consumer((("a",), 3))
    post.publish(*(b"%d" % number for number in range(10)))
    seen = 0
    while seen < 10:
        deliveries = consumer.receive(5)
        assert 0 < len(deliveries) <= 3
        consumer.acknowledge(deliveries)
        seen += len(deliveries)


def test_thousands_arrive_and_are_acknowledged_from_many_threads(post: Post) -> None:
    consumer = post.consumer((("a",), 50))
    count = 5000
    for start in range(0, count, 500):
        post.publish(*(b"%d" % number for number in range(start, start + 500)))
    found: list[bytes] = []
    with ThreadPoolExecutor(4) as pool:
        deadline = time.monotonic() + 60
        while len(found) < count and time.monotonic() < deadline:
            deliveries = consumer.receive(1)
            found += [item.body for item in deliveries]
            pool.submit(consumer.acknowledge, deliveries)
    assert sorted(found) == sorted(b"%d" % number for number in range(count))


@pytest.mark.parametrize(
    "away",
    [
        TransportSettings(transport="postgres", transport_database_url="postgresql://u:p@127.0.0.1:1/x"),
        TransportSettings(transport="pulsar", pulsar_service_url="pulsar://127.0.0.1:1"),
    ],
    ids=["postgres", "pulsar"],
)
def test_a_transport_that_is_away_is_unavailable(away: TransportSettings) -> None:
    began = time.monotonic()
    consumer = open_consumer(away, [Group(("a.fast",), 1)], "test")
    for _ in range(3):
        with pytest.raises(Unavailable):
            consumer.receive(0.1)
    consumer.close()

    async def publish() -> None:
        publisher = await open_publisher(away)
        try:
            await publisher.publish([Message("a.fast", b"1")])
        finally:
            await publisher.close()

    with pytest.raises(Unavailable):
        asyncio.run(publish())
    assert time.monotonic() - began < 20
