"""Partitions of Pulsar's topics, so that several brokers share one: made by the admin API when a topic is first used.

A topic that is there without partitions stays as it is: to partition it would lose what it holds. One with fewer gets more;
consumers notice within a minute.
"""

import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from jobber.errors import Unavailable

#: Seconds for one call.
DEADLINE = 5.0
#: No proxy of the environment stands between us and the broker.
_PLAIN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(slots=True)
class Partitions:
    """How many each topic has, and who makes them."""

    count: int = 0
    admin_url: str = ""
    _made: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def make(self, topic: str) -> None:
        """Give `persistent://tenant/namespace/name` its partitions, unless it has them. Blocking. Raises Unavailable."""
        if not self.count or topic in self._made:
            return
        with self._lock:
            path = f"{self.admin_url.rstrip('/')}/admin/v2/{topic.replace('://', '/')}/partitions"
            # 409: it is there already, with or without partitions.
            if self._ask("PUT", path) == 409:
                # 409: it has none and cannot get any; 412 and 422: it has as many already.
                self._ask("POST", path)
            self._made.add(topic)

    def _ask(self, method: str, path: str) -> int:
        request = urllib.request.Request(path, str(self.count).encode(), {"content-type": "application/json"}, method=method)
        try:
            with _PLAIN.open(request, timeout=DEADLINE) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as fault:
            with fault:
                if fault.code < 500 and fault.code not in (401, 403, 404):
                    return fault.code
                raise Unavailable(f"Pulsar's admin API does not make partitions of {topic_of(path)}: {fault.code}.") from fault
        except OSError as fault:
            raise Unavailable(f"Pulsar's admin API does not answer: {fault}.") from fault


def topic_of(path: str) -> str:
    """The topic's name in an address of the admin API."""
    return path.rpartition("/")[0].rpartition("/")[2]
