"""The GraphQL door over real sockets: HTTP as graphql-over-http has it, WebSocket, SSE."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import graphene
import httpx
import psycopg
import pytest
import websockets
from starlette.requests import HTTPConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from api import process
from api.graphql import Limits, RawJson, graphiql, graphql_app, graphql_routes, token_of, websocket
from api.graphql.scalars import JSON
from api.http import http_app
from jobber.errors import Forbidden, StructureFault, Unauthenticated
from jobber.settings import ServiceSettings

MODERN = {"accept": "application/graphql-response+json"}


@dataclass
class Seen:
    """What resolvers saw."""

    token: str | None
    closed: list[str] = field(default_factory=list)


CLOSED: list[str] = []


class Ask(graphene.InputObjectType):  # type: ignore[misc]  # graphene has no types
    name = graphene.String(required=True)
    data = JSON(required=True)


class Query(graphene.ObjectType):  # type: ignore[misc]
    hello = graphene.String(name=graphene.String())
    token = graphene.String()
    fails = graphene.String(how=graphene.String(required=True))
    needed = graphene.String(required=True)
    secret_field = graphene.String()
    things = graphene.List(graphene.String, first=graphene.Int(default_value=50))

    def resolve_hello(root: Any, info: Any, name: str = "you") -> str:
        return f"hello {name}"

    def resolve_token(root: Any, info: Any) -> str | None:
        seen: Seen = info.context
        return seen.token

    def resolve_needed(root: Any, info: Any) -> None:
        return None

    def resolve_fails(root: Any, info: Any, how: str) -> str:
        faults: dict[str, Exception] = {
            "forbidden": Forbidden(),
            "login": Unauthenticated(),
            "structure": StructureFault("HEADER", "No header."),
            "database": psycopg.OperationalError("connection to postgresql://u:canary@h/d failed"),
            "disk": psycopg.errors.DiskFull("canary"),
            "bug": RuntimeError("canary"),
        }
        raise faults[how]


class Echo(graphene.Mutation):  # type: ignore[misc]
    class Arguments:
        input = Ask(required=True)

    Output = JSON

    async def mutate(root: Any, info: Any, input: Any) -> RawJson:
        assert isinstance(input["data"], RawJson)
        return RawJson(input["data"].data)


class Mutation(graphene.ObjectType):  # type: ignore[misc]
    echo = Echo.Field()


class Subscription(graphene.ObjectType):  # type: ignore[misc]
    count = graphene.Int(upto=graphene.Int(default_value=3))
    forever = graphene.Int()
    broken = graphene.Int()
    refused = graphene.Int()
    data = JSON()

    async def subscribe_count(root: Any, info: Any, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    def resolve_count(root: int, info: Any, upto: int) -> int:
        return root

    async def subscribe_forever(root: Any, info: Any) -> AsyncIterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
                await asyncio.sleep(0.02)
        finally:
            CLOSED.append("forever")

    def resolve_forever(root: int, info: Any) -> int:
        return root

    async def subscribe_broken(root: Any, info: Any) -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("canary")

    def resolve_broken(root: int, info: Any) -> int:
        return root

    async def subscribe_refused(root: Any, info: Any) -> AsyncIterator[int]:
        raise Unauthenticated
        yield

    async def subscribe_data(root: Any, info: Any) -> AsyncIterator[RawJson]:
        yield RawJson(b"1.10")

    def resolve_data(root: RawJson, info: Any) -> RawJson:
        return root


SCHEMA = graphene.Schema(query=Query, mutation=Mutation, subscription=Subscription)


async def _context(connection: HTTPConnection) -> Seen:
    token = token_of(connection)
    if token == "bad":
        raise Unauthenticated
    return Seen(token)


async def _good() -> bool:
    return True


class Door:
    """The door, served."""

    def __init__(self, port: int, app: Any) -> None:
        self.port = port
        self.app = app
        self.url = f"http://127.0.0.1:{port}/graphql"
        self.client = httpx.AsyncClient(timeout=10)

    async def post(self, query: object, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return await self.client.post(self.url, json={"query": query, **more}, headers=headers)

    async def raw(self, content: bytes, **headers: str) -> httpx.Response:
        return await self.client.post(
            self.url,
            content=content,
            headers={"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()},
        )

    @asynccontextmanager
    async def socket(self, payload: dict[str, Any] | None = None, **headers: str) -> AsyncIterator[ClientConnection]:
        """A WebSocket that has said who it is."""
        address = f"ws://127.0.0.1:{self.port}/graphql"
        async with connect(address, subprotocols=[Subprotocol(websocket.PROTOCOL)], additional_headers=headers) as made:
            await made.send(json.dumps({"type": "connection_init", "payload": payload}))
            assert json.loads(await made.recv()) == {"type": "connection_ack"}
            yield made


@asynccontextmanager
async def serving(mode: str = "development", subscriptions: bool = True, limits: Limits | None = None) -> AsyncIterator[Door]:
    settings = ServiceSettings(jwt_secret="graphql door in the tests: 32+ bytes", grace=1, mode=mode)
    made = graphql_app(SCHEMA, context=_context, settings=settings, subscriptions=subscriptions, limits=limits)
    app = http_app(graphql_routes("/graphql", made, settings), ready=_good, settings=settings)
    listener = process._listen("127.0.0.1", 0)
    server = process._Uvicorn(process._config(app, settings))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    door = Door(listener.getsockname()[1], app)
    try:
        yield door
    finally:
        await door.client.aclose()
        app.state.stopping = True
        server.should_exit = True
        await task


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with serving() as made:
        yield made


async def test_both_media_types(door: Door) -> None:
    plain = await door.post("{ hello }")
    assert (plain.status_code, plain.headers["content-type"]) == (200, "application/json")
    assert plain.json() == {"data": {"hello": "hello you"}}
    modern = await door.post("{ hello }", MODERN)
    assert modern.headers["content-type"] == "application/graphql-response+json"


@pytest.mark.parametrize(
    ("body", "legacy"),
    [
        ({"query": "{ hello"}, 200),
        ({"query": "{ nothing }"}, 200),
        ({"query": "query A { hello } query B { hello }"}, 200),
        ({"query": "query A { hello }", "operationName": "B"}, 200),
        ({"query": "query($n: String!) { hello(name: $n) }"}, 200),
        ({"query": "query($n: String!) { hello(name: $n) }", "variables": {"n": 1}}, 200),
        ({"query": "subscription { count }"}, 200),
        ({}, 400),
        ({"query": 1}, 400),
        ({"query": None}, 400),
        ({"query": "{ hello }", "variables": "x"}, 400),
        ({"query": "{ hello }", "variables": [1]}, 400),
        ({"query": "{ hello }", "operationName": 1}, 400),
        ({"query": "{ hello }", "extensions": [1]}, 400),
        ([{"query": "{ hello }"}], 400),
        ("x", 400),
    ],
)
async def test_refused_requests(door: Door, body: object, legacy: int) -> None:
    for accept, status in (("application/json", legacy), (MODERN["accept"], 400)):
        answer = await door.client.post(door.url, json=body, headers={"accept": accept})
        assert answer.status_code == status
        assert "data" not in answer.json()
        error = answer.json()["errors"][0]
        assert error["message"]
        assert error["extensions"]["code"] == "INVALID_DATA"


async def test_nulls_and_absences_are_the_same(door: Door) -> None:
    answer = await door.raw(b'{"query": "{ hello }", "variables": null, "operationName": null, "extensions": null, "more": 1}')
    assert answer.json() == {"data": {"hello": "hello you"}}


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"query": "{ hello }"', b"\xff", b'{"query": "\xff"}', b'{"query": "\\ud800"}']
)
async def test_malformed_bodies(door: Door, content: bytes) -> None:
    assert (await door.raw(content)).status_code == 400


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "",
    ],
)
async def test_other_content_types(door: Door, kind: str) -> None:
    answer = await door.raw(b'{"query": "{ hello }"}', content_type=kind)
    assert answer.status_code == 415


async def test_compressed_bodies_are_not_taken(door: Door) -> None:
    assert (await door.raw(b"x", content_encoding="gzip")).status_code == 415


async def test_get(door: Door) -> None:
    async def get(**parameters: str) -> httpx.Response:
        return await door.client.get(door.url, params=parameters)

    query = "query Q($n: String) { hello(name: $n) }"
    answer = await get(query=query, variables='{"n": "me"}', operationName="Q")
    assert answer.json() == {"data": {"hello": "hello me"}}
    mutation = await get(query='mutation { echo(input: {name: "x", data: 1}) }')
    assert (mutation.status_code, mutation.headers["allow"]) == (405, "POST")
    assert (await get()).status_code == 400
    for wrong in ("[", "[1]", "1"):
        assert (await get(query=query, variables=wrong)).status_code == 400
    assert (await door.client.put(door.url, json={"query": "{ hello }"})).status_code == 405
    assert (await door.client.delete(door.url)).status_code == 405


async def test_json_text_survives(door: Door) -> None:
    text = b'[{"price": 1.10, "a": 1, "a": 2}, 1e400, "\\ud800", 12345678901234567890123]'
    query = b'"mutation($i: Ask!) { echo(input: $i) }"'
    answer = await door.raw(b'{"query": %b, "variables": {"i": {"name": "x", "data": %b}}}' % (query, text))
    assert answer.content == b'{"data":{"echo":' + text + b"}}"
    literal = await door.post('mutation { echo(input: {name: "x", data: [{price: 1.10}]}) }')
    assert literal.content == b'{"data":{"echo":[{"price":1.10}]}}'


async def test_large_body(door: Door) -> None:
    rows = b"[" + b",".join(b'{"name":"Product %d","price":99.99}' % number for number in range(100_000)) + b"]"
    query = b'"mutation($d: JSON!) { echo(input: {name: \\"x\\", data: $d}) }"'
    answer = await door.raw(b'{"query": %b, "variables": {"d": %b}}' % (query, rows))
    assert answer.content == b'{"data":{"echo":' + rows + b"}}"


async def test_body_limit() -> None:
    async with serving(limits=Limits(body_bytes=1000)) as door:
        assert (await door.raw(b'{"query": "{ hello }"}' + b" " * 900)).status_code == 200
        assert (await door.raw(b'{"query": "{ hello }"}' + b" " * 1000)).status_code == 413

        # One that says so itself is refused without being read.
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1001\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413")
        writer.close()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b" " * 100

        answer = await door.client.post(door.url, content=chunks(), headers={"content-type": "application/json"})
        assert answer.status_code == 413


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("forbidden", "FORBIDDEN"),
        ("login", "UNAUTHENTICATED"),
        ("structure", "INVALID_DATA"),
        ("database", "UNAVAILABLE"),
        ("disk", "DISK_FULL"),
        ("bug", "INTERNAL"),
    ],
)
async def test_resolver_errors(door: Door, how: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = await door.post("query($how: String!) { hello fails(how: $how) }", variables={"how": how})
    assert answer.status_code == 200
    assert answer.json()["data"] == {"hello": "hello you", "fails": None}
    error = answer.json()["errors"][0]
    assert error["extensions"]["code"] == code
    assert error["path"] == ["fails"]
    assert "canary" not in answer.text
    if how == "bug":
        assert error["message"] == "Internal error"
        (record,) = [record for record in caplog.records if record.__dict__.get("action") == "bug"]
        assert record.__dict__["error_id"] == error["extensions"]["errorId"]
        assert record.exc_info
        assert "canary" in str(record.exc_info[1])


async def test_null_where_there_must_be_a_value(door: Door) -> None:
    answer = await door.post("{ needed }", MODERN)
    assert (answer.status_code, answer.json()["data"]) == (200, None)


async def test_bad_token_is_401(door: Door) -> None:
    answer = await door.post("{ hello }", {"authorization": "Bearer bad"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    refused = await door.post('{ fails(how: "login") }', {"authorization": "Bearer other"})
    assert refused.status_code == 401
    nobody = await door.post('{ fails(how: "login") }')
    assert nobody.status_code == 200
    partly = await door.post('{ hello login: fails(how: "login") bug: fails(how: "bug") }', {"authorization": "Bearer x"})
    assert partly.status_code == 200


async def test_where_tokens_are_found(door: Door) -> None:
    async def token(**headers: str) -> object:
        return (await door.post("{ token }", headers)).json()["data"]["token"]

    assert await token() is None
    assert await token(authorization="Bearer abc") == "abc"
    assert await token(authorization="bearer  abc") == "abc"
    assert await token(authorization="Basic abc") == ""
    assert await token(cookie="Authentication=abc; other=1") == "abc"
    assert await token(cookie="__Host-Authentication=abc; Authentication=planted") == "abc"
    assert await token(cookie="Authentication=abc", authorization="Bearer def") == "def"
    assert await token(cookie="Authentication=abc", origin="https://evil.example") is None
    assert await token(cookie="Authentication=abc", origin="null") is None
    assert await token(cookie="Authentication=abc", origin=f"http://127.0.0.1:{door.port}") == "abc"
    assert await token(authorization="Bearer abc", origin="https://elsewhere.example") == "abc"


async def test_limits_answer_400(door: Door) -> None:
    for query in ("{" + " ".join(f"a{i}: hello" for i in range(1000)) + "}", "{ hello } #" + "x" * 2_000_000, "[" * 100_000):
        answer = await door.post(query)
        assert answer.status_code == 400
        assert "data" not in answer.json()
    pages = await door.post("query($n: Int) { things(first: $n) }", variables={"n": 10**9})
    assert pages.status_code == 200  # A list of scalars costs one field.


async def test_production_tells_nothing_of_the_schema() -> None:
    async with serving("production") as door:
        for query in (
            "{ __schema { types { name } } }",
            '{ __type(name: "Query") { name } }',
            '{ a: __type(name: "Nothing") { name } b: __type(name: "Query") { name } }',
            '{ ...f } fragment f on Query { __type(name: "Query") { fields { name } } }',
            'query($n: String! = "Query") { __type(name: $n) { fields { name } } }',
            '{ __type(name: "Nothing") { name } __schema { types { name } } }',
            "{ secretFiel }",
            "{ hello(nam: 1) }",
        ):
            answer = await door.post(query)
            assert "errors" in answer.json()
            assert "secretField" not in answer.text
            assert "Did you mean" not in answer.text
            assert "data" not in answer.json()
        for name, status in (("Query", 400), ("Nothing", 200)):
            query = "query($n: String!) { __type(name: $n) { name fields { name } } }"
            asked = await door.post(query, variables={"n": name}, headers=MODERN)
            assert asked.status_code == status
            assert asked.json().get("data") in (None, {"__type": None})
        assert (await door.post("{ __typename }")).json() == {"data": {"__typename": "Query"}}
        assert (await door.client.get(door.url, headers={"accept": "text/html"})).status_code == 400
        for name in graphiql.FILES:
            assert (await door.client.get(f"{door.url}/explorer/{name}")).status_code == 404


async def test_development_helps() -> None:
    async with serving() as door:
        assert "secretField" in (await door.post("{ secretFiel }")).text
        page = await door.client.get(door.url, headers={"accept": "text/html"})
        assert "script-src 'self';" in page.headers["content-security-policy"]
        # Works without the internet: what the page names is here, all of it and nothing else.
        named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert sorted(named) == sorted(f"/graphql/explorer/{name}" for name in graphiql.FILES)
        assert "<script>" not in page.text
        for path in named:
            file = await door.client.get(httpx.URL(door.url).join(path))
            assert file.status_code == 200
            assert file.headers["x-content-type-options"] == "nosniff"
            assert "sourceMappingURL" not in file.text
        assert (await door.client.get(f"{door.url}/explorer/LICENSES.md")).status_code == 404
        assert (await door.client.get(f"{door.url}/explorer/..%2fapp.py")).status_code == 404


async def receive(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 5))
    return message


async def test_subscription_over_websocket(door: Door) -> None:
    async with door.socket() as socket:
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": "subscription { count(upto: 2) }"}}))
        messages = [await receive(socket) for _ in range(3)]
        assert messages == [
            {"type": "next", "id": "1", "payload": {"data": {"count": 0}}},
            {"type": "next", "id": "1", "payload": {"data": {"count": 1}}},
            {"type": "complete", "id": "1"},
        ]
        await socket.send(json.dumps({"type": "ping"}))
        assert await receive(socket) == {"type": "pong"}
        await socket.send('{"type": "subscribe", "id": "1", "payload": {"query": "subscription { data }"}}')
        assert '"data":1.10' in str(await asyncio.wait_for(socket.recv(), 5))


async def test_query_and_mutation_over_websocket(door: Door) -> None:
    async with door.socket() as socket:
        for query, data in (
            ("{ hello }", {"hello": "hello you"}),
            ('mutation { echo(input: {name: "x", data: 1}) }', {"echo": 1}),
        ):
            await socket.send(json.dumps({"type": "subscribe", "id": "q", "payload": {"query": query}}))
            assert await receive(socket) == {"type": "next", "id": "q", "payload": {"data": data}}
            assert await receive(socket) == {"type": "complete", "id": "q"}


async def test_variables_over_websocket(door: Door) -> None:
    async with door.socket() as socket:
        query = "subscription($n: Int!) { count(upto: $n) }"
        for variables, count in (({"n": 2}, 2), ({"n": 0}, 0)):
            payload: dict[str, Any] = {"query": query, "variables": variables, "operationName": None, "extensions": None}
            await socket.send(json.dumps({"type": "subscribe", "id": "v", "payload": payload}))
            kinds = [(await receive(socket))["type"] for _ in range(count + 1)]
            assert kinds == ["next"] * count + ["complete"]
        empty: tuple[Any, ...] = (None, {})
        for nothing in empty:
            payload = {"query": "{ hello }", "variables": nothing}
            await socket.send(json.dumps({"type": "subscribe", "id": "n", "payload": payload}))
            assert [(await receive(socket))["type"] for _ in range(2)] == ["next", "complete"]
        payload = {"query": "{ hello }", "variables": [1]}
        await socket.send(json.dumps({"type": "subscribe", "id": "w", "payload": payload}))
        assert (await receive(socket))["type"] == "error"


async def test_token_of_connection_init(door: Door) -> None:
    for payload in (
        {"Authorization": "Bearer abc"},
        {"authorization": "Bearer abc"},
        {"token": "abc"},
        {"Authentication": "abc"},
    ):
        async with door.socket(payload) as socket:
            await socket.send(json.dumps({"type": "subscribe", "id": "q", "payload": {"query": "{ token }"}}))
            assert (await receive(socket))["payload"] == {"data": {"token": "abc"}}
    async with door.socket(cookie="Authentication=abc") as socket:
        await socket.send(json.dumps({"type": "subscribe", "id": "q", "payload": {"query": "{ token }"}}))
        assert (await receive(socket))["payload"] == {"data": {"token": "abc"}}
    async with door.socket(cookie="Authentication=abc", origin="https://evil.example") as socket:
        await socket.send(json.dumps({"type": "subscribe", "id": "q", "payload": {"query": "{ token }"}}))
        assert (await receive(socket))["payload"] == {"data": {"token": None}}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription { nothing }", "INVALID_DATA"),
        ("subscription {", "INVALID_DATA"),
        ("{" + " ".join(f"a{i}: hello" for i in range(1000)) + "}", "INVALID_DATA"),
    ],
)
async def test_errors_over_websocket(door: Door, query: str, code: str) -> None:
    async with door.socket() as socket:
        await socket.send(json.dumps({"type": "subscribe", "id": "q", "payload": {"query": query}}))
        message = await receive(socket)
        assert message["type"] == "error"
        assert message["payload"][0]["extensions"]["code"] == code
        # The connection goes on.
        await socket.send(json.dumps({"type": "subscribe", "id": "q", "payload": {"query": "{ hello }"}}))
        assert (await receive(socket))["type"] == "next"


async def test_bad_token_over_websocket(door: Door) -> None:
    async with door.socket({"token": "bad"}) as socket:
        await socket.send(json.dumps({"type": "subscribe", "id": "q", "payload": {"query": "subscription { count }"}}))
        message = await receive(socket)
        assert message["type"] == "error"
        assert message["payload"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_broken_subscriptions(door: Door) -> None:
    async with door.socket() as socket:
        await socket.send(json.dumps({"type": "subscribe", "id": "a", "payload": {"query": "subscription { broken }"}}))
        messages = [await receive(socket) for _ in range(3)]
        assert [message["type"] for message in messages] == ["next", "next", "complete"]
        assert messages[1]["payload"]["errors"][0]["message"] == "Internal error"
        assert "canary" not in str(messages)
        await socket.send(json.dumps({"type": "subscribe", "id": "b", "payload": {"query": "subscription { refused }"}}))
        message = await receive(socket)
        errors = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
        assert errors[0]["extensions"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("how", ["complete", "close", "abort"])
async def test_subscription_ends_with_its_client(door: Door, how: str) -> None:
    CLOSED.clear()
    async with door.socket() as socket:
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": "subscription { forever }"}}))
        await receive(socket)
        if how == "complete":
            await socket.send(json.dumps({"type": "complete", "id": "1"}))
        elif how == "close":
            await socket.close()
        else:
            socket.transport.abort()
        for _ in range(100):
            if CLOSED:
                break
            await asyncio.sleep(0.02)
        assert CLOSED == ["forever"]


async def closing(socket: ClientConnection) -> int | None:
    """The code with which the server closes."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await asyncio.wait_for(socket.recv(), 5)
    return socket.close_code


