"""Subscriptions over server-sent events: the distinct connections mode of the graphql-sse protocol."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse

from api.graphql.engine import Answer

#: Seconds between comments, which keep proxies from cutting a silent connection.
PING = 12.0
#: Seconds within which a stopping service is noticed.
TICK = 1.0


def event_stream(request: Request, answers: AsyncGenerator[Answer, None] | Answer) -> StreamingResponse:
    """Each answer as a `next` event, and `complete` at the end; ends early when the service stops."""
    return stream(request, _events(answers))


def stream(request: Request, events: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """The events as they come, with a comment now and then; ends early when the service stops."""
    return StreamingResponse(
        _paced(request, events),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(answers: AsyncGenerator[Answer, None] | Answer) -> AsyncGenerator[bytes, None]:
    if isinstance(answers, Answer):
        yield _event("next", answers) + _event("complete")
        return
    async with contextlib.aclosing(answers):
        async for answer in answers:
            yield _event("next", answer)
    yield _event("complete")


async def _paced(request: Request, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    following: asyncio.Task[bytes] | None = None
    silent = 0.0
    try:
        while not _stopping(request):
            following = following or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait((following,), timeout=TICK)
            if done:
                try:
                    chunk = following.result()
                except StopAsyncIteration:
                    return
                following, silent = None, 0.0
                yield chunk
            else:
                silent += TICK
                if silent >= PING:
                    silent = 0.0
                    yield b":\n\n"
    finally:
        if following:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await following
        await events.aclose()


def _event(kind: str, answer: Answer | None = None) -> bytes:
    data = msgspec.json.encode(answer.body) if answer else b""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _stopping(request: Request) -> bool:
    app = request.scope.get("app")
    return bool(app is not None and getattr(app.state, "stopping", False))
