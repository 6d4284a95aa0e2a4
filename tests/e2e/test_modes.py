"""How rows are written: tried only, by keys, all or nothing; and how many rejects a job may have."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from jobber.cli.client import Client
from jobber.model import State
from tests.support.system import System, ended

REPORT = """query($id: ID!) { job(id: $id) { state status error dryRun size completed warnings
  progress { counts { total read inserted updated unchanged rejected unprocessed } batchesCommitted batchesTotal }
  errorGroups { code column count sample { row raw message } }
  errors(first: 100) { edges { node { row column code message raw } } }
  results(outcome: INSERTED) { rows } } }"""


def records(rows: int, bad: int) -> list[dict[str, object]]:
    """The first `bad` ones have no price."""
    return [{"name": f"n{row}", "price": "x" if row <= bad else row, "category": "Books"} for row in range(1, rows + 1)]


def report(client: Client, job_id: str) -> dict[str, Any]:
    return dict(client.ask(REPORT, {"id": job_id})["job"])


def products(system: System) -> int:
    return int(system.rows("SELECT count(*) FROM products.products")[0][0])


@pytest.mark.parametrize(
    ("rows", "bad", "options", "state"),
    [
        (5, 0, {}, State.SUCCEEDED),
        (5, 2, {}, State.PARTIAL),
        (3, 3, {}, State.FAILED),
        (5, 2, {"maxErrors": 2}, State.PARTIAL),
        (5, 3, {"maxErrors": 2}, State.FAILED),
        (100, 29, {"maxErrorRatio": 0.29}, State.PARTIAL),
        (100, 30, {"maxErrorRatio": 0.29}, State.FAILED),
        (0, 0, {}, State.SUCCEEDED),
    ],
)
def test_a_dry_run_writes_nothing_and_reports_what_the_load_would(
    system: System, rows: int, bad: int, options: dict[str, Any], state: State
) -> None:
    client, data, before = system.client, records(rows, bad), products(system)
    tried = ended(client, client.execute("LoadProducts", data, {**options, "dryRun": True}))
    assert tried.state is state
    assert products(system) == before
    assert system.rows("SELECT count(*) FROM products.ledger WHERE job_id = %s", tried.id) == [(0,)]
    loaded = ended(client, client.execute("LoadProducts", data, options))
    dry, real = report(client, tried.id), report(client, loaded.id)
    assert (dry.pop("dryRun"), real.pop("dryRun")) == (True, False)
    assert dry == real
    assert products(system) == before + rows - bad


def test_a_dry_run_of_a_computing_job_keeps_no_results(system: System) -> None:
    job = ended(system.client, system.client.execute("Fibonacci", [{"iterations": 10}, {"iterations": -1}], {"dryRun": True}))
    seen = report(system.client, job.id)
    assert (job.state, job.loaded, job.rejected, seen["results"]) == (State.PARTIAL, 1, 1, None)
    into = io.BytesIO()
    system.client.download(f"/jobs/{job.id}/results.csv", into)
    assert list(csv.DictReader(io.StringIO(into.getvalue().decode()))) == []


def test_a_file_beyond_its_limit_stops_and_what_was_loaded_is_counted(system: System, tmp_path: Path) -> None:
    """Rejects come after good batches: the job fails, and its table says what its counts say."""
    path = tmp_path / "late.csv"
    good, bad = 150_000, 60_000
    with path.open("w") as out:
        out.write("name,price\n")
        out.writelines(f"n{row},{row}\n" for row in range(good))
        out.writelines(f"n{row},x\n" for row in range(bad))
    data = {"fileName": system.client.upload(path)["id"]}
    for options in ({"maxErrors": 100}, {"maxErrors": 100, "dryRun": True}):
        job = ended(system.client, system.client.execute("LoadProducts", data, options))
        seen = report(system.client, job.id)
        counts = {name: int(value) for name, value in seen["progress"]["counts"].items()}
        assert job.state is State.FAILED
        assert "at most 100 were allowed" in seen["error"]
        assert counts["rejected"] > 100
        assert counts["inserted"] + counts["rejected"] + counts["unprocessed"] == good + bad
        there = system.rows("SELECT count(*) FROM products.products WHERE job_id = %s", job.id)[0][0]
        assert there == (0 if "dryRun" in options else counts["inserted"])
