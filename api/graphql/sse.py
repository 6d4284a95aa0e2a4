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
    return StreamingResponse(
        _events(request, answers),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(request: Request, answers: AsyncGenerator[Answer, None] | Answer) -> AsyncIterator[bytes]:
    if isinstance(answers, Answer):
        yield _event("next", answers) + _event("complete")
        return
    following: asyncio.Task[Answer] | None = None
    silent = 0.0
    try:
        while not _stopping(request):
            following = following or asyncio.ensure_future(anext(answers))
            done, _ = await asyncio.wait((following,), timeout=TICK)
            if done:
                try:
                    answer = following.result()
                except StopAsyncIteration:
                    yield _event("complete")
                    return
                following, silent = None, 0.0
                yield _event("next", answer)
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
        await answers.aclose()


def _event(kind: str, answer: Answer | None = None) -> bytes:
    data = msgspec.json.encode(answer.body) if answer else b""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _stopping(request: Request) -> bool:
    app = request.scope.get("app")
    return bool(app is not None and getattr(app.state, "stopping", False))
