"""JWT_SECRET: what signs every token is not guessed, not forgotten and not copied from an example."""

import pytest
from pydantic import ValidationError

from jobber.settings import ServiceSettings
from tests.support.auth import auth_process

GOOD = "pR3v2Yk0nq8xJtLwZs5mB7cDfGhA9eUiOaWnQy4K"
WEAK = [
    "x" * 64,
    "ab" * 32,
    "change-me-change-me-change-me-change-me",
    "CHANGE_ME_please_0123456789abcdefghij",
    "your-256-bit-secret-your-256-bit-secret",
    "my-super-secret-key-for-signing-all-tokens",
    "this-is-an-example-secret-of-enough-bytes",
]


@pytest.mark.parametrize("secret", WEAK)
@pytest.mark.parametrize(("mode", "host"), [("production", "127.0.0.1"), ("development", "0.0.0.0")])
def test_an_example_signs_nothing_where_others_come_by(secret: str, mode: str, host: str) -> None:
    with pytest.raises(ValidationError, match="JWT_SECRET looks like an example"):
        ServiceSettings.model_validate({"jwt_secret": secret, "mode": mode, "host": host})
    # On this machine alone it does.
    assert ServiceSettings.model_validate({"jwt_secret": secret, "mode": "development"})
    assert ServiceSettings.model_validate({"jwt_secret": GOOD, "mode": mode, "host": host})


def test_a_short_one_signs_nothing_anywhere() -> None:
    with pytest.raises(ValidationError, match="JWT_SECRET has 31 bytes and needs at least 32"):
        ServiceSettings.model_validate({"jwt_secret": GOOD[:31]})


@pytest.mark.parametrize(
    ("secret", "said"),
    [(None, "JWT_SECRET is not set in the environment"), (WEAK[2], "JWT_SECRET looks like an example"), ("s" * 20, "20 bytes")],
)
def test_the_service_refuses_to_start_and_says_why(secret: str | None, said: str) -> None:
    with auth_process("postgresql://x@127.0.0.1:1/x", JWT_SECRET=secret, JOBBER_MODE="production") as service:
        assert service.process.wait(20) == 1
        assert said in service.wait_for("failed")["message"]
        assert secret is None or secret not in str(service.log)
