"""The whole API through two replicas of the jobs service: who follows a job at one sees what happens at the other."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from jobber.cli.client import Client, Job
from jobber.model import State
from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.live import PROGRESS, Live
from tests.support.system import System, ended

CREATE = "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }"
PAUSE = "mutation($id: ID!) { jobPause(id: $id) { job { state } userErrors { code message } } }"
RESUME = PAUSE.replace("jobPause", "jobResume")
PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """With two replicas of jobs; few subscriptions are let in."""
    system = running.start(
        tmp_path_factory.mktemp("pair") / "data", "--jobs", "2", environment={"JOBBER_SUBSCRIPTIONS_PER_CALLER": "5"}
    )
    yield system
    assert system.stop() == 0, system.said()


@pytest.fixture(scope="module")
def urls(pair: System) -> list[str]:
    """GraphQL of both replicas."""
    found = []
    for log in sorted((pair.folder / "logs").glob("jobs*.log")):
        ready = next(line for line in map(json.loads, log.read_text().splitlines()) if line["action"] == "ready")
        found.append(f"http://127.0.0.1:{ready['http_port']}/graphql")
    assert len(found) == 2
    return found


@pytest.fixture(scope="module")
def member(pair: System) -> Client:
    pair.client.ask(CREATE, {"i": {"email": "m@example.org", "password": PASSWORD}}, service=pair.client.auth)
    return pair.login("m@example.org", PASSWORD)


@pytest.fixture(scope="module")
def paused(pair: System, member: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A job of the member that does not end."""
    stored = member.upload(write_csv(tmp_path_factory.mktemp("in") / "many.csv", 300_000, broken=False))
    job = member.execute("LoadProducts", {"fileName": stored["id"]})
    payload = member.ask(PAUSE, {"id": job.id})["jobPause"]
    assert payload["userErrors"] == []
    yield job
    member.ask(RESUME, {"id": job.id})
    assert ended(member, job).state is State.SUCCEEDED


def state_of(answer: dict[str, Any] | None) -> str:
    assert answer
    assert "errors" not in answer, answer
    return str(answer["data"]["jobProgress"]["state"])


def test_both_replicas_tell_the_end_and_it_is_not_missed_by_who_comes_back(urls: list[str], member: Client) -> None:
    job = member.execute("LoadProducts", [{"name": f"p{number}", "price": 1} for number in range(5)])
    for url in urls:
        answers = Live(url, member.token, PROGRESS, id=job.id).rest()
        assert state_of(answers[-1]) == "SUCCEEDED"
        numbers = [answer["data"]["jobProgress"]["progress"]["seq"] for answer in answers]
        assert numbers == sorted(set(numbers))
        for seen in (numbers[-1], numbers[-1] + 1000):
            [last] = Live(url, member.token, PROGRESS, id=job.id, after=seen).rest()
            assert state_of(last) == "SUCCEEDED"


