"""The auth service as its users see it: real process, real PostgreSQL, real sockets."""

import base64
import json
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import jwt
import psycopg
import pytest

from api.auth.graphql_door import schema
from api.graphql.sdl import sdl
from api.tokens import AUDIENCE, ISSUER, TYPE
from tests.support.auth import ADMIN, PASSWORD, SECRET, AuthProcess, auth_process


@pytest.fixture(scope="module")
def dsn(clone: Callable[[str], str]) -> str:
    return clone("template1")


@pytest.fixture(scope="module")
def auth(dsn: str) -> Iterator[AuthProcess]:
    with auth_process(dsn) as service:
        yield service.ready()


@pytest.fixture(scope="module")
def admin(auth: AuthProcess) -> str:
    return auth.login()


def member(auth: AuthProcess, admin: str) -> tuple[str, str]:
    """E-mail and token of a new user."""
    email = f"{uuid.uuid4().hex}@example.com"
    made = auth.post(
        "mutation($i: CreateUserInput!) { createUser(input: $i) { id email role } }",
        admin,
        variables={"i": {"email": email, "password": PASSWORD}},
    ).json()
    assert made["data"]["createUser"]["role"] == "MEMBER"
    return email, auth.login(email)


def code_of(answer: dict[str, Any]) -> str:
    return str(answer["errors"][0]["extensions"]["code"])


def test_documented_login(auth: AuthProcess) -> None:
    query = 'mutation { login(input: { email: "%s", password: "%s" }) { token expiresAt id email } }'
    answer = auth.post(query % (ADMIN, PASSWORD)).json()["data"]["login"]
    assert answer["email"] == ADMIN
    expires = datetime.fromisoformat(answer["expiresAt"])
    assert timedelta(hours=11, minutes=59) < expires - datetime.now(UTC) < timedelta(hours=12, minutes=1)
    payload = jwt.decode(answer["token"], SECRET, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER)
    assert payload["sub"] == answer["id"]
    assert payload["exp"] == int(expires.timestamp())


def test_both_spellings_and_exactly_one(auth: AuthProcess, admin: str) -> None:
    one = f'{{email: "{ADMIN}", password: "{PASSWORD}"}}'
    assert auth.post(f"mutation {{ login(loginInput: {one}) {{ token }} }}").json()["data"]["login"]["token"]
    for arguments in (f"(input: {one}, loginInput: {one})", "(input: null)", ""):
        answer = auth.post(f"mutation {{ login{arguments} {{ token }} }}").json()
        assert code_of(answer) == "INVALID_DATA"
    new = f'{{email: "{uuid.uuid4().hex}@example.com", password: "{PASSWORD}"}}'
    query = "mutation { createUser(%s) { role } }"
    assert auth.post(query % f"createUserInput: {new}", admin).json()["data"]["createUser"]["role"] == "MEMBER"
    assert code_of(auth.post(query % f"createUserInput: {new}, input: {new}", admin).json()) == "INVALID_DATA"


def test_email_is_one_in_any_case(auth: AuthProcess, admin: str) -> None:
    assert auth.login(ADMIN.upper())
    new = f'{{email: " {ADMIN.title()} ", password: "{PASSWORD}"}}'
    answer = auth.post(f"mutation {{ createUser(input: {new}) {{ id }} }}", admin).json()
    assert code_of(answer) == "INVALID_DATA"


@pytest.mark.parametrize(
    ("email", "password"), [(ADMIN, "wrong password"), ("nobody@example.com", PASSWORD), ("a\x00b", PASSWORD), ("", "")]
)
def test_wrong_credentials_are_told_alike(auth: AuthProcess, email: str, password: str) -> None:
    query = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { token } }"
    response = auth.post(query, variables={"e": email, "p": password})
    error = response.json()["errors"][0]
    assert (error["message"], error["extensions"]["code"]) == ("The e-mail or the password is wrong.", "UNAUTHENTICATED")
    assert "set-cookie" not in response.headers


def test_unknown_email_takes_as_long(auth: AuthProcess) -> None:
    def seconds(email: str) -> float:
        begin = time.perf_counter()
        auth.post(f'mutation {{ login(input: {{email: "{email}", password: "wrong password"}}) {{ token }} }}')
        return time.perf_counter() - begin

    known, unknown = [], []
    for _ in range(8):
        known.append(seconds(ADMIN))
        unknown.append(seconds("nobody@example.com"))
    # Without the dummy hash the unknown takes 3 ms, the known 50 ms.
    assert statistics.median(unknown) > 0.5 * statistics.median(known)


