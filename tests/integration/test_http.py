"""What all rooms share, over real sockets: the HTTP and gRPC servers, the pool, waiting."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import httpx
import psycopg
import pytest
import uvicorn
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api import connections, process
from api import http as module
from api.database import RECONNECT, connection, open_pool, place
from api.http import http_app
from api.waiting import wait_for
from jobber.credentials import service_token
from jobber.errors import DiskFull, InvalidData, JobberError, NotFound, Unauthenticated, Unavailable
from jobber.settings import AuthSettings, ServiceSettings
from tests.support.relay import Relay

SETTINGS = ServiceSettings(jwt_secret="x" * 32, grace=5)


async def _raise(request: Request) -> Response:
    faults: dict[str, Exception] = {
        "missing": NotFound(),
        "login": Unauthenticated(),
        "bad": InvalidData("no"),
        "full": DiskFull(),
        "away": Unavailable(),
        "bug": RuntimeError("postgresql://user:secret@host/db"),
    }
    raise faults[request.path_params["kind"]]


async def _echo(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


async def _page(request: Request) -> Response:
    return Response("page", headers={"content-security-policy": "default-src 'self'"})


ROUTES = [Route("/raise/{kind}", _raise), Route("/echo", _echo, methods=["POST"]), Route("/page", _page)]


async def _good() -> bool:
    return True


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    """The app on uvicorn, as `run` configures it, in this loop."""
    app = http_app(ROUTES, ready=_good, settings=SETTINGS)
    listener = process._listen("127.0.0.1", 0)
    server = process._Uvicorn(process._config(app, SETTINGS))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", port
    finally:
        server.should_exit = True
        await task


def client(ready: object = _good) -> httpx.AsyncClient:
    app = http_app(ROUTES, ready=ready, settings=SETTINGS)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here")


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("missing", 404, "NOT_FOUND"),
        ("login", 401, "UNAUTHENTICATED"),
        ("bad", 400, "INVALID_DATA"),
        ("full", 507, "DISK_FULL"),
        ("away", 503, "UNAVAILABLE"),
        ("bug", 500, "INTERNAL"),
    ],
)
async def test_errors_become_statuses(kind: str, status: int, code: str) -> None:
    answer = await client().get(f"/raise/{kind}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("errorId" in answer.json()) == (kind == "bug")


async def test_headers_of_ours_unless_the_route_has_its_own() -> None:
    answer = await client().get("/page")
    assert answer.headers["content-security-policy"] == "default-src 'self'"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert (await client().get("/nowhere")).headers["content-security-policy"].startswith("default-src 'none'")


async def test_readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    async def bad() -> bool:
        raise Unavailable

    async def slow() -> bool:
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr(module, "READY_TIMEOUT", 0.1)
    assert (await client().get("/health/ready")).status_code == 200
    assert (await client(bad).get("/health/ready")).status_code == 503
    assert (await client(slow).get("/health/ready")).status_code == 503
    app = http_app([], ready=_good, settings=SETTINGS)
    app.state.stopping = True
    stopping = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here")
    assert (await stopping.get("/health/ready")).status_code == 503
    assert (await stopping.get("/health/live")).status_code == 200


async def _cut_after(port: int, *parts: bytes, pause: float) -> float:
    """Send the parts with pauses; answer after how many seconds the server cut the connection without an answer."""
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.create_task(_drip(writer, parts, pause))
    try:
        assert await asyncio.wait_for(reader.read(), 10) == b""
    except ConnectionResetError:
        pass
    finally:
        sending.cancel()
        writer.close()
    return time.monotonic() - begin


async def _drip(writer: asyncio.StreamWriter, parts: tuple[bytes, ...], pause: float) -> None:
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause)


async def test_slow_clients_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.5)
    async with serving() as (_, port):
        head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
        assert await _cut_after(port, pause=0) < 3
        assert await _cut_after(port, b"GET /", *[b"x"] * 100, pause=0.1) < 3
        assert await _cut_after(port, b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 100, pause=0.1) < 3
        assert await _cut_after(port, head, *[b"x"] * 100, pause=0.1) < 3


async def test_slow_second_request_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.5)
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b'{"live":true}'), 5)
        begin = time.monotonic()
        sending = asyncio.create_task(_drip(writer, (b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 100), 0.1))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert time.monotonic() - begin < 3
        sending.cancel()
        writer.close()


async def test_steady_clients_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        size = 20 * connections.LEAST_BYTES
        writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(20):
            writer.write(b"x" * connections.LEAST_BYTES)
            await asyncio.sleep(0.1)
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_kept_alive_connection_is_used_again() -> None:
    async with serving() as (url, _), httpx.AsyncClient() as session:
        for _ in range(3):
            assert (await session.post(f"{url}/echo", content=b"x" * 70_000)).json() == {"bytes": 70_000}


async def test_port_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(JobberError, match=f"^Port {port} on 127.0.0.1 cannot be used: address already in use.$"):
            process._listen("127.0.0.1", port)
    with pytest.raises(JobberError, match="JOBBER_HOST"):
        process._listen("no.such.host.invalid", 0)


async def test_uvicorn_adds_nothing_of_its_own() -> None:
    config = process._config(http_app([], ready=_good, settings=SETTINGS), SETTINGS)
    assert isinstance(config, uvicorn.Config)
    assert not config.proxy_headers
    assert config.timeout_keep_alive == 15


SLOW_STOP = """
import asyncio
import grpc
from api.grpc_server import add_health_and_reflection, grpc_server
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from api.http import http_app, run, start
from jobber.settings import AuthSettings, ServiceSettings

