"""A small GraphQL service behind the door that auth and jobs share: it does what tests ask of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import graphene
import httpx
import psycopg
import pytest
from starlette.requests import HTTPConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from api import process
from api.graphql import Limits, RawJson, graphql_app, graphql_routes, token_of, websocket
from api.graphql.scalars import JSON
from api.http import http_app
from jobber.errors import Forbidden, StructureFault, Unauthenticated
from jobber.settings import ServiceSettings

MODERN = {"accept": "application/graphql-response+json"}


@dataclass
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
