"""Wall clocks that are hours apart, and jump: only the database's clock decides what becomes of a job (I14)."""

import json
import os
import random
import signal
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support import clocks
from tests.support import system as running
from tests.support.campaign import change, ended, expect_exact, expect_nothing_left, load, persist, submit, write
from tests.support.system import System, until

ROWS = 2_000
CLOCKS = {
    **{"executor": "+3h", "executor-2": "-2h"},
    **{"jobs": "-1h", "jobs-2": "+4h"},
    **{"products": "+1h", "products-2": "-3h"},
    "auth": "+2h",
}
#: Where they jump to, in mid-load: back, as if what was to be in a moment were to be in hours, and forth.
BACK = {"executor": "-3h", "executor-2": "-6h", "jobs-2": "-2h", "products": "-4h"}
FORTH = {"executor": "+3h", "jobs": "+4h", "products-2": "+3h"}
REPLICAS = ("--executors", "2", "--jobs", "2", "--products", "2")


def tell(folder: Path, offsets: Mapping[str, str]) -> None:
    """Set the clocks."""
    for name, offset in offsets.items():
        clocks.tell(folder / name, offset)


def hours(system: System, name: str) -> int:
    """By how much the clock of a service was wrong when it was ready last."""
    log = system.folder / "logs" / f"{name}.log"
    ready = [line for line in log.read_text().splitlines() if '"action":"ready"' in line]
    # The log's file was written to at about that time, by the true clock.
    seconds = (datetime.fromisoformat(json.loads(ready[-1])["time"]) - datetime.now(UTC)).total_seconds()
    return round(seconds / 3600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "clocks"
    made.mkdir()
    tell(made, CLOCKS)
    return made


@pytest.fixture
def skewed(tmp_path: Path, folder: Path) -> Iterator[System]:
    program = (sys.executable, "-P", "-m", "tests.support.skewed_up", str(folder), "up")
    environment = {"JOBBER_BATCH_ROWS": "100", "JOBBER_JOB_MODULES": "tests.support.jobtypes"}
    system = running.start(tmp_path / "data", *REPLICAS, environment=environment, program=program)
    yield system
    assert system.stop() == 0, system.said()


@pytest.mark.campaign
@pytest.mark.timeout(240)
def test_clocks_that_are_hours_apart_change_nothing(skewed: System, folder: Path, tmp_path: Path) -> None:
    system = skewed
    assert {name: hours(system, name) for name in CLOCKS} == {name: int(offset[:-1]) for name, offset in CLOCKS.items()}
    # Nobody is killed: nobody waits for hours, and leases are not lost. By clocks that are hours apart every one would be; a
    # machine that has no time for an executor may cost one.
    undisturbed = load(system, tmp_path / "undisturbed.csv", 3 * ROWS, "Slow")
    until(lambda: persist(lambda: system.client.job(undisturbed)).loaded > 0, what="the first batch")
    tell(folder, BACK)
    expect_exact(system, ended(system.client, undisturbed), 3 * ROWS)
    [(begun, batches)] = system.rows("SELECT sum(attempts), count(*) FROM jobs.batches WHERE job_id = %s", undisturbed)
    assert begun < batches * 1.5
    # Killed and jumping: none is held for ever.
    chance = random.Random(14)
    stored = persist(lambda: system.client.upload(write(tmp_path / "many.csv", 5 * ROWS)))
    whole = {"atomicity": "ALL_OR_NOTHING", "maxErrors": ROWS}
    jobs = [submit(system.client, "LoadProducts", {"uploadId": stored["id"]}, None, options) for options in (None, whole)]
    slow = load(system, tmp_path / "slow.csv", ROWS, "Slow")
    assert change(system.client, "jobPause", slow) == "PAUSED"
    tell(folder, FORTH)
    for role in ("executor", "products", "jobs", "executor"):
        until(lambda role=role: len(system.pids(role)) == 2, what=f"two of {role}")  # type: ignore[misc]
        os.kill(chance.choice(system.pids(role)), signal.SIGKILL)
    assert change(system.client, "jobResume", slow) != "PAUSED"
    for job_id in jobs:
        expect_exact(system, ended(system.client, job_id), 5 * ROWS)
    expect_exact(system, ended(system.client, slow), ROWS)
    expect_nothing_left(system)
