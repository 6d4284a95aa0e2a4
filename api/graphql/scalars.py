"""The scalars of the public schema: JSON, DateTime, Long."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import graphene
import msgspec
from graphql import GraphQLError, Undefined
from graphql.language import (
    BooleanValueNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    VariableNode,
)

#: Of a 64-bit integer.
LEAST, MOST = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True, repr=False)
class RawJson:
    """A JSON value as its bytes: numbers keep their text, duplicate keys stay, nothing is decoded.

    It came through a structural check only; who decodes it must expect what JSON decoders refuse.
    """

    data: bytes

    def __bytes__(self) -> bytes:
        return self.data

    def __repr__(self) -> str:
        # graphql-core shows refused values in its messages.
        return f"<{len(self.data)} bytes of JSON>"


class JSON(graphene.Scalar):
    """Any JSON value. Numbers keep their text: 1.10 stays 1.10."""

    @staticmethod
    def serialize(value: object) -> object:
        """RawJson goes out as it is; everything else is encoded with the answer."""
        return msgspec.Raw(value.data) if isinstance(value, RawJson) else value

    @staticmethod
    def parse_value(value: object) -> RawJson:
        """From a variable; the door hands over RawJson (api.graphql.variables)."""
        return value if isinstance(value, RawJson) else RawJson(msgspec.json.encode(value))

    @staticmethod
    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> RawJson:
        """From the query's text."""
        return RawJson(literal_json(node, variables))


class DateTime(graphene.Scalar):
    """A moment, as RFC 3339 writes it: 2026-11-24T08:30:00Z. Answers are in UTC."""

    @staticmethod
    def serialize(value: object) -> str:
        """In UTC, with Z."""
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise GraphQLError(f"DateTime cannot represent {type(value).__name__}")
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")

    @staticmethod
    def parse_value(value: object) -> datetime:
        """Needs an offset: a moment without one is a guess."""
        if isinstance(value, str) and len(value) <= 40:
            try:
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is not None:
                    return moment.astimezone(UTC)
            except (ValueError, OverflowError):
                pass
        raise GraphQLError("DateTime must be written like 2026-11-24T08:30:00Z, with an offset.")

    @staticmethod
    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> datetime:
        """From the query's text."""
        return DateTime.parse_value(node.value if isinstance(node, StringValueNode) else None)


class Long(graphene.Scalar):
    """A whole number of 64 bits. Answers are JSON numbers; in arguments its digits may also be a string."""

    @staticmethod
    def serialize(value: object) -> int:
        """Refuses what 64 bits do not hold."""
        return Long.parse_value(value)

    @staticmethod
    def parse_value(value: object) -> int:
        """An integer, or its digits in a string."""
        if (
            isinstance(value, str)
            and len(value) <= 20
            and value.removeprefix("-").isascii()
            and value.removeprefix("-").isdigit()
        ):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and LEAST <= value <= MOST:
            return value
        raise GraphQLError("Long must be a whole number of 64 bits.")

    @staticmethod
    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> int:
        """From the query's text."""
        return Long.parse_value(node.value if isinstance(node, IntValueNode | StringValueNode) else None)


def literal_json(node: ValueNode, variables: dict[str, Any] | None) -> bytes:
    """The JSON text of a value that was written into the query.

    `variables` None: only a check, in which variables stand for null. Raises GraphQLError for what JSON has no form for.
    """
    match node:
        case IntValueNode() | FloatValueNode():
            # The grammar of GraphQL numbers is that of JSON.
            return node.value.encode()
        case StringValueNode():
            return msgspec.json.encode(node.value)
        case BooleanValueNode():
            return b"true" if node.value else b"false"
        case NullValueNode():
            return b"null"
        case ListValueNode():
            return b"[" + b",".join(literal_json(item, variables) for item in node.values) + b"]"
        case ObjectValueNode():
            # As the specification has it for input objects: a variable that was not given leaves its key out.
            members = (
                msgspec.json.encode(field.name.value) + b":" + literal_json(field.value, variables)
                for field in node.fields
                if not _missing(field.value, variables)
            )
            return b"{" + b",".join(members) + b"}"
        case VariableNode():
            value = (variables or {}).get(node.name.value, Undefined)
            if value is Undefined:
                return b"null"
            return value.data if isinstance(value, RawJson) else msgspec.json.encode(value)
    raise GraphQLError("JSON has no enum values; write strings in quotes.", node)


def _missing(node: ValueNode, variables: dict[str, Any] | None) -> bool:
    return isinstance(node, VariableNode) and variables is not None and node.name.value not in variables
