"""Subscriptions through the GraphQL door, over graphql-transport-ws and SSE."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from api.graphql import websocket
from tests.integration.graphql_service import CLOSED, Door, door, serving

__all__ = ["door"]


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
