"""What one request may ask: each limit refuses, and what real clients send passes."""

import json
from typing import Any

import graphene
import pytest
from graphql import get_introspection_query, parse

from api.graphql import documents as module
from api.graphql.documents import CACHED_TEXTS, Documents, Refused
from api.graphql.limits import Limits, TooMuch, measure, scan, weigh
from api.graphql.scalars import JSON

LIMITS = Limits()


class Thing(graphene.ObjectType):  # type: ignore[misc]  # graphene has no types
    name = graphene.String()
    parent = graphene.Field(lambda: Thing)
    errors = graphene.List(lambda: Thing, first=graphene.Int(default_value=50))


class Query(graphene.ObjectType):  # type: ignore[misc]
    thing = graphene.Field(Thing, x=JSON())
    things = graphene.List(Thing, first=graphene.Int(default_value=50))


class Mutation(graphene.ObjectType):  # type: ignore[misc]
    do = graphene.String(x=JSON())


SCHEMA = graphene.Schema(query=Query, mutation=Mutation).graphql_schema


def documents(**limits: int) -> Documents:
    return Documents(SCHEMA, Limits(**limits), introspection=True)


BOMB = "{ ...f0 } " + " ".join(
    f"fragment f{i} on Query {{ a{i}: thing {{ name }} ...f{i + 1} ...f{i + 1} }}" for i in range(16)
)
BOMB += " fragment f16 on Query { thing { name } }"
WIDE = "{ thing { ...f0 } } " + " ".join(
    f"fragment f{i} on Thing {{ a: parent {{ ...f{i + 1} }} b: parent {{ ...f{i + 1} }} }}" for i in range(16)
)
WIDE += " fragment f16 on Thing { name }"

REFUSED = {
    "aliases": "{" + " ".join(f"a{i}: thing {{ name }}" for i in range(10_000)) + "}",
    "few more aliases than allowed": "{" + " ".join(f"a{i}: thing {{ name }}" for i in range(51)) + "}",
    "aliases in fragments": "{ ...f } fragment f on Query {" + " ".join(f"a{i}: thing {{ name }}" for i in range(51)) + "}",
    "fragment bomb": BOMB,
    "fragment bomb in depth": WIDE,
    "circle of fragments": "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }",
    "depth": "{ thing" + " { parent" * 30 + " { name }" + " }" * 30 + " }",
    "depth of inline fragments": "{" + "... {" * 100 + "thing { name }" + "}" * 101,
    "repeats": "{" + "thing { name } " * 500 + "}",
    "many mutations": "mutation {" + " ".join(f"a{i}: do" for i in range(11)) + "}",
    "many mutations in a fragment": "mutation { ...m } fragment m on Mutation {"
    + " ".join(f"a{i}: do" for i in range(11))
    + "}",
    "long comment": "{ thing { name } } #" + "x" * 2_000_000,
    "long string": '{ thing(x: "' + "x" * 300_000 + '") { name } }',
    "open brackets": "[" * 200_000,
    "open braces": "{" * 200_000,
    "open parentheses": "(" * 200_000,
    "nested value": "{ thing(x: " + "[" * 3_000 + "]" * 3_000 + ") { name } }",
    "tokens in a value": "{ thing(x: [" + "1 " * 20_000 + "]) { name } }",
    "many fragments": "{ thing { name } }" + " ".join(f"fragment f{i} on Thing {{ name }}" for i in range(100)),
    "closing first": ")" * 10 + "{" + "thing " * 5_000 + "}",
}


#: Those that are refused by their text alone: the parser, at 10 µs a token, never sees them.
BY_TEXT = {
    *("aliases", "depth of inline fragments", "long comment", "long string", "open brackets", "open braces"),
    *("open parentheses", "nested value", "tokens in a value", "closing first"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_it_costs_anything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def counted(step: str) -> Any:
        real = getattr(module, step)

        def run(*arguments: Any, **options: Any) -> Any:
            ran.append(step)
            return real(*arguments, **options)

        return run

    for step in ("parse", "validate"):
        monkeypatch.setattr(module, step, counted(step))
    with pytest.raises(Refused) as caught:
        documents().get(REFUSED[name])
    assert isinstance(caught.value.errors[0], TooMuch)
    assert ran == ([] if name in BY_TEXT else ["parse"])  # validation compares fields in pairs: never


def test_what_clients_send_passes() -> None:
    documents().get(get_introspection_query(descriptions=True, input_value_deprecation=True, directive_is_repeatable=True))
    row = '{name: "Product 1 (\\"x\\") {", category: "Books", price: 1.10, stock: 7, rating: 4.5, description: "about # it"}'
    documents().get("mutation { do(x: [" + ", ".join([row] * 50) + "]) }")
    text = json.dumps(json.dumps([{"name": f"Product {i}", "price": 99.99} for i in range(1000)]))
    documents().get(f"mutation {{ do(x: {text}) }}")
    documents().get("mutation { do(x: " + "[" * 80 + "]" * 80 + ") }")
    documents().get('mutation { do(x: """a "block" string \\""" [[[[ """) }')


def test_scan_counts_no_more_than_there_is() -> None:
    text = 'query Q($a: Int = -1.5e3) { thing(x: "a b c d \\" e") { ...F @include(if: true) } } # a comment of words'
    scan(text, Limits(tokens=28))
    with pytest.raises(TooMuch):
        scan(text, Limits(tokens=27))


def test_fragments_count_as_often_as_they_are_spread() -> None:
    text = "{ a: thing { ...f } b: thing { ...f } } fragment f on Thing { name parent { name } }"
    measure(parse(text), Limits(fields=8))
    with pytest.raises(TooMuch, match="More than 7 fields"):
        measure(parse(text), Limits(fields=7))


def cost(text: str, **variables: object) -> int:
    document = documents().get(text)
    return weigh(SCHEMA, document.operation(None).node, document.fragments, variables)


def test_pages_multiply() -> None:
    assert cost("{ things { name } }") == 51
    assert cost("{ things(first: 7) { name } }") == 8
    assert cost("query($n: Int) { things(first: $n) { name } }", n=9) == 10
    assert cost("query($n: Int) { things(first: $n) { name } }") == 51
    assert cost("query($n: Int) { things(first: $n) { name } }", n=-5) == 2
    assert cost("query($n: Int) { things(first: $n) { name } }", n="garbage") == 2
    assert cost("{ things(first: 10) { errors(first: 10) { name } } }") == 1 + 10 * 11
    assert (
        cost("{ ...q } fragment q on Query { things(first: 3) { ... on Thing { name } ...t } } fragment t on Thing { name }")
        == 7
    )


def test_cache_is_bounded_and_keeps_what_is_used() -> None:
    kept = documents()
    hot = kept.get("{ thing { name } }")
    for number in range(CACHED_TEXTS * 2):
        kept.get(f"query Q{number} {{ thing {{ name }} }}")
        assert kept.get("{ thing { name } }") is hot
    assert len(kept._known) == CACHED_TEXTS
    long = "{ thing { name } } #" + "x" * 5_000
    assert kept.get(long) is not kept.get(long)


def test_refused_documents_are_not_kept() -> None:
    kept = documents()
    for _ in range(2):
        with pytest.raises(Refused):
            kept.get("{ nothing }")
    assert not kept._known
