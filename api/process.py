"""The process of a service: settings, logs, one event loop for HTTP and gRPC, and an orderly end.

    def main() -> None:
        start("products", ProductsSettings, serve)

`start` reads the settings and turns what goes wrong into one sentence and exit code 1; `run` serves until SIGTERM.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import grpc
import uvicorn
import uvloop
from grpc_health.v1.health import aio as health_aio
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.types import ASGIApp

from api.connections import PATIENCE, ImpatientHttp
from jobber import errors, tracing
from jobber.credentials import Tls, service_token
from jobber.log import configure, event, hide
from jobber.settings import ServiceSettings, reasons

#: Largest WebSocket message; subscriptions need little.
MAX_WEBSOCKET_BYTES = 1 << 20


class PortTaken(errors.Terminal):
    """The port is taken by another process."""


async def run(
    app: Starlette,
    server: grpc.aio.Server | None,
    settings: ServiceSettings,
    *,
    http_port: int,
    grpc_port: int = 0,
    on_stop: Sequence[Callable[[], Awaitable[object]]] = (),
    health: health_aio.HealthServicer | None = None,
) -> None:
    """Serve HTTP and gRPC until SIGTERM or SIGINT; then stop being ready, finish what is in flight, and call `on_stop`.

    It serves on for `settings.drain_delay` seconds while it is not ready any more. What is not finished within `settings.grace`
    seconds after that is cut. A second signal ends the delay, or cuts at once when there is none. Port 0 is any free port;
    the ports are in the log's `ready` event. Raises PortTaken.
    """
    stop = asyncio.Event()
    try:
        listener = _listen(settings.host, http_port)
        http = _Uvicorn(_config(app, settings))
        if server is not None:
            grpc_port = _add_port(server, settings.host, grpc_port, settings.tls)
            await server.start()

        signals = 0

        def signalled() -> None:
            # The second ends the drain's delay, if there is one; the one after that cuts what is in flight.
            nonlocal signals
            signals += 1
            http.force_exit = signals > (2 if settings.drain_delay else 1)
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        ports = {"http_port": listener.getsockname()[1]} | ({"grpc_port": grpc_port} if server is not None else {})
        event("ready", f"Serves HTTP on {settings.host}:{ports['http_port']}.", host=settings.host, **ports)

        told = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        # First nobody is sent here any more, then nobody is let in.
        app.state.draining = True
        if health is not None:
            await health.enter_graceful_shutdown()
        event("stopping", "Finishes what is in flight.", grace=settings.grace, drain_delay=settings.drain_delay)
        if settings.drain_delay and stop.is_set():
            stop.clear()
            again = asyncio.create_task(stop.wait())
            await asyncio.wait((serving, again), timeout=settings.drain_delay, return_when=asyncio.FIRST_COMPLETED)
            again.cancel()
        app.state.stopping = True
        http.should_exit = True
        drains: list[Awaitable[object]] = [serving]
        if server is not None:
            drains.append(server.stop(settings.grace))
        await asyncio.gather(*drains)
    finally:
        for callback in on_stop:
            try:
                await callback()
            except Exception as fault:
                event("bug", "Stopping a part failed.", level=logging.ERROR, error=fault)


S = TypeVar("S", bound=ServiceSettings)


def start(
    service: str,
    settings_class: Callable[[], S],
    serve: Callable[[S], Awaitable[None]],
    beside: Sequence[Callable[[], object]] = (),
) -> None:
    """Be the process of a service: settings from the environment, logs, one event loop.

    Ends with SystemExit 1 and one sentence when the settings, or those that are read `beside` them, are wrong, or `serve`
    raises a JobberError; SIGTERM while it still waits for something ends it well.
    """
    try:
        settings = settings_class()
        for also in beside:
            also()
    except ValidationError as fault:
        configure(service, "INFO")
        for name, why in reasons(fault):
            event("failed", f"Setting {name}: {why}", level=logging.ERROR, setting=name)
        sys.exit(1)
    configure(service, settings.log_level, form=settings.log_format)
    tracing.configure(service, settings.otlp_endpoint)
    hide(service_token(settings.jwt_secret), *_secrets(settings))
    event("starting", f"{service} starts in {settings.mode} mode.", mode=settings.mode)
    try:
        # grpc.aio and uvloop get along since grpcio 1.32 (its poller wakes the loop through a socket).
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(serve(settings)))
    except errors.JobberError as fault:
        event("failed", fault.message, level=logging.ERROR, code=fault.code)
        sys.exit(1)
    except Exception as fault:
        event("failed", f"{service} ends: {type(fault).__name__}.", level=logging.ERROR, error=fault)
        sys.exit(1)
    finally:
        tracing.close()
    event("stopped", f"{service} has ended.")


def _secrets(settings: ServiceSettings) -> Iterator[str]:
    """The values among the settings that no log may show."""
    for name, value in settings:
        if isinstance(value, str):
            if name.endswith(("_secret", "_password")):
                yield value
            elif "://" in value:
                with contextlib.suppress(ValueError):  # What is wrong with the address, who uses it says.
                    password = urlsplit(value).password or ""
                    yield from (password, unquote(password))


async def _until_signalled(serving: Awaitable[None]) -> None:
    """Run it; a signal before `run` took over cancels it."""
    task = asyncio.ensure_future(serving)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


class _Uvicorn(uvicorn.Server):
    """uvicorn without its own ideas about signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp, settings: ServiceSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=ImpatientHttp,
        ws="websockets-sansio",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        # X-Forwarded-For is a claim of the client; a trusted proxy has to be configured.
        proxy_headers=False,
        timeout_keep_alive=int(PATIENCE),
        timeout_graceful_shutdown=max(1, int(settings.grace)),
        ws_max_size=MAX_WEBSOCKET_BYTES,
        backlog=1024,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound before anything else starts, so that a taken port is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as fault:
        raise _port_fault(host, port, fault) from fault
    listener.setblocking(False)
    return listener


def _add_port(server: grpc.aio.Server, host: str, port: int, tls: Tls | None) -> int:
    # gRPC says only that it failed, and writes lines of its own to stderr: try the port first.
    _listen(host, port).close()
    try:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if tls is None:
            return server.add_insecure_port(address)
        pair = (tls.key, tls.certificate)
        return server.add_secure_port(address, grpc.ssl_server_credentials([pair], tls.authority, require_client_auth=True))
    except RuntimeError as fault:
        raise PortTaken(f"gRPC cannot listen on {host}:{port}: {fault}") from fault


def _port_fault(host: str, port: int, fault: OSError) -> errors.JobberError:
    if fault.errno in (errno.EADDRINUSE, errno.EACCES):
        return PortTaken(f"Port {port} on {host} cannot be used: {os.strerror(fault.errno).lower()}.")
    return errors.InvalidData(f"JOBBER_HOST {host} is no address of this machine.")
