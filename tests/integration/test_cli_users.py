"""`jobber users`: straight in the database, also before any service has run."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.auth import PASSWORD, AuthProcess, auth_process


def users(dsn: str, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JOBBER_")}
    return subprocess.run(
        [sys.executable, "-m", "jobber.cli", "users", *arguments],
        input=password + "\n",
        env=environment | ({"DATABASE_URL": dsn} if dsn else {}),
        capture_output=True,
        text=True,
        timeout=60,
    )


def works(service: AuthProcess, token: str) -> bool:
    return service.post("{ me { id } }", token).status_code == 200


def test_the_first_admin_and_everybody_after(database: str) -> None:
    made = users(database, "add", "first@example.com", "--role", "ADMIN", password=PASSWORD)
    assert made.returncode == 0, made.stderr
    assert PASSWORD not in made.stdout + made.stderr
    assert users(database, "add", "eye@example.com", "--role", "VIEWER", password=PASSWORD).returncode == 0
    assert users(database, "add", "weak@example.com", password="password123").returncode == 1
    assert users(database, "add", "FIRST@example.com", password=PASSWORD).returncode == 1
    with auth_process(database, JOBBER_ADMIN_PASSWORD=None) as service:
        service.ready()
        first, eye = service.login("first@example.com"), service.login("eye@example.com")
        roles = {user["email"]: user["role"] for user in service.ask("{ users { email role } }", first)["users"]}
        assert roles == {"first@example.com": "ADMIN", "eye@example.com": "VIEWER"}
        assert users(database, "passwd", "first@example.com", password="another good one").returncode == 0
        assert not works(service, first)
        assert service.login("first@example.com", "another good one")
        assert users(database, "disable", "eye@example.com").returncode == 0
        assert not works(service, eye)
        listed = users(database, "list").stdout
        assert "eye@example.com  (disabled)" in listed
        assert "ADMIN" in listed
    assert users(database, "disable", "nobody@example.com").returncode == 4


def test_without_a_database_it_says_so(tmp_path: Path) -> None:
    refused = users("", "list", "--data-dir", str(tmp_path))
    assert refused.returncode == 4
    assert "DATABASE_URL is not set, and no `jobber up` is running" in refused.stderr
