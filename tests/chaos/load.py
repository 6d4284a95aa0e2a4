"""A steady load: files, small jobs, cancels, logins, followers and lookers-on, each at its own pace until told to stop."""

import contextlib
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from jobber import errors
from jobber.cli.client import Client
from jobber.model import State
from tests.support.inputs import write_csv
from tests.support.live import PROGRESS, Live
from tests.support.system import System

ROWS = 20_000
#: Seconds between two of a kind.
PACES = {"file": 3.0, "small": 0.25, "computed": 2.0, "cancel": 10.0, "login": 5.0, "look": 1.0, "follow": 2.0, "rejects": 5.0}
LIST = "{ jobsConnection(first: 20) { edges { node { id name state progress { counts { total inserted rejected } } } } } }"
CANCEL = "mutation($id: ID!) { jobCancel(id: $id) { job { state } userErrors { code } } }"


class Load:
    """Threads that ask a running system for work; an answer that must not be ends it, with `fault`."""

    def __init__(self, system: System, folder: Path, *, leak: bool = False) -> None:
        self._system = system
        self._leak = leak
        self._enough = threading.Event()
        self._products = write_csv(folder / "products.csv", ROWS)
        #: How often each was done.
        self.done: Counter[str] = Counter()
        self.fault: BaseException | None = None
        kinds: dict[str, Callable[[Client], None]] = {kind: getattr(self, f"_{kind}") for kind in PACES}
        self._threads = [threading.Thread(target=self._repeat, args=(kind, work)) for kind, work in kinds.items()]
        self._last = ""

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Until nobody asks any more. Raises what went wrong."""
        self._enough.set()
        for thread in self._threads:
            thread.join()
        if self.fault is not None:
            raise self.fault

    def _repeat(self, kind: str, work: Callable[[Client], None]) -> None:
        admin = self._system.state["admin"]
        client = self._system.login(admin["email"], admin["password"])
        try:
            following = time.monotonic()
            while not self._enough.is_set():
                work(client)
                self.done[kind] += 1
                # What took longer than its pace is not made up for: the load stays steady.
                following = max(following + PACES[kind], time.monotonic())
                self._enough.wait(following - time.monotonic())
        except BaseException as fault:
            self.fault = fault
            self._enough.set()

    def _submitted(self, client: Client) -> str:
        stored = client.upload(self._products)
        return client.execute("LoadProducts", {"fileName": stored["id"]}).id

    def _ended(self, client: Client, job_id: str) -> None:
        for seen in client.follow(job_id):
            if seen.state is State.FAILED:
                raise AssertionError(f"a good job failed: {seen}")
            if self._enough.is_set():
                return

    def _file(self, client: Client) -> None:
        self._last = self._submitted(client)
        self._ended(client, self._last)

    def _small(self, client: Client) -> None:
        records = [{"name": f"Small {random.random()}", "price": number} for number in range(10)]
        self._ended(client, client.execute("LoadProducts", records).id)

    def _computed(self, client: Client) -> None:
        if self._leak:
            self._ended(client, client.execute("Leaky", [{"n": 1}]).id)
        self._ended(client, client.execute("Fibonacci", [{"iterations": n} for n in range(0, 1000, 10)]).id)

    def _cancel(self, client: Client) -> None:
        job_id = self._submitted(client)
        self._enough.wait(random.random() * 0.3)
        client.ask(CANCEL, {"id": job_id})

    def _login(self, client: Client) -> None:
        admin = self._system.state["admin"]
        with contextlib.closing(Client(self._system.state["jobs"], self._system.state["auth"])) as another:
            another.login(admin["email"], admin["password"])
            another.ask("{ jobsConnection(first: 1) { edges { node { id } } } }")

    def _look(self, client: Client) -> None:
        client.ask(LIST)

    def _follow(self, client: Client) -> None:
        """A subscription to its end, and one that goes away in the middle."""
        job_id = client.execute("LoadProducts", [{"name": "Followed", "price": 1}]).id
        whole = Live(self._system.state["jobs"], client.token, PROGRESS, id=job_id)
        broken_off = Live(self._system.state["jobs"], client.token, PROGRESS, id=job_id)
        broken_off.close()
        whole.rest()
        whole.close()

    def _rejects(self, client: Client) -> None:
        if self._last:
            with contextlib.suppress(errors.NotFound):
                client.download(f"/jobs/{self._last}/rejects.csv", io.BytesIO())
