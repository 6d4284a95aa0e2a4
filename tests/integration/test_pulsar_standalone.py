"""Pulsar standalone: what is fetched, what is said when something is missing, and (in CI) a real broker over restarts."""

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobber.errors import Unavailable
from jobber.local.pulsar import PulsarStandalone, jars, java

#: Stands for Maven: says that it was called, takes its time, fails as often as it is told, then makes a jar.
MAVEN = """#!/bin/sh
echo call >> "$CALLS"
sleep 0.3
[ "$(wc -l < "$CALLS")" -gt "$FAILURES" ] || {{ echo no such artefact; exit 1; }}
for word in "$@"; do case $word in -DoutputDirectory=*) echo jar > "${{word#*=}}/pulsar.jar";; esac; done
"""
Program = Callable[[str, str], Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """`program(variable, text)`: a script in the place of `java` or `mvn`."""
    monkeypatch.setenv("JOBBER_PULSAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAILURES", "0")

    def make(variable: str, text: str) -> Path:
        path = tmp_path / variable.lower()
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv(variable, str(path))
        return path

    return make


def calls(tmp_path: Path) -> int:
    return len((tmp_path / "calls").read_text().splitlines())


def test_jars_are_fetched_once_however_many_ask(program: Program, tmp_path: Path) -> None:
    program("MVN", MAVEN.format())
    with ThreadPoolExecutor(4) as pool:
        libraries = {future.result() for future in [pool.submit(jars) for _ in range(4)]}
    script = "from jobber.local.pulsar import jars; print(jars())"
    others = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()]
    assert {str(library) for library in libraries} == set(others)
    assert [path.name for path in libraries.pop().iterdir()] == ["pulsar.jar"]
    assert calls(tmp_path) == 1


def test_processes_that_ask_at_once_share_one_fetch(program: Program, tmp_path: Path) -> None:
    program("MVN", MAVEN.format())
    script = "from jobber.local.pulsar import jars; print(jars())"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1] for process in processes] == [None] * 3
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert calls(tmp_path) == 1


def test_a_hiccup_of_the_registry_is_survived(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program("MVN", MAVEN.format())
    monkeypatch.setenv("FAILURES", "2")
    assert (jars() / "pulsar.jar").exists()
    assert calls(tmp_path) == 3


def test_a_fetch_that_fails_leaves_nothing_half_made(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program("MVN", MAVEN.format())
    monkeypatch.setenv("FAILURES", "3")
    with pytest.raises(Unavailable, match=r"Maven could not get Pulsar's jars .*maven\.log"):
        jars()
    assert "no such artefact" in next((tmp_path / "cache").rglob("maven.log")).read_text()
    (next((tmp_path / "cache").iterdir()) / "lib.killed").mkdir()
    library = jars()
    assert [path.name for path in sorted(library.parent.glob("lib*"))] == ["lib"]


def test_what_is_missing_is_said(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVN", str(tmp_path / "nowhere"))
    with pytest.raises(Unavailable, match="install Maven"):
        jars()
    monkeypatch.setenv("JAVA", str(tmp_path / "nowhere"))
    with pytest.raises(Unavailable, match="needs Java 17 or newer, which is not installed"):
        java()
    found = program("JAVA", "#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    with pytest.raises(Unavailable, match=f'{found} is openjdk version "11'):
        java()


def test_a_broker_that_does_not_come_up_shows_the_end_of_its_log(program: Program, tmp_path: Path) -> None:
    program("MVN", MAVEN.format())
    program("JAVA", '#!/bin/sh\necho \'openjdk version "17"\' >&2\n[ "$1" = -version ] || { echo no room >&2; exit 3; }\n')
    with pytest.raises(Unavailable, match=r"ended with 3; .*pulsar\.log ends:\n(.*\n)*no room"):
        PulsarStandalone(tmp_path / "pulsar").start()


def test_a_broker_that_is_slow_is_given_up_and_one_that_is_stopped_ends(program: Program, tmp_path: Path) -> None:
    program("MVN", MAVEN.format())
    program("JAVA", '#!/bin/sh\necho \'openjdk version "17"\' >&2\n[ "$1" = -version ] || exec sleep 60\n')
    slow = PulsarStandalone(tmp_path / "slow")
    with pytest.raises(Unavailable, match="did not come up within 1 s"):
        slow.start(timeout=1)
    assert slow.process
    assert slow.process.poll() is not None
    stopped = PulsarStandalone(tmp_path / "stopped")
    stopping = threading.Timer(1, stopped.stop)
    stopping.start()
    with pytest.raises(Unavailable):
        stopped.start()
    stopping.join()


def test_a_restart_keeps_the_ports(tmp_path: Path) -> None:
    first = PulsarStandalone(tmp_path)
    assert first.port != first.admin_port
    (tmp_path / "ports").write_text(f"{first.port} {first.admin_port}")
    second = PulsarStandalone(tmp_path)
    assert (second.url, second.admin_url) == (first.url, first.admin_url)
    (tmp_path / "ports").write_text("1")
    assert PulsarStandalone(tmp_path).port > 1


@pytest.mark.pulsar
def test_a_real_broker_starts_stops_and_starts_again(tmp_path: Path) -> None:
    broker = PulsarStandalone(tmp_path)
    broker.start()
    assert broker.process
    first = broker.process.pid
    broker.stop()
    assert not os.path.exists(f"/proc/{first}")
    began = time.monotonic()
    again = PulsarStandalone(tmp_path)
    again.start()
    assert again.url == broker.url
    assert time.monotonic() - began < 100
    again.kill()
