"""`jobber up`: the four services with embedded parts on one data folder, as one program.

    up ─┬─ postgres            embedded; also the transport, unless Pulsar is asked for
        ├─ broker              Pulsar standalone, with --broker pulsar
        ├─ auth, products, jobs, executor      one process each, or several

All start at once and wait for each other. What ends is started again. They stop in the order in which work flows, so that what
is in flight gets through: executors, then the other services, then the broker, then PostgreSQL.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jobber
from jobber.credentials import service_token
from jobber.errors import JobberError, Unavailable
from jobber.local import child, ports
from jobber.local.home import Home
from jobber.local.leftovers import end_leftovers
from jobber.local.parts import Broker, Database
from jobber.local.processes import Keeper, Part, Service, Tell, tail

#: In the order in which a summary shows them.
SERVICES = ("auth", "jobs", "executor", "products")
#: E-mail of the bootstrap admin, unless JOBBER_ADMIN_EMAIL says otherwise.
ADMIN = "admin@jobber.local"
#: Seconds until everything must be ready; a cold start takes 3 to 5 on two cores.
READY = 120.0
#: Seconds that a stopping part gets beyond the services' own grace.
SLACK = 5.0
#: As of nice(1): on a machine that is shared, who submits or asks is answered first, and the work that waits goes on behind.
NICE = {"executor": 5, "products": 5}
#: What `up` decides itself: where an inherited value would lead the services to another system.
OURS = ("DATABASE_URL", "PULSAR_SERVICE_URL", "JOBBER_TRANSPORT_DATABASE_URL", "JOBBER_HTTP_PORT", "JOBBER_GRPC_PORT")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    folder: Path
    broker: Literal["embedded", "pulsar"] = "embedded"
    automatic_ports: bool = False
    #: Role -> processes.
    replicas: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(SERVICES, 1))


@dataclass(frozen=True, slots=True)
class Admin:
    """The bootstrap admin."""

    email: str
    password: str


class Up:
    """One running system."""

    def __init__(self, options: Options, tell: Tell) -> None:
        self.home = Home(options.folder.resolve())
        self._options = options
        self._tell = tell
        self._host = os.environ.get("JOBBER_HOST", "127.0.0.1")
        self._keepers: dict[str, list[Keeper]] = {}
        self._stop = asyncio.Event()
        self._signals = 0
        self._ready = False

    async def run(self, when_ready: Callable[["Up"], None]) -> None:
        """Run until SIGINT, SIGTERM or SIGHUP; a second one does not wait for what is in flight.

        Raises InvalidState when the folder is in use or a port is taken, Unavailable when a part cannot start.
        """
        loop = asyncio.get_running_loop()
        with self.home.held():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # Under nohup SIGHUP is ignored, and stays so.
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    loop.add_signal_handler(number, self._on_signal)
            await asyncio.to_thread(end_leftovers, self.home.folder, self._tell)
            self._configure()
            if self._broker:
                await self._broker.prepare(self._tell)
            try:
                self._start()
                if await self._until_ready():
                    self._ready = True
                    self.home.admin_made.touch()
                    self._remember()
                    when_ready(self)
                    await self._first_of()
            finally:
                await self._shut_down()

    # Before the start.

    def _configure(self) -> None:
        self._ports = ports.allot(self._options.replicas, automatic=self._options.automatic_ports, host=self._host)
        self._secret = os.environ.get("JWT_SECRET") or self.home.jwt_secret()
        self.admin = Admin(os.environ.get("JOBBER_ADMIN_EMAIL") or ADMIN, self.home.admin_password())
        if os.environ.get("JOBBER_ADMIN_PASSWORD", self.admin.password) != self.admin.password:
            self._tell("JOBBER_ADMIN_PASSWORD is ignored: the admin was made with another one; passwordChange changes it")
        # Inherited by all that is started, so that the next `up` finds what a kill left over.
        os.environ[child.HOME] = str(self.home.folder)
        self._database = Database(self.home.folder / "postgres")
        self._broker = Broker(self.home.folder / "pulsar") if self._options.broker == "pulsar" else None

    def _environment(self) -> dict[str, str]:
        """What all services get."""
        inherited = {name: value for name, value in os.environ.items() if name not in OURS}
        # The children run with -P, so that a folder called `jobber` where the user stands is not taken for ours.
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(Path(jobber.__file__).parents[1]))))
        broker = (
            {
                "JOBBER_TRANSPORT": "pulsar",
                "PULSAR_SERVICE_URL": self._broker.url,
                "JOBBER_PULSAR_ADMIN_URL": self._broker.server.admin_url,
            }
            if self._broker
            else {"JOBBER_TRANSPORT": "postgres"}
        )
        return {
            **inherited,
            **broker,
            "PYTHONPATH": path,
            "DATABASE_URL": self.database_url,
            "JWT_SECRET": self._secret,
            "JOBBER_BLOBS_URL": self.home.blobs_url,
            "JOBBER_ADMIN_EMAIL": self.admin.email,
            "JOBBER_ADMIN_PASSWORD": self.admin.password,
            **{f"{role.upper()}_GRPC_SERVICE_URL": self._addresses(role) for role in ("auth", "jobs", "products")},
        }

    def _addresses(self, role: str) -> str:
        return ",".join(f"{self._reached}:{allotted['gRPC']}" for allotted in self._ports[role])

    @property
    def _reached(self) -> str:
        return "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host

    # The running system.

    def _start(self) -> None:
        self._keep("postgres", self._database)
        if self._broker:
            self._keep("broker", self._broker)
        common = self._environment()
        for role in SERVICES:
            for number, allotted in enumerate(self._ports[role], 1):
                own = {f"JOBBER_{kind.upper()}_PORT": str(port) for kind, port in allotted.items()}
                name = role if number == 1 else f"{role}-{number}"
                self._keep(role, Service(name, (role,), common | own, self.home.logs, NICE.get(role, 0)))

    def _keep(self, role: str, part: Part) -> None:
        self._keepers.setdefault(role, []).append(Keeper(part, self._tell, self._remember))

    def _all(self) -> list[Keeper]:
        return [keeper for keepers in self._keepers.values() for keeper in keepers]

    async def _until_ready(self) -> bool:
        """Whether everything became ready; False when it was told to stop before."""
        ready = asyncio.create_task(self._all_answer())
        try:
            await self._first_of(ready)
            if self._stop.is_set():
                return False
            ready.result()
        finally:
            ready.cancel()
            with contextlib.suppress(asyncio.CancelledError, JobberError):
                await ready
        for keeper in self._all():
            keeper.settled = True
        return True

    async def _all_answer(self) -> None:
        waits = [
            self._answers(keeper, self._ports[role][number]["HTTP"])
            for role in SERVICES
            for number, keeper in enumerate(self._keepers[role])
        ]
        parts = [self._database.ready.wait(), *([self._broker.ready.wait()] if self._broker else [])]
        await asyncio.gather(*parts, *waits)

    async def _answers(self, keeper: Keeper, port: int) -> None:
        """Wait until /health/ready answers 200."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY
        while not await _is_ready(self._reached, port):
            if loop.time() > deadline:
                part = keeper.part
                raise Unavailable(f"{part.name} was not ready within {READY:.0f} s. {tail(part.log)}")
            await asyncio.sleep(0.05)

    async def _first_of(self, *tasks: asyncio.Task[None]) -> None:
        """Wait for one of the tasks, or until told to stop. Raises Unavailable when a part cannot be kept running."""
        stop = asyncio.create_task(self._stop.wait())
        keepers = [keeper.task for keeper in self._all()]
        await asyncio.wait([stop, *tasks, *keepers], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in keepers:
            if task.done():
                task.result()

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals == 2:
            self._tell("stopping at once")
            for keeper in self._all():
                keeper.kill()

    async def _shut_down(self) -> None:
        if self._signals:
            self._tell("stopping; what is in flight is finished first (once more to stop at once)")
        grace = float(os.environ.get("JOBBER_GRACE", "20")) + SLACK
        for stage in (("executor",), ("jobs", "products", "auth"), ("broker",), ("postgres",)):
            keepers = [keeper for role in stage for keeper in self._keepers.get(role, [])]
            await asyncio.gather(*(keeper.stop(grace) for keeper in keepers))

    # What outsiders see.

    @property
    def database_url(self) -> str:
        """DSN of the database."""
        return self._database.server.dsn

    @property
    def uses_pulsar(self) -> bool:
        """Whether Pulsar is the transport."""
        return self._broker is not None

    def _remember(self) -> None:
        if not self._ready:
            return
        try:
            self.home.remember(self.state())
        except OSError as fault:
            # A full disk must not end what runs; the next start of a part writes it again.
            self._tell(f"could not write up.json: {fault}")

    def state(self) -> dict[str, Any]:
        """Where everything is: what `--json` prints."""
        base = {role: f"http://{self._reached}:{self._ports[role][0]['HTTP']}" for role in SERVICES}
        http = {role: [f"http://{self._reached}:{allotted['HTTP']}" for allotted in self._ports[role]] for role in SERVICES}
        roles = (*SERVICES, "postgres", "broker")
        pids = {role: [pid for keeper in self._keepers.get(role, []) for pid in keeper.part.pids] for role in roles}
        return {
            "auth": f"{base['auth']}/graphql",
            "jobs": f"{base['jobs']}/graphql",
            "console": f"{base['jobs']}/console",
            "http": http,
            "grpc": {role: self._addresses(role).split(",")[0] for role in ("auth", "jobs", "products")},
            "database": self.database_url,
            "transport": self._broker.url if self._broker else self.database_url,
            "admin": {"email": self.admin.email, "password": self.admin.password},
            "serviceToken": service_token(self._secret),
            "pids": pids,
        }


async def _is_ready(host: str, port: int) -> bool:
    """Whether the service there answers 200; by hand, as an HTTP client would cost the supervisor 20 MB."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET /health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
        return status.split()[1:2] == [b"200"]
    except (OSError, TimeoutError):
        return False
