"""The short tier of the campaigns: every promise holds while processes are killed, frozen and cut off."""

from pathlib import Path

import pytest

from tests.chaos.campaign import run
from tests.chaos.faults import schedule
from tests.chaos.sabotage import MECHANISMS

FAULTS = 40


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("broker", ["embedded"])
def test_every_promise_holds_under_forty_faults(tmp_path_factory: pytest.TempPathFactory, broker: str) -> None:
    folder: Path = tmp_path_factory.mktemp("chaos")
    verdict = run(20261124, FAULTS, broker=broker, folder=folder, tell=print)
    for line in verdict.lines():
        print(line)
    assert verdict.broken == {}
    # Small disks cannot be mounted everywhere; all else must have been tried.
    assert [what for what in verdict.missing if "full disk" not in what] == []
    assert verdict.kills >= FAULTS * 0.9
    assert verdict.jobs.total() > 20


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_missing_ledger_is_missed(tmp_path_factory: pytest.TempPathFactory) -> None:
    verdict = run(1, 30, broker="embedded", folder=tmp_path_factory.mktemp("chaos"), tell=print, without="ledger")
    assert MECHANISMS["ledger"][0] in verdict.broken, "\n".join(verdict.lines())


def test_nine_of_ten_faults_are_kills_and_a_seed_is_a_schedule() -> None:
    for seed in range(50):
        faults = schedule(seed, 200, pulsar=True)
        assert len(faults) == 200
        assert sum(fault.kind == "kill" for fault in faults) >= 180
        assert sum(fault.target == "broker" for fault in faults) >= 8
        assert faults == schedule(seed, 200, pulsar=True)
        assert faults != schedule(seed + 1, 200, pulsar=True)
