"""GraphQL over WebSocket: the graphql-transport-ws protocol, on ariadne's state machine with an engine of ours."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from ariadne.asgi.handlers import GraphQLTransportWSHandler
from ariadne.asgi.handlers.graphql_transport_ws import ClientContext
from ariadne.types import Operation
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from api.graphql.engine import Answer, Asked, Engine, is_subscription
from api.graphql.tokens import CONNECTION_INIT

PROTOCOL = "graphql-transport-ws"
#: A client has to say who it is within so many seconds.
INIT_TIMEOUT = timedelta(seconds=10)
#: Operations of one connection at once.
MAX_OPERATIONS = 100


class _Message(msgspec.Struct):
    type: str
    id: str | None = None
    payload: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class WebSocketDoor(GraphQLTransportWSHandler):
    """Follows subscriptions, and runs queries and mutations too."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(connection_init_wait_timeout=INIT_TIMEOUT)
        self._engine = engine

    async def handle_websocket(self, websocket: WebSocket) -> None:
        """Serve one connection until it ends."""
        if PROTOCOL not in websocket.scope.get("subprotocols", ()):
            await websocket.close(4406, f"The subprotocol is {PROTOCOL}.")
            return
        await websocket.accept(PROTOCOL)
        client = ClientContext()
        deadline = asyncio.create_task(self.handle_connection_init_timeout(websocket, client))
        try:
            while websocket.application_state is WebSocketState.CONNECTED:
                await self._take(websocket, await websocket.receive_text(), client)
        except (WebSocketDisconnect, RuntimeError):
            # Starlette raises RuntimeError when the other side was faster in closing.
            pass
        except KeyError:
            # receive_text got bytes.
            await self._close(websocket, 4400, "Messages are text.")
        finally:
            deadline.cancel()
            for operation_id in list(client.operations):
                await self.stop_websocket_operation(websocket, operation_id, client)

    async def _take(self, websocket: WebSocket, text: str, client: ClientContext) -> None:
        try:
            message = msgspec.json.decode(text, type=_Message)
            payload: Any = message.payload
            if message.type == self.GQL_SUBSCRIBE:
                if not message.id:
                    raise msgspec.ValidationError("`id` is missing")
                payload = msgspec.json.decode(message.payload, type=Asked)
            elif message.type == self.GQL_CONNECTION_INIT:
                payload = msgspec.json.decode(message.payload, type=dict[str, Any] | None) if bytes(message.payload) else None
                websocket.scope[CONNECTION_INIT] = payload or {}
        except (msgspec.MsgspecError, RecursionError) as fault:
            await self._close(websocket, 4400, f"This is no message of {PROTOCOL}: {fault}"[:120])
            return
        await self.handle_websocket_message(websocket, {"type": message.type, "id": message.id, "payload": payload}, client)

    async def handle_websocket_subscribe(
        self, websocket: WebSocket, data: Asked, operation_id: str, client_context: ClientContext
    ) -> None:
        """Start an operation."""
        if not client_context.connection_acknowledged:
            await websocket.close(4401, "Unauthorized")
            return
        if operation_id in client_context.operations:
            await websocket.close(4409, f"Subscriber for {operation_id} already exists"[:120])
            return
        if len(client_context.operations) >= MAX_OPERATIONS:
            await websocket.close(4429, f"More than {MAX_OPERATIONS} operations at once")
            return
        prepared = self._engine.prepare(data)
        if isinstance(prepared, Answer):
            await self._error(websocket, operation_id, prepared)
            return
        if is_subscription(prepared):
            answers = await self._engine.follow(prepared, websocket)
        else:
            answers = await self._engine.run(prepared, websocket)
        if isinstance(answers, Answer):
            if not answers.ran or (is_subscription(prepared) and answers.body.get("data") is None):
                await self._error(websocket, operation_id, answers)
                return
            answers = _only(answers)
        client_context.operations[operation_id] = Operation(id=operation_id, name=data.operation_name, generator=answers)
        client_context.operation_tasks[operation_id] = asyncio.ensure_future(
            self._send(websocket, answers, operation_id, client_context)
        )

    async def _send(
        self, websocket: WebSocket, answers: AsyncGenerator[Answer, None], operation_id: str, client: ClientContext
    ) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            async for answer in answers:
                await _tell(websocket, {"type": self.GQL_NEXT, "id": operation_id, "payload": answer.body})
            client.operations.pop(operation_id, None)
            client.operation_tasks.pop(operation_id, None)
            await _tell(websocket, {"type": self.GQL_COMPLETE, "id": operation_id})

    async def _error(self, websocket: WebSocket, operation_id: str, answer: Answer) -> None:
        await _tell(websocket, {"type": self.GQL_ERROR, "id": operation_id, "payload": answer.body["errors"]})

    async def _close(self, websocket: WebSocket, code: int, reason: str) -> None:
        with contextlib.suppress(RuntimeError):
            await websocket.close(code, reason)


async def _only(answer: Answer) -> AsyncGenerator[Answer, None]:
    yield answer


async def _tell(websocket: WebSocket, message: Mapping[str, Any]) -> None:
    await websocket.send_text(msgspec.json.encode(message).decode())
