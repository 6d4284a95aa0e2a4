"""How often one may ask: a bucket for each account and each address, on each replica; a backstop, not a price list."""

import time
from collections import OrderedDict
from collections.abc import Callable

from jobber.errors import RateLimited

#: Seconds' worth that may come at once: people and programs come in bursts.
BURST = 2.0
#: Buckets remembered; one that is forgotten is full again.
MAX_BUCKETS = 20_000


class Rates:
    """Counts requests. 0 is no limit."""

    def __init__(self, *, per_account: float, per_address: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_account = per_account
        self._per_address = per_address
        self._clock = clock
        #: What is left in the bucket, and when that was so.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, account: str | None, address: str) -> None:
        """Count a request of the account; of the address when nobody is known behind it yet.

        Raises RateLimited.
        """
        rate = self._per_account if account else self._per_address
        key = f"account {account}" if account else f"address {address}"
        if not rate or (not account and not address):
            return
        now = self._clock()
        left, then = self._buckets.pop(key, (rate * BURST, now))
        left = min(rate * BURST, left + (now - then) * rate)
        self._buckets[key] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if left < 1:
            seconds = max(1, round((1 - left) / rate))
            raise RateLimited("Too many requests; slow down.", retry_after=seconds)