def test_roles(auth: AuthProcess, admin: str) -> None:
    email, token = member(auth, admin)
    assert auth.post("{ me { email role } }", token).json()["data"]["me"] == {"email": email, "role": "MEMBER"}
    assert code_of(auth.post("{ users { id } }", token).json()) == "FORBIDDEN"
    assert code_of(auth.post("{ users { id } }").json()) == "UNAUTHENTICATED"
    new = f'{{email: "x@example.com", password: "{PASSWORD}"}}'
    query = f"mutation {{ createUser(input: {new}) {{ id }} }}"
    assert code_of(auth.post(query, token).json()) == "FORBIDDEN"
    assert code_of(auth.post(query).json()) == "UNAUTHENTICATED"
    users = auth.post("{ users { id email role } }", admin).json()["data"]["users"]
    assert users[0]["email"] == ADMIN
    assert users[0]["role"] == "ADMIN"
    assert email in [user["email"] for user in users]
    assert auth.post("{ me { id } }").json() == {"data": {"me": None}}


def test_smuggled_fields_are_refused(auth: AuthProcess, admin: str) -> None:
    answer = auth.post(
        "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }",
        admin,
        variables={"i": {"email": "y@example.com", "password": PASSWORD, "role": "ADMIN"}},
    ).json()
    assert "data" not in answer
    assert code_of(answer) == "INVALID_DATA"


@pytest.mark.parametrize(
    "password", ["seven77", "password123", "PassWord123", "aaaaaaaaaa", "abcd" * 257, "äöüß" * 129, "somebody@exam"]
)
def test_bad_passwords_are_refused(auth: AuthProcess, admin: str, password: str) -> None:
    answer = auth.post(
        "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }",
        admin,
        variables={"i": {"email": "somebody@example.com", "password": password}},
    ).json()
    assert code_of(answer) == "INVALID_DATA"


def test_what_is_too_long_is_not_hashed(auth: AuthProcess) -> None:
    query = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { token } }"
    answer = auth.post(query, variables={"e": ADMIN, "p": "x" * 500_000}).json()
    assert code_of(answer) == "INVALID_DATA"


def test_long_password_counts_to_its_end(auth: AuthProcess, admin: str) -> None:
    email, password = f"{uuid.uuid4().hex}@example.com", "päss " * 40 + "end"
    auth.post(
        "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }",
        admin,
        variables={"i": {"email": email, "password": password}},
    )
    assert auth.login(email, password)
    query = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { token } }"
    answer = auth.post(query, variables={"e": email, "p": password[:-1] + "x"}).json()
    assert code_of(answer) == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "email", ["", "nobody", "a b@example.com", "a@b@c", "<a@example.com>", "a@" + "b" * 260, "a\x00@example.com"]
)
def test_what_is_no_email_is_refused(auth: AuthProcess, admin: str, email: str) -> None:
    answer = auth.post(
        "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }",
        admin,
        variables={"i": {"email": email, "password": PASSWORD}},
    ).json()
    assert code_of(answer) == "INVALID_DATA"


