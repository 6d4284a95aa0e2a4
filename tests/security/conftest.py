"""One real auth service a module, and what its tests ask again and again."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.support.auth import PASSWORD, AuthProcess, auth_process

CREATE = "mutation($i: CreateUserInput!) { createUser(input: $i) { id } }"


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


@pytest.fixture
def member(auth: AuthProcess, admin: str) -> str:
    """E-mail of a new user, whose password is PASSWORD."""
    email = f"{uuid.uuid4().hex}@example.com"
    assert auth.ask(CREATE, admin, i={"email": email, "password": PASSWORD})["createUser"]["id"]
    return email
