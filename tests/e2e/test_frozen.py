"""Replicas that are stopped (SIGSTOP) at the worst moment: the others go on, and nothing changes when they wake."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from jobber.cli.client import Client
from tests.support import system as running
from tests.support.campaign import ended, expect_exact, expect_nothing_left, persist, submit, write
from tests.support.system import System, until

ROWS = 1000
REPLICAS = ("--jobs", "2", "--executors", "2", "--products", "2")
#: Each stops one process, of a role that no other one of the group stops.
GROUPS = {
    "dispatching": ("dispatch.before_commit", "products.before_commit"),
    "claiming": ("claim.before_commit", "load.after_write"),
    "acknowledging": ("acknowledge.before_commit", "products.after_ledger"),
}


def stopped(system: System) -> list[int]:
    pids = [pid for role in ("jobs", "executor", "products") for pid in system.pids(role)]
    return [pid for pid in pids if psutil.Process(pid).status() == psutil.STATUS_STOPPED]


def living_client(system: System) -> Client:
    """One of a jobs service that is not stopped."""
    for pid in set(system.pids("jobs")) - set(stopped(system)):
        port = psutil.Process(pid).environ()["JOBBER_HTTP_PORT"]
        return Client(f"http://127.0.0.1:{port}", system.state["auth"], system.client.token)
    raise AssertionError("all are stopped")


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.campaign if name == "claiming" else pytest.mark.long) for name in GROUPS],
)
def test_others_go_on_while_some_are_stopped(tmp_path: Path, name: str) -> None:
    points = GROUPS[name]
    once = tmp_path / "fired"
    once.mkdir()
    armed = ",".join(f"{point}:1:pause" for point in points)
    environment = {"JOBBER_FAIL": armed, "JOBBER_FAIL_ONCE": str(once), "JOBBER_BATCH_ROWS": "100"}
    system = running.start(tmp_path / "data", *REPLICAS, environment=environment)
    try:
        stored = persist(lambda: system.client.upload(write(tmp_path / "products.csv", ROWS)))
        # Its answer may come from a replica that is stopped meanwhile; the other one has the job, too.
        key = "the same"
        job_id = submit(system.client, "LoadProducts", {"uploadId": stored["id"]}, key)
        # One executor may hold all batches when the first one stops, and is let down by that one twice before it goes on.
        until(lambda: len(stopped(system)) == len(points), 100, what="the stop of all of them")
        frozen = stopped(system)
        client = living_client(system)
        done = ended(client, job_id, 90)
        assert stopped(system) == frozen
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        until(lambda: not stopped(system), what="their waking")
        expect_nothing_left(system)
        expect_exact(system, done, ROWS)
        assert persist(lambda: client.job(job_id)) == done
        # They are of use again: whoever of them is asked.
        assert submit(system.client, "LoadProducts", {"uploadId": stored["id"]}, key) == job_id
        expect_exact(system, ended(system.client, submit(system.client, "LoadProducts", {"uploadId": stored["id"]})), ROWS)
        client.close()
    finally:
        for pid in stopped(system):
            os.kill(pid, signal.SIGCONT)
        code = system.stop()
    assert code == 0, system.said()