def test_logout_and_cookie(auth: AuthProcess) -> None:
    with httpx.Client(base_url=auth.url) as browser:
        query = f'mutation {{ login(input: {{email: "{ADMIN}", password: "{PASSWORD}"}}) {{ token }} }}'
        response = browser.post("/graphql", json={"query": query})
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("Authentication=")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        token = response.json()["data"]["login"]["token"]
        asked = {"query": "{ me { email } }"}
        assert browser.post("/graphql", json=asked).json()["data"]["me"]["email"] == ADMIN
        # Another site's page: the browser sends the cookie, and where the page is from.
        foreign = browser.post("/graphql", json=asked, headers={"origin": "https://evil.example"})
        assert foreign.json()["data"]["me"] is None
        for headers in ({"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
            assert browser.post("/graphql", json=asked, headers=headers).json()["data"]["me"] is None
            refused = browser.post("/graphql", json={"query": "mutation { logout }"}, headers=headers)
            assert code_of(refused.json()) == "UNAUTHENTICATED"
        ours = browser.post("/graphql", json=asked, headers={"origin": auth.url, "sec-fetch-site": "same-origin"})
        assert ours.json()["data"]["me"]["email"] == ADMIN
        out = browser.post("/graphql", json={"query": "mutation { logout }"})
        assert out.json() == {"data": {"logout": True}}
        assert "Max-Age=0" in out.headers["set-cookie"]
        assert not browser.cookies
    refused = auth.post("{ me { email } }", token)
    assert refused.status_code == 401
    assert code_of(refused.json()) == "UNAUTHENTICATED"
    assert code_of(auth.post("mutation { logout }", token).json()) == "UNAUTHENTICATED"


def test_cookie_is_bound_to_https(auth: AuthProcess) -> None:
    query = f'mutation {{ login(input: {{email: "{ADMIN}", password: "{PASSWORD}"}}) {{ token }} }}'
    cookie = auth.post(query, headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert cookie.startswith("__Host-Authentication=")
    assert "Secure" in cookie


def test_foreign_page_cannot_log_in(auth: AuthProcess) -> None:
    query = f'mutation {{ login(input: {{email: "{ADMIN}", password: "{PASSWORD}"}}) {{ token }} }}'
    response = auth.post(query, headers={"origin": "https://evil.example"})
    assert code_of(response.json()) == "FORBIDDEN"
    assert "set-cookie" not in response.headers


def test_stale_token_does_not_keep_from_logging_in(auth: AuthProcess) -> None:
    query = f'mutation {{ login(input: {{email: "{ADMIN}", password: "{PASSWORD}"}}) {{ token }} }}'
    assert auth.post(query, "stale").json()["data"]["login"]["token"]


def test_password_change_ends_all_sessions(auth: AuthProcess, admin: str) -> None:
    email, token = member(auth, admin)
    other = auth.login(email)
    query = "mutation($c: String!, $n: String!) { passwordChange(current: $c, new: $n) }"
    wrong = auth.post(query, token, variables={"c": "not this one", "n": "another good one"}).json()
    assert code_of(wrong) == "UNAUTHENTICATED"
    weak = auth.post(query, token, variables={"c": PASSWORD, "n": "password123"}).json()
    assert code_of(weak) == "INVALID_DATA"
    assert auth.post("{ me { id } }", token).status_code == 200
    done = auth.post(query, token, variables={"c": PASSWORD, "n": "another good one"}).json()
    assert done == {"data": {"passwordChange": True}}
    assert auth.post("{ me { id } }", token).status_code == 401
    assert auth.post("{ me { id } }", other).status_code == 401
    assert auth.login(email, "another good one")


def test_disabled_user(auth: AuthProcess, admin: str) -> None:
    email, token = member(auth, admin)
    me = auth.post("{ me { id } }", token).json()["data"]["me"]["id"]
    query = "mutation($id: ID!) { userDisable(id: $id) { email } }"
    assert code_of(auth.post(query, token, variables={"id": me}).json()) == "FORBIDDEN"
    own = auth.post("{ me { id } }", admin).json()["data"]["me"]["id"]
    assert code_of(auth.post(query, admin, variables={"id": own}).json()) == "INVALID_DATA"
    assert code_of(auth.post(query, admin, variables={"id": str(uuid.uuid4())}).json()) == "NOT_FOUND"
    assert code_of(auth.post(query, admin, variables={"id": "a\x00b"}).json()) == "INVALID_DATA"
    assert auth.post(query, admin, variables={"id": me}).json() == {"data": {"userDisable": {"email": email}}}
    assert auth.post("{ me { id } }", token).status_code == 401
    login = f'mutation {{ login(input: {{email: "{email}", password: "{PASSWORD}"}}) {{ token }} }}'
    assert code_of(auth.post(login).json()) == "UNAUTHENTICATED"


def test_bcrypt_hash_is_replaced_at_login(auth: AuthProcess, admin: str, dsn: str) -> None:
    email, _ = member(auth, admin)
    password = "a password that is longer than the 72 bytes which bcrypt reads of it, by far"
    imported = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE auth.users SET password_hash = %s WHERE email = %s", [imported, email])
        assert auth.login(email, password)
        row = connection.execute("SELECT password_hash FROM auth.users WHERE email = %s", [email]).fetchone()
    assert row
    assert row[0].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert auth.login(email, password)


def forged(admin: str, **changes: Any) -> str:
    """A token of the running session with other claims, signed with the real secret."""
    payload = jwt.decode(admin, options={"verify_signature": False}) | changes.pop("claims", {})
    payload = {key: value for key, value in payload.items() if value is not None}
    header = {"typ": TYPE} | changes.pop("header", {})
    made: str = jwt.encode(payload, **{"key": SECRET, "algorithm": "HS256", "headers": header} | changes)
    return made


def _with_algorithm(token: str, algorithm: str) -> str:
    """The same token, whose header claims another algorithm."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": TYPE}).encode()).decode().rstrip("=")
    return ".".join([header, *token.split(".")[1:]])


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_tokens_that_auth_did_not_make_are_refused(auth: AuthProcess, admin: str) -> None:
    assert auth.post("{ me { id } }", forged(admin)).status_code == 200
    now = int(time.time())
    cut, unsigned = admin.rsplit(".", 1)
    tokens = {
        "none": forged(admin, key=None, algorithm="none"),
        "HS512": forged(admin, algorithm="HS512"),
        "another key": forged(admin, key=SECRET[::-1]),
        "stripped signature": cut + ".",
        "no signature": cut,
        "changed signature": cut + "." + unsigned[::-1],
        "wrong aud": forged(admin, claims={"aud": "others"}),
        "list aud": forged(admin, claims={"aud": [AUDIENCE]}),
        "wrong iss": forged(admin, claims={"iss": "others"}),
        "no jti": forged(admin, claims={"jti": None}),
        "unknown jti": forged(admin, claims={"jti": str(uuid.uuid4())}),
        "other user": forged(admin, claims={"sub": str(uuid.uuid4())}),
        "not yet valid": forged(admin, claims={"nbf": now + 3600}),
        "expired": forged(admin, claims={"exp": now - 1}),
        "longer": forged(admin, claims={"exp": now + 86_400 * 30}),
        "exp as text": forged(admin, claims={"exp": str(now + 100)}),
        "exp beyond all": forged(admin, claims={"exp": 1e300}),
        "no exp": forged(admin, claims={"exp": None}),
        "wrong typ": forged(admin, header={"typ": "JWT"}),
        "crit": forged(admin, header={"crit": ["x"], "x": 1}),
        "kid": forged(admin, header={"kid": "../../dev/null"}),
        "jku": forged(admin, header={"jku": "https://evil.example"}),
        "jwk": forged(admin, header={"jwk": {"kty": "oct", "k": "AAAA"}}),
        "x5u": forged(admin, header={"x5u": "https://evil.example"}),
        "kid of a key": forged(admin, header={"kid": "jobber"}),
        "None": _with_algorithm(admin, "None"),
        "RS256": _with_algorithm(admin, "RS256"),
        "EdDSA": _with_algorithm(admin, "EdDSA"),
        "megabyte": forged(admin, claims={"more": "x" * 50_000}),  # uvicorn takes 64 kB of headers
        "garbage": "x",
    }
    answers = {name: auth.post("{ me { id } }", token).status_code for name, token in tokens.items()}
    assert answers == dict.fromkeys(tokens, 401)


def test_expired_session(auth: AuthProcess, admin: str, dsn: str) -> None:
    _, token = member(auth, admin)
    claims = jwt.decode(token, options={"verify_signature": False})
    past = int(time.time()) - 10
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE auth.sessions SET issued_at = to_timestamp(%s), expires_at = to_timestamp(%s) WHERE id = %s",
            [past - 10, past, claims["jti"]],
        )
    stale = forged(token, claims={"iat": past - 10, "exp": past})
    assert auth.post("{ me { id } }", stale).status_code == 401


def test_nothing_secret_is_logged(auth: AuthProcess, admin: str, dsn: str) -> None:
    auth.post(f'mutation {{ login(input: {{email: "{ADMIN}", password: "canary-password"}}) {{ token }} }}')
    auth.post("{ nonsense }", admin)
    text = str(auth.log)
    for secret in (admin, SECRET, PASSWORD, "canary-password", dsn, dsn.split(":")[2].split("@")[0]):
        assert secret not in text


def test_sdl_is_pinned() -> None:
    snapshot = Path("api/auth/schema.graphql").read_text()
    assert sdl(schema) == snapshot, "python -m api.auth.schema > api/auth/schema.graphql, if the change is meant"
