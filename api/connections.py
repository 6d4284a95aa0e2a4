"""HTTP connections that do not get on with it are cut: uvicorn alone waits for headers and bodies for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Headers must be complete within so many seconds, and a body must go on arriving.
PATIENCE = 15.0
#: Fewest bytes of a body in each PATIENCE seconds: 1 kB/s. A phone on a bad line manages more.
LEAST_BYTES = 15 << 10


class ImpatientHttp(HttpToolsProtocol):
    """uvicorn's httptools protocol, with a deadline for each request to arrive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_body = False
        self._received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start the clock: a client that connects has something to say."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives."""
        self._received += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Start the clock for a further request on the connection."""
        super().on_message_begin()
        self._in_body = False
        self._expect()

    def on_headers_complete(self) -> None:
        """Start the clock for the body."""
        self._in_body = True
        self._expect()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the clock: how long the answer takes is our affair."""
        self._arrived()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Stop the clock: WebSockets have pings of their own."""
        self._arrived()
        super().handle_websocket_upgrade()

    def _expect(self) -> None:
        self._arrived()
        self._received = 0
        self._deadline = self.loop.call_later(PATIENCE, self._check)

    def _arrived(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _check(self) -> None:
        # A paused transport is our own doing: the application has not taken yet what is there.
        if self._in_body and (self._received >= LEAST_BYTES or self.flow.read_paused):
            self._expect()
        else:
            self.transport.abort()
