"""No promise holds by chance: each mechanism of the SQL is missed when it is gone."""

from collections.abc import Callable, Iterator

import pytest

from tests.state_machine.mutants import FEW, MUTANTS, hunt
from tests.state_machine.world import World, migrated


@pytest.fixture
def world(clone: Callable[[str], str]) -> Iterator[World]:
    dsn = clone("template1")
    migrated(dsn)
    world = World(dsn)
    yield world
    world.close()


def test_the_mechanisms_that_matter_most_are_missed(world: World) -> None:
    assert [name for name in FEW if hunt(world, name) is None] == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_mechanism_is_missed_when_it_is_gone(world: World) -> None:
    caught = {name: hunt(world, name) for name in MUTANTS}
    for name, finding in caught.items():
        print(f"{name}: {finding or 'SURVIVED'}")
    assert [name for name, finding in caught.items() if finding is None] == []
