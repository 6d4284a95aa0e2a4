"""Every benchmark runs, on a few rows, compares its data and writes its JSON. What it needs it installs: a command, not CI."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.system import ROOT, surroundings

#: Exit codes: 3 is a missed bar, and few rows miss it.
FINE = (0, 3)
BENCHES = {
    "end_to_end": ["--rows", "3000", "--rounds", "1"],
    "peers": ["--rows", "2000", "--rounds", "1"],
    "copy": ["--rows", "5000", "--rounds", "1"],
    "upsert": ["--rows", "2000", "--rounds", "1"],
    "scale": ["--rows", "2000,4000", "--executor-rows", "2000", "--jobs", "100", "--users", "20", "--rounds", "1"],
    "operators": ["--rows", "2000", "--rounds", "1"],
    "grpc": ["--rows", "2000", "--rounds", "1", "--bytes", "8388608"],
    "mechanisms": ["--rows", "2000", "--rounds", "1"],
    "small_jobs": ["--seconds", "2", "--lone", "5", "--clients", "1,4", "--records", "10"],
    "front_door": ["--seconds", "2", "--clients", "4", "--rounds", "1"],
    "simulate": [],
    "refusals": ["--rounds", "1"],
    "followers": ["--followers", "20"],
    "big": ["--csv", "0.02", "--gzip", "0.004", "--small", "0.002", "--json-array", "0.02", "--rejects", "1000"],
}


def test_none_is_forgotten() -> None:
    there = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert there == set(BENCHES)
    told = (ROOT / "docs" / "benchmarks.md").read_text()
    assert [name for name in sorted(there) if f"\n| `{name}` |" not in told] == []


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BENCHES)
def test_it_runs(name: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-P", "-m", f"benchmarks.{name}", *BENCHES[name]]
    file = tmp_path / f"{name}.json"
    outcome = subprocess.run(
        [*arguments, "--json", str(file)], cwd=ROOT, env=surroundings(), capture_output=True, text=True, timeout=600
    )
    assert outcome.returncode in FINE, outcome.stdout + outcome.stderr
    assert json.loads(file.read_text())["name"] == name
    assert file.with_suffix(".svg").read_text().startswith("<svg")
