"""`jobber up` as a program: it starts, goes on where it was, says what is wrong, and leaves nothing behind."""

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from jobber.local import child
from jobber.local.home import Home
from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.system import System, alive, ended, until

Start = Callable[..., System]
KEYS = {"auth", "jobs", "console", "http", "grpc", "database", "transport", "admin", "serviceToken", "pids"}


def left_on(folder: Path) -> list[int]:
    """Processes that belong to the folder: our services, PostgreSQL and its children."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(child.HOME) == str(folder) or str(folder / "postgres") in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return alive(found)


@pytest.fixture
def start() -> Iterator[Callable[..., System]]:
    """Start an `up`; none outlives the test."""
    started: list[System] = []

    def start(*arguments: Any, **options: Any) -> System:
        started.append(running.start(*arguments, **options))
        return started[-1]

    yield start
    for system in started:
        system.kill_up()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a space, as people have them."""
    return tmp_path / "my data"


def test_it_says_where_everything_is_and_goes_on_after_a_stop(start: Start, folder: Path) -> None:
    first = start(folder)
    assert set(first.state) == KEYS
    assert first.state["transport"] == first.state["database"]
    assert first.state["jobs"].endswith("/graphql")
    assert all(len(first.state["pids"][role]) == 1 for role in ("auth", "jobs", "executor", "products", "postgres"))
    assert first.state["pids"]["broker"] == []
    for secret in ("secrets/admin_password", "secrets/jwt_secret", "up.json", "postgres/password"):
        assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600, secret
    for url in (first.state["auth"], first.state["jobs"]):
        for path in ("live", "ready"):
            assert httpx.get(url.replace("graphql", f"health/{path}"), trust_env=False).status_code == 200
    job = ended(first.client, first.client.execute("LoadProducts", {"name": "kept", "price": 1}))
    password = first.state["admin"]["password"]
    assert first.stop(signal.SIGINT) == 0
    assert left_on(folder) == []
    assert not (folder / "up.json").exists()

    second = start(folder)
    assert second.state["admin"]["password"] == password
    assert second.state["database"] == first.state["database"]
    assert second.client.job(job.id).state.terminal
    assert [row[1] for row in second.loaded(job)] == ["kept"]
    assert second.stop() == 0


def test_after_a_sigkill_the_children_end_and_the_next_up_starts(start: Start, folder: Path) -> None:
    first = start(folder)
    services = [pid for role in ("auth", "jobs", "executor", "products") for pid in first.pids(role)]
    first.kill_up()
    until(lambda: not alive(services), 10, "the end of the services")
    second = start(folder)
    assert not set(left_on(folder)) & {*services, *first.state["pids"]["postgres"]}
    assert ended(second.client, second.client.execute("LoadProducts", {"name": "after", "price": 1})).loaded == 1
    second.stop()
    assert left_on(folder) == []


def test_it_ends_what_does_not_end_by_itself(start: Start, folder: Path) -> None:
    """A stopped process gets no signal but SIGKILL, and a kernel without PDEATHSIG sends none."""
    folder.mkdir()
    orphan = subprocess.Popen(["sleep", "600"], env={**os.environ, child.HOME: str(folder)}, start_new_session=True)
    orphan.send_signal(signal.SIGSTOP)
    started = start(folder)
    assert orphan.wait(5) == -signal.SIGKILL
    assert str(orphan.pid) in started.said()
    started.stop()


def test_a_folder_in_use_and_a_taken_port_are_clear_errors(folder: Path, tmp_path: Path) -> None:
    with Home(folder).held():
        second = running.run("up", "--data-dir", str(folder), "--ports", "auto")
    assert second.returncode == 1
    assert f"pid {os.getpid()}" in second.stderr
    assert "Traceback" not in second.stderr
    with socket.create_server(("127.0.0.1", 5002)):
        taken = running.run("up", "--data-dir", str(tmp_path / "other"))
    assert taken.returncode == 1
    assert "5002 (jobs gRPC)" in taken.stderr
    assert "--ports auto" in taken.stderr
    assert not (tmp_path / "other" / "postgres").exists()


def test_down_stops_it_and_says_when_there_is_nothing(start: Start, folder: Path) -> None:
    started = start(folder)
    stopped = running.run("down", "--data-dir", str(folder))
    assert (stopped.returncode, stopped.stdout) == (0, "Stopped.\n")
    assert started.process.wait(5) == 0
    started.kill_up()
    assert running.run("down", "--data-dir", str(folder)).returncode == 4
    assert running.run("status", "x", "--data-dir", str(folder)).returncode == 4