async def serve(settings):
    async def slow(request):
        await asyncio.sleep(float(request.query_params["seconds"]))
        return PlainTextResponse("done")
    async def ready():
        return True
    async def failing():
        raise RuntimeError("one part does not stop")
    async def last():
        print("last part stopped", flush=True)
    async def wait(request, context):
        await asyncio.sleep(1)
        return b"done"
    app = http_app([Route("/slow", slow)], ready=ready, settings=settings)
    server = grpc_server(settings)
    handlers = {"Wait": grpc.unary_unary_rpc_method_handler(wait)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Slow", handlers),))
    health = add_health_and_reflection(server, settings, ["test.Slow"])
    await run(app, server, settings, http_port=0, on_stop=[failing, last], health=health)

start("slow", ServiceSettings, serve)
"""


@contextmanager
def slow_service(grace: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    environment = {**os.environ, "JWT_SECRET": "x" * 32, "JOBBER_GRACE": grace}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_STOP], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr
    while (line := json.loads(process.stderr.readline()))["action"] != "ready":
        pass
    try:
        yield process, line["http_port"], line["grpc_port"]
    finally:
        process.kill()
        process.communicate()


def test_drains_what_is_in_flight_then_stops_its_parts() -> None:
    with slow_service("5") as (process, port, _):
        busy = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        busy.request("GET", "/slow?seconds=1")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):  # Nobody new is let in.
            socket.create_connection(("127.0.0.1", port), timeout=1)
        assert busy.getresponse().read() == b"done"
        busy.close()
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 0
        assert output == "last part stopped\n"


async def test_drains_grpc_too() -> None:
    with slow_service("5") as (process, _, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="test.Slow"))
            assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
            credential = (("authorization", f"Bearer {service_token('x' * 32)}"),)
            call: Any = channel.unary_unary("/test.Slow/Wait")
            busy = asyncio.ensure_future(call(b"", metadata=credential, timeout=10))
            await asyncio.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await busy == b"done"
            watching.cancel()
        process.communicate(timeout=10)
        assert process.returncode == 0


def test_grace_has_an_end() -> None:
    with slow_service("1") as (process, port, _):
        busy = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        busy.request("GET", "/slow?seconds=60")
        time.sleep(0.3)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - begin < 4
        busy.close()


async def test_pool_lives_through_ended_sessions(database: str) -> None:
    pool = await open_pool(database, name="here", size=3, timeout=5)
    try:
        for _ in range(3):
            async with pool.connection() as session:
                row = await (await session.execute("SELECT current_setting('application_name')")).fetchone()
                assert row == ("here",)
                assert session.autocommit
            with psycopg.connect(database, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'here'")
            await asyncio.sleep(0.1)
    finally:
        await pool.close()


async def test_a_database_that_goes_away_while_the_pool_opens_is_waited_for(database: str) -> None:
    # Longer than the pool itself tries.
    async with Relay(database, refused=RECONNECT * 1.5) as relay:
        pool = await asyncio.wait_for(open_pool(relay.dsn, name="here", size=2, timeout=300), 60)
        await pool.close()
    assert relay.taken > 1


async def test_lost_database_is_unavailable(database: str) -> None:
    pool = await open_pool(database, name="here", size=1, timeout=5)
    try:
        with pytest.raises(Unavailable):
            async with connection(pool) as session:
                await session.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        async with connection(pool) as session:
            await session.execute("SELECT 1")
    finally:
        await pool.close()


async def test_waiting_tells_and_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Exception | None] = [ConnectionRefusedError("postgresql://u:secret@h/d"), None]

    async def probe() -> None:
        fault = answers.pop(0)
        if fault:
            raise fault

    with caplog.at_level("INFO"):
        await wait_for("a thing", probe, 5)
    assert [record.__dict__["action"] for record in caplog.records] == ["waiting", "found"]
    assert "secret" not in caplog.records[0].__dict__["reason"]

    async def never() -> None:
        raise OSError("no")

    with pytest.raises(Unavailable, match=r"^a thing did not answer within 0\.3 s: no$"):
        await wait_for("a thing", never, 0.3)

    async def wrong() -> None:
        raise InvalidData("never will be")

    with pytest.raises(InvalidData):
        await wait_for("a thing", wrong, 60)


def test_place_names_no_user() -> None:
    assert place("postgresql://u:secret@db:6000/jobs") == "PostgreSQL at db:6000/jobs"
    assert place("host=db user=u password=secret") == "PostgreSQL at db:5432/"
    assert "secret" not in place("nonsense secret")


def test_secrets_among_the_settings_are_known() -> None:
    settings = AuthSettings(
        jwt_secret="x" * 32, database_url="postgresql://u:canary-of-the-url@h/d", admin_password="canary-of-the-admin"
    )
    assert {"x" * 32, "canary-of-the-url", "canary-of-the-admin"} <= set(process._secrets(settings))
