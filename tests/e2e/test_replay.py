"""What was rejected comes out, is corrected, and goes in again as a child of its job."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from jobber.errors import InvalidState, NotFound
from jobber.ids import uuid7
from tests.support.system import System, ended, run

RECORDS = """Name,price,Why
a,1.25,fine
b,-1,"quoted
line"
,3,no name
c,x,=1+1
d,4.75,fine
"""


def loaded(system: System, folder: Path, text: str, **options: Any) -> str:
    path = folder / "records.csv"
    path.write_text(text)
    stored = system.client.upload(path)
    job = ended(system.client, system.client.execute("LoadProducts", {"fileName": stored["id"]}, options))
    assert (job.loaded, job.rejected) == (2, 3), job
    return job.id


def names(system: System, job_id: str) -> list[tuple[Any, ...]]:
    return system.rows("SELECT name, price::text FROM products.products WHERE job_id = %s ORDER BY row_no", job_id)


def test_rejects_are_corrected_and_run_as_a_child(system: System, tmp_path: Path) -> None:
    reach = ("--data-dir", str(system.folder))
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    parent = loaded(system, tmp_path, RECORDS.replace(",", ";"), delimiter=";")
    output = tmp_path / "rejects.csv"
    said = run("rejects", parent, "--output", str(output), *reach, environment=cache)
    assert (said.returncode, "3 rejected records" in said.stdout) == (0, True), said.stderr
    rows = list(csv.reader(io.StringIO(output.read_text())))
    assert rows[0] == ["Name", "price", "Why", "row", "code", "message"]
    assert [row[:5] for row in rows[1:]] == [
        ["b", "-1", "quoted\nline", "2", "RANGE"],
        ["", "3", "no name", "3", "REQUIRED"],
        ["c", "x", "'=1+1", "4", "TYPE"],
    ]
    assert run("rejects", parent, *reach, environment=cache).stdout == output.read_text()
    ndjson = tmp_path / "rejects.ndjson"
    assert run("rejects", parent, "-o", str(ndjson), *reach, environment=cache).returncode == 0
    lines = [json.loads(line) for line in ndjson.read_text().splitlines()]
    # A formula is one only to a spreadsheet.
    assert [(line["row"], line["Why"]) for line in lines] == [(2, "quoted\nline"), (3, "no name"), (4, "=1+1")]

    output.write_text(output.read_text().replace("b,-1,", "b,2.25,").replace("c,x,", "c,3.25,"))
    replayed = run("replay", parent, str(output), *reach, environment=cache)
    assert replayed.returncode == 3, replayed.stdout + replayed.stderr
    [[child]] = system.rows("SELECT id::text FROM jobs.jobs WHERE parent_id = %s", parent)
    assert names(system, child) == [("b", "2.25"), ("c", "3.25")]
    known = system.client.ask("query($id: ID!) { job(id: $id) { parent { id } attempt warnings } }", {"id": child})["job"]
    assert (known["parent"], known["attempt"]) == ({"id": parent}, 1)
    assert "message" in known["warnings"][0]


def test_rejects_run_again_as_they_were(system: System, tmp_path: Path) -> None:
    parent = loaded(system, tmp_path, RECORDS)
    child = system.client.replay(parent, None)
    assert system.client.replay(parent, None).id == child.id
    again = ended(system.client, child)
    assert (again.total, again.loaded, again.rejected) == (3, 0, 3)
    errors = "query($id: ID!) { job(id: $id) { errors { edges { node { row code raw } } } } }"
    assert [
        (int(edge["node"]["row"]), edge["node"]["code"], edge["node"]["raw"])
        for edge in system.client.ask(errors, {"id": child.id})["job"]["errors"]["edges"]
    ] == [(1, "RANGE", 'b,-1,"quoted\nline"'), (2, "REQUIRED", ",3,no name"), (3, "TYPE", "c,x,=1+1")]


def test_inline_rejects_run_again(system: System) -> None:
    job = ended(
        system.client, system.client.execute("LoadProducts", '[{"name": "x"}, {"name": "y", "price": 1}, {"name":\n 5}]')
    )
    again = ended(system.client, system.client.replay(job.id, None))
    assert (again.total, again.loaded, again.rejected) == (2, 0, 2)


def test_what_cannot_be_replayed_says_why(system: System, tmp_path: Path) -> None:
    client = system.client
    clean = ended(client, client.execute("LoadProducts", [{"name": "x", "price": 1}]))
    with pytest.raises(InvalidState, match="Nothing of the job was rejected"):
        client.replay(clean.id, None)
    for unknown in (uuid7(), "x", "../x"):
        with pytest.raises(NotFound):
            client.replay(unknown, None)
    parent = ended(client, client.execute("LoadProducts", [{"name": "x"}, {"name": "y" * 20_000}]))
    with pytest.raises(InvalidState, match="Row 2 is not kept as it stood"):
        client.replay(parent.id, None)
    for unknown in (uuid7(), "records.csv", "../x"):
        with pytest.raises(NotFound):
            client.replay(parent.id, unknown)
    member = "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }"
    client.ask(member, {"i": {"email": "replay@example.org", "password": "of twelve and more"}}, service=client.auth)
    other = system.login("replay@example.org", "of twelve and more")
    with pytest.raises(NotFound):
        other.replay(parent.id, None)
    path = tmp_path / "mine.csv"
    path.write_text("name,price\nx,1\n")
    with pytest.raises(NotFound):
        other.replay(parent.id, client.upload(path)["id"])
    with pytest.raises(NotFound):
        client.replay(parent.id, other.upload(path)["id"])


def test_contracts_are_told_and_their_templates_downloaded(system: System) -> None:
    client = system.client
    kinds = client.ask("{ jobsMetadata { name templateUrl columns { name type required default rules } } }")["jobsMetadata"]
    [products] = [kind for kind in kinds if kind["name"] == "LoadProducts"]
    assert products["columns"][0] == {"name": "name", "type": "text", "required": True, "default": None, "rules": []}
    price = next(column for column in products["columns"] if column["name"] == "price")
    assert (price["type"], price["required"], "at least 0" in price["rules"]) == ("decimal(12,2)", True, True)
    path = products["templateUrl"].removeprefix(client.jobs)
    assert path == "/contracts/LoadProducts/template.csv"
    into = io.BytesIO()
    client.download(path, into)
    assert into.getvalue() == b"name,price,category,stock,rating,description\n"
    assert client.send("GET", "/contracts/LOAD_PRODUCTS/schema.json").json()["required"] == ["name", "price"]
    for missing in ("/contracts/Nothing/template.csv", "/contracts/LoadProducts/x", "/contracts/..%2fx/template.csv"):
        assert client.send("GET", missing).status_code == 404
    assert client.send("GET", path, headers={"Authorization": ""}).status_code == 401
