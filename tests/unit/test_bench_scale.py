"""What `bench scale` calls flat, and how it measures memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import memory
from benchmarks.scale import loads
from benchmarks.scale.__main__ import flat, unfair
from benchmarks.scale.figures import GUIDE, MARKS, figures

USUAL = {"rows": 1_000_000, "rows/s": 700_000.0, "jobs MiB": 100.0, "executor MiB": 400.0}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ({"rows": 10_000_000, "rows/s": 640_000.0, "jobs MiB": 135.0, "executor MiB": 500.0}, []),
        ({"rows": 10_000_000, "rows/s": 620_000.0, "jobs MiB": 100.0, "executor MiB": 400.0}, ["0.89 of the rows a second"]),
        ({"rows": 10_000_000, "rows/s": 700_000.0, "jobs MiB": 100.0, "executor MiB": 520.0}, ["executor 520 MiB"]),
        # Smaller loads are slower, and nobody promised that they are not.
        ({"rows": 100_000, "rows/s": 200_000.0, "jobs MiB": 900.0, "executor MiB": 900.0}, []),
    ],
)
def test_flat_is_within_the_bars(line: dict[str, float], what: list[str]) -> None:
    told = flat([USUAL, line])
    assert len(told) == len(what)
    assert all(part in sentence for part, sentence in zip(what, told, strict=True))
    assert flat([line]) == []


def test_fair_is_a_first_job_for_everybody_before_second_ones() -> None:
    line = {"users": 1000, "slowest first s": 9.6, "fair would be s": 3.2}
    assert unfair([line]) == []
    assert "took 9.7 s; in turns 3.2" in unfair([line | {"slowest first s": 9.7}])[0]


def test_what_a_core_gets_through_and_how_many_of_others_it_keeps_up_with() -> None:
    told = figures(1_000_000, {"executor": 2.0, "products": 0.5, "postgres": 1.0, "jobs": 0.0})
    assert "| executor | 2.0 | 500,000 |" in told
    assert "keeps up with 2.0 cores of executors and 0.5 of products" in told
    assert "take 4,000,000 rows a second, if its disk does, from 4 executors" in told
    assert len(MARKS.findall(GUIDE.read_text())) == 1


def test_a_file_of_any_size_is_made_of_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "BLOCK", 10)
    lines = loads.written(tmp_path, 25).read_text().splitlines()
    assert len(lines) == 26
    assert lines[0].startswith("name,category,price")
    assert lines[1] == lines[11] == lines[21]


def test_memory_is_that_of_the_family_and_its_own() -> None:
    program = "import sys; kept = bytearray(50 << 20); print('there', flush=True); sys.stdin.read()"
    shell = ["sh", "-c", f'"{sys.executable}" -c "{program}"; true']
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        found = {pid: memory.anonymous(pid) for pid in memory.family(process.pid)}
        assert len(found) == 2
        assert 50 << 20 < max(found.values()) < 120 << 20
        assert found[process.pid] < 10 << 20
        process.communicate(b"")
    assert memory.anonymous(process.pid) == 0
