"""Variables, decoded as their types say: what is declared JSON keeps its bytes, all else becomes Python values."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    get_named_type,
)

from api.graphql.scalars import JSON, RawJson

#: Bytes up to which JSON that msgspec refuses is split by hand: lone surrogates and nesting beyond 1,000 are legal JSON, and
#: a record that holds them is rejected alone. Measured: 1 MiB of brackets takes 0.2 s.
MAX_BY_HAND = 256 << 10

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])
_plain = msgspec.json.Decoder()

_TOKEN = re.compile(rb'\s*(?:("(?:[^"\\]|\\.)*")|([\[{])|([\]}])|([,:])|([^\s"\[\]{},:]+))', re.DOTALL)


def decode_variables(raw: bytes, types: Mapping[str, GraphQLInputType | None]) -> dict[str, Any]:
    """The variables that the operation declares (`types`, by name); others are ignored.

    Raises GraphQLError when `raw` is not an object or a value cannot be decoded.
    """
    members = split_object(raw)
    return {name: _decode(value, types[name], f"${name}") for name, value in members.items() if name in types}


def split_object(raw: bytes) -> dict[str, bytes]:
    """The members of a JSON object as their bytes; the last of a double key counts.

    Raises GraphQLError for anything else.
    """
    try:
        return {key: bytes(value) for key, value in _raw_object.decode(raw).items()}
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        parts = _by_hand(raw, b"{")
        if parts is None:
            raise GraphQLError(f"This is no JSON object: {_short(fault)}.") from fault
        return dict(parts)


def _decode(raw: bytes, kind: GraphQLInputType | None, where: str) -> Any:
    if isinstance(kind, GraphQLNonNull):
        kind = kind.of_type
    if raw == b"null":
        return None
    if kind is None or not _carries_json(kind):
        try:
            return _plain.decode(raw)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
            raise GraphQLError(f"Variable {where} cannot be read: {_short(fault)}.") from fault
    if isinstance(kind, GraphQLList):
        if not raw.startswith(b"["):
            return _decode(raw, kind.of_type, where)
        return [_decode(item, kind.of_type, where) for item in _split_list(raw)]
    if isinstance(kind, GraphQLInputObjectType):
        if not raw.startswith(b"{"):
            return _decode(raw, None, where)
        fields = kind.fields
        return {
            name: _decode(value, fields[name].type if name in fields else None, f"{where}.{name}")
            for name, value in split_object(raw).items()
        }
    return RawJson(raw)


def _carries_json(kind: Any, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a JSON scalar is in it."""
    named: Any = get_named_type(kind)
    if isinstance(named, GraphQLScalarType):
        return bool(named.name == JSON.__name__)
    if not isinstance(named, GraphQLInputObjectType) or named.name in seen:
        return False
    # Input types come from the schema and live as long as it: asked once each.
    known = named.extensions.get("carries_json")
    if known is None:
        known = any(_carries_json(field.type, seen | {named.name}) for field in named.fields.values())
        if not seen:
            named.extensions["carries_json"] = known
    return bool(known)


def _split_list(raw: bytes) -> Sequence[bytes]:
    try:
        return [bytes(item) for item in _raw_list.decode(raw)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        parts = _by_hand(raw, b"[")
        if parts is None:
            raise GraphQLError(f"This is no JSON array: {_short(fault)}.") from fault
        return [value for _, value in parts]


def _by_hand(raw: bytes, opening: bytes) -> list[tuple[str, bytes]] | None:
    """The members of an object, or the items of an array (with empty keys), without recursion and without looking into values.

    None when the brackets do not fit, or when a member is no member.
    """
    raw = raw.strip()
    if len(raw) > MAX_BY_HAND or not raw.startswith(opening):
        return None
    found: list[tuple[str, bytes]] = []
    expected: list[bytes] = []
    key: str | None = None
    place, begin = 0, 1
    while place < len(raw):
        token = _TOKEN.match(raw, place)
        if not token:
            return None
        text, (start, place) = token[0].strip(), (token.start(), token.end())
        if token[2]:
            expected.append(b"]" if text == b"[" else b"}")
        elif token[3] and (not expected or expected.pop() != text):
            return None
        if not expected and place < len(raw):
            return None
        outermost = len(expected) == 1 and not token[2]
        if outermost and text == b":":
            if opening == b"[" or key is not None:
                return None
            try:
                key = msgspec.json.decode(raw[begin:start].strip(), type=str)
            except msgspec.MsgspecError:
                return None
            begin = place
        elif (outermost and text == b",") or not expected:
            value = raw[begin:start].strip()
            if value and (key is not None or opening == b"["):
                found.append((key or "", value))
            elif value or key is not None or expected or found:
                return None
            key, begin = None, place
    return None if expected else found


def _short(fault: Exception) -> str:
    """What is wrong, without the `at $.path` that would repeat the caller's data."""
    return "it is nested too deeply" if isinstance(fault, RecursionError) else str(fault).split(" - at ")[0]
