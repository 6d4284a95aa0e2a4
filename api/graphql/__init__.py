"""The GraphQL door: a graphene schema, served over HTTP, WebSocket and SSE, with limits on what one request may ask."""

from api.graphql.app import graphql_app, graphql_routes
from api.graphql.limits import Limits
from api.graphql.scalars import RawJson
from api.graphql.tokens import token_of

__all__ = ["Limits", "RawJson", "graphql_app", "graphql_routes", "token_of"]
