"""The audit trail of auth: who did what to which user and token."""

import uuid

from tests.support.auth import ADMIN, PASSWORD, AuthProcess

TRAIL = """query($first: Int!, $after: String) { auditLog(first: $first, after: $after) {
  edges { cursor node { at actor action subject detail } } pageInfo { hasNextPage endCursor } } }"""
CREATE = "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }"


def test_every_act_leaves_a_line(auth: AuthProcess, admin: str) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    user = auth.ask(CREATE, admin, i={"email": email, "password": PASSWORD})["createUser"]["id"]
    auth.refusal(f'mutation {{ login(input: {{email: "{email}", password: "not it"}}) {{ token }} }}')
    session = auth.login(email)
    made = auth.ask('mutation { apiTokenCreate(name: "n", scopes: ["jobs:read"]) { apiToken { id } } }', session)
    token = made["apiTokenCreate"]["apiToken"]["id"]
    auth.ask(f'mutation {{ apiTokenRevoke(id: "{token}") }}', session)
    auth.ask("mutation { logout }", session)
    session = auth.login(email)
    auth.ask(f'mutation {{ passwordChange(current: "{PASSWORD}", new: "another good one") }}', session)
    auth.ask(f'mutation {{ userDisable(id: "{user}") {{ id }} }}', admin)
    edges = auth.ask(TRAIL, admin, first=50)["auditLog"]["edges"]
    told = [(edge["node"]["actor"], edge["node"]["action"], edge["node"]["subject"]) for edge in reversed(edges)]
    subject = f"user:{user}"
    assert [line for line in told if line[2] in (subject, f"token:{token}")] == [
        (ADMIN, "user.create", subject),
        ("unknown", "user.login_failed", subject),
        (email, "user.login", subject),
        (email, "token.create", f"token:{token}"),
        (email, "token.revoke", f"token:{token}"),
        (email, "user.logout", subject),
        (email, "user.login", subject),
        (email, "user.password_change", subject),
        (ADMIN, "user.disable", subject),
    ]
    assert ("operator", "user.create") in [line[:2] for line in told]  # the bootstrap admin


def test_pages(auth: AuthProcess, admin: str) -> None:
    whole = [edge["cursor"] for edge in auth.ask(TRAIL, admin, first=1000)["auditLog"]["edges"]]
    seen, after = [], None
    while True:
        page = auth.ask(TRAIL, admin, first=2, after=after)["auditLog"]
        seen += [edge["cursor"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == whole
    assert auth.refusal(TRAIL, admin, first=1001) == "INVALID_DATA"
    assert auth.refusal(TRAIL, admin, first=1, after="x") == "INVALID_DATA"


def test_only_for_admins(auth: AuthProcess, member: str) -> None:
    assert auth.refusal(TRAIL, auth.login(member), first=1) == "FORBIDDEN"
    assert auth.refusal(TRAIL, None, first=1) == "UNAUTHENTICATED"
