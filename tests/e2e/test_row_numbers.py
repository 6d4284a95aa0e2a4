"""A file of ten million rows: each reject has its own row's number."""

import io
import random
from pathlib import Path

import pytest

from jobber.model import State
from tests.support.system import System, ended


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rows", [10_000_000])
def test_row_numbers_are_right_to_the_row(system: System, tmp_path: Path, rows: int) -> None:
    """As a dry run: what is written is what is counted."""
    bad = {1, rows, *random.Random(1).sample(range(1, rows + 1), 1_000)}
    path = tmp_path / "many.csv"
    with path.open("w") as file:
        file.write("name,price\n")
        for row in range(1, rows + 1):
            file.write(f"P{row},x\n" if row in bad else f'"P\n{row}",1\n' if row % 9 == 0 else f"P{row},1\n")
    upload = system.client.upload(path)["id"]
    job = ended(system.client, system.client.execute("LoadProducts", {"fileName": upload}, {"dryRun": True}), 1500)
    assert (job.state, job.total, job.rejected) == (State.PARTIAL, rows, len(bad))
    into = io.BytesIO()
    system.client.download(f"/jobs/{job.id}/rejects.csv", into)
    told = [line.split(",") for line in into.getvalue().decode().splitlines()[1:]]
    assert [(name, int(row)) for name, _, row, *_ in told] == [(f"P{row}", row) for row in sorted(bad)]
