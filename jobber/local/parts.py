"""The parts of `jobber up` that are not ours: PostgreSQL, and Pulsar where it is asked for."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from jobber.errors import Unavailable
from jobber.local.ports import free_port, is_free
from jobber.local.postgres import EmbeddedPostgres
from jobber.local.processes import Tell, how_it_ended, rotate
from jobber.local.pulsar import PulsarStandalone, jars, java

#: Pulsar makes a URL of its metadata's path and does not quote it (4.0.7).
NOT_IN_URLS = frozenset(' %"<>\\^`{|}[]#?')


class Database:
    """Embedded PostgreSQL on one data folder; it keeps its port over restarts where that is free."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        remembered = folder / "port"
        port = 0
        with contextlib.suppress(OSError, ValueError):
            port = int(remembered.read_text())
        if not port or not is_free("127.0.0.1", port):
            port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(str(port))
        self.server = EmbeddedPostgres(folder, port)
        #: Set when it first took connections.
        self.ready = asyncio.Event()

    @property
    def log(self) -> Path:
        """PostgreSQL's own log."""
        return self.server.log

    @property
    def pids(self) -> list[int]:
        """The postmaster; empty when it does not run."""
        process = self.server.process
        return [process.pid] if process and process.returncode is None else []

    async def run(self, started: Callable[[], None]) -> str:
        """Start it, say so, wait until it ends, and answer how it ended."""
        rotate(self.log)
        await asyncio.to_thread(self.server.prepare)
        # From the main thread: it shuts down when the thread that started it ends.
        self.server.launch(with_parent=True)
        process = self.server.process
        assert process
        started()
        ended = asyncio.create_task(asyncio.to_thread(process.wait))
        try:
            await asyncio.to_thread(self.server.wait_ready)
            self.ready.set()
        except Unavailable:
            if process.poll() is None:
                raise
        return how_it_ended(await ended)

    async def stop(self, grace: float) -> None:
        """A fast shutdown; the hard way after `grace` seconds."""
        await asyncio.to_thread(self.server.stop, grace)

    def kill(self) -> None:
        """End it now; it replays its log at the next start."""
        self.server.kill()


class Broker:
    """Pulsar standalone on one data folder."""

    name = "broker"

    def __init__(self, folder: Path) -> None:
        self.server = PulsarStandalone(folder, with_parent=True)
        if not is_free("127.0.0.1", self.server.port):
            self.server.port = free_port()
        self.log = self.server.log
        #: Set when messages could first be sent.
        self.ready = asyncio.Event()

    async def prepare(self, tell: Tell) -> None:
        """Find Java, and fetch Pulsar on first use. Raises Unavailable, saying what is missing."""
        folder = str(self.server.folder)
        if not NOT_IN_URLS.isdisjoint(folder):
            raise Unavailable(f"Pulsar cannot live in {folder!r}: it makes a URL of it. Give a --data-dir without spaces.")
        await asyncio.to_thread(java)
        fetching = asyncio.create_task(asyncio.to_thread(jars))
        done, _ = await asyncio.wait({fetching}, timeout=1)
        if not done:
            tell("fetching Apache Pulsar with Maven (235 MB, once) …")
        await fetching

    @property
    def url(self) -> str:
        """For clients."""
        return self.server.url

    @property
    def pids(self) -> list[int]:
        """Of the JVM, while it runs."""
        process = self.server.process
        return [process.pid] if process and process.poll() is None else []

    async def run(self, started: Callable[[], None]) -> str:
        """Start it, say so, wait until it ends, and answer how it ended. Raises Unavailable when it does not come up."""
        # The pool's thread that starts it lives as long as we do; that matters, as it stops with that thread.
        await asyncio.to_thread(self.server.start)
        self.ready.set()
        started()
        assert self.server.process is not None
        return how_it_ended(await asyncio.to_thread(self.server.process.wait))

    async def stop(self, grace: float) -> None:
        """Stop it; the hard way after `grace` seconds."""
        await asyncio.to_thread(self.server.stop, grace)

    def kill(self) -> None:
        """End it now."""
        self.server.kill()
