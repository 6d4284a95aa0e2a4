"""The GraphQL door over real sockets: HTTP as graphql-over-http has it, WebSocket, SSE."""

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from api.graphql import Limits, graphiql
from tests.integration.graphql_service import Door, door, serving

__all__ = ["door"]

MODERN = {"accept": "application/graphql-response+json"}


async def test_both_media_types(door: Door) -> None:
    plain = await door.post("{ hello }")
    assert (plain.status_code, plain.headers["content-type"]) == (200, "application/json")
    assert plain.json() == {"data": {"hello": "hello you"}}
    modern = await door.post("{ hello }", MODERN)
    assert modern.headers["content-type"] == "application/graphql-response+json"


@pytest.mark.parametrize(
    ("body", "legacy"),
    [
        ({"query": "{ hello"}, 200),
        ({"query": "{ nothing }"}, 200),
        ({"query": "query A { hello } query B { hello }"}, 200),
        ({"query": "query A { hello }", "operationName": "B"}, 200),
        ({"query": "query($n: String!) { hello(name: $n) }"}, 200),
        ({"query": "query($n: String!) { hello(name: $n) }", "variables": {"n": 1}}, 200),
        ({"query": "subscription { count }"}, 200),
        ({}, 400),
        ({"query": 1}, 400),
        ({"query": None}, 400),
        ({"query": "{ hello }", "variables": "x"}, 400),
        ({"query": "{ hello }", "variables": [1]}, 400),
        ({"query": "{ hello }", "operationName": 1}, 400),
        ({"query": "{ hello }", "extensions": [1]}, 400),
        ([{"query": "{ hello }"}], 400),
        ("x", 400),
    ],
)
async def test_refused_requests(door: Door, body: object, legacy: int) -> None:
    for accept, status in (("application/json", legacy), (MODERN["accept"], 400)):
        answer = await door.client.post(door.url, json=body, headers={"accept": accept})
        assert answer.status_code == status
        assert "data" not in answer.json()
        error = answer.json()["errors"][0]
        assert error["message"]
        assert error["extensions"]["code"] == "INVALID_DATA"


async def test_nulls_and_absences_are_the_same(door: Door) -> None:
    answer = await door.raw(b'{"query": "{ hello }", "variables": null, "operationName": null, "extensions": null, "more": 1}')
    assert answer.json() == {"data": {"hello": "hello you"}}


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"query": "{ hello }"', b"\xff", b'{"query": "\xff"}', b'{"query": "\\ud800"}']
)
async def test_malformed_bodies(door: Door, content: bytes) -> None:
    assert (await door.raw(content)).status_code == 400


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "",
    ],
)
async def test_other_content_types(door: Door, kind: str) -> None:
    answer = await door.raw(b'{"query": "{ hello }"}', content_type=kind)
    assert answer.status_code == 415


async def test_compressed_bodies_are_not_taken(door: Door) -> None:
    assert (await door.raw(b"x", content_encoding="gzip")).status_code == 415


async def test_get(door: Door) -> None:
    async def get(**parameters: str) -> httpx.Response:
        return await door.client.get(door.url, params=parameters)

    query = "query Q($n: String) { hello(name: $n) }"
    answer = await get(query=query, variables='{"n": "me"}', operationName="Q")
    assert answer.json() == {"data": {"hello": "hello me"}}
    mutation = await get(query='mutation { echo(input: {name: "x", data: 1}) }')
    assert (mutation.status_code, mutation.headers["allow"]) == (405, "POST")
    assert (await get()).status_code == 400
    for wrong in ("[", "[1]", "1"):
        assert (await get(query=query, variables=wrong)).status_code == 400
    assert (await door.client.put(door.url, json={"query": "{ hello }"})).status_code == 405
    assert (await door.client.delete(door.url)).status_code == 405


async def test_json_text_survives(door: Door) -> None:
    text = b'[{"price": 1.10, "a": 1, "a": 2}, 1e400, "\\ud800", 12345678901234567890123]'
    query = b'"mutation($i: Ask!) { echo(input: $i) }"'
    answer = await door.raw(b'{"query": %b, "variables": {"i": {"name": "x", "data": %b}}}' % (query, text))
    assert answer.content == b'{"data":{"echo":' + text + b"}}"
    literal = await door.post('mutation { echo(input: {name: "x", data: [{price: 1.10}]}) }')
    assert literal.content == b'{"data":{"echo":[{"price":1.10}]}}'


async def test_large_body(door: Door) -> None:
    rows = b"[" + b",".join(b'{"name":"Product %d","price":99.99}' % number for number in range(100_000)) + b"]"
    query = b'"mutation($d: JSON!) { echo(input: {name: \\"x\\", data: $d}) }"'
    answer = await door.raw(b'{"query": %b, "variables": {"d": %b}}' % (query, rows))
    assert answer.content == b'{"data":{"echo":' + rows + b"}}"


