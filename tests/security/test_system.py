"""The whole system: secrets in no log, no service without its credential, others' things not there."""

import io
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from jobber.cli.client import Client
from protos.client import OPTIONS, credential, target
from protos.jobber.auth.v1 import auth_pb2
from protos.jobber.jobs.v1 import jobs_pb2
from protos.jobber.products.v1 import products_pb2
from tests.support import system as running
from tests.support.system import System, ended

CREATE = "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }"
TOKEN = 'mutation { apiTokenCreate(name: "n", scopes: ["jobs:read"]) { token } }'
PASSWORD = "canary password of a member"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    started = running.start(tmp_path_factory.mktemp("secure") / "data")
    yield started
    assert started.stop() == 0, started.said()


@pytest.fixture(scope="module")
def member(system: System) -> Client:
    system.client.ask(CREATE, {"i": {"email": "m@example.org", "password": PASSWORD}}, service=system.client.auth)
    return system.login("m@example.org", PASSWORD)


@pytest.fixture(scope="module")
def viewer(system: System) -> Client:
    """A MEMBER with a job, who then became a VIEWER."""
    system.client.ask(CREATE, {"i": {"email": "v@example.org", "password": PASSWORD}}, service=system.client.auth)
    client = system.login("v@example.org", PASSWORD)
    ended(client, client.execute("LoadProducts", {"name": "x", "price": 1}))
    with running_database(system) as connection:
        connection.execute("UPDATE auth.users SET role = 'VIEWER' WHERE email = 'v@example.org'")
    return client


def running_database(system: System) -> Any:
    import psycopg

    return psycopg.connect(system.state["database"], autocommit=True)


@pytest.mark.parametrize("shown", [(), credential("wrong"), credential("")])
@pytest.mark.parametrize("module", [auth_pb2, jobs_pb2, products_pb2])
def test_no_method_of_any_service_answers_without_the_credential(
    system: System, module: Any, shown: tuple[tuple[str, str], ...]
) -> None:
    [service] = module.DESCRIPTOR.services_by_name.values()
    address = system.state["grpc"][service.full_name.split(".")[1]]
    assert len(service.methods) >= 2
    with grpc.insecure_channel(target(address), options=OPTIONS) as given:
        channel: Any = given
        for method in service.methods:
            # On the wire one message is a stream of one: no generated stub is needed.
            call: Any = channel.stream_stream(f"/{service.full_name}/{method.name}")(iter([b""]), metadata=shown, timeout=10)
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, method.full_name


def test_a_message_that_is_too_large_is_refused(system: System) -> None:
    with grpc.insecure_channel(target(system.state["grpc"]["auth"]), options=[("grpc.max_send_message_length", -1)]) as channel:
        call: Any = channel.unary_unary("/jobber.auth.v1.AuthService/Authenticate")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\x0a" + b"x" * (65 << 20), metadata=credential(system.state["serviceToken"]), timeout=30)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_viewer_looks_and_changes_nothing(system: System, viewer: Client) -> None:
    [job] = viewer.ask("{ jobs { id } }")["jobs"]
    for mutation in (
        'executeJob(input: {name: "LoadProducts", data: "[]"}) { id }',
        'jobSubmit(input: {name: "LoadProducts", source: {rows: []}, idempotencyKey: "k"}) { replayed }',
        f'jobCancel(id: "{job["id"]}") {{ replayed }}',
        f'jobPause(id: "{job["id"]}") {{ replayed }}',
        f'jobResume(id: "{job["id"]}") {{ replayed }}',
        'uploadCreate(input: {filename: "a", bytes: 1, format: CSV}) { upload { id } }',
    ):
        with pytest.raises(Exception, match="A viewer may look"):
            viewer.ask(f"mutation {{ {mutation} }}")
    refused = httpx.post(
        f"{viewer.jobs}/uploads",
        files={"file": ("a.csv", b"name,price\nx,1\n")},
        headers={"authorization": f"Bearer {viewer.token}"},
    )
    assert refused.status_code == 403
    into = io.BytesIO()
    viewer.download(f"/jobs/{job['id']}/rejects.csv", into)


