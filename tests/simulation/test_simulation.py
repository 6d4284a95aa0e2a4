"""Every promise holds under every seed of CI's tier, and none holds by chance: each mechanism is missed when it is gone."""

import pytest

from tests.simulation.campaign import campaign, hunt
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import simulate

#: Of every run of the tests, and of CI's; two cores take a minute for the latter.
FEW, SEEDS = 1_000, 20_000


def test_the_promises_hold_under_the_first_seeds() -> None:
    found = campaign(range(FEW))
    assert found.broken == []
    assert found.seeds == FEW


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_every_promise_holds_under_every_seed() -> None:
    found = campaign(range(SEEDS))
    print(found.summary())
    assert found.broken == []
    assert found.seeds == SEEDS
    assert set(found.ended) == {"SUCCEEDED", "PARTIAL", "FAILED", "CANCELED"}


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_every_mechanism_is_missed_when_it_is_gone() -> None:
    caught = hunt(MUTANTS)
    for name, finding in caught.items():
        print(f"{name}: {finding or 'SURVIVED'}")
    assert [name for name, finding in caught.items() if finding is None] == []


def test_a_seed_is_the_same_campaign_every_time() -> None:
    assert [simulate(seed) for seed in range(20)] == [simulate(seed) for seed in range(20)]
