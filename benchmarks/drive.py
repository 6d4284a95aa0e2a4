"""Loads a GraphQL service from many connections at once, with as little work of its own as Python can: it shares the cores.

Bare sockets and requests that were made beforehand: some 40 µs of CPU a request, where an HTTP library takes 500.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import msgspec

#: Seconds that an answer may take before the connection is given up.
PATIENCE = 60.0


@dataclass(slots=True)
class Answers:
    """What came back."""

    #: Seconds until each answer, of those that did what was asked.
    seconds: list[float] = field(default_factory=list)
    #: Ids of what was made.
    ids: list[str] = field(default_factory=list)
    #: Answers of 429 and 503, by status: asked again later.
    refused: dict[int, int] = field(default_factory=dict)
    #: Whatever else: there should be none.
    wrong: list[str] = field(default_factory=list)

    def take(self, status: int, body: bytes, seconds: float) -> str | None:
        """Note one answer; the id that is in it."""
        if status == 200 and b'"errors"' not in body and (place := body.find(b'"id":"')) >= 0:
            self.seconds.append(seconds)
            self.ids.append(body[place + 6 : place + 42].decode())
            return self.ids[-1]
        if status in (429, 503):
            self.refused[status] = self.refused.get(status, 0) + 1
        else:
            self.wrong.append(f"{status} {body[:300]!r}")
        return None


def request(url: str, token: str, body: bytes) -> bytes:
    """The bytes of a POST."""
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def records(count: int) -> list[dict[str, object]]:
    """Products as people send them, some 150 bytes each."""
    return [
        {
            "name": f"Robust Desk Lamp of the Nordic Series, No {number}",
            "category": ("Books", "Electronics", "Garden", "Toys", "Home")[number % 5],
            "price": 10 + number % 90 + 0.99,
            "stock": number % 1000,
            "rating": 4.5,
            "description": f"Made to last, in three colours, with two years of warranty; article {number}",
        }
        for number in range(1, count + 1)
    ]


def submission(count: int) -> bytes:
    """The body of an `executeJob` with so many records, as variables; it answers the id and the status."""
    query = "mutation ($input: ExecuteJobInput!) { executeJob(input: $input) { id status } }"
    return msgspec.json.encode({"query": query, "variables": {"input": {"name": "LoadProducts", "data": records(count)}}})


class Connection(asyncio.Protocol):
    """One client: a request, its answer, the next request."""

    def __init__(self, answered: Callable[["Connection", int, bytes], None]) -> None:
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._got = b""
        self.began = 0.0
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        # uvloop's is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, asked: bytes) -> None:
        """Ask."""
        assert self._transport is not None
        self.began = time.perf_counter()
        self._transport.write(asked)

    def close(self) -> None:
        """Go."""
        if self._transport:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take in an answer; it has a length."""
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return
        place = self._got.lower().find(b"content-length:", 0, head)
        length = int(self._got[place + 15 : self._got.find(b"\r\n", place)])
        if len(self._got) < head + 4 + length:
            return
        status, body = int(self._got[9:12]), self._got[head + 4 : head + 4 + length]
        self._got = self._got[head + 4 + length :]
        self._answered(self, status, body)

    def connection_lost(self, fault: Exception | None) -> None:
        """Tell who waits."""
        if not self.lost.done():
            self.lost.set_result(fault)


async def connect(url: str, count: int, answered: Callable[[Connection, int, bytes], None]) -> list[Connection]:
    """So many connections."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        _, connection = await loop.create_connection(lambda: Connection(answered), parts.hostname, parts.port)
        made.append(connection)
    return made


async def flood(url: str, asked: bytes, clients: int, seconds: float) -> Answers:
    """Each client asks as fast as it is answered, for so many seconds; answers once the last one has come."""
    answers = Answers()
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + seconds
    done = asyncio.Event()
    left = clients

    def stop(connection: Connection) -> None:
        nonlocal left
        connection.close()
        left -= 1
        if not left:
            done.set()

    def answered(connection: Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        made = answers.take(status, body, now - connection.began)
        if now >= end:
            stop(connection)
        elif made is None:
            # As Retry-After asks for; a client that asked again at once would be the collapse.
            loop.call_later(1.0, connection.send, asked)
        else:
            connection.send(asked)

    connections = await connect(url, clients, answered)
    for connection in connections:
        connection.send(asked)
    async with asyncio.timeout(seconds + PATIENCE):
        await done.wait()
        await asyncio.gather(*(connection.lost for connection in connections))
    return answers
