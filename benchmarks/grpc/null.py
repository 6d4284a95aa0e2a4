"""A service that counts the bytes of a stream, and answers a call with nothing: python -m benchmarks.grpc.null PORT."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio

from api.grpc_server import OPTIONS

SERVICE = "bench.Null"
STREAM, CALL = f"/{SERVICE}/Stream", f"/{SERVICE}/Call"


async def stream(frames: AsyncIterator[bytes], _: Any) -> bytes:
    """How many bytes came."""
    size = 0
    async for frame in frames:
        size += len(frame)
    return str(size).encode()


async def call(asked: bytes, _: Any) -> bytes:
    """Nothing."""
    return b""


async def serve(port: int) -> None:
    """Until it is ended."""
    server = aio.server(options=OPTIONS)
    handlers: dict[str, Any] = {
        "Stream": grpc.stream_unary_rpc_method_handler(stream),
        "Call": grpc.unary_unary_rpc_method_handler(call),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