SUBSCRIBE = json.dumps({"type": "subscribe", "id": "1", "payload": {"query": "subscription { forever }"}})


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["nonsense"], 4400),
        (["{}"], 4400),
        (['{"type": "unknown"}'], 4400),
        ([b"\x00bytes"], 4400),
        (['{"type": "subscribe", "id": "1"}'], 4400),
        (['{"type": "subscribe", "payload": {"query": "{ hello }"}}'], 4400),
        (['{"type": "subscribe", "id": "1", "payload": {"query": 1}}'], 4400),
        (['{"type": "connection_init"}'], 4429),
        ([SUBSCRIBE, SUBSCRIBE], 4409),
    ],
)
async def test_what_breaks_the_protocol_is_closed(door: Door, messages: list[str | bytes], code: int) -> None:
    async with door.socket() as socket:
        for message in messages:
            await socket.send(message)
        assert await closing(socket) == code


async def test_unauthorised_and_silent_clients_are_closed(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"ws://127.0.0.1:{door.port}/graphql"
    protocol = [Subprotocol(websocket.PROTOCOL)]
    async with connect(address, subprotocols=protocol) as socket:
        await socket.send(SUBSCRIBE)
        assert await closing(socket) == 4401
    with pytest.raises(websockets.InvalidStatus):
        await connect(address, subprotocols=[Subprotocol("graphql-ws")])


async def test_too_many_operations(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_OPERATIONS", 2)
    async with door.socket() as socket:
        for number in range(3):
            await socket.send(SUBSCRIBE.replace('"id": "1"', f'"id": "{number}"'))
        assert await closing(socket) == 4429


async def test_no_websocket_without_subscriptions() -> None:
    async with serving(subscriptions=False) as door:
        with pytest.raises(websockets.InvalidStatus):
            await connect(f"ws://127.0.0.1:{door.port}/graphql", subprotocols=[Subprotocol(websocket.PROTOCOL)])


EVENTS = {"accept": "text/event-stream"}


async def test_subscription_over_sse(door: Door) -> None:
    answer = await door.post("subscription { count(upto: 2) }", EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == (
        'event: next\ndata: {"data":{"count":0}}\n\nevent: next\ndata: {"data":{"count":1}}\n\nevent: complete\ndata: \n\n'
    )
    got = await door.client.get(door.url, params={"query": "subscription { count(upto: 1) }"}, headers=EVENTS)
    assert got.text.startswith('event: next\ndata: {"data":{"count":0}}')
    query = await door.post("{ hello }", EVENTS)
    assert query.text == 'event: next\ndata: {"data":{"hello":"hello you"}}\n\nevent: complete\ndata: \n\n'


async def test_refusals_over_sse(door: Door) -> None:
    answer = await door.post("subscription { count }", {**EVENTS, "authorization": "Bearer bad"})
    assert answer.status_code == 401
    assert "UNAUTHENTICATED" in answer.text


async def test_sse_ends_with_its_client_and_with_the_service(door: Door) -> None:
    for stopping in (False, True):
        CLOSED.clear()
        async with door.client.stream("POST", door.url, json={"query": "subscription { forever }"}, headers=EVENTS) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            if stopping:
                door.app.state.stopping = True
                async for _ in lines:
                    pass
        for _ in range(150):
            if CLOSED:
                break
            await asyncio.sleep(0.02)
        assert CLOSED == ["forever"]
