"""Calls between processes: requests and replies get lost, servers die and freeze while they work, callers give up."""

from collections.abc import Callable
from typing import TypeVar

from jobber.errors import Unavailable
from pipelines.retry import FIRST_DELAY, LONGEST_DELAY, PATIENCE
from tests.simulation.kernel import Kernel, Process

T = TypeVar("T")

#: Seconds that a call waits for its answer.
DEADLINE = 15.0


class Network:
    """Who can be called by name, and how badly."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.services: dict[str, list[Process]] = {}
        #: Chance that a request, or a reply, is lost.
        self.loss = 0.0

    def call(self, service: str, work: Callable[[Process], T], deadline: float = DEADLINE) -> T:
        """Have one replica do the work. Raises Unavailable: it was not done, or only the reply was lost."""
        kernel = self.kernel
        kernel.step()
        replicas = [process for process in self.services[service] if process.alive]
        if not replicas or self._lost():
            raise Unavailable(f"{service} does not answer")
        server = replicas[int(kernel.random.random() * len(replicas))]
        life = server.life
        thread = server.spawn(lambda: work(server))
        thread.asked = True
        kernel.wait(lambda: thread.done or server.life != life or not server.alive, deadline)
        if thread.fault is not None:
            raise thread.fault
        if not thread.done or server.life != life or not server.alive or self._lost():
            raise Unavailable(f"{service} did not reply")
        answer: T = thread.answer
        return answer

    def insist(self, call: Callable[[], T]) -> T:
        """What the services' clients do (pipelines.retry): try again for PATIENCE seconds. Raises Unavailable after that."""
        until, delay = self.kernel.now + PATIENCE, FIRST_DELAY
        while True:
            try:
                return call()
            except Unavailable:
                if self.kernel.now > until:
                    raise
            self.kernel.sleep(delay * (0.5 + self.kernel.random.random()))
            delay = min(delay * 2, LONGEST_DELAY)

    def _lost(self) -> bool:
        return bool(self.loss) and self.kernel.random.random() < self.loss
