"""Toxiproxy (github.com/Shopify/toxiproxy): TCP proxies that cut, slow, slice and reset what goes through them."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from jobber.errors import Unavailable
from jobber.local.child import ended_by_parent
from jobber.local.ports import free_port

VERSION = "v2.12.0"
HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jobber-toxiproxy" / VERSION


def executable() -> Path:
    """The server, built with Go on first use. Raises Unavailable, saying what is missing."""
    built = HOME / "server"
    if not built.exists():
        if shutil.which("go") is None:
            raise Unavailable("Network faults need toxiproxy, which is built with Go, and there is no `go` here.")
        HOME.mkdir(parents=True, exist_ok=True)
        command = ["go", "install", f"github.com/Shopify/toxiproxy/v2/cmd/server@{VERSION}"]
        done = subprocess.run(command, env={**os.environ, "GOBIN": str(HOME)}, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"toxiproxy could not be built: {done.stderr[-500:]}")
    return built


class Toxiproxy:
    """A running server; `close` ends it and all connections through it."""

    def __init__(self, log: Path) -> None:
        import signal

        self.port = free_port()
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [str(executable()), "-host", "127.0.0.1", "-port", str(self.port)],
                stdout=sink,
                stderr=sink,
                preexec_fn=ended_by_parent(signal.SIGKILL),
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise Unavailable("toxiproxy did not start") from None
                time.sleep(0.05)

    @property
    def url(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def proxy(api: str, name: str, upstream: str) -> str:
    """The address of a new proxy to `upstream`."""
    listen = f"127.0.0.1:{free_port()}"
    call(api, "POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream, "enabled": True})
    return listen


def proxies(api: str) -> list[str]:
    """Names of all proxies."""
    return sorted(call(api, "GET", "/proxies"))


def switch(api: str, name: str, *, on: bool) -> None:
    """Let connections through, or cut them and refuse new ones."""
    call(api, "POST", f"/proxies/{name}", {"enabled": on})


def poison(api: str, name: str, kind: str, attributes: dict[str, int], stream: str = "downstream") -> None:
    """Add a toxic."""
    toxic = {"name": f"{kind}-{stream}", "type": kind, "stream": stream, "attributes": attributes}
    call(api, "POST", f"/proxies/{name}/toxics", toxic)


def heal(api: str) -> None:
    """All proxies on, no toxic left."""
    call(api, "POST", "/reset")


def call(api: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the API. Raises Unavailable."""
    request = urllib.request.Request(
        f"{api}{path}",
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            text = answer.read()
    except urllib.error.URLError as fault:
        raise Unavailable(f"toxiproxy: {method} {path}: {fault}") from fault
    return json.loads(text) if text else None
