"""The schema as text: a public surface, pinned by a snapshot beside each room."""

import graphene
from graphql import print_schema


def sdl(schema: graphene.Schema) -> str:
    """The schema definition, as `schema.graphql` of a room has it."""
    return print_schema(schema.graphql_schema) + "\n"
