"""The auth service as a process: start, wait, stop, and what it says when it cannot."""

import http.client
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from jobber.local.ports import free_port
from jobber.local.postgres import EmbeddedPostgres
from tests.support.auth import ADMIN, PASSWORD, AuthProcess, auth_process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_well(database: str, number: signal.Signals) -> None:
    with auth_process(database) as service:
        service.ready()
        assert httpx.get(f"{service.url}/health/live").json() == {"live": True}
        assert httpx.get(f"{service.url}/health/ready").json() == {"ready": True}
        assert "python_info" in httpx.get(f"{service.url}/metrics").text
        service.process.send_signal(number)
        assert service.process.wait(10) == 0
        service.stop()
        assert service.log[-1]["action"] == "stopped"


def test_first_it_is_not_ready_and_serves_on_and_then_it_ends(database: str) -> None:
    """Load balancers need the time between the two."""
    with auth_process(database, JOBBER_DRAIN_DELAY="2") as service:
        service.ready()
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("stopping")
        assert httpx.get(f"{service.url}/health/ready").status_code == 503
        assert service.login()
        assert service.process.poll() is None
        assert service.process.wait(10) == 0
        service.stop()
        assert service.log[-1]["action"] == "stopped"


def test_a_second_signal_ends_the_delay(database: str) -> None:
    with auth_process(database, JOBBER_DRAIN_DELAY="60") as service:
        service.ready()
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("stopping")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(10) == 0


def test_waits_for_the_database_and_says_so(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", free_port())
    server.prepare()
    with auth_process(server.dsn) as service:
        said = service.wait_for("waiting")
        assert f"127.0.0.1:{server.port}" in said["what"]
        password = (tmp_path / "pg" / "password").read_text()
        server.start()
        try:
            service.ready()
            assert service.login()
            assert password not in str(service.log)
            # A database that goes away and comes back.
            server.kill()
            answer = service.post("{ users { id } }", "x.y.z").json()
            assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
            failed = service.post(f'mutation {{ login(input: {{email: "{ADMIN}", password: "{PASSWORD}"}}) {{ token }} }}')
            assert failed.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
            assert httpx.get(f"{service.url}/health/ready", timeout=10).status_code == 503
            server.start()
            deadline = time.monotonic() + 15
            while httpx.get(f"{service.url}/health/ready", timeout=10).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert service.login()
        finally:
            service.stop()
            server.stop()


def test_stops_while_it_waits() -> None:
    with auth_process(f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none") as service:
        service.wait_for("waiting")
        assert service.stop() == 0


def test_gives_up_waiting_with_a_reason() -> None:
    dsn = f"postgresql://nobody:canary@127.0.0.1:{free_port()}/none"
    with auth_process(dsn, JOBBER_START_TIMEOUT="1") as service:
        assert service.process.wait(20) == 1
        service.stop()
        assert service.log[-1]["action"] == "failed"
        assert "did not answer within 1 s" in service.log[-1]["message"]
        assert "canary" not in str(service.log)


@pytest.mark.parametrize("setting", ["JOBBER_HTTP_PORT", "JOBBER_GRPC_PORT"])
def test_taken_port(clone: Callable[[str], str], setting: str) -> None:
    with auth_process(clone("template1")) as first:
        first.ready()
        port = first.http_port if setting == "JOBBER_HTTP_PORT" else first.grpc_port
        with auth_process(clone("template1"), **{setting: str(port)}) as second:
            assert second.process.wait(20) == 1
            second.stop()
            assert second.log[-1]["message"] == f"Port {port} on 127.0.0.1 cannot be used: address already in use."


def test_wrong_settings_are_named_without_their_values(database: str) -> None:
    with auth_process(database, JWT_SECRET="canary", JOBBER_HTTP_PORT="many") as service:
        assert service.process.wait(20) == 1
        service.stop()
        text = str(service.log)
        assert "JWT_SECRET has 6 bytes and needs at least 32" in text
        assert "http_port" in text
        assert "canary" not in text


def test_replicas_that_start_at_once_make_one_admin(database: str) -> None:
    services = [AuthProcess(database) for _ in range(3)]
    try:
        for service in services:
            service.ready()
        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT count(*) FROM auth.users").fetchone() == (1,)
        assert sum(line["action"] == "admin_made" for service in services for line in service.log) == 1
        token = services[0].login()
        assert services[1].post("{ me { email } }", token).json()["data"]["me"]["email"] == ADMIN
    finally:
        for service in services:
            service.stop()


def test_no_password_no_admin(database: str) -> None:
    with auth_process(database, JOBBER_ADMIN_PASSWORD=None) as service:
        service.ready()
        assert "no_users" in [line["action"] for line in service.log]
    with auth_process(database, JOBBER_ADMIN_EMAIL="boss@example.com") as service:
        assert service.ready().login("boss@example.com")


def test_production_refuses_a_weak_first_password(database: str) -> None:
    with auth_process(database, JOBBER_MODE="production", JOBBER_ADMIN_PASSWORD="password123") as service:
        assert service.process.wait(20) == 1
        service.stop()
        assert "JOBBER_ADMIN_PASSWORD" in service.log[-1]["message"]
        assert "password123" not in str(service.log)


def test_restart_keeps_sessions(database: str) -> None:
    with auth_process(database) as service:
        token = service.ready().login()
        service.process.kill()
        service.process.wait(10)
    with auth_process(database, JOBBER_ADMIN_PASSWORD="another password") as again:
        assert again.ready().post("{ me { email } }", token).json()["data"]["me"]["email"] == ADMIN
        assert again.login()  # The first admin's password is not set anew.


def test_requests_in_flight_are_finished(database: str) -> None:
    query = f'mutation {{ login(input: {{email: "{ADMIN}", password: "{PASSWORD}"}}) {{ token }} }}'
    body = json.dumps({"query": query})
    with auth_process(database) as service:
        service.ready()
        connections = [http.client.HTTPConnection("127.0.0.1", service.http_port, timeout=10) for _ in range(10)]
        for connection in connections:
            connection.request("POST", "/graphql", body, {"content-type": "application/json"})
        # A login takes 40 ms of a core: the last ones are far from done.
        time.sleep(0.1)
        service.process.send_signal(signal.SIGTERM)
        answers = [json.loads(connection.getresponse().read()) for connection in connections]
        assert all(answer["data"]["login"]["token"] for answer in answers)
        assert service.process.wait(10) == 0
        for connection in connections:
            connection.close()
