"""What counts as a breaking change of the public schemas."""

import pytest

from tests.outside.__main__ import breaking

OLD = 'type Query { a(x: Int): Int b: Int @deprecated(reason: "use a") c: E } enum E { ONE TWO }'


@pytest.mark.parametrize(
    ("new", "broken"),
    [
        (OLD, []),
        ("type Query { a(x: Int): Int c: E d: Int } enum E { ONE TWO THREE }", []),
        ('type Query { b: Int @deprecated(reason: "use a") c: E } enum E { ONE TWO }', ["Query.a was removed."]),
        ("type Query { a(x: Int): Int c: E } enum E { ONE }", ["TWO was removed from enum type E."]),
        ("type Query { a(x: Int!): Int c: E } enum E { ONE TWO }", ["Query.a arg x has changed type from Int to Int!."]),
    ],
)
def test_what_breaks_clients(new: str, broken: list[str]) -> None:
    assert breaking(OLD, new) == broken
