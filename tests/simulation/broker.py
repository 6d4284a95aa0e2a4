"""A transport that keeps its port's promises (jobber/transport) and not one more: it repeats, reorders, forgets, is wiped."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobber.errors import Unavailable
from jobber.transport import Delivery, Group, Message
from tests.simulation.kernel import Kernel, Process


@dataclass(eq=False)
class Held:
    """A message, and who has it now."""

    message: Message
    visible_at: float = 0.0
    holder: Process | None = None
    life: int = 0
    old: list[Process] = field(default_factory=list)


class Broker:
    """The broker's process and memory."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.messages: list[Held] = []
        self.down_until = 0.0
        #: Chance that a delivered message is delivered to another one too.
        self.repeats = 0.0
        #: Chance that an acknowledge is forgotten.
        self.forgets = 0.0
        #: Everything that was ever published: some of it comes again, long after.
        self.history: list[Message] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        """The port's; when it fails some got through."""
        self.kernel.step()
        for message in messages:
            if self.kernel.now < self.down_until:
                raise Unavailable("the broker is down")
            self.messages.append(Held(message))
            self.history.append(message)
        self.kernel.step()
        if self.kernel.now < self.down_until:
            raise Unavailable("the broker's answer was lost")

    async def close(self) -> None:
        """Nothing is held."""

    def client_died(self, process: Process) -> None:
        """What it held comes again."""
        for held in self.messages:
            if held.holder is process:
                held.holder = None

    def wipe(self) -> None:
        """The broker lost all its data."""
        self.messages.clear()

    def haunt(self) -> None:
        """An old message appears once more."""
        if self.history:
            self.messages.append(Held(self.kernel.random.choice(self.history)))


class Consumer:
    """One process's subscription."""

    def __init__(self, broker: Broker, process: Process, groups: Sequence[Group]) -> None:
        self._broker = broker
        self._process = process
        self._life = process.life
        self._groups = groups
        self._turn = 0

    def receive(self, wait: float) -> list[Delivery]:
        """The port's."""
        broker, kernel = self._broker, self._broker.kernel
        kernel.step()
        if kernel.now < broker.down_until:
            raise Unavailable("the broker is down")
        for _ in self._groups:
            group = self._groups[self._turn % len(self._groups)]
            self._turn += 1
            ready = [
                held
                for held in broker.messages
                if held.holder is None and held.visible_at <= kernel.now and held.message.topic in group.topics
            ]
            if ready:
                kernel.random.shuffle(ready)
                return [self._hand(held) for held in ready[: group.most]]
        return []

    def _hand(self, held: Held) -> Delivery:
        if not (self._broker.repeats and self._broker.kernel.random.random() < self._broker.repeats):
            held.holder, held.life = self._process, self._life
        return Delivery(held.message.topic, held.message.body, held)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """The port's."""
        kernel, messages = self._broker.kernel, self._broker.messages
        kernel.step()
        if kernel.now < self._broker.down_until:
            self.hand_back(deliveries, 0)
            return
        for delivery in deliveries:
            forgotten = self._broker.forgets and kernel.random.random() < self._broker.forgets
            if forgotten:
                delivery.handle.holder = None
            elif delivery.handle in messages:
                messages.remove(delivery.handle)

    def hand_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """The port's."""
        for delivery in deliveries:
            delivery.handle.holder = None
            delivery.handle.visible_at = self._broker.kernel.now + delay

    def close(self) -> None:
        """What it held comes again."""
        self._broker.client_died(self._process)
