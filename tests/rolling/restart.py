"""A rolling restart under load: two replicas of each service, a large load, submissions going on, followers over WebSocket.

Every replica gets SIGTERM in turn, and the next one only when its successor is ready, as Kubernetes does it. Afterwards every
row is counted, and every request that failed must have been cured by sending it again.
"""

import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from jobber import errors
from jobber.cli.client import Client, Job
from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.system import System, until

T = TypeVar("T")
Tell = Callable[[str], None]

ORDER = ("executor", "products", "jobs", "auth")
#: Seconds that a request may be sent again and again before it counts as failed; between two tries; for a replica's restart.
CURE, AGAIN, RESTART = 20.0, 0.1, 60.0
#: How a service that is restarted closes a WebSocket: service restart, going away (RFC 6455 7.4.1).
CLEAN = {1001, 1012}
DRAIN_DELAY = "0.5"


@dataclass
class Outcome:
    """What was seen; `broken` names what must not be."""

    requests: int = 0
    #: Requests that failed at first, by what they were told.
    again: Counter[str] = field(default_factory=Counter)
    closes: Counter[int] = field(default_factory=Counter)
    restarts: int = 0
    jobs: int = 0
    rows: int = 0
    broken: list[str] = field(default_factory=list)

    def line(self) -> str:
        """For people."""
        return (
            f"{self.restarts} restarts, {self.jobs} jobs, {self.rows:,} rows, {self.requests} requests"
            f" ({self.again.total()} sent again: {dict(self.again)}), closed WebSockets: {dict(self.closes)}"
        )


def roll(rows: int, folder: Path, tell: Tell, broker: str = "embedded") -> Outcome:
    """Restart everything once while jobs of `rows` rows load; answer what was seen."""
    outcome = Outcome()
    environment = {"JOBBER_DRAIN_DELAY": DRAIN_DELAY}
    replicas = [part for role in ("--auth", "--jobs", "--executors", "--products") for part in (role, "2")]
    system = running.start(folder / "data", "--broker", broker, *replicas, environment=environment)
    enough = threading.Event()
    client, busy = People(system, outcome), People(system, outcome)
    try:
        upload = write_csv(folder / "large.csv", rows, broken=False)
        name = client.ask(lambda one: one.upload(upload))["id"]
        tell(f"{rows:,} rows are uploaded")
        large = [client.submit({"fileName": name}, f"large-{number}") for number in range(1)]
        small: list[Job] = []
        threads = [threading.Thread(target=_submit, args=(busy, small, enough))]
        threads += [threading.Thread(target=_watch, args=(system, place, outcome, enough)) for place in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: client.look(large[0]).loaded > 0, 300, "the first rows")
        numbers = itertools.count(1)
        for role in ORDER:
            for place in range(2):
                if client.look(large[-1]).state.terminal:
                    large.append(client.submit({"fileName": name}, f"large-{next(numbers)}"))
                _restart(system, role, place, outcome)
                tell(
                    f"{role} {place + 1} of 2 was restarted; {sum(client.look(job).loaded for job in large):,} rows are loaded"
                )
        enough.set()
        for thread in threads:
            thread.join()
        for job, expected in [*((job, rows) for job in large), *((job, 1) for job in small)]:
            until(lambda job=job: client.look(job).state.terminal, 600, f"the end of job {job.id}")  # type: ignore[misc]
            _check(system, client.look(job), expected, outcome)
        outcome.jobs = len(large) + len(small)
        if len(small) < 10:
            outcome.broken.append(f"only {len(small)} small jobs were submitted meanwhile")
        if not outcome.closes:
            outcome.broken.append("no WebSocket was closed")
    finally:
        enough.set()
        client.close()
        busy.close()
        code = system.stop()
    if code:
        outcome.broken.append(f"jobber up ended with {code}")
    return outcome


