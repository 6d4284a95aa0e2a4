"""API tokens: named, scoped, expiring, shown once, revocable; and never more than their maker."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from api.identity import Identity
from api.tokens import new_api_token
from jobber.errors import Forbidden, Unauthenticated
from jobber.log import without_secrets
from tests.support.auth import ADMIN, PASSWORD, SECRET, AuthProcess

CREATE = """mutation($name: String!, $scopes: [String!]!, $expiresAt: DateTime) {
  apiTokenCreate(name: $name, scopes: $scopes, expiresAt: $expiresAt) {
    token apiToken { id name scopes expiresAt lastUsedAt } userErrors { code message }
  }
}"""
LIST = "{ apiTokens { id name scopes expiresAt lastUsedAt } }"
REVOKE = "mutation($id: ID!) { apiTokenRevoke(id: $id) }"
ME = "{ me { email } }"


def make(auth: AuthProcess, session: str, *scopes: str, **more: Any) -> dict[str, Any]:
    payload = auth.ask(CREATE, session, name="nightly load", scopes=scopes or ["jobs:read"], **more)["apiTokenCreate"]
    assert isinstance(payload, dict)
    return payload


def test_it_is_shown_once_and_only_its_hash_is_stored(auth: AuthProcess, member: str, dsn: str) -> None:
    session = auth.login(member)
    payload = make(auth, session, "jobs:write", "jobs:read")
    token = payload["token"]
    assert token.startswith("jobber_")
    assert payload["apiToken"]["scopes"] == ["jobs:read", "jobs:write"]
    assert auth.ask(ME, token)["me"] == {"email": member}
    [listed] = auth.ask(LIST, session)["apiTokens"]
    assert (listed["id"], listed["name"]) == (payload["apiToken"]["id"], "nightly load")
    assert listed["lastUsedAt"] is not None
    with psycopg.connect(dsn) as connection:
        stored = str(connection.execute("SELECT t::text FROM auth.api_tokens t").fetchall())
        trail = str(connection.execute("SELECT a::text FROM auth.audit a").fetchall())
    assert token not in stored + trail + str(auth.log)
    assert token[7:] not in stored + trail + str(auth.log)


def test_it_ends_when_revoked_expired_or_its_user_is_disabled(auth: AuthProcess, admin: str, member: str, dsn: str) -> None:
    session = auth.login(member)
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    revoked, expired, other = (make(auth, session, expiresAt=soon) for _ in range(3))
    assert auth.ask(REVOKE, session, id=revoked["apiToken"]["id"]) == {"apiTokenRevoke": True}
    assert auth.post(ME, revoked["token"]).status_code == 401
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE auth.api_tokens SET expires_at = clock_timestamp() WHERE id = %s", [expired["apiToken"]["id"]]
        )
    assert auth.post(ME, expired["token"]).status_code == 401
    assert auth.ask(ME, other["token"])
    me = auth.ask("{ me { id } }", session)["me"]["id"]
    auth.ask("mutation($id: ID!) { userDisable(id: $id) { id } }", admin, id=me)
    assert auth.post(ME, other["token"]).status_code == 401


def test_it_ends_with_the_password_behind_it(auth: AuthProcess, member: str) -> None:
    session = auth.login(member)
    token = make(auth, session)["token"]
    change = "mutation($c: String!, $n: String!) { passwordChange(current: $c, new: $n) }"
    auth.ask(change, session, c=PASSWORD, n="another good one")
    assert auth.post(ME, token).status_code == 401


@pytest.mark.parametrize(
    ("name", "scopes", "expires"),
    [
        ("", ["jobs:read"], None),
        ("x" * 101, ["jobs:read"], None),
        ("a\nb", ["jobs:read"], None),
        ("x", [], None),
        ("x", ["jobs:read", "everything"], None),
        ("x", ["jobs:read"], "2020-01-01T00:00:00Z"),
    ],
)
def test_what_cannot_be_is_said(auth: AuthProcess, admin: str, name: str, scopes: list[str], expires: str | None) -> None:
    payload = auth.ask(CREATE, admin, name=name, scopes=scopes, expiresAt=expires)["apiTokenCreate"]
    assert (payload["token"], payload["userErrors"][0]["code"]) == (None, "INVALID_DATA")


def test_others_tokens_are_not_there(auth: AuthProcess, admin: str, member: str) -> None:
    theirs = make(auth, admin)["apiToken"]["id"]
    session = auth.login(member)
    assert auth.ask(LIST, session)["apiTokens"] == []
    for id in (theirs, str(uuid.uuid4()), "x"):
        assert auth.refusal(REVOKE, session, id=id) == "NOT_FOUND"
        assert auth.ask("query($id: ID!) { node(id: $id) { id } }", session, id=id)["node"] is None
    own = make(auth, session)["apiToken"]["id"]
    assert auth.ask(REVOKE, admin, id=own)  # An ADMIN ends anybody's.


def test_it_never_makes_more_of_itself(auth: AuthProcess, admin: str) -> None:
    token = make(auth, admin, "jobs:read", "jobs:write", "admin:read", "admin:write")["token"]
    for query in (
        LIST,
        "mutation { logout }",
        'mutation { passwordChange(current: "correct horse battery", new: "another good one") }',
        f'mutation {{ apiTokenRevoke(id: "{uuid.uuid4()}") }}',
    ):
        assert auth.refusal(query, token) == "FORBIDDEN", query
    payload = auth.ask(CREATE, token, name="more", scopes=["jobs:read"])["apiTokenCreate"]
    assert (payload["token"], payload["userErrors"][0]["code"]) == (None, "FORBIDDEN")


def test_scopes_of_an_admin(auth: AuthProcess, admin: str) -> None:
    users, trail = "{ users { id } }", "{ auditLog { edges { node { at } } } }"
    new = "mutation($e: String!, $p: String!) { createUser(input: {email: $e, password: $p}) { id } }"
    person = {"e": f"{uuid.uuid4().hex}@example.com", "p": PASSWORD}
    reads, writes = make(auth, admin, "admin:read")["token"], make(auth, admin, "admin:write")["token"]
    assert auth.ask(users, reads)
    assert auth.ask(trail, reads)
    assert auth.refusal(users, writes) == auth.refusal(trail, writes) == "FORBIDDEN"
    assert auth.refusal(new, reads, **person) == "FORBIDDEN"
    assert auth.ask(new, writes, **person)


def test_a_member_gets_no_further_by_scope(auth: AuthProcess, member: str) -> None:
    token = make(auth, auth.login(member), "admin:read", "admin:write")["token"]
    assert auth.refusal("{ users { id } }", token) == "FORBIDDEN"
    assert auth.refusal("{ auditLog { edges { cursor } } }", token) == "FORBIDDEN"


async def test_other_services_know_its_scopes(auth: AuthProcess, admin: str) -> None:
    who = Identity(auth.grpc, SECRET)
    try:
        made = make(auth, admin, "jobs:read")
        caller = await who.caller(made["token"])
        assert (caller.email, caller.scopes, caller.token_id) == (ADMIN, frozenset({"jobs:read"}), made["apiToken"]["id"])
        assert caller.sees is None
        with pytest.raises(Forbidden):
            caller.check_writes()
        (await who.caller(make(auth, admin, "jobs:write")["token"])).check_writes()
        with pytest.raises(Forbidden):
            _ = (await who.caller(make(auth, admin, "jobs:write")["token"])).sees
        (await who.caller(admin)).check_writes()
        auth.ask(REVOKE, admin, id=made["apiToken"]["id"])
        with pytest.raises(Unauthenticated):
            await who.caller(made["token"])
    finally:
        await who.close()


def test_logs_know_its_shape() -> None:
    token = new_api_token()
    assert without_secrets(f"GET /?key={token}&x=1") == "GET /?key=***&x=1"
