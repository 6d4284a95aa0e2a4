"""HTTP of the rooms: health and metrics for every service, errors translated once. The process around it is api.process."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence

import prometheus_client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.process import run, start
from jobber import errors
from jobber.log import event
from jobber.settings import ServiceSettings

__all__ = ["headers_of", "http_app", "run", "start", "status_of"]

#: A readiness check that takes longer means no.
READY_TIMEOUT = 3.0

STATUS: Sequence[tuple[type[errors.JobberError], int]] = (
    (errors.NotFound, 404),
    (errors.UnknownJob, 404),
    (errors.Forbidden, 403),
    (errors.Unauthenticated, 401),
    (errors.Conflict, 409),
    (errors.InvalidState, 409),
    (errors.UploadIncomplete, 409),
    (errors.QuotaExceeded, 413),
    (errors.UnsupportedMedia, 415),
    (errors.Terminal, 400),
    (errors.DiskFull, 507),
    (errors.RateLimited, 429),
    (errors.Transient, 503),
)

#: Set on every answer that does not set them itself.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


def http_app(routes: Sequence[BaseRoute], *, ready: Callable[[], Awaitable[bool]], settings: ServiceSettings) -> Starlette:
    """The service's routes, and `/health/live`, `/health/ready` (503 while it is not, or stops) and `/metrics`.

    A JobberError raised in a route becomes `{"code", "message"}` with the status that says the same.
    """

    async def is_ready(request: Request) -> Response:
        good = False
        if not (request.app.state.draining or request.app.state.stopping):
            with contextlib.suppress(Exception):
                good = await asyncio.wait_for(ready(), READY_TIMEOUT)
        return JSONResponse({"ready": good}, 200 if good else 503)

    app = Starlette(
        routes=[
            *routes,
            Route("/health/live", _live),
            Route("/health/ready", is_ready),
            Route("/metrics", _metrics),
        ],
        middleware=[Middleware(_Guard)],
        exception_handlers={errors.JobberError: _refused},
    )
    app.state.draining = app.state.stopping = False
    return app


def status_of(fault: errors.JobberError) -> int:
    """The HTTP status that says the same."""
    return next((code for kind, code in STATUS if isinstance(fault, kind)), 500)


def headers_of(fault: errors.JobberError) -> dict[str, str]:
    """The headers that belong to that status."""
    if isinstance(fault, errors.Unauthenticated):
        return {"www-authenticate": "Bearer"}
    return {"retry-after": str(fault.retry_after)} if isinstance(fault, errors.RateLimited) else {}


class _Guard:
    """Sets HEADERS, and answers 500 with an error id for a bug, whose cause is only in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in given)]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as fault:
            error_id = str(uuid.uuid4())
            event("bug", "A request failed.", level=logging.ERROR, error=fault, error_id=error_id, path=scope["path"])
            if begun:
                raise  # uvicorn cuts the connection: the client must not take half an answer for a whole one.
            body = {"code": "INTERNAL", "message": "Internal error", "errorId": error_id}
            await JSONResponse(body, 500)(scope, receive, sending)


async def _live(request: Request) -> Response:
    return JSONResponse({"live": True})


async def _metrics(request: Request) -> Response:
    return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


async def _refused(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, errors.JobberError)
    status = status_of(fault)
    headers = headers_of(fault)
    return JSONResponse({"code": fault.code, "message": fault.message}, status, headers)