class People:
    """Sends each request to the replicas of jobs in turn, again until it is cured; whatever else is no answer is broken."""

    def __init__(self, system: System, outcome: Outcome) -> None:
        self._outcome = outcome
        token = system.client.token
        self._clients = [Client(url, system.state["auth"], token) for url in system.state["http"]["jobs"]]
        self._turn = itertools.cycle(self._clients)

    def close(self) -> None:
        """Let go of connections."""
        for one in self._clients:
            one.close()

    def ask(self, request: Callable[[Client], T]) -> T:
        """Its answer."""
        self._outcome.requests += 1
        end = time.monotonic() + CURE
        while True:
            try:
                return request(next(self._turn))
            except errors.Transient as fault:
                self._outcome.again[fault.code] += 1
                if time.monotonic() > end:
                    self._outcome.broken.append(f"a request was not cured: {fault.message}")
                    raise
                time.sleep(AGAIN)

    def submit(self, data: object, key: str) -> Job:
        """A job; with its key it is the same job however often it is sent."""
        return self.ask(lambda one: one.execute("LoadProducts", data, key=key))

    def look(self, job: Job) -> Job:
        """Where it is."""
        return self.ask(lambda one: one.job(job.id))


def _submit(people: People, jobs: list[Job], enough: threading.Event) -> None:
    """Small jobs, one after the other."""
    for number in itertools.count():
        if enough.wait(0.05):
            return
        jobs.append(people.submit([{"name": f"small {number}", "price": 1}], f"small-{number}"))


def _watch(system: System, place: int, outcome: Outcome, enough: threading.Event) -> None:
    """Follow all jobs at one replica, come back whenever it closes, and note how it closed."""
    url = system.state["http"]["jobs"][place].replace("http", "ws", 1) + "/graphql"
    init = json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {system.client.token}"}})
    follow = json.dumps({"type": "subscribe", "id": "1", "payload": {"query": "subscription { jobsChanged { id } }"}})
    while not enough.is_set():
        try:
            with connect(url, subprotocols=["graphql-transport-ws"], proxy=None) as socket:  # type: ignore[list-item]
                socket.send(init)
                socket.recv(10)
                socket.send(follow)
                while not enough.is_set():
                    with suppress(TimeoutError):
                        socket.recv(0.2)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            outcome.closes[code] += 1
            if code not in CLEAN:
                outcome.broken.append(f"a WebSocket was closed with {code}")
        except (OSError, TimeoutError, WebSocketException):
            time.sleep(AGAIN)  # Its successor is not there yet.


def _restart(system: System, role: str, place: int, outcome: Outcome) -> None:
    """SIGTERM to one replica; answers when its successor is ready."""
    until(lambda: len(system.pids(role)) == 2, RESTART, f"two of {role}")
    before, url = system.pids(role)[place], system.state["http"][role][place]
    log = system.folder / "logs" / (f"{role}.log" if place == 0 else f"{role}-{place + 1}.log")
    stopped = log.read_text().count('"action":"stopped"')
    os.kill(before, signal.SIGTERM)
    until(lambda: not running.alive([before]), RESTART, f"the end of {role}")
    if log.read_text().count('"action":"stopped"') != stopped + 1:
        outcome.broken.append(f"{role} {place + 1} did not end well: {log.read_text()[-2000:]}")
    until(lambda: len(set(system.pids(role)) - {before}) == 2 and _ready(url), RESTART, f"the successor of {role}")
    outcome.restarts += 1


def _ready(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health/ready", trust_env=False, timeout=5).status_code == 200
    return False


def _check(system: System, job: Job, expected: int, outcome: Outcome) -> None:
    ((rows, distinct),) = system.rows(
        "SELECT count(*), count(DISTINCT row_no) FROM products.products WHERE job_id = %s", job.id
    )
    outcome.rows += rows
    if (job.loaded, rows, distinct) != (expected, expected, expected):
        said = f"says {job.loaded}, has {rows} rows, {distinct} of them different, of {expected}"
        outcome.broken.append(f"job {job.id} ({job.state}) {said}")
