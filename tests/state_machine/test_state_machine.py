"""The promises hold on the real SQL, whatever is done in whatever order. Reproduce: the note of the failure says how."""

from collections.abc import Callable, Iterator

import pytest

from tests.state_machine.campaign import CAMPAIGN, EXAMPLES, run
from tests.state_machine.world import World, migrated


@pytest.fixture
def world(clone: Callable[[str], str]) -> Iterator[World]:
    dsn = clone("template1")
    migrated(dsn)
    world = World(dsn)
    yield world
    world.close()


def test_the_promises_hold_whatever_is_done(world: World) -> None:
    run(world, seed=0, examples=EXAMPLES)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_promises_hold_in_a_thousand_runs(world: World) -> None:
    run(world, seed=1, examples=CAMPAIGN)
