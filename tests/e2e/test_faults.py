"""Processes killed in the middle of a load: the job ends all the same, each row once."""

from pathlib import Path

import pytest

from jobber.model import State
from tests.support.inputs import write_csv
from tests.support.system import System, ended, until

ROWS = 300_000


@pytest.mark.timeout(240)
def test_kill_executor_then_products_in_mid_load(system: System, tmp_path: Path) -> None:
    stored = system.client.upload(write_csv(tmp_path / "many.csv", ROWS, broken=False))
    job = system.client.execute("LoadProducts", {"fileName": stored["id"]})
    until(lambda: system.client.job(job.id).loaded > 0, what="the first batch")
    before = {role: system.pids(role) for role in ("executor", "products")}
    system.kill("executor")
    until(lambda: bool(system.pids("executor")) and system.pids("executor") != before["executor"], what="the restart")
    system.kill("products")
    done = ended(system.client, job, 120)
    assert (done.state, done.total, done.loaded) == (State.SUCCEEDED, ROWS, ROWS)
    count = "SELECT count(*), count(DISTINCT row_no), min(row_no), max(row_no) FROM products.products WHERE job_id = %s"
    assert system.rows(count, job.id) == [(ROWS, ROWS, 1, ROWS)]
    assert system.pids("products") != before["products"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("role", ["jobs", "auth", "postgres"])
def test_what_is_killed_comes_back_by_itself(system: System, tmp_path: Path, role: str) -> None:
    stored = system.client.upload(write_csv(tmp_path / "many.csv", 100_000, broken=False))
    job = system.client.execute("LoadProducts", {"fileName": stored["id"]})
    before = system.pids(role)
    system.kill(role)
    done = ended(system.client, job, 120)
    assert (done.state, done.loaded) == (State.SUCCEEDED, 100_000)
    assert system.rows("SELECT count(*) FROM products.products WHERE job_id = %s", job.id) == [(100_000,)]
    assert system.pids(role) != before


@pytest.mark.timeout(240)
@pytest.mark.parametrize("system", [pytest.param("pulsar", marks=pytest.mark.pulsar)], indirect=True)
def test_a_killed_broker_comes_back_and_the_job_ends(system: System, tmp_path: Path) -> None:
    stored = system.client.upload(write_csv(tmp_path / "many.csv", ROWS, broken=False))
    job = system.client.execute("LoadProducts", {"fileName": stored["id"]})
    until(lambda: system.client.job(job.id).loaded > 0, what="the first batch")
    before = system.pids("broker")
    system.kill("broker")
    done = ended(system.client, job, 180)
    assert (done.state, done.loaded) == (State.SUCCEEDED, ROWS)
    assert system.rows("SELECT count(*) FROM products.products WHERE job_id = %s", job.id) == [(ROWS,)]
    until(lambda: bool(system.pids("broker")) and system.pids("broker") != before, 60, "the restart")
    assert ended(system.client, system.client.execute("LoadProducts", {"name": "after", "price": 1}), 60).loaded == 1
