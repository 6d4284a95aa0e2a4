"""How many subscriptions are open: each costs memory and a share of every change, so that one caller gets a bounded number."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from jobber.errors import QuotaExceeded


class Following:
    """Counts the open subscriptions of this replica, by caller."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, caller_id: str) -> Iterator[None]:
        """Count one while the block runs.

        Raises QuotaExceeded.
        """
        if self._open[caller_id] >= self._most:
            raise QuotaExceeded(f"You have {self._most} open subscriptions already; end one first.")
        self._open[caller_id] += 1
        try:
            yield
        finally:
            self._open[caller_id] -= 1
            if not self._open[caller_id]:
                del self._open[caller_id]
