import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobber import errors
from jobber.cli import exits
from jobber.cli.app import app
from jobber.cli.client import Job
from jobber.cli.exits import Exit
from jobber.cli.load import exit_of
from jobber.cli.progress import amount
from jobber.cli.samples import prices
from jobber.model import State

ROOT = Path(__file__).resolve().parents[2]


def test_help_shows_every_command_and_the_exit_codes() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    for command in ("up", "down", "demo", "load", "status", "cancel", "contract", "auth", "jobs", "executor", "products"):
        assert f"  {command} " in shown.output
    assert "3 done with rejects" in shown.output


def test_help_loads_nothing_heavy() -> None:
    heavy = ("polars", "grpc", "httpx", "rich", "psycopg", "pydantic")
    code = f"import sys, jobber.cli.app; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [["up", "--ports", "some"], ["load", "missing.csv", "--job", "X"], ["nothing"], ["status"]]
)
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == Exit.USAGE


def test_nobody_there_is_five(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["status", "x", "--url", "http://127.0.0.1:9", "--token", "t"])
    assert shown.exit_code == Exit.UNREACHABLE
    assert "does not answer" in shown.output


def test_no_running_up_is_not_found(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["status", "x", "--data-dir", str(tmp_path)]).exit_code == Exit.NOT_FOUND


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State.SUCCEEDED, Exit.DONE),
        (State.RUNNING, Exit.DONE),
        (State.PARTIAL, Exit.REJECTS),
        (State.FAILED, Exit.FAILED),
        (State.CANCELED, Exit.FAILED),
    ],
)
def test_exit_code_of_a_job(state: State, code: Exit) -> None:
    assert exit_of(Job("1", "X", state, None, (), 1, 1, 0, 0)) is code


def test_exit_code_of_an_error() -> None:
    assert exits.exit_for(errors.NotFound()) is Exit.NOT_FOUND
    assert exits.exit_for(errors.Unavailable()) is Exit.UNREACHABLE
    assert exits.exit_for(errors.InvalidData()) is Exit.FAILED


def test_amounts_in_words() -> None:
    assert amount(40_000, 100_000, "rows", 71_000) == "40,000 of 100,000 rows · 71,000/s"
    assert amount(5, None, "rows") == "5 rows"
    assert amount(14_300_000, 14_300_000, "MB") == "14.3 of 14.3 MB"


def test_prices_of_rows_for_show(tmp_path: Path) -> None:
    written = tmp_path / "a.csv"
    written.write_text('Name, PRICE\n"two\nlines",1.5\n\nb,2\n')
    assert dict(prices(written, [1, 2])) == {1: "1.50", 2: "2.00"}
    lines = tmp_path / "a.ndjson"
    lines.write_text('{"price": 0.1}\n\n{"price": 12}\n')
    assert dict(prices(lines, [2])) == {2: "12.00"}
    other = tmp_path / "a.parquet"
    other.write_bytes(b"PAR1")
    assert dict(prices(other, [1])) == {}


def test_the_demos_file_is_the_same_every_time() -> None:
    generate = importlib.import_module("examples.generate_products")
    first, again = list(generate.rows(2000)), list(generate.rows(2000))
    assert first == again
    assert all(len(row) in (3, 6) for row in first)
    assert any(len(row) == 3 for row in first)
    assert sum(row[0] == "" for row in first) > 0


def test_a_template_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    header = "name,price,category,stock,rating,description\n"
    assert CliRunner().invoke(app, ["template", "LoadProducts"]).output == header
    assert CliRunner().invoke(app, ["contract", "LoadProducts", "--template"]).output == header
    assert CliRunner().invoke(app, ["template", "LoadProducts", "-o", str(path)]).exit_code == Exit.DONE
    assert path.read_text() == header
    path.write_text("mine")
    assert CliRunner().invoke(app, ["template", "LoadProducts", "-o", str(path)]).exit_code == Exit.FAILED
    assert path.read_text() == "mine"
    assert CliRunner().invoke(app, ["template", "Nothing"]).exit_code == Exit.NOT_FOUND
