"""The pieces of `jobber up` by themselves: keeping parts running, ports, the data folder."""

import asyncio
import errno
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobber.errors import InvalidState, NotFound, Unavailable
from jobber.local import child, ports, postgres, processes
from jobber.local.home import Home
from jobber.local.processes import Keeper, Service, rotate
from jobber.local.up import Options, Up
from tests.support.system import alive, surroundings, until


class Ends:
    """A part that ends at once or after some seconds, so often as it is told, and then runs until it is stopped."""

    name = "part"

    def __init__(self, folder: Path, times: int, after: float = 0, fault: OSError | None = None) -> None:
        self.log = folder / "part.log"
        self.pids: list[int] = []
        self.starts: list[float] = []
        self._times = times
        self._after = after
        self._fault = fault
        self._stopped = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> str:
        self.starts.append(asyncio.get_running_loop().time())
        started()
        if len(self.starts) <= self._times:
            await asyncio.sleep(self._after)
            if self._fault:
                raise self._fault
            return "ended with exit code 1"
        await self._stopped.wait()
        return "was told to"

    async def stop(self, grace: float) -> None:
        self._stopped.set()

    def kill(self) -> None:
        self._stopped.set()


async def test_what_cannot_start_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    part = Ends(tmp_path, 99)
    part.log.write_text("first line\nno such database\n")
    keeper = Keeper(part, lambda _: None, lambda: None)
    with pytest.raises(Unavailable, match="no such database"):
        await keeper.task
    assert len(part.starts) == processes.TRIES_AT_START