async def test_body_limit() -> None:
    async with serving(limits=Limits(body_bytes=1000)) as door:
        assert (await door.raw(b'{"query": "{ hello }"}' + b" " * 900)).status_code == 200
        assert (await door.raw(b'{"query": "{ hello }"}' + b" " * 1000)).status_code == 413

        # One that says so itself is refused without being read.
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1001\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413")
        writer.close()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b" " * 100

        answer = await door.client.post(door.url, content=chunks(), headers={"content-type": "application/json"})
        assert answer.status_code == 413


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("forbidden", "FORBIDDEN"),
        ("login", "UNAUTHENTICATED"),
        ("structure", "INVALID_DATA"),
        ("database", "UNAVAILABLE"),
        ("disk", "DISK_FULL"),
        ("bug", "INTERNAL"),
    ],
)
async def test_resolver_errors(door: Door, how: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = await door.post("query($how: String!) { hello fails(how: $how) }", variables={"how": how})
    assert answer.status_code == 200
    assert answer.json()["data"] == {"hello": "hello you", "fails": None}
    error = answer.json()["errors"][0]
    assert error["extensions"]["code"] == code
    assert error["path"] == ["fails"]
    assert "canary" not in answer.text
    if how == "bug":
        assert error["message"] == "Internal error"
        (record,) = [record for record in caplog.records if record.__dict__.get("action") == "bug"]
        assert record.__dict__["error_id"] == error["extensions"]["errorId"]
        assert record.exc_info
        assert "canary" in str(record.exc_info[1])


async def test_null_where_there_must_be_a_value(door: Door) -> None:
    answer = await door.post("{ needed }", MODERN)
    assert (answer.status_code, answer.json()["data"]) == (200, None)


async def test_bad_token_is_401(door: Door) -> None:
    answer = await door.post("{ hello }", {"authorization": "Bearer bad"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    refused = await door.post('{ fails(how: "login") }', {"authorization": "Bearer other"})
    assert refused.status_code == 401
    nobody = await door.post('{ fails(how: "login") }')
    assert nobody.status_code == 200
    partly = await door.post('{ hello login: fails(how: "login") bug: fails(how: "bug") }', {"authorization": "Bearer x"})
    assert partly.status_code == 200


async def test_where_tokens_are_found(door: Door) -> None:
    async def token(**headers: str) -> object:
        return (await door.post("{ token }", headers)).json()["data"]["token"]

    assert await token() is None
    assert await token(authorization="Bearer abc") == "abc"
    assert await token(authorization="bearer  abc") == "abc"
    assert await token(authorization="Basic abc") == ""
    assert await token(cookie="Authentication=abc; other=1") == "abc"
    assert await token(cookie="__Host-Authentication=abc; Authentication=planted") == "abc"
    assert await token(cookie="Authentication=abc", authorization="Bearer def") == "def"
    assert await token(cookie="Authentication=abc", origin="https://evil.example") is None
    assert await token(cookie="Authentication=abc", origin="null") is None
    assert await token(cookie="Authentication=abc", origin=f"http://127.0.0.1:{door.port}") == "abc"
    assert await token(authorization="Bearer abc", origin="https://elsewhere.example") == "abc"


async def test_limits_answer_400(door: Door) -> None:
    for query in ("{" + " ".join(f"a{i}: hello" for i in range(1000)) + "}", "{ hello } #" + "x" * 2_000_000, "[" * 100_000):
        answer = await door.post(query)
        assert answer.status_code == 400
        assert "data" not in answer.json()
    pages = await door.post("query($n: Int) { things(first: $n) }", variables={"n": 10**9})
    assert pages.status_code == 200  # A list of scalars costs one field.


async def test_production_tells_nothing_of_the_schema() -> None:
    async with serving("production") as door:
        for query in (
            "{ __schema { types { name } } }",
            '{ __type(name: "Query") { name } }',
            '{ a: __type(name: "Nothing") { name } b: __type(name: "Query") { name } }',
            '{ ...f } fragment f on Query { __type(name: "Query") { fields { name } } }',
            'query($n: String! = "Query") { __type(name: $n) { fields { name } } }',
            '{ __type(name: "Nothing") { name } __schema { types { name } } }',
            "{ secretFiel }",
            "{ hello(nam: 1) }",
        ):
            answer = await door.post(query)
            assert "errors" in answer.json()
            assert "secretField" not in answer.text
            assert "Did you mean" not in answer.text
            assert "data" not in answer.json()
        for name, status in (("Query", 400), ("Nothing", 200)):
            query = "query($n: String!) { __type(name: $n) { name fields { name } } }"
            asked = await door.post(query, variables={"n": name}, headers=MODERN)
            assert asked.status_code == status
            assert asked.json().get("data") in (None, {"__type": None})
        assert (await door.post("{ __typename }")).json() == {"data": {"__typename": "Query"}}
        assert (await door.client.get(door.url, headers={"accept": "text/html"})).status_code == 400
        for name in graphiql.FILES:
            assert (await door.client.get(f"{door.url}/explorer/{name}")).status_code == 404


async def test_development_helps() -> None:
    async with serving() as door:
        assert "secretField" in (await door.post("{ secretFiel }")).text
        page = await door.client.get(door.url, headers={"accept": "text/html"})
        assert "script-src 'self';" in page.headers["content-security-policy"]
        # Works without the internet: what the page names is here, all of it and nothing else.
        named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert sorted(named) == sorted(f"/graphql/explorer/{name}" for name in graphiql.FILES)
        assert "<script>" not in page.text
        for path in named:
            file = await door.client.get(httpx.URL(door.url).join(path))
            assert file.status_code == 200
            assert file.headers["x-content-type-options"] == "nosniff"
            assert "sourceMappingURL" not in file.text
        assert (await door.client.get(f"{door.url}/explorer/LICENSES.md")).status_code == 404
        assert (await door.client.get(f"{door.url}/explorer/..%2fapp.py")).status_code == 404
