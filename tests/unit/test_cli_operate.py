"""`jobber healthy` and `jobber migrate`, as operators call them."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from jobber.cli.app import app


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 5)])
def test_healthy_is_what_the_service_says_of_itself(status: int, code: int) -> None:
    asked: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = CliRunner().invoke(app, ["healthy"], env={"JOBBER_HTTP_PORT": str(server.server_port)})
        thread.join()
    assert done.exit_code == code
    assert asked == ["/health/ready"]


def test_nobody_there_is_not_healthy() -> None:
    assert CliRunner().invoke(app, ["healthy", "--port", "1"]).exit_code == 5


def test_migrate_wants_a_database() -> None:
    done = CliRunner().invoke(app, ["migrate"], env={"DATABASE_URL": ""})
    assert done.exit_code == 1
    assert "DATABASE_URL" in done.output
