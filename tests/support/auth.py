"""A real auth service for tests: a process of its own, on free ports and a database of its own."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from jobber.credentials import service_token

SECRET = "a-secret-of-the-tests-with-more-than-32-bytes"
ADMIN = "admin@jobber.local"
PASSWORD = "correct horse battery"
BEARER = f"Bearer {service_token(SECRET)}"


class AuthProcess:
    """The service's process, with what it logged."""

    def __init__(self, dsn: str, **settings: str | None) -> None:
        wanted = {
            **{key: value for key, value in os.environ.items() if not key.startswith("JOBBER_")},
            "DATABASE_URL": dsn,
            "JWT_SECRET": SECRET,
            "JOBBER_ADMIN_PASSWORD": PASSWORD,
            "JOBBER_HTTP_PORT": "0",
            "JOBBER_GRPC_PORT": "0",
            "JOBBER_GRACE": "5",
            **settings,
        }
        environment = {key: value for key, value in wanted.items() if value is not None}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.auth.main"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.log: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.http_port = self.grpc_port = 0

    def wait_for(self, action: str, timeout: float = 30) -> dict[str, Any]:
        """The next logged event of that action."""
        while True:
            line = self._lines.get(timeout=timeout)
            if line["action"] == action:
                return line

    def ready(self) -> "AuthProcess":
        """Wait until it serves."""
        line = self.wait_for("ready")
        self.http_port, self.grpc_port = line["http_port"], line["grpc_port"]
        return self

    @property
    def url(self) -> str:
        """Where HTTP is."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        """Where gRPC is."""
        return f"127.0.0.1:{self.grpc_port}"

    def post(self, query: str, token: str | None = None, **more: Any) -> httpx.Response:
        """One GraphQL request."""
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        headers.update(more.pop("headers", {}))
        return httpx.post(f"{self.url}/graphql", json={"query": query, **more}, headers=headers, timeout=20)

    def ask(self, query: str, token: str | None = None, **variables: Any) -> dict[str, Any]:
        """The data of the answer."""
        body = self.post(query, token, variables=variables).json()
        assert "errors" not in body, body
        data: dict[str, Any] = body["data"]
        return data

    def refusal(self, query: str, token: str | None = None, **variables: Any) -> str:
        """The code of the answer's first error."""
        body = self.post(query, token, variables=variables).json()
        return str(body["errors"][0]["extensions"]["code"])

    def login(self, email: str = ADMIN, password: str = PASSWORD) -> str:
        """A token."""
        query = "mutation($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { token } }"
        answer = self.post(query, variables={"e": email, "p": password}).json()
        return str(answer["data"]["login"]["token"])

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self._reader.join(5)
        for stream in (self.process.stderr, self.process.stdout):
            if stream:
                stream.close()
        return code

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            if not line.startswith("{"):
                continue  # gRPC's core speaks for itself when a handshake fails.
            event = json.loads(line)
            self.log.append(event)
            self._lines.put(event)


@contextmanager
def auth_process(dsn: str, **settings: str | None) -> Iterator[AuthProcess]:
    """A service that is gone afterwards."""
    service = AuthProcess(dsn, **settings)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
        service.stop()
