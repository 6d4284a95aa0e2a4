"""The first thing that people run."""

import os
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest

from tests.support import system as running
from tests.support.inputs import write_csv
from tests.support.system import ROOT


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith("jobber-demo-")]


def test_the_demo_shows_it_all_and_leaves_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", 3_000)
    shown = running.run("demo", str(path), environment={"TMPDIR": str(tmp_path)})
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "3,000 read" in shown.stdout
    assert "price stored" in shown.stdout
    assert "nothing is left over" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert left_in(tmp_path) == []


def test_a_failed_job_is_said_and_is_exit_code_one(tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    path.write_text('name,price\n"never closed,1\n')
    shown = running.run("demo", str(path), environment={"TMPDIR": str(tmp_path)})
    assert shown.returncode == 1
    assert "FAILED" in shown.stdout
    assert left_in(tmp_path) == []


def test_kept_it_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", 100)
    shown = running.run("demo", str(path), "--keep", environment={"TMPDIR": str(tmp_path)})
    assert shown.returncode == 0, shown.stdout + shown.stderr
    [folder] = left_in(tmp_path)
    home = str(tmp_path / folder)
    assert f"down --data-dir {home}" in shown.stdout
    again = running.run("load", str(path), "--job", "LoadProducts", "--data-dir", home)
    assert again.returncode == 3
    assert running.run("down", "--data-dir", home).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_in_the_middle_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    path = write_csv(tmp_path / "mine.csv", 200_000)
    with subprocess.Popen(
        running.command("demo", str(path)),
        stdout=subprocess.PIPE,
        text=True,
        env={**running.surroundings(), "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout
        while "logged in" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert left_in(tmp_path) == []


@pytest.mark.timeout(240)
def test_an_installed_wheel_gives_the_same_command_anywhere(tmp_path: Path) -> None:
    """In a virtualenv that has the dependencies, but not this checkout."""
    built = tmp_path / "dist"
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)], cwd=ROOT, check=True)
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    [site] = home.glob("lib/python*/site-packages")
    import click

    (site / "dependencies.pth").write_text(f"{Path(click.__file__).parents[1]}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, *map(str, built.glob("*.whl"))], check=True)
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("JOBBER_", "PYTHON"))}
    shown = subprocess.run(
        [str(home / "bin" / "jobber"), "demo", str(write_csv(tmp_path / "mine.csv", 200))],
        cwd=tempfile.gettempdir(),
        env=surroundings,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "200 read" in shown.stdout
    where = [str(home / "bin" / "python"), "-c", "import jobber.cli; jobber.cli._open_rooms(); import api; print(api.__file__)"]
    found = subprocess.run(where, cwd=tempfile.gettempdir(), env=surroundings, capture_output=True, text=True, check=True)
    assert "_rooms" in found.stdout
