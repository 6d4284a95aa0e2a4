"""Health and metrics of an executor, over HTTP. It has no event loop, and asks for nothing but these three pages."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from jobber.errors import Terminal


def serve_health(host: str, port: int, ready: Callable[[], bool]) -> ThreadingHTTPServer:
    """Serve `/health/live`, `/health/ready` (503 when not) and `/metrics`, in a thread. Raises Terminal for a taken port."""

    class Handler(BaseHTTPRequestHandler):
        """Answers GET."""

        timeout = 15

        def do_GET(self) -> None:
            """One of three pages."""
            if self.path == "/health/live":
                self._answer(200, b'{"live":true}')
            elif self.path == "/health/ready":
                good = ready()
                self._answer(200 if good else 503, b'{"ready":true}' if good else b'{"ready":false}')
            elif self.path == "/metrics":
                self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
            else:
                self._answer(404, b'{"code":"NOT_FOUND"}')

        def log_message(self, *parts: object) -> None:
            """No line for every probe."""

        def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as fault:
        raise Terminal(f"Port {port} on {host} cannot be used: {fault.strerror}.") from fault
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
