"""The list of fault points is the truth about the shipped code, and arming one does what it says."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobber import faults

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("jobber", "api", "pipelines", "operators", "protos")
CODE = (
    "from jobber import faults\nfor _ in range(3):\n    faults.point('submit.before_commit')\n    print('passed', flush=True)"
)


def test_the_shipped_code_passes_every_point_and_no_other() -> None:
    passed: list[str] = []
    for folder in SHIPPED:
        for path in (ROOT / folder).rglob("*.py"):
            calls = re.findall(r"faults\.point\(([^)]*)\)", path.read_text())
            names = [re.fullmatch(r'"([a-z_]+\.[a-z_]+)"', call) for call in calls]
            assert all(names), f"{path} passes a point by another name than a literal one: {calls}"
            passed += [name[1] for name in names if name]
    assert sorted(faults.POINTS) == sorted(set(passed))


def run(fail: str, once: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "JOBBER_FAIL": fail, "PYTHONPATH": str(ROOT)}
    environment |= {"JOBBER_FAIL_ONCE": str(once)} if once else {}
    return subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=30)


def test_kill_is_sigkill_at_the_nth_time() -> None:
    ended = run("submit.before_commit:2:kill")
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "passed\n")


def test_an_error_is_unavailable() -> None:
    ended = run("submit.before_commit:3:error")
    assert ended.stdout == "passed\npassed\n"
    assert "jobber.errors.Unavailable: fault point submit.before_commit" in ended.stderr


def test_once_is_once_for_all_processes(tmp_path: Path) -> None:
    assert run("submit.before_commit:1:kill", tmp_path).returncode == -signal.SIGKILL
    assert run("submit.before_commit:1:kill", tmp_path).stdout == "passed\n" * 3
    assert [path.name for path in tmp_path.iterdir()] == ["submit.before_commit.1"]


def test_a_pause_lasts_until_somebody_ends_it() -> None:
    environment = {**os.environ, "JOBBER_FAIL": "submit.before_commit:1:pause", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", CODE], env=environment, stdout=subprocess.PIPE) as process:
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=30)[0] == b"passed\n" * 3


@pytest.mark.parametrize("wrong", ["nowhere.at_all:1:kill", "submit.before_commit:0:kill", "submit.before_commit:1:explode"])
def test_a_point_that_there_is_not_is_told(wrong: str) -> None:
    assert "is not name:nth:kill|pause|error with a known name" in run(wrong).stderr


def test_nothing_is_armed_unless_asked_for() -> None:
    assert run("").stdout == "passed\n" * 3
