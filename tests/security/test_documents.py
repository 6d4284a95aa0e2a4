"""Documents and texts that are refused before anything of them runs; every limit is a setting."""

from typing import Any

import httpx
import pytest

from api.graphql.documents import Documents, Refused
from api.graphql.limits import Limits, TooMuch
from api.jobs.graphql_door import schema
from jobber.settings import DoorSettings
from tests.support.auth import ADMIN, AuthProcess

SECRET = "pR3v2Yk0nq8xJtLwZs5mB7cDfGhA9eUiOaWnQy4K"
LOGIN = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { token } }"
#: For each setting a value, and a document that it refuses and the default does not.
SETTINGS: dict[str, tuple[int, str]] = {
    "graphql_query_chars": (100, "{ me { id } } #" + "x" * 100),
    "graphql_tokens": (100, "{" + " ".join(f"a{n}: __typename" for n in range(40)) + "}"),
    "graphql_depth": (3, "{ jobs { parent { parent { id } } } }"),
    "graphql_aliases": (0, "{ a: __typename }"),
    "graphql_fields": (3, "{ me { id email role } }"),
    "graphql_cost": (999, "{ jobsConnection(first: 500) { edges { cursor } } }"),
    "graphql_mutations": (1, 'mutation { a: jobPause(id: "x") { replayed } b: jobPause(id: "x") { replayed } }'),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_limits_are_settings(name: str) -> None:
    from graphql import OperationDefinitionNode

    from api.graphql.limits import weigh

    value, text = SETTINGS[name]

    def refused(**more: Any) -> bool:
        limits = Limits.of(DoorSettings.model_validate({"jwt_secret": SECRET, **more}))
        try:
            document = Documents(schema.graphql_schema, limits, introspection=False).get(text)
        except Refused as refusal:
            return isinstance(refusal.errors[0], TooMuch)
        node = document.operation(None).node
        assert isinstance(node, OperationDefinitionNode)
        return weigh(schema.graphql_schema, node, document.fragments, {}) > limits.cost

    assert not refused()
    assert refused(**{name: value})


@pytest.mark.parametrize("as_variable", [True, False])
def test_a_megabyte_for_a_password_is_not_looked_at(auth: AuthProcess, as_variable: bool) -> None:
    # A literal of a megabyte would be refused for the length of the query already.
    password = "x" * (1_000_000 if as_variable else 5_000)
    if as_variable:
        response = auth.post(LOGIN, variables={"e": ADMIN, "p": password})
    else:
        response = auth.post(f'mutation {{ login(input: {{email: "{ADMIN}", password: "{password}"}}) {{ token }} }}')
    assert response.status_code == 400
    assert "data" not in response.json()
    assert not [line for line in auth.log if line["action"] == "login_failed"]


def test_sixty_megabytes_are_not_read(auth: AuthProcess) -> None:
    body = b'{"query": "' + b"#" * 60_000_000 + b'"}'
    try:
        response = httpx.post(f"{auth.url}/graphql", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 413
    except httpx.WriteError:
        pass  # The service has answered and closed before all was sent.


@pytest.mark.parametrize(("kind", "status"), [("application/x-www-form-urlencoded", 415), ("text/plain", 415)])
def test_mutations_only_as_json(auth: AuthProcess, kind: str, status: int) -> None:
    url = f"{auth.url}/graphql"
    assert httpx.post(url, content="query=mutation+{logout}", headers={"content-type": kind}).status_code == status
    assert httpx.get(url, params={"query": "mutation { logout }"}).status_code == 405