async def test_what_ended_is_started_again_with_a_growing_delay(tmp_path: Path) -> None:
    told: list[str] = []
    part = Ends(tmp_path, 4)
    keeper = Keeper(part, told.append, lambda: None)
    keeper.settled = True
    await asyncio.sleep(2)
    assert len(part.starts) == 5
    gaps = [later - earlier for earlier, later in zip(part.starts, part.starts[1:], strict=False)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 4 * gaps[0]
    assert all("starting it again" in sentence for sentence in told)
    await keeper.stop(1)
    assert len(part.starts) == 5


async def test_what_worked_before_it_was_killed_is_started_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However often somebody kills it: a growing delay is for what ends by itself.
    monkeypatch.setattr(processes, "LONG_RUN", 0.02)
    part = Ends(tmp_path, 8, after=0.03)
    keeper = Keeper(part, lambda _: None, lambda: None)
    keeper.settled = True
    async with asyncio.timeout(10):
        while len(part.starts) < 9:
            await asyncio.sleep(0.01)
    # Doubled each time, the delays would come to 25 s.
    await keeper.stop(1)


async def test_a_disk_that_is_full_for_a_while_does_not_end_the_supervisor(tmp_path: Path) -> None:
    told: list[str] = []
    part = Ends(tmp_path, 2, fault=OSError(errno.ENOSPC, "No space left on device"))
    keeper = Keeper(part, told.append, lambda: None)
    keeper.settled = True
    async with asyncio.timeout(10):
        while len(part.starts) < 3:
            await asyncio.sleep(0.01)
    assert len(told) == 2
    assert "No space left on device" in told[0]
    await keeper.stop(1)


def test_what_cannot_be_written_down_does_not_end_what_runs(tmp_path: Path) -> None:
    class Running(Up):
        def state(self) -> dict[str, Any]:
            return {}

    told: list[str] = []
    running = Running(Options(tmp_path), told.append)
    running._ready = True
    running._remember()
    assert (tmp_path / "up.json").read_text() == "{}"
    (tmp_path / "up.json").unlink()
    (tmp_path / "up.json").mkdir()
    running._remember()
    assert len(told) == 1
    assert "could not write up.json" in told[0]


async def test_a_service_takes_what_it_started_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor's children must not work on beside its successor."""
    marker = tmp_path / "grandchild"
    script = f"""
import pathlib, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({str(marker)!r}).write_text(str(grandchild.pid))
time.sleep(600)
"""
    (tmp_path / "jobber").mkdir()
    (tmp_path / "jobber" / "__init__.py").touch()
    (tmp_path / "jobber" / "cli.py").write_text(script)
    service = Service("fake", (), {**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path / "logs")
    task = asyncio.create_task(service.run(lambda: None))
    for _ in range(200):
        await asyncio.sleep(0.02)
        if marker.exists() and marker.read_text():
            break
    grandchild = int(marker.read_text())
    os.kill(service.pids[0], signal.SIGKILL)
    assert await task == "was ended by SIGKILL"
    assert service.pids == []
    await asyncio.to_thread(until, lambda: not alive([grandchild]), 5, "the end of the grandchild")


def test_a_child_ends_with_its_supervisor(tmp_path: Path) -> None:
    tied = "from jobber.local.child import end_with_supervisor; end_with_supervisor(); import time; print('tied', flush=True)"
    middle = (
        "import os, subprocess, sys\n"
        f"tied = subprocess.Popen([sys.executable, '-c', \"{tied}; time.sleep(600)\"], stdout=subprocess.PIPE,"
        f" env={{**os.environ, '{child.SUPERVISOR}': str(os.getpid())}})\n"
        "tied.stdout.readline()\n"
        "print(tied.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", middle], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    until(lambda: not alive([int(ran.stdout)]), 5, "the end of the child")


def test_a_child_whose_supervisor_is_gone_already_does_not_start() -> None:
    code = "from jobber.local.child import end_with_supervisor; end_with_supervisor(); print('goes on')"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, child.SUPERVISOR: "1" if os.getpid() != 1 else "2"},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (ran.returncode, ran.stdout) == (1, "")


def test_ports_are_the_documented_ones_or_free_and_never_twice_the_same() -> None:
    replicas = {"auth": 2, "jobs": 3, "executor": 2, "products": 1}
    allotted = ports.allot(replicas, automatic=True, host="127.0.0.1")
    assert {role: len(found) for role, found in allotted.items()} == replicas
    numbers = [port for found in allotted.values() for kinds in found for port in kinds.values()]
    assert len(set(numbers)) == len(numbers) == 14
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not ports.is_free("127.0.0.1", taken.getsockname()[1])


def test_no_port_is_one_that_an_outgoing_connection_may_have_taken_when_a_service_comes_back() -> None:
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    allotted = ports.allot({"auth": 9, "jobs": 9}, automatic=True, host="127.0.0.1")
    numbers = [port for found in allotted.values() for kinds in found for port in kinds.values()]
    assert max(*numbers, ports.free_port()) < outgoing


def test_a_port_that_is_taken_is_never_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        monkeypatch.setattr(ports, "FREE", range(number, number + 1))
        with pytest.raises(OSError, match="in use"):
            ports.free_port()


def test_a_port_that_another_process_found_is_not_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there yet: two that start at once would both give it to a service."""
    found = "from jobber.local.ports import free_port; print(free_port(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", found], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings()
    ) as other:
        assert other.stdout
        number = int(other.stdout.readline())
        assert ports.is_free("127.0.0.1", number)
        monkeypatch.setattr(ports, "FREE", range(number, number + 1))
        with pytest.raises(OSError, match="in use"):
            ports.free_port()
        other.communicate("\n")
    assert ports.free_port() == number


def test_the_database_s_user_may_be_made_by_two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one makes it, useradd finds its files locked for the other."""
    account, looks = pwd.getpwuid(os.getuid()), iter((False, False, True))

    def look(name: str) -> pwd.struct_passwd:
        if not next(looks):
            raise KeyError(name)
        return account

    monkeypatch.setattr(pwd, "getpwnam", look)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "cannot lock /etc/passwd"))
    assert postgres._system_user("somebody") == account
    looks = iter((False, False, False))
    monkeypatch.setattr(postgres, "MAKING_USER", 3)
    with pytest.raises(Unavailable, match="cannot lock"):
        postgres._system_user("somebody")


def test_the_data_folder_is_held_by_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    with pytest.raises(NotFound, match="No `jobber up` is running"):
        home.recall()
    with home.held():
        assert home.holder() == os.getpid()
        with pytest.raises(InvalidState, match=f"pid {os.getpid()}"), Home(tmp_path / "data").held():
            raise AssertionError("held twice")
        home.remember({"jobs": "here"})
        assert home.recall() == {"jobs": "here"}
    assert home.holder() is None
    with home.held():
        assert home.holder() == os.getpid()


def test_secrets_are_made_once_for_the_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    assert home.jwt_secret() == home.jwt_secret()
    assert len(home.jwt_secret()) >= 32
    made = home.admin_password()
    assert home.admin_password() == made
    assert home.admin_password_file.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("JOBBER_ADMIN_PASSWORD", "given")
    assert home.admin_password() == "given"
    home.admin_made.touch()
    monkeypatch.setenv("JOBBER_ADMIN_PASSWORD", "too late")
    assert home.admin_password() == "given"


def test_a_large_log_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 10)
    log = tmp_path / "logs" / "jobs.log"
    rotate(log)
    log.write_text("short")
    rotate(log)
    assert log.exists()
    log.write_text("longer than that")
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "logs" / "jobs.log.1").read_text() == "longer than that"


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidState, match="cannot be written"), Home(tmp_path / "file" / "data").held():
        raise AssertionError("held")
