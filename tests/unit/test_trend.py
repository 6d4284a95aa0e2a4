"""The soak's verdict: what grows is told from what only wavers."""

import random

import pytest

from tests.chaos.trend import CONNECTIONS, MEMORY, trend

MIB = 1 << 20
#: Twenty minutes, a sample each 5 s.
TIMES = [5.0 * n for n in range(240)]


def test_what_wavers_is_flat() -> None:
    dice = random.Random(1)
    found = trend([(at, 90 * MIB + dice.uniform(-20, 20) * MIB) for at in TIMES], MEMORY)
    assert found.flat
    assert abs(found.growth) < 4 * MIB


def test_peaks_do_not_bend_the_line() -> None:
    # The last minutes hold some large batches: a mean, or least squares, would take them for growth.
    series = [(at, (900 if n % 7 == 0 and n > 180 else 90) * MIB) for n, at in enumerate(TIMES)]
    found = trend(series, MEMORY)
    assert found.flat
    assert found.growth == 0
    assert found.most == 900 * MIB


@pytest.mark.parametrize(("hourly", "noise"), [(80, 5), (600, 60)])
def test_a_leak_is_seen_through_noise(hourly: float, noise: float) -> None:
    dice = random.Random(2)
    series = [(at, (90 + hourly * at / 3600 + dice.uniform(-noise, noise)) * MIB) for at in TIMES]
    found = trend(series, MEMORY)
    assert not found.flat
    assert found.hourly == pytest.approx(hourly * MIB, rel=0.2)


def test_a_connection_lost_every_few_minutes_is_seen() -> None:
    assert not trend([(at, 8 + at // 240) for at in TIMES], CONNECTIONS).flat
    assert trend([(at, 8 + (at // 240) % 2) for at in TIMES], CONNECTIONS).flat


def test_what_becomes_less_is_flat() -> None:
    found = trend([(at, (500 - at / 10) * MIB) for at in TIMES], MEMORY)
    assert found.flat
    assert found.growth < 0