def test_the_admins_password_can_be_given_and_is_shown_once_otherwise(start: Start, folder: Path) -> None:
    given = {"JOBBER_ADMIN_PASSWORD": "chosen by the operator"}
    started = start(folder, environment=given)
    assert started.state["admin"]["password"] == "chosen by the operator"
    started.stop()
    again = start(folder)
    assert again.state["admin"]["password"] == "chosen by the operator"
    again.stop()


def summary(folder: Path) -> str:
    """What a person sees at a start."""
    with subprocess.Popen(
        running.command("up", "--ports", "auto", "--data-dir", str(folder)),
        stdout=subprocess.PIPE,
        text=True,
        env={**running.surroundings(), child.SUPERVISOR: str(os.getpid())},
    ) as process:
        assert process.stdout
        text = ""
        try:
            while "Ctrl-C" not in text:
                line = process.stdout.readline()
                assert line, text
                text += line
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    return text


def test_a_person_sees_the_password_at_the_first_start_only(folder: Path) -> None:
    first, second = summary(folder), summary(folder)
    password = (folder / "secrets" / "admin_password").read_text()
    assert password in first
    assert password not in second
    assert "admin_password" in second
    assert "\x1b" not in first


@pytest.mark.pulsar
def test_pulsar_ends_with_a_killed_up(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    started = start(folder, "--broker", "pulsar")
    assert started.state["transport"].startswith("pulsar://")
    [broker] = started.pids("broker")
    started.kill_up()
    until(lambda: not alive([broker]), 30, "the end of Pulsar")
    again = start(folder, "--broker", "pulsar")
    assert again.state["transport"] == started.state["transport"]
    assert ended(again.client, again.client.execute("LoadProducts", {"name": "after", "price": 1})).loaded == 1
    again.stop()
    assert left_on(folder) == []


def test_pulsar_is_not_started_where_it_cannot_live(folder: Path) -> None:
    ran = running.run("up", "--broker", "pulsar", "--ports", "auto", "--data-dir", str(folder))
    assert ran.returncode == 1
    assert "without spaces" in ran.stderr


@pytest.mark.parametrize(("variable", "missing"), [("JAVA", "Java 17"), ("MVN", "Maven")])
def test_what_pulsar_lacks_is_said_before_anything_starts(tmp_path: Path, variable: str, missing: str) -> None:
    folder = tmp_path / "data"
    environment = {variable: str(tmp_path / "nowhere"), "JOBBER_PULSAR_CACHE": str(tmp_path / "cache")}
    ran = running.run("up", "--broker", "pulsar", "--ports", "auto", "--data-dir", str(folder), environment=environment)
    assert ran.returncode == 1
    assert missing in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (folder / "postgres" / "data").exists()


@pytest.fixture
def replicas(start: Start, folder: Path) -> System:
    return start(folder, "--executors", "2", "--jobs", "2", "--products", "2", "--auth", "2")


def test_replicas_share_the_work_and_one_of_each_may_die(replicas: System, tmp_path: Path) -> None:
    assert all(len(replicas.state["pids"][role]) == 2 for role in ("auth", "jobs", "executor", "products"))
    stored = replicas.client.upload(write_csv(tmp_path / "many.csv", 60_000, broken=False))
    job = replicas.client.execute("LoadProducts", {"fileName": stored["id"]})
    for role in ("executor", "products"):
        os.kill(replicas.pids(role)[1], signal.SIGKILL)
    assert ended(replicas.client, job, 90).loaded == 60_000
    replicas.stop()


@pytest.mark.timeout(180)
def family(system: System, role: str) -> list[int]:
    """A role's processes with all that they started."""
    parents = [psutil.Process(pid) for pid in system.pids(role)]
    return [process.pid for parent in parents for process in (parent, *parent.children(recursive=True))]


def test_idle_it_takes_little_and_it_is_ready_in_seconds(start: Start, folder: Path) -> None:
    began = time.monotonic()
    started = start(folder)
    ready = time.monotonic() - began
    time.sleep(3)
    everything = [psutil.Process(pid) for pid in {*left_on(folder), started.process.pid}]
    before = sum(sum(process.cpu_times()[:2]) for process in everything)
    time.sleep(5)
    used = (sum(sum(process.cpu_times()[:2]) for process in everything) - before) / 5
    memory = sum(process.memory_full_info().pss for process in everything)
    started.stop()
    print(json.dumps({"ready": ready, "idle": used, "memory": memory}))
    assert ready < 15
    assert used < 0.10
    assert memory < 1 << 30
