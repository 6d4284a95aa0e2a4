"""Guessing passwords: failed logins are counted by account and by address, by all replicas together (ASVS 6.3.1)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from tests.support.auth import ADMIN, PASSWORD, AuthProcess, auth_process

LOGIN = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { token } }"
PER_ACCOUNT, PER_ADDRESS = 3, 8


@pytest.fixture(scope="module")
def dsn(clone: Callable[[str], str]) -> str:
    return clone("template1")


@pytest.fixture(scope="module")
def replicas(dsn: str) -> Iterator[list[AuthProcess]]:
    limits = {
        "JOBBER_LOGIN_FAILURES_PER_ACCOUNT": str(PER_ACCOUNT),
        "JOBBER_LOGIN_FAILURES_PER_ADDRESS": str(PER_ADDRESS),
    }
    # Only the second one is told of a proxy.
    with auth_process(dsn, **limits) as one, auth_process(dsn, **limits, JOBBER_TRUSTED_PROXIES="127.0.0.0/8") as other:
        yield [one.ready(), other.ready()]


@pytest.fixture(autouse=True)
def fresh(replicas: list[AuthProcess], dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM auth.login_failures")


def login(service: AuthProcess, email: str = ADMIN, password: str = "wrong password", **headers: str) -> httpx.Response:
    return service.post(LOGIN, variables={"e": email, "p": password}, headers=headers)


@pytest.mark.parametrize("email", [ADMIN, "nobody@example.com"])
def test_an_account_is_limited_on_all_replicas_and_whether_it_exists_or_not(replicas: list[AuthProcess], email: str) -> None:
    answers = [login(replicas[number % 2], email.upper() if number % 2 else email) for number in range(PER_ACCOUNT + 2)]
    assert [answer.status_code for answer in answers] == [200] * PER_ACCOUNT + [429] * 2
    refused = answers[-1]
    assert 0 < int(refused.headers["retry-after"]) <= 900
    error = refused.json()["errors"][0]
    assert error["extensions"]["code"] == "RATE_LIMITED"
    assert error["message"].startswith("Too many failed logins; try again in")
    # The right password does not help any more, and says nothing.
    assert login(replicas[0], email, PASSWORD).status_code == 429


def test_the_limit_ends_with_its_window(replicas: list[AuthProcess], dsn: str) -> None:
    for _ in range(PER_ACCOUNT + 1):
        login(replicas[0])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE auth.login_failures SET since = since - interval '901 seconds'")
    assert login(replicas[0], password=PASSWORD).json()["data"]["login"]["token"]


def test_who_logs_in_well_is_not_counted(replicas: list[AuthProcess]) -> None:
    for number in range(3 * PER_ADDRESS):
        answer = login(replicas[number % 2], password=PASSWORD)
        assert answer.status_code == 200, answer.text
    for _ in range(PER_ACCOUNT):
        assert login(replicas[0]).status_code == 200
    assert login(replicas[0]).status_code == 429


def test_an_address_is_limited_over_all_accounts(replicas: list[AuthProcess]) -> None:
    answers = [login(replicas[number % 2], f"u{number}@example.com").status_code for number in range(PER_ADDRESS + 2)]
    assert answers == [200] * PER_ADDRESS + [429] * 2


def test_a_forwarded_address_counts_only_from_a_configured_proxy(replicas: list[AuthProcess]) -> None:
    def statuses(service: AuthProcess, network: str, tail: str = "") -> set[int]:
        return {
            login(service, f"{network}{n}@example.com", **{"x-forwarded-for": f"{network}.{n}{tail}"}).status_code
            for n in range(PER_ADDRESS + 1)
        }

    assert 429 in statuses(replicas[0], "203.0.113")
    # The proxy's word is believed: so many addresses, so many counters.
    assert statuses(replicas[1], "198.51.100") == {200}
    # What stands before the proxy's own word is again only a claim: the last address that no proxy of ours has counts.
    assert 429 in statuses(replicas[1], "192.0.2", ", 203.0.113.77")


def test_a_wrong_current_password_counts_too(replicas: list[AuthProcess]) -> None:
    token = replicas[0].login()
    change = 'mutation { passwordChange(current: "wrong password", new: "another good one") }'
    codes = [replicas[0].refusal(change, token) for _ in range(PER_ACCOUNT + 1)]
    assert codes == ["UNAUTHENTICATED"] * PER_ACCOUNT + ["RATE_LIMITED"]


def test_attempts_at_once_do_not_all_find_room(replicas: list[AuthProcess]) -> None:
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda number: login(replicas[number % 2]).status_code, range(12)))
    assert sorted(answers) == [200] * PER_ACCOUNT + [429] * (12 - PER_ACCOUNT)


def test_many_logins_in_one_request_do_not_run(replicas: list[AuthProcess]) -> None:
    aliases = " ".join(f'a{n}: login(input: {{email: "{ADMIN}", password: "wrong {n}"}}) {{ token }}' for n in range(1000))
    refused = replicas[0].post(f"mutation {{ {aliases} }}")
    assert refused.status_code == 400
    assert "data" not in refused.json()
    batch = [{"query": f'mutation {{ login(input: {{email: "{ADMIN}", password: "x"}}) {{ token }} }}'}] * 100
    assert httpx.post(f"{replicas[0].url}/graphql", json=batch).status_code == 400
    # Neither of them was counted: nothing of them ran.
    assert login(replicas[0], password=PASSWORD).status_code == 200