def test_others_jobs_are_not_there(system: System, member: Client) -> None:
    theirs = ended(system.client, system.client.execute("LoadProducts", [{"name": ""}, {"name": "x", "price": 1}])).id
    for id in (theirs, str(uuid.uuid4()), "x", "", "a\x00b"):
        assert member.ask("query($id: ID!) { job(id: $id) { id } node(id: $id) { id } }", {"id": id}) == {
            "job": None,
            "node": None,
        }
        for mutation in ("jobCancel", "jobPause", "jobResume"):
            payload = member.ask(
                f"mutation($id: ID!) {{ {mutation}(id: $id) {{ job {{ id }} userErrors {{ code }} }} }}", {"id": id}
            )[mutation]
            assert payload == {"job": None, "userErrors": [{"code": "NOT_FOUND"}]}
    for name in ("rejects.csv", "rejects.ndjson", "results.csv"):
        response = httpx.get(f"{member.jobs}/jobs/{theirs}/{name}", headers={"authorization": f"Bearer {member.token}"})
        assert response.status_code == 404
        assert httpx.get(f"{member.jobs}/jobs/{theirs}/{name}").status_code == 401


def test_fields_that_are_not_there_cannot_be_smuggled_in(member: Client) -> None:
    for extra in ({"owner": "x"}, {"ownerId": "x"}, {"status": "COMPLETED"}, {"role": "ADMIN"}, {"id": str(uuid.uuid4())}):
        query = "mutation($i: ExecuteJobInput!) { executeJob(input: $i) { id } }"
        response = httpx.post(
            f"{member.jobs}/graphql",
            json={"query": query, "variables": {"i": {"name": "LoadProducts", "data": "[]", **extra}}},
            headers={"authorization": f"Bearer {member.token}"},
        )
        assert "data" not in response.json(), extra


def test_markup_stays_text(member: Client) -> None:
    evil = "<img src=x onerror=alert(1)>"
    job = ended(member, member.execute("LoadProducts", [{"name": evil, "price": "=1+1"}, {"name": evil, "price": 1}]))
    for path in (f"/jobs/{job.id}/rejects.csv", f"/jobs/{job.id}/rejects.ndjson"):
        response = httpx.get(f"{member.jobs}{path}", headers={"authorization": f"Bearer {member.token}"})
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-disposition"].startswith("attachment")
        assert "html" not in response.headers["content-type"]
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        if path.endswith("csv"):
            assert "'=1+1" in response.text


def test_no_secret_is_in_any_log(system: System, member: Client) -> None:
    token = member.ask(TOKEN, service=member.auth)["apiTokenCreate"]["token"]
    bad = "canary of a wrong password"
    with pytest.raises(Exception, match="wrong"):
        system.login("m@example.org", bad)
    httpx.post(f"{member.jobs}/graphql", content=b'{"query": "{ me { id } }', headers={"authorization": f"Bearer {token}"})
    httpx.post(
        f"{member.jobs}/graphql", json={"query": f'{{ nonsense(x: "{bad}") }}'}, headers={"cookie": f"Authentication={token}"}
    )
    with pytest.raises(grpc.RpcError), grpc.insecure_channel(target(system.state["grpc"]["auth"])) as channel:
        channel.unary_unary("/jobber.auth.v1.AuthService/Authenticate")(token.encode(), metadata=credential(token), timeout=5)
    database = system.state["database"]
    secrets = {
        "password": PASSWORD,
        "wrong password": bad,
        "session": member.token,
        "API token": token,
        "admin's password": system.state["admin"]["password"],
        "service token": system.state["serviceToken"],
        "JWT_SECRET": (system.folder / "secrets" / "jwt_secret").read_text(),
        "DSN": database,
        "password of the DSN": database.split(":")[2].split("@")[0],
    }
    time.sleep(0.2)
    logs = {path.name: path.read_text(errors="replace") for path in (system.folder / "logs").iterdir()}
    logs["up"] = system.said()
    assert len(logs) >= 5
    assert [(name, log) for name, secret in secrets.items() for log, text in logs.items() if secret in text] == []
    # What is written is written: the lines are there, only the secrets are not.
    assert any(json.loads(line)["action"] == "login_failed" for line in logs["auth.log"].splitlines())
