"""Puts the GraphQL door together."""

from collections.abc import Sequence

import graphene
from ariadne.asgi import GraphQL
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from api.graphql import graphiql
from api.graphql.engine import ContextOf, Engine
from api.graphql.http_door import Explorer, HttpDoor
from api.graphql.limits import Limits
from api.graphql.websocket import WebSocketDoor
from jobber.settings import ServiceSettings


def graphql_app(
    schema: graphene.Schema,
    *,
    context: ContextOf,
    settings: ServiceSettings,
    subscriptions: bool,
    limits: Limits | None = None,
) -> ASGIApp:
    """An ASGI application that serves `schema`.

    `context` makes what resolvers get as `info.context`, once an operation; a JobberError of it refuses the request.
    In development, browsers that ask for a page get GraphiQL.
    """
    development = settings.mode == "development"
    engine = Engine(schema, context, limits or Limits(), development=development)
    return _Door(engine, subscriptions=subscriptions, explorer=graphiql.page if development else None)


def graphql_routes(path: str, app: ASGIApp, settings: ServiceSettings) -> Sequence[BaseRoute]:
    """Serve `app` at exactly `path` (a Mount would redirect a POST to it); in development GraphiQL's files, too."""
    explorer = [graphiql.asset_route(path)] if settings.mode == "development" else []
    return [Route(path, app), WebSocketRoute(path, app), *explorer]


class _Door(GraphQL):
    """ariadne's ASGI application with our handlers."""

    def __init__(self, engine: Engine, *, subscriptions: bool, explorer: Explorer | None) -> None:
        http = HttpDoor(engine, subscriptions=subscriptions, explorer=explorer)
        super().__init__(engine.schema, http_handler=http, websocket_handler=WebSocketDoor(engine), introspection=False)
        self._subscriptions = subscriptions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not self._subscriptions:
            await WebSocketClose(4406, "There is nothing to subscribe to here.")(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
