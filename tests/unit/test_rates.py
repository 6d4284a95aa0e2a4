"""How often one may ask."""

import contextlib

import pytest

from api import rates as module
from api.rates import Rates
from jobber.errors import RateLimited


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, account: str | None, address: str, times: int) -> int:
    """How many of so many requests are let in."""
    count = 0
    for _ in range(times):
        with contextlib.suppress(RateLimited):
            rates.take(account, address)
            count += 1
    return count


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(per_account=10, per_address=3, clock=clock)
    assert taken(rates, "a", "1.1.1.1", 100) == 20
    assert taken(rates, "b", "1.1.1.1", 100) == 20  # everybody has a bucket
    assert taken(rates, None, "1.1.1.1", 100) == 6
    clock.now += 1
    assert taken(rates, "a", "1.1.1.1", 100) == 10
    clock.now += 1000
    assert taken(rates, "a", "1.1.1.1", 100) == 20


def test_zero_is_no_limit() -> None:
    assert taken(Rates(per_account=0, per_address=0), "a", "1.1.1.1", 1000) == 1000


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BUCKETS", 5)
    rates = Rates(per_account=1, per_address=1)
    for number in range(20):
        rates.take(None, f"10.0.0.{number}")
    assert len(rates._buckets) == 5
