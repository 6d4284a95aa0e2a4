"""JSON keeps its text, through variables and through literals; DateTime and Long take what they say."""

import json
from datetime import UTC, datetime
from typing import Any

import graphene
import msgspec
import pytest
from graphql import GraphQLError, parse_type, parse_value, type_from_ast
from hypothesis import given
from hypothesis import strategies as st

from api.graphql.scalars import JSON, DateTime, Long, RawJson, literal_json
from api.graphql.variables import MAX_BY_HAND, decode_variables, split_object


class Leaf(graphene.InputObjectType):  # type: ignore[misc]  # graphene has no types
    data = JSON(required=True)
    more = graphene.List(lambda: Leaf)
    when = DateTime()


class Plain(graphene.InputObjectType):  # type: ignore[misc]  # graphene has no types
    text = graphene.String()


class Query(graphene.ObjectType):  # type: ignore[misc]  # graphene has no types
    ask = graphene.String(leaf=Leaf(), plain=Plain(), long=Long())


SCHEMA = graphene.Schema(query=Query).graphql_schema


def decode(raw: bytes, **types: str) -> dict[str, Any]:
    kinds: dict[str, Any] = {name: type_from_ast(SCHEMA, parse_type(kind)) for name, kind in types.items()}
    return decode_variables(raw, kinds)


EXACT = [
    b"1.10", b"1e400", b"-0", b"0.1000000000000000055511151231257827", b"12345678901234567890123", b'{"a":1,"a":2}',
    b'[1.0, {"b": "\\u0000"}]', b'"\\ud800"', b'["\\udc00\\ud800", 1.50]', b'""', b"true", b"[]", b"{}", b"9" * 5000,
    b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b'"a \\" } ] , : b"', b' [1 , 2 ] '.strip(),
]  # fmt: skip


@pytest.mark.parametrize("text", EXACT, ids=lambda text: text[:12].decode())
def test_json_variables_keep_their_text(text: bytes) -> None:
    assert decode(b'{"d": %b}' % text, d="JSON!") == {"d": RawJson(text)}
    inner = decode(b'{"l": {"data": %b, "more": [{"data": %b}]}}' % (text, text), l="Leaf!")["l"]
    assert inner["data"] == RawJson(text)
    assert inner["more"][0]["data"] == RawJson(text)
    assert decode(b'{"d": [%b, %b]}' % (text, text), d="[JSON]") == {"d": [RawJson(text), RawJson(text)]}


def test_other_variables_are_values() -> None:
    raw = b'{"p": {"text": "x", "unknown": [1]}, "n": null, "i": 3, "unasked": 1e999, "l": {"data": null, "nope": 1.5}}'
    assert decode(raw, p="Plain", n="JSON", i="Int", l="Leaf") == {
        "p": {"text": "x", "unknown": [1]},
        "n": None,
        "i": 3,
        "l": {"data": None, "nope": 1.5},
    }


def test_single_value_for_a_list() -> None:
    assert decode(b'{"d": 1.0, "l": {"data": 1}}', d="[JSON]", l="[Leaf]") == {
        "d": RawJson(b"1.0"),
        "l": {"data": RawJson(b"1")},
    }


@pytest.mark.parametrize("raw", [b"[]", b"1", b"", b"{", b'{"a":1,}', b'{"a" 1}',
    b'{"\\ud800":1}', b'{"d":"\\ud800",}', b'{"d":"\\ud800"} 5',
    b'{"d":"\\ud800"]', b'{"d":"\\ud800","e"}', b'{"d":"\\ud800",,"e":1}',
    b'{:"\\ud800"}', b'{"d":"\\ud800":1}', b'{"d":}', b'{"d"'])  # fmt: skip
def test_what_is_no_object(raw: bytes) -> None:
    with pytest.raises(GraphQLError):
        decode(raw, d="JSON")


