"""PostgreSQL behind an address that is away for a while, as one behind a proxy is."""

import asyncio
import contextlib
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Relay:
    """PostgreSQL behind an address that takes one connection, then none for `refused` seconds, then all."""

    def __init__(self, dsn: str, *, refused: float) -> None:
        parts = conninfo_to_dict(dsn)
        self._upstream = str(parts["host"]), int(str(parts["port"]))
        self._free_at: float | None = None
        self._refused = refused
        self._dsn = dsn
        #: Connections that were let through.
        self.taken = 0
        self._passing: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.dsn = make_conninfo(self._dsn, host="127.0.0.1", port=self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait until everything has gone through."""
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._passing)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        if self._free_at is None:
            self._free_at = clock() + self._refused
        elif clock() < self._free_at:
            return writer.close()
        self.taken += 1
        upstream = await asyncio.open_connection(*self._upstream)
        for one, other in ((reader, upstream[1]), (upstream[0], writer)):
            self._passing.append(asyncio.create_task(self._pass(one, other)))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while arrived := await reader.read(65536):
                writer.write(arrived)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
