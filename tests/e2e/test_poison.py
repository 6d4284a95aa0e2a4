"""Records that end whoever reads them, through the whole of Jobber: they are rejected, all others load, nobody is needed."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobber.model import State
from tests.support.system import System, ended, start, until

ROWS = 3000
GUILTY = {17: "kill", 1500: "segfault", 2999: "hang"}


@pytest.fixture
def poisoned(tmp_path: Path) -> Iterator[System]:
    environment = {
        "JOBBER_JOB_MODULES": "tests.support.poison",
        # A step that never returns is to be noticed while the test runs.
        "JOBBER_STALL_SECONDS": "4",
        "JOBBER_ISOLATED_SECONDS": "3",
    }
    system = start(tmp_path / "up", environment=environment)
    yield system
    system.stop()


def names(path: Path, guilty: dict[int, str]) -> Path:
    lines = (f"{guilty.get(row, f'Drop {row}')},1.50\n" for row in range(1, ROWS + 1))
    path.write_text("name,price\n" + "".join(lines))
    return path


@pytest.mark.timeout(240)
def test_poisonous_records_are_rejected_alone(poisoned: System, tmp_path: Path) -> None:
    stored = poisoned.client.upload(names(tmp_path / "some.csv", GUILTY))
    job = ended(poisoned.client, poisoned.client.execute("Poisonous", {"fileName": stored["id"]}), 200)
    assert (job.state, job.total, job.loaded, job.rejected) == (State.PARTIAL, ROWS, ROWS - 3, 3)
    into = io.BytesIO()
    poisoned.client.download(f"/jobs/{job.id}/rejects.ndjson", into)
    found = [json.loads(line) for line in into.getvalue().splitlines()]
    assert {(item["row"], item["code"], item["name"]) for item in found} == {(r, "POISON", n) for r, n in GUILTY.items()}
    rows = {row for row, *_ in poisoned.loaded(job)}
    assert rows == set(range(1, ROWS + 1)) - GUILTY.keys()


@pytest.mark.timeout(240)
def test_who_kills_executors_makes_nobody_poison(poisoned: System, tmp_path: Path) -> None:
    stored = poisoned.client.upload(names(tmp_path / "innocent.csv", {}))
    job = poisoned.client.execute("Poisonous", {"fileName": stored["id"]})
    for _ in range(6):
        if poisoned.client.job(job.id).state.terminal:
            break
        pids = poisoned.pids("executor")
        poisoned.kill("executor")
        until(lambda: bool(poisoned.pids("executor")) and poisoned.pids("executor") != pids, what="the restart")  # noqa: B023
    done = ended(poisoned.client, job, 200)
    assert (done.state, done.loaded, done.rejected) == (State.SUCCEEDED, ROWS, 0)
    assert len(poisoned.loaded(job)) == ROWS


@pytest.mark.timeout(240)
def test_a_poisonous_record_of_a_small_job_is_rejected_alone(poisoned: System) -> None:
    # JSON, in the job's row: other code reads it, and asks Arrow's allocator for its first memory under the limit.
    records = [{"name": name, "price": 1.5} for name in ("kill", "One", "Two", "Three")]
    job = ended(poisoned.client, poisoned.client.execute("Poisonous", records), 100)
    assert (job.state, job.loaded, job.rejected) == (State.PARTIAL, 3, 1)
    assert [row for row, *_ in poisoned.loaded(job)] == [2, 3, 4]
