"""GraphQL over HTTP: media types, methods and status codes as the graphql-over-http draft has them."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec
from ariadne.asgi.handlers import GraphQLHTTPHandler
from graphql import GraphQLError, OperationType
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.graphql.engine import Answer, Asked, Engine, is_subscription
from api.graphql.sse import event_stream
from api.graphql.tokens import token_of
from api.graphql.variables import split_object
from api.http import headers_of, status_of
from jobber.errors import JobberError

#: The media type whose status codes tell a refused request from one that ran.
MODERN = "application/graphql-response+json"
LEGACY = "application/json"
EVENTS = "text/event-stream"

#: Key of the request's scope for a list of (name, value) that resolvers want among the answer's headers.
RESPONSE_HEADERS = "jobber.response_headers"

Explorer = Callable[[Request], Awaitable[Response]]

_asked = msgspec.json.Decoder(Asked)


class HttpDoor(GraphQLHTTPHandler):
    """ariadne's HTTP handler with an engine of ours: nothing of its own request handling is left."""

    def __init__(self, engine: Engine, *, subscriptions: bool, explorer: Explorer | None) -> None:
        super().__init__()
        self._engine = engine
        self._subscriptions = subscriptions
        self._explorer = explorer

    async def handle_request(self, request: Request) -> Response:
        """Answer one request."""
        if request.method == "POST":
            asked = await self._posted(request)
        elif request.method in ("GET", "HEAD"):
            if "query" not in request.query_params and self._explorer and "text/html" in request.headers.get("accept", ""):
                return await self._explorer(request)
            asked = _queried(request)
        else:
            return _plain(405, "GraphQL takes POST, and GET for queries.", allow="GET, POST")
        if isinstance(asked, Response):
            return asked
        return await self._run(request, asked)

    async def _run(self, request: Request, asked: Asked) -> Response:
        prepared = self._engine.prepare(asked)
        if isinstance(prepared, Answer):
            return _respond(request, prepared)
        if request.method != "POST" and prepared.operation.kind is OperationType.MUTATION:
            return _plain(405, "Mutations are sent by POST.", allow="POST")
        streams = self._subscriptions and EVENTS in request.headers.get("accept", "")
        if is_subscription(prepared):
            if not streams:
                refusal = "Subscriptions are followed over WebSocket (graphql-transport-ws), or with Accept: text/event-stream."
                return _respond(request, self._engine.refuse(GraphQLError(refusal)))
            answers: AsyncGenerator[Answer, None] | Answer = await self._engine.follow(prepared, request)
        else:
            answers = await self._engine.run(prepared, request)
        if isinstance(answers, Answer) and (not streams or not answers.ran):
            return _respond(request, answers)
        return event_stream(request, answers)

    async def _posted(self, request: Request) -> Asked | Response:
        media, _, parameters = request.headers.get("content-type", "").lower().partition(";")
        charset = parameters.partition("charset=")[2].strip().strip('"')
        if media.strip() != LEGACY or charset not in ("", "utf-8", "utf8") or "content-encoding" in request.headers:
            return _plain(415, "GraphQL requests are application/json in UTF-8, uncompressed.")
        body = await _read(request, self._engine.limits.body_bytes)
        if body is None:
            return _plain(413, f"The request is larger than {self._engine.limits.body_bytes:,} bytes.")
        try:
            try:
                asked = _asked.decode(body)
            except RecursionError:
                asked = _from_members(split_object(body))
            except msgspec.DecodeError:
                # Perhaps only a lone surrogate in somebody's data, which is for the job's rules to judge.
                asked = _from_members(split_object(body))
        except (msgspec.MsgspecError, GraphQLError, UnicodeDecodeError) as fault:
            return _malformed(request, self._engine, fault)
        return _checked(request, self._engine, asked)


def _queried(request: Request) -> Asked | Response:
    parameters = request.query_params
    if not parameters.get("query"):
        return _plain(400, "There is no query. Send a POST with application/json.")
    raw: dict[str, Any] = {
        name: msgspec.Raw(parameters[name].encode()) for name in ("variables", "extensions") if parameters.get(name)
    }
    try:
        extensions = msgspec.json.decode(raw["extensions"], type=dict[str, msgspec.Raw] | None) if "extensions" in raw else None
        variables = msgspec.json.decode(raw["variables"], type=dict[str, msgspec.Raw] | None) if "variables" in raw else None
    except (msgspec.MsgspecError, RecursionError):
        return _plain(400, "variables and extensions must be JSON objects.")
    return Asked(
        query=parameters["query"],
        operation_name=parameters.get("operationName") or None,
        variables=raw["variables"] if variables is not None else msgspec.Raw(),
        extensions=extensions,
    )


async def _read(request: Request, limit: int) -> bytes | None:
    """The body; None when it is larger than `limit`."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        return None
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                return None
            chunks.append(chunk)
    except ClientDisconnect:
        return b""
    return b"".join(chunks)


def _from_members(members: dict[str, bytes]) -> Asked:
    """A body that was split by hand."""
    known = {name: members[name] for name in ("query", "operationName", "variables", "extensions") if name in members}
    variables = known.pop("variables", b"null")
    rest = msgspec.json.decode(
        b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in known.items()) + b"}", type=Asked
    )
    return msgspec.structs.replace(rest, variables=msgspec.Raw(variables))


def _checked(request: Request, engine: Engine, asked: Asked) -> Asked | Response:
    if not asked.variables_text().startswith(b"{"):
        return _malformed(request, engine, GraphQLError("`variables` must be an object."))
    return asked


def _malformed(request: Request, engine: Engine, fault: Exception) -> Response:
    why = str(fault).replace("Expected `object`, got `array`", "A request is one operation in an object; arrays are not run")
    answer = engine.refuse(GraphQLError(f"The body is no GraphQL request: {why}"))
    return Response(msgspec.json.encode(answer.body), 400, media_type=_media(request))


def _respond(request: Request, answer: Answer) -> Response:
    media = _media(request)
    headers = None
    if isinstance(answer.fault, JobberError):
        status = status_of(answer.fault)
    elif answer.fault is not None:
        status = 500
    elif answer.ran:
        status = 200
    else:
        # Under application/json a 4xx could be a proxy's; the body alone tells, so that it has to be 200.
        status = 400 if media == MODERN or answer.too_much else 200
    if answer.unauthenticated and (answer.fault or token_of(request) is not None):
        status, headers = 401, {"www-authenticate": "Bearer"}
    elif answer.limited:
        status, headers = status_of(answer.limited), headers_of(answer.limited)
    response = Response(msgspec.json.encode(answer.body), status, headers, media_type=media)
    for name, value in request.scope.get(RESPONSE_HEADERS, ()):
        response.headers.append(name, value)
    return response


def _media(request: Request) -> str:
    return MODERN if MODERN in request.headers.get("accept", "") else LEGACY


def _plain(status: int, message: str, **headers: str) -> Response:
    body = {"errors": [{"message": message, "extensions": {"code": "INVALID_DATA"}}]}
    return Response(msgspec.json.encode(body), status, headers, media_type=LEGACY)