def test_splitting_by_hand_is_bounded() -> None:
    with pytest.raises(GraphQLError, match="too deeply"):
        split_object(b'{"a":' + b"[" * MAX_BY_HAND + b"]" * MAX_BY_HAND + b"}")


def test_too_deep_for_a_plain_value() -> None:
    with pytest.raises(GraphQLError, match="too deeply"):
        decode(b'{"p": ' + b"[" * 5000 + b"]" * 5000 + b"}", p="Plain")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_any_json_comes_through(value: object) -> None:
    text = json.dumps(value, indent=1).encode()
    expected = None if value is None else RawJson(text)
    assert decode(b'{"d": ' + text + b"}", d="JSON") == {"d": expected}
    # The same by hand: a lone surrogate beside it makes msgspec refuse.
    by_hand = split_object(b'{"x": "\\ud800", "d": ' + text + b' , "y":1}')
    assert by_hand == {"x": b'"\\ud800"', "d": text, "y": b"1"}


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("1.10", "1.10"),
        ("-0.0e5", "-0.0e5"),
        ("12345678901234567890", "12345678901234567890"),
        (
            '[{name: "a\\u00e9\\n", price: 1.10, tags: [], none: null, yes: true}]',
            '[{"name":"aé\\n","price":1.10,"tags":[],"none":null,"yes":true}]',
        ),
        ('"""block "quoted" """', '"block \\"quoted\\" "'),
        ("{}", "{}"),
        ("{a: $given, b: [$given, $missing], c: $missing, d: $text}", '{"a":1.50,"b":[1.50,null],"d":"x"}'),
    ],
)
def test_literals_keep_their_text(literal: str, expected: str) -> None:
    assert literal_json(parse_value(literal), {"given": RawJson(b"1.50"), "text": "x"}).decode() == expected


def test_literal_with_an_enum_is_refused() -> None:
    with pytest.raises(GraphQLError, match="enum"):
        literal_json(parse_value("[PURPLE]"), None)


def test_answers_keep_their_text() -> None:
    body = {"raw": JSON.serialize(RawJson(b'{"a": 1.10, "a": 2}')), "plain": JSON.serialize({"b": [1, None]})}
    assert msgspec.json.encode(body) == b'{"raw":{"a": 1.10, "a": 2},"plain":{"b":[1,null]}}'


def test_refused_values_do_not_show() -> None:
    assert "canary" not in repr(RawJson(b'"canary"'))


@pytest.mark.parametrize("text", ["2026-11-24T08:30:00Z", "2026-11-24T09:30:00+01:00", "2026-11-24T08:30:00.000Z"])
def test_moments(text: str) -> None:
    assert DateTime.parse_value(text) == datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
    assert DateTime.parse_literal(parse_value(f'"{text}"')) == datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
    assert DateTime.serialize(DateTime.parse_value(text)) == "2026-11-24T08:30:00Z"


@pytest.mark.parametrize(
    "value", ["2026-11-24T08:30:00", "2026-11-24", "", "x" * 100, 1, None, "0001-01-01T00:00:00+23:59", "2026-13-01T00:00:00Z"]
)
def test_no_moments(value: object) -> None:
    with pytest.raises(GraphQLError):
        DateTime.parse_value(value)


def test_a_moment_without_zone_is_not_answered() -> None:
    with pytest.raises(GraphQLError):
        DateTime.serialize(datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("value", "number"),
    [(0, 0), (-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1), ("-12", -12), ("9007199254740993", 9007199254740993)],
)
def test_longs(value: object, number: int) -> None:
    assert Long.parse_value(value) == number


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.0, True, "1.0", "", "--1", "\uff11", "9" * 19, None, [1]])
def test_no_longs(value: object) -> None:
    with pytest.raises(GraphQLError):
        Long.parse_value(value)


def test_long_literals() -> None:
    assert Long.parse_literal(parse_value("9007199254740993")) == 9007199254740993
    with pytest.raises(GraphQLError):
        Long.parse_literal(parse_value("1.5"))