def test_a_running_subscription_ends_at_logout_on_every_replica(pair: System, urls: list[str], paused: Job) -> None:
    for url in urls:
        other = pair.login("m@example.org", PASSWORD)
        everything = "subscription { jobsChanged { id } }"
        one, all_of_them = Live(url, other.token, PROGRESS, id=paused.id), Live(url, other.token, everything)
        assert state_of(one.next()) == "PAUSED"
        other.ask("mutation { logout }", service=other.auth)
        for live in (one, all_of_them):
            last = live.rest()[-1]
            assert last["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


def test_people_follow_only_their_own(pair: System, urls: list[str], member: Client, paused: Job) -> None:
    pair.client.ask(CREATE, {"i": {"email": "n@example.org", "password": PASSWORD}}, service=pair.client.auth)
    other = pair.login("n@example.org", PASSWORD)
    [refused] = Live(urls[0], other.token, PROGRESS, id=paused.id).rest()
    assert refused["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    [refused] = Live(urls[0], None, PROGRESS, id=paused.id).rest()
    assert refused["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    changed = "subscription($f: JobFilter) { jobsChanged(filter: $f) { id state } }"
    watching = Live(urls[1], other.token, changed, f={"name": "LoadProducts", "states": ["SUCCEEDED"]})
    theirs = ended(member, member.execute("LoadProducts", {"name": "theirs", "price": 1}))
    own = ended(other, other.execute("LoadProducts", {"name": "own", "price": 1}))
    event = watching.next()
    assert event == {"data": {"jobsChanged": {"id": own.id, "state": "SUCCEEDED"}}}
    assert theirs.id != own.id
    watching.close()


def test_open_subscriptions_are_limited_and_come_back(pair: System, urls: list[str], paused: Job) -> None:
    other = pair.login(pair.state["admin"]["email"], pair.state["admin"]["password"])
    lives = [Live(urls[0], other.token, PROGRESS, id=paused.id) for _ in range(5)]
    assert {state_of(live.next()) for live in lives} == {"PAUSED"}
    [refused] = Live(urls[0], other.token, PROGRESS, id=paused.id).rest()
    assert refused["errors"][0]["extensions"]["code"] == "QUOTA_EXCEEDED"
    for live in lives:
        live.close()

    def one_fits() -> bool:
        live = Live(urls[0], other.token, PROGRESS, id=paused.id)
        fits = "data" in (live.next() or {})
        live.close()
        return fits

    running.until(one_fits, what="room for one more")


def test_a_row_knows_its_batch_but_tells_only_who_may_see_it(pair: System, member: Client) -> None:
    job = ended(pair.client, pair.client.execute("LoadProducts", [{"name": "a", "price": 1}, {"name": "b", "price": 2}]))
    [(product,)] = pair.rows("SELECT id FROM products.products WHERE job_id = %s AND row_no = 2", job.id)
    query = """query($key: JSON!) { rowLineage(table: "products", key: $key) {
      id index firstRow rows attempts committedAt job { id name submittedBy { email } } } }"""
    [batch] = pair.client.ask(query, {"key": {"id": product}})["rowLineage"]
    assert batch["committedAt"]
    assert (batch["index"], batch["firstRow"], batch["rows"], batch["attempts"]) == (0, 1, 2, 1)
    assert batch["job"] == {"id": job.id, "name": "LoadProducts", "submittedBy": {"email": pair.state["admin"]["email"]}}
    node = "query($id: ID!) { node(id: $id) { id ... on Batch { rows } } }"
    assert pair.client.ask(node, {"id": batch["id"]})["node"] == {"id": batch["id"], "rows": 2}
    for id in (batch["id"], f"{job.id}:99999999999", "x:1", ":", job.id):
        assert member.ask(node, {"id": id})["node"] is None
    assert member.ask(query, {"key": product})["rowLineage"] == []
    assert pair.client.ask(query, {"key": 1 << 40})["rowLineage"] == []
    for key in ({"id": "x"}, {"id": 0}, "'; DROP TABLE products.products", None, [1], {"id": 1, "x": 2}, 1.5):
        answer = httpx.post(
            pair.state["jobs"],
            json={"query": query, "variables": {"key": key}},
            headers={"authorization": f"Bearer {pair.client.token}"},
        ).json()
        assert answer["errors"][0]["extensions"]["code"] == "INVALID_DATA", key


@pytest.mark.parametrize(
    "mutation",
    [
        'jobRevert(id: "x")',
        'scheduleCreate(input: {cron: "* * * * *", job: {name: "x", source: {}, idempotencyKey: "x"}})',
        'scheduleDelete(id: "x")',
    ],
)
def test_what_this_version_does_not_do_it_says(member: Client, mutation: str) -> None:
    answer = member.ask(f"mutation {{ it: {mutation} {{ userErrors {{ code message }} }} }}")["it"]
    [error] = answer["userErrors"]
    assert error["code"] == "INVALID_STATE"
    assert "not served by this version" in error["message"]


def test_the_audit_trail_of_jobs_and_uploads(pair: System, member: Client, paused: Job) -> None:
    trail = "{ auditLog(first: 200) { edges { node { actor action subject detail } } } }"
    nodes = [edge["node"] for edge in pair.client.ask(trail)["auditLog"]["edges"]]
    of_job = [(node["actor"], node["action"]) for node in nodes if node["subject"] == f"job:{paused.id}"]
    assert of_job == [("m@example.org", "job.pause"), ("m@example.org", "job.submit")]
    [upload] = [node for node in nodes if node["action"] == "upload.create"]
    assert (upload["actor"], upload["detail"]["fileName"]) == ("m@example.org", "many.csv")
    with pytest.raises(Exception, match="Your role does not allow this"):
        member.ask(trail)


def test_api_tokens_do_what_their_scopes_say(pair: System, member: Client, paused: Job) -> None:
    create = 'mutation($s: [String!]!) { apiTokenCreate(name: "n", scopes: $s) { token } }'

    def with_scopes(*scopes: str) -> Client:
        token = member.ask(create, {"s": scopes}, service=member.auth)["apiTokenCreate"]["token"]
        return Client(member.jobs, member.auth, token)

    reads, writes = with_scopes("jobs:read"), with_scopes("jobs:write")
    assert reads.job(paused.id).id == paused.id
    with pytest.raises(Exception, match="lacks the scope jobs:write"):
        reads.execute("LoadProducts", {"name": "x", "price": 1})
    with pytest.raises(Exception, match="lacks the scope jobs:read"):
        writes.job(paused.id)
    assert writes.execute("LoadProducts", {"name": "x", "price": 1}).name == "LoadProducts"
    for client in (reads, writes):
        client.close()


def test_jobs_are_found_by_what_they_are(member: Client, paused: Job) -> None:
    ended(member, member.execute("Fibonacci", {"iterations": 3}))
    query = """query($f: JobFilter, $n: Int!, $a: String) { jobsConnection(first: $n, after: $a, filter: $f) {
      edges { node { id name state } } pageInfo { hasNextPage endCursor } } }"""

    def found(first: int = 1000, after: str | None = None, **wanted: Any) -> list[dict[str, str]]:
        answer = member.ask(query, {"f": wanted, "n": first, "a": after})["jobsConnection"]
        nodes = [edge["node"] for edge in answer["edges"]]
        if answer["pageInfo"]["hasNextPage"]:
            nodes += found(first, answer["pageInfo"]["endCursor"], **wanted)
        return nodes

    assert [job["id"] for job in found(states=["PAUSED"])] == [paused.id]
    assert {job["name"] for job in found(name="Fibonacci", states=["SUCCEEDED", "FAILED"])} == {"Fibonacci"}
    assert found(name="Fibonacci", states=["FAILED"]) == []
    assert found(createdAfter="2999-01-01T00:00:00Z") == []
    assert len(found(createdAfter="2000-01-01T00:00:00Z")) == len(found()) > 2
    assert found(first=1) == found()


def test_options_are_taken_as_they_are_given(member: Client) -> None:
    submit = """mutation($i: SubmitJobInput!) { jobSubmit(input: $i) {
      job { id state parent { id } } replayed userErrors { code message } } }"""
    options = {"mode": "INSERT", "atomicity": "BATCH", "priority": "HIGH", "maxErrors": 0}
    wanted = {
        "name": "LoadProducts",
        "source": {"rows": [{"name": "x", "price": 1}]},
        "options": options,
        "idempotencyKey": "k1",
    }
    first = member.ask(submit, {"i": wanted})["jobSubmit"]
    assert first["userErrors"] == []
    assert first["replayed"] is False
    again = member.ask(submit, {"i": wanted})["jobSubmit"]
    assert (again["replayed"], again["job"]["id"]) == (True, first["job"]["id"])
    other = member.ask(submit, {"i": wanted | {"options": options | {"priority": "LOW"}}})["jobSubmit"]
    assert [error["code"] for error in other["userErrors"]] == ["IDEMPOTENCY_CONFLICT"]
    refused = member.ask(submit, {"i": wanted | {"options": {"mode": "UPSERT", "keys": ["id"]}}})["jobSubmit"]
    assert [error["code"] for error in refused["userErrors"]] == ["INVALID_DATA"]
