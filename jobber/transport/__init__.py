"""The port through which batches reach executors: publish, receive some, acknowledge, hand back.

A transport need not remember: the database alone is the truth, and the jobs service re-issues what a transport lost. It must
not lose what it holds while its consumer lives, must deliver again what was not acknowledged when its consumer dies, and may
deliver anything more than once, in any order. Adapters: `pulsar` (production) and `postgres` (embedded default); one contract
suite runs on both (tests/contract).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """What is published: a reference to work, never the work itself."""

    topic: str
    body: bytes
    #: What travels beside it, and no work depends on.
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message, handed to one consumer, which must acknowledge it or hand it back."""

    topic: str
    body: bytes
    #: The adapter's own handle.
    handle: Any
    #: As published.
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Topics that are received together (a lane), and how many of their messages at once."""

    topics: tuple[str, ...]
    most: int = 1


class Publisher(Protocol):
    """Publishes; used by the jobs service, from its event loop."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Answer once the transport holds every message.

        Raises Unavailable when it does not within a few seconds; some of the messages may have got through all the same.
        """

    async def close(self) -> None:
        """Let go of connections."""


class Consumer(Protocol):
    """Receives from its topics, sharing them with other consumers. Blocking; methods may be called from several threads."""

    def receive(self, wait: float) -> list[Delivery]:
        """Messages of one group that nobody else holds; returns at once when there are any, else after `wait` seconds, empty.

        Groups are served in turn, so that none starves another. Raises Unavailable when the transport does not answer;
        calling again later is right.
        """

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Forget the messages for good. A failure is not raised: they will come again, which is harmless."""

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Let the messages come again, to anyone, after about `delay` seconds."""

    def close(self) -> None:
        """Stop receiving; what was not acknowledged comes again to others."""
