"""How rows are written: tried only, by keys, all or nothing; and how many rejects a job may have."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from jobber import errors
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


def load(system: System, data: Any, **options: Any) -> tuple[dict[str, Any], dict[str, int], str]:
    """The ended job, its counts and id; the counts add up, and nothing is left in staging."""
    client = system.client
    job = ended(client, client.execute("LoadProducts", data, options))
    seen = report(client, job.id)
    counts = {name: int(value) for name, value in seen["progress"]["counts"].items()}
    assert sum(counts[name] for name in ("inserted", "updated", "unchanged", "rejected", "unprocessed")) == counts["total"]
    assert system.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'products' AND tablename LIKE 'staged%%'") == []
    return seen, counts, job.id


def keyed(system: System, prefix: str) -> list[tuple[Any, ...]]:
    query = (
        "SELECT name, category, price::text, stock, description, row_no FROM products.products WHERE name LIKE %s ORDER BY 1, 6"
    )
    return system.rows(query, f"{prefix}%")


def codes(seen: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [(int(edge["node"]["row"]), edge["node"]["code"], edge["node"]["raw"]) for edge in seen["errors"]["edges"]]


def test_upsert_inserts_changes_and_leaves_alone(system: System, tmp_path: Path) -> None:
    first = [{"name": f"up{n}", "price": n, "stock": n, "description": "old"} for n in range(4)]
    seen, counts, _ = load(system, first, mode="UPSERT", keys=["name"])
    assert (seen["state"], counts["inserted"]) == ("SUCCEEDED", 4)
    path = tmp_path / "up.csv"
    path.write_text("name,price,stock\nup0,0,0\nup1,1,7\nup2,5,\nup9,9,9\nup3,x,1\n")
    data = {"fileName": system.client.upload(path)["id"]}
    dry, tried, _ = load(system, data, mode="UPSERT", keys=["name"], dryRun=True)
    assert [row[0] for row in keyed(system, "up")] == ["up0", "up1", "up2", "up3"]
    seen, counts, _ = load(system, data, mode="UPSERT", keys=["name"])
    assert counts == tried
    assert (dry.pop("dryRun"), seen.pop("dryRun")) == (True, False)
    assert dry == seen
    assert (counts["unchanged"], counts["updated"], counts["inserted"], counts["rejected"]) == (1, 2, 1, 1)
    # The header has no description: it stays. An empty cell empties.
    assert keyed(system, "up") == [
        ("up0", None, "0.00", 0, "old", 1),
        ("up1", None, "1.00", 7, "old", 2),
        ("up2", None, "5.00", None, "old", 3),
        ("up3", None, "3.00", 3, "old", 4),
        ("up9", None, "9.00", 9, None, 4),
    ]


def test_keys_that_come_twice_are_written_in_order(system: System) -> None:
    load(system, [{"name": "twice-a", "price": 1}], mode="UPSERT", keys=["name"])
    data = [
        {"name": "twice-a", "price": 2},
        {"name": "twice-b", "price": 1},
        {"name": "twice-a", "price": 3},
        {"name": "twice-b", "price": 1},
        {"name": "twice-a", "price": 3},
        {"name": "twice-c", "price": 5},
        {"name": "twice-c", "price": 6},
    ]
    _, counts, _ = load(system, data, mode="UPSERT", keys=["name"])
    assert (counts["inserted"], counts["updated"], counts["unchanged"], counts["rejected"]) == (2, 3, 2, 0)
    # The row that was the last to change something is the one it came from.
    assert [(row[0], row[2], row[5]) for row in keyed(system, "twice")] == [
        ("twice-a", "3.00", 3),
        ("twice-b", "1.00", 2),
        ("twice-c", "6.00", 7),
    ]


def test_update_changes_what_is_there_and_nothing_else(system: System) -> None:
    load(system, [{"name": "there", "price": 1}, {"name": "there twice", "price": 1}, {"name": "there twice", "price": 1}])
    data = [
        {"name": "there", "price": 2},
        {"name": "there not", "price": 2},
        {"name": "there twice", "price": 2},
        {"name": "there", "price": 2},
        {"name": "there", "price": "x"},
    ]
    seen, counts, _ = load(system, data, mode="UPDATE", keys=["name"])
    assert (seen["state"], counts["updated"], counts["unchanged"], counts["rejected"]) == ("PARTIAL", 1, 1, 3)
    assert [(row, code) for row, code, _ in codes(seen)] == [(2, "NOT_FOUND"), (3, "NOT_UNIQUE"), (5, "TYPE")]
    assert '"there not"' in codes(seen)[0][2]
    assert [(row[0], row[2]) for row in keyed(system, "there")] == [
        ("there", "2.00"),
        ("there twice", "1.00"),
        ("there twice", "1.00"),
    ]
    seen, counts, _ = load(system, data, mode="UPDATE", keys=["name"], maxErrors=2)
    assert (seen["state"], counts["updated"], counts["unchanged"], counts["unprocessed"]) == ("FAILED", 0, 0, 2)
    assert [code for _, code, _ in codes(seen)] == ["NOT_FOUND", "NOT_UNIQUE", "TYPE"]


def test_several_keys_none_of_which_may_be_missing(system: System) -> None:
    data = [{"name": "pair", "category": category, "price": 1} for category in ("A", "B", None)]
    seen, counts, _ = load(system, data, mode="UPSERT", keys=["name", "category"])
    assert (counts["inserted"], [(row, code) for row, code, _ in codes(seen)]) == (2, [(3, "REQUIRED")])
    seen, counts, _ = load(system, data, mode="UPSERT", keys=["name", "category"])
    assert (counts["inserted"], counts["unchanged"]) == (0, 2)
    seen, counts, _ = load(system, data[:1], mode="UPSERT", keys=["name"])
    assert [(row, code) for row, code, _ in codes(seen)] == [(1, "NOT_UNIQUE")]


def test_all_or_nothing(system: System) -> None:
    good = [{"name": f"whole{n}", "price": n} for n in range(3)]
    broken = [*good, {"name": "whole3", "price": "x"}]
    for dry in (True, False):
        seen, counts, _ = load(system, broken, atomicity="ALL_OR_NOTHING", dryRun=dry)
        assert (seen["state"], counts["inserted"], counts["rejected"], counts["unprocessed"]) == ("FAILED", 0, 1, 3)
        assert keyed(system, "whole") == []
    seen, counts, _ = load(system, broken, atomicity="ALL_OR_NOTHING", maxErrors=1)
    assert (seen["state"], counts["inserted"], counts["rejected"]) == ("PARTIAL", 3, 1)
    seen, counts, job_id = load(system, good, atomicity="ALL_OR_NOTHING")
    assert (seen["state"], counts["inserted"]) == ("SUCCEEDED", 3)
    assert [row[0] for row in system.rows("SELECT row_no FROM products.products WHERE job_id = %s ORDER BY 1", job_id)] == [
        1,
        2,
        3,
    ]
    seen, counts, _ = load(system, good, atomicity="ALL_OR_NOTHING", dryRun=True)
    assert (seen["state"], counts["inserted"], len(keyed(system, "whole"))) == ("SUCCEEDED", 3, 6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("LoadProducts", {"mode": "UPSERT"}),
        ("LoadProducts", {"mode": "UPSERT", "keys": []}),
        ("LoadProducts", {"mode": "UPDATE", "keys": ["id"]}),
        ("LoadProducts", {"mode": "UPDATE", "keys": ["name", "name"]}),
        ("LoadProducts", {"keys": ["name"]}),
        ("Fibonacci", {"mode": "UPSERT", "keys": ["iterations"]}),
        ("Fibonacci", {"atomicity": "ALL_OR_NOTHING"}),
    ],
)
def test_what_cannot_be_written_so_is_refused(system: System, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidData):
        system.client.execute(name, [{"name": "x", "price": 1, "iterations": 1}], options)


def test_a_job_with_a_rate_is_cut_into_seconds(system: System) -> None:
    submit = "mutation($i: ExecuteJobInput!) { executeJob(input: $i) { id progress { batchesTotal } } }"
    asked = {"name": "LoadProducts", "data": json.dumps(records(250, 0)), "options": {"maxRowsPerSecond": 100}}
    job = system.client.ask(submit, {"i": asked})["executeJob"]
    assert job["progress"]["batchesTotal"] == 3
    assert ended(system.client, system.client.job(job["id"])).state is State.SUCCEEDED


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_that_is_none_is_refused(system: System, rate: int) -> None:
    with pytest.raises(errors.InvalidData, match="maxRowsPerSecond must be at least 1"):
        system.client.execute("LoadProducts", [{"name": "a", "price": 1}], {"maxRowsPerSecond": rate})
