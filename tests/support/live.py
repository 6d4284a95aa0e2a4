"""Subscriptions from outside, over server-sent events, in a thread of their own."""

import contextlib
import json
import queue
import socket
import threading
from typing import Any

import httpx

PROGRESS = "subscription($id: ID!, $after: Long) { jobProgress(id: $id, afterSeq: $after) { id state progress { seq } } }"


class Live:
    """One running subscription: its events, as they come."""

    def __init__(self, jobs_url: str, token: str | None, query: str, **variables: Any) -> None:
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._http = httpx.Client(timeout=60, trust_env=False)
        headers = {"accept": "text/event-stream"} | ({"authorization": f"Bearer {token}"} if token else {})
        request = self._http.build_request("POST", jobs_url, json={"query": query, "variables": variables}, headers=headers)
        self.response = self._http.send(request, stream=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next(self, timeout: float = 30) -> dict[str, Any] | None:
        """The next event's GraphQL answer; None once the subscription is complete."""
        return self.events.get(timeout=timeout)

    def rest(self) -> list[dict[str, Any]]:
        """All answers until it is complete."""
        return list(iter(self.next, None))

    def close(self) -> None:
        """Go away, in the middle of it."""
        with contextlib.suppress(OSError):
            self.response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._http.close()

    def _read(self) -> None:
        with contextlib.suppress(httpx.TransportError):
            self._take()
        self.events.put(None)

    def _take(self) -> None:
        if "text/event-stream" not in self.response.headers["content-type"]:
            self.events.put(json.loads(self.response.read()))
            return
        kind = ""
        for line in self.response.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind == "next":
                self.events.put(json.loads(line.removeprefix("data: ")))
            elif kind == "complete":
                return
