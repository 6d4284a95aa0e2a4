"""What the API refuses, by example: with a typed error, and nothing stored.

What needs a full disk, or an owner's quota, is in tests/integration/test_staging.py.
"""

import json
import socket
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from jobber.cli.client import Client
from jobber.cli.remedy import remedy
from jobber.ids import uuid7
from jobber.model import State
from tests.support.system import System, ended

GOOD = '[{"name": "Cup", "price": 1}]'
EXECUTE = "mutation($i: ExecuteJobInput!) { executeJob(input: $i) { id } }"
SUBMIT = "mutation($i: SubmitJobInput!) { jobSubmit(input: $i) { replayed job { id } userErrors { code message } } }"
CREATE = "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }"
#: Stands for the id and the file name of what somebody else has uploaded.
THEIRS, THEIR_NAME = "<their id>", "<their name>"


@pytest.fixture(scope="module")
def theirs(system: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An upload of another user's."""
    email, password = "inputs@example.org", "the others password 7"
    system.client.ask(CREATE, {"i": {"email": email, "password": password}}, service=system.client.auth)
    path = tmp_path_factory.mktemp("theirs") / "only theirs.csv"
    path.write_text("name,price\nCup,1\n")
    return {THEIRS: str(system.login(email, password).upload(path)["id"]), THEIR_NAME: path.name}


@pytest.fixture
def unchanged(system: System) -> Iterator[None]:
    """Nothing is stored meanwhile."""

    def stored() -> Any:
        tables = ("jobs", "uploads", "staged")
        return [system.rows(f"SELECT count(*) FROM jobs.{table}") for table in tables]

    before = stored()
    yield
    assert stored() == before


def asked(client: Client, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The whole answer, whatever its status; never a server's error."""
    answer = client.send("POST", "/graphql", json={"query": query, "variables": variables})
    assert answer.status_code in (200, 400), answer.text
    told: dict[str, Any] = answer.json()
    return told


def code_of(answer: dict[str, Any]) -> str:
    """Of the one error; it has a sentence for people, and tells nothing of the inside."""
    [error] = answer["errors"]
    assert error["message"].strip()
    assert "Traceback" not in error["message"]
    return str(error["extensions"]["code"])


def named(name: str) -> dict[str, Any]:
    return {"name": name, "data": GOOD}


def of(data: Any, **more: Any) -> dict[str, Any]:
    return {"name": "LoadProducts", "data": data, **more}


def file(name: Any) -> dict[str, Any]:
    return of(json.dumps({"fileName": name}))


def option(**options: Any) -> dict[str, Any]:
    return of(GOOD, options=options)


SUBMISSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "name unknown": (named("LoadProduct"), "UNKNOWN_JOB"),
    "name empty": (named(""), "UNKNOWN_JOB"),
    "name a path": (named("../x"), "UNKNOWN_JOB"),
    "name of 10 kB": (named("x" * 10_000), "UNKNOWN_JOB"),
    "name with control characters": (named("Load\x07Products"), "UNKNOWN_JOB"),
    "name with a NUL": (named("LoadProducts\0"), "UNKNOWN_JOB"),
    "name with a line end": (named("LoadProducts\n"), "UNKNOWN_JOB"),
    "data that is not JSON": (of("name,price"), "INVALID_DATA"),
    "data cut": (of(GOOD[:-2]), "INVALID_DATA"),
    "data empty": (of(""), "INVALID_DATA"),
    "data with NaN": (of('[{"name": "Cup", "price": NaN}]'), "INVALID_DATA"),
    "data with a comment": (of("[] // none"), "INVALID_DATA"),
    "data with a trailing comma": (of('[{"name": "Cup", "price": 1},]'), "INVALID_DATA"),
    "data twice": (of("[][]"), "INVALID_DATA"),
    "file name up and away": (file("../../etc/passwd"), "NOT_FOUND"),
    "file name absolute": (file("/etc/passwd"), "NOT_FOUND"),
    "file name encoded": (file("..%2f..%2fetc%2fpasswd"), "NOT_FOUND"),
    "file name a URL": (file("file:///etc/passwd"), "NOT_FOUND"),
    "file name with a NUL": (file("a\0.csv"), "NOT_FOUND"),
    "file name of 10 kB": (file("x" * 10_000), "NOT_FOUND"),
    "file name empty": (file(""), "NOT_FOUND"),
    "file name no text": (file(7), "INVALID_DATA"),
    "another user's upload by id": (file(THEIRS), "NOT_FOUND"),
    "another user's upload by name": (file(THEIR_NAME), "NOT_FOUND"),
    "an id that nobody has": (file(uuid7()), "NOT_FOUND"),
    "an argument that is none": (of('{"records": [], "suplier": 1}'), "INVALID_DATA"),
    "an idempotency key with a NUL": (of(GOOD, idempotencyKey="a\0"), "INVALID_DATA"),
    "an empty idempotency key": (of(GOOD, idempotencyKey=""), "INVALID_DATA"),
    "an idempotency key of 10 kB": (of(GOOD, idempotencyKey="x" * 10_000), "INVALID_DATA"),
    "no rows a second": (option(maxRowsPerSecond=0), "INVALID_DATA"),
    "fewer than no rows a second": (option(maxRowsPerSecond=-1), "INVALID_DATA"),
    "fewer than no errors": (option(maxErrors=-1), "INVALID_DATA"),
    "more than all errors": (option(maxErrorRatio=1.01), "INVALID_DATA"),
    "two delimiters": (option(delimiter=",;"), "INVALID_DATA"),
    "a delimiter that is the quote": (option(delimiter="'", quote="'"), "INVALID_DATA"),
    "an encoding that is none": (option(encoding="utf-9"), "INVALID_DATA"),
    "a mapping that is none": (option(mapping=["name"]), "INVALID_DATA"),
    "keys that are no columns": (option(mode="UPSERT", keys=["sku"]), "INVALID_DATA"),
    "UPSERT by nothing": (option(mode="UPSERT"), "INVALID_DATA"),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("case", SUBMISSIONS)
def test_a_submission_is_refused(system: System, theirs: dict[str, str], case: str) -> None:
    given, code = SUBMISSIONS[case]
    # The admin sees everybody's jobs, and uses nobody's uploads.
    given = json.loads(json.dumps(given).replace(THEIRS, theirs[THEIRS]).replace(THEIR_NAME, theirs[THEIR_NAME]))
    assert code_of(asked(system.client, EXECUTE, {"i": given})) == code


#: GraphQL itself refuses these: they are no values of the schema.
NOT_IN_THE_SCHEMA: dict[str, dict[str, Any]] = {
    "an unknown field": of(GOOD, priority=1),
    "an owner": of(GOOD, owner="admin"),
    "an unknown option": option(maxErros=1),
    "an unknown mode": option(mode="DELETE"),
    "an unknown format": option(format="XML"),
    "rows a second beyond 32 bits": option(maxRowsPerSecond=1 << 31),
    "half a row a second": option(maxRowsPerSecond=0.5),
    "a ratio that is a text": option(maxErrorRatio="all"),
    "no data": {"name": "LoadProducts"},
    "no name": {"data": GOOD},
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("case", NOT_IN_THE_SCHEMA)
def test_what_is_not_in_the_schema_is_refused(system: System, case: str) -> None:
    assert code_of(asked(system.client, EXECUTE, {"i": NOT_IN_THE_SCHEMA[case]})) == "INVALID_DATA"


SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({}, "INVALID_DATA"),
    "two sources": ({"rows": GOOD, "uploadId": uuid7()}, "INVALID_DATA"),
    "an upload that is not there": ({"uploadId": uuid7()}, "NOT_FOUND"),
    "an upload of a name with a path": ({"uploadId": "../../etc/passwd"}, "NOT_FOUND"),
    "another user's upload": ({"uploadId": THEIRS}, "NOT_FOUND"),
    "a file of the service": ({"url": "file:///etc/passwd"}, "INVALID_DATA"),
    "a bucket that is not configured": ({"url": "s3://elsewhere/x.csv"}, "INVALID_DATA"),
    "an address within": ({"url": "http://169.254.169.254/latest/meta-data"}, "INVALID_DATA"),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("case", SOURCES)
def test_a_source_is_refused(system: System, theirs: dict[str, str], case: str) -> None:
    source, code = SOURCES[case]
    source = {name: theirs.get(value, value) for name, value in source.items()}
    answer = asked(system.client, SUBMIT, {"i": {"name": "LoadProducts", "source": source, "idempotencyKey": uuid7()}})
    [error] = answer["data"]["jobSubmit"]["userErrors"]
    assert (error["code"], answer["data"]["jobSubmit"]["job"]) == (code, None)
    assert error["message"].strip()


@pytest.mark.usefixtures("unchanged")
def test_options_and_source_must_not_tell_of_two_formats(system: System) -> None:
    source, options = {"rows": GOOD, "format": "JSON"}, {"format": "NDJSON"}
    asking = {"name": "LoadProducts", "source": source, "options": options, "idempotencyKey": uuid7()}
    [error] = asked(system.client, SUBMIT, {"i": asking})["data"]["jobSubmit"]["userErrors"]
    assert (error["code"], error["message"]) == (
        "INVALID_DATA",
        "The options say that it is NDJSON, the source that it is JSON.",
    )


def test_the_option_that_a_failure_names_loads_the_file(system: System, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('null\n{bad\n{"name": "Cup", "price": 1}\n')
    stored = {"fileName": system.client.upload(path)["id"]}
    failed = ended(system.client, system.client.execute("LoadProducts", stored))
    cure = remedy(failed.error)
    assert (failed.state, cure) == (State.FAILED, {"format": "NDJSON"})
    done = ended(system.client, system.client.execute("LoadProducts", stored, cure))
    assert (done.state, done.loaded, done.rejected) == (State.PARTIAL, 1, 2)


def test_the_same_key_with_another_payload_is_a_conflict(system: System) -> None:
    key = uuid7()
    first = asked(system.client, EXECUTE, {"i": of(GOOD, idempotencyKey=key)})["data"]["executeJob"]["id"]
    assert asked(system.client, EXECUTE, {"i": of(GOOD, idempotencyKey=key)})["data"]["executeJob"]["id"] == first
    for other in (of(GOOD.replace("1", "2"), idempotencyKey=key), of(GOOD, idempotencyKey=key, options={"dryRun": True})):
        assert code_of(asked(system.client, EXECUTE, {"i": other})) == "IDEMPOTENCY_CONFLICT"


IDS: dict[str, str] = {
    "a NUL": "\0",
    "a NUL behind": "019a0000-0000-7000-8000-000000000000\0",
    "empty": "",
    "a path": "../x",
    "10 kB": "x" * 10_000,
    "nobody's": "019a0000-0000-7000-8000-000000000000",
}


@pytest.mark.parametrize("case", IDS)
def test_an_id_that_is_none_finds_nothing(system: System, case: str) -> None:
    answer = asked(system.client, "query($id: ID!) { job(id: $id) { id } }", {"id": IDS[case]})
    assert answer["data"] == {"job": None} or code_of(answer) == "NOT_FOUND"
    cancelled = asked(
        system.client, "mutation($id: ID!) { jobCancel(id: $id) { job { id } userErrors { code } } }", {"id": IDS[case]}
    )
    assert cancelled["data"]["jobCancel"] == {"job": None, "userErrors": [{"code": "NOT_FOUND"}]}


PAGES: dict[str, dict[str, Any]] = {
    "negative": {"first": -1},
    "huge": {"first": 1_000_000},
    "a cursor that is none": {"first": 1, "after": "x"},
    "a cursor of another list": {"first": 1, "after": "MSwyLDM="},
    "a cursor with a NUL": {"first": 1, "after": "\0"},
    "a cursor far away": {"first": 1, "after": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"},
}


@pytest.mark.parametrize("case", PAGES)
def test_a_page_that_cannot_be_is_refused(system: System, case: str) -> None:
    query = "query($first: Int, $after: String) { jobsConnection(first: $first, after: $after) { edges { cursor } } }"
    assert code_of(asked(system.client, query, PAGES[case])) == "INVALID_DATA"
    job = asked(system.client, EXECUTE, {"i": of(GOOD)})["data"]["executeJob"]["id"]
    errors = (
        "query($id: ID!, $first: Int, $after: String) { job(id: $id) { errors(first: $first, after: $after) { totalCount } } }"
    )
    assert code_of(asked(system.client, errors, {"id": job, **PAGES[case]})) == "INVALID_DATA"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", ["/uploads", "/uploads/upload", "/uploads/tus/"])
def test_an_upload_without_a_token_is_refused_before_its_body_is_read(system: System, path: str) -> None:
    place = urlsplit(system.state["jobs"])
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ntus-resumable: 1.0.0\r\nupload-length: 9\r\ncontent-length: 1000000000\r\n"
        connection.sendall(f"{head}content-type: multipart/form-data; boundary=x\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 401"


def test_a_zip_is_refused_at_the_upload(system: System, tmp_path: Path) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("products.csv", "name,price\nCup,1\n")
    answer = system.client.send("POST", "/uploads", files={"file": ("products.csv", packed.getvalue())})
    assert answer.status_code == 415
    assert "zip" in answer.json()["message"]


@pytest.mark.parametrize("path", ["rejects.xlsx", "rejects", "inputs.csv", "rejects.csv/..", "%2e%2e/rejects.csv"])
def test_there_is_nothing_else_to_download(system: System, path: str) -> None:
    job = asked(system.client, EXECUTE, {"i": of(GOOD)})["data"]["executeJob"]["id"]
    url = f"{system.client.jobs}/jobs/{job}/{path}"
    headers = {"authorization": f"Bearer {system.client.token}"}
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 404
