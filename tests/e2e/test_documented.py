"""The documented requests, letter by letter, as a client of the original would send them."""

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobber.model import State
from tests.support.system import System, ended

LOGIN = 'mutation { login(input: { email: "%s", password: "%s" }) { token } }'
EXECUTE = (
    r'mutation { executeJob(input: { name: "LoadProducts", data: "[{\"name\": \"Product 1\", \"price\": 99.99}]" })'
    r" { id status } }"
)


def post(url: str, query: str, token: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer: dict[str, Any] = httpx.post(url, json={"query": query}, headers=headers, trust_env=False).json()
    return answer


def test_login_and_execute_job_verbatim(system: System) -> None:
    admin = system.state["admin"]
    token = post(system.state["auth"], LOGIN % (admin["email"], admin["password"]))["data"]["login"]["token"]
    job = post(system.state["jobs"], EXECUTE, token)["data"]["executeJob"]
    assert job["status"] in ("IN_PROGRESS", "COMPLETED")
    done = ended(system.client, system.client.job(job["id"]))
    assert done.state is State.SUCCEEDED
    assert system.loaded(done) == [(1, "Product 1", None, Decimal("99.99"), None, None, None)]
    status = post(system.state["jobs"], f'{{ job(id: "{done.id}") {{ status size completed name }} }}', token)["data"]["job"]
    assert status == {"status": "COMPLETED", "size": 1, "completed": 1, "name": "LoadProducts"}


def test_the_originals_spelling_of_the_arguments(system: System) -> None:
    admin = system.state["admin"]
    token = post(system.state["auth"], (LOGIN % (admin["email"], admin["password"])).replace("input:", "loginInput:"))["data"]
    answer = post(system.state["jobs"], EXECUTE.replace("input:", "executeJobInput:"), token["login"]["token"])
    assert "errors" not in answer
    ended(system.client, system.client.job(answer["data"]["executeJob"]["id"]))


@pytest.mark.parametrize(
    "arguments", ["", 'input: { name: "Fibonacci", data: "[]" }, executeJobInput: { name: "Fibonacci", data: "[]" }']
)
def test_exactly_one_spelling_must_be_given(system: System, arguments: str) -> None:
    query = f"mutation {{ executeJob{f'({arguments})' if arguments else ''} {{ id }} }}"
    answer = post(system.state["jobs"], query, system.client.token)
    assert answer["errors"]
    assert not answer.get("data")


def test_nobody_executes_without_a_token(system: System) -> None:
    answer = post(system.state["jobs"], EXECUTE)
    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


SAMPLE = [
    {
        "name": f"Product {number}",
        "category": "Books",
        "price": number + 0.99,
        "stock": number,
        "rating": 4.5,
        "description": f"Description {number}",
    }
    for number in range(1, 51)
]


def charge(system: System, category: str) -> Decimal:
    found = system.rows("SELECT charge FROM products.categories WHERE name = %s", category)
    return Decimal(found[0][0]) if found else Decimal(0)


def check_sample(system: System, id: str) -> None:
    rows = system.loaded(system.client.job(id))
    added = charge(system, "Books")
    assert [(row[0], row[1], row[3], row[4]) for row in rows] == [
        (number, f"Product {number}", Decimal(number) + Decimal("0.99") + added, number) for number in range(1, 51)
    ]


def test_fifty_records_inline_within_two_seconds(system: System) -> None:
    began = time.monotonic()
    job = system.client.execute("LoadProducts", SAMPLE)
    done = ended(system.client, job)
    took = time.monotonic() - began
    assert done.state is State.SUCCEEDED
    assert took < 2
    check_sample(system, done.id)


def test_fifty_records_by_file_name_and_by_id(system: System, tmp_path: Path) -> None:
    path = tmp_path / "sample.json"
    path.write_text(json.dumps(SAMPLE))
    stored = system.client.upload(path)
    assert stored["fileName"] == "sample.json"
    assert stored["bytes"] == path.stat().st_size
    for name in (stored["id"], "sample.json"):
        done = ended(system.client, system.client.execute("LoadProducts", {"fileName": name}))
        assert done.state is State.SUCCEEDED
        check_sample(system, done.id)


def test_a_single_record_an_alias_and_an_empty_array(system: System) -> None:
    one = ended(system.client, system.client.execute("LOAD_PRODUCTS", {"name": "Alone", "price": 1}))
    assert (one.name, one.state, one.total, one.loaded) == ("LoadProducts", State.SUCCEEDED, 1, 1)
    none = ended(system.client, system.client.execute("LoadProducts", []))
    assert (none.state, none.total, none.loaded) == (State.SUCCEEDED, 0, 0)


def test_metadata_lists_the_job_types_and_their_schema(system: System) -> None:
    found = system.client.ask("{ jobsMetadata { name description version inputSchema } }")["jobsMetadata"]
    by_name = {kind["name"]: kind for kind in found}
    assert {"LoadProducts", "Fibonacci", "SupplierCatalog"} <= set(by_name)
    assert all(kind["description"] and kind["version"] for kind in found)
    assert "price" in json.dumps(by_name["LoadProducts"]["inputSchema"])


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("No Such Job", "[]", "UNKNOWN_JOB"),
        ("", "[]", "UNKNOWN_JOB"),
        ("LoadProducts", "not json", "INVALID_DATA"),
        ("LoadProducts", '{"fileName": "../../etc/passwd"}', "NOT_FOUND"),
        ("LoadProducts", '{"fileName": "no such upload.csv"}', "NOT_FOUND"),
    ],
)
def test_what_cannot_become_a_job_is_refused(system: System, name: str, data: str, code: str) -> None:
    query = f"mutation {{ executeJob(input: {{ name: {json.dumps(name)}, data: {json.dumps(data)} }}) {{ id }} }}"
    answer = post(system.state["jobs"], query, system.client.token)
    assert answer["errors"][0]["extensions"]["code"] == code
