"""What `jobber load` makes of its options, and of what a job says would load its file."""

import shlex
from typing import Any

import click
import pytest
from click.testing import CliRunner

from jobber.cli import client as client_module
from jobber.cli import load
from jobber.cli.app import app
from jobber.cli.remedy import command, flags, joined, remedy
from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.jobtypes.load_products import LoadProducts
from jobber.model import InputOptions
from operators.plan import plan


def failure(data: bytes, **options: Any) -> str:
    with pytest.raises(StructureFault) as caught:
        plan([data], Contract.of(LoadProducts.contract), InputOptions(**options))
    return caught.value.message


@pytest.mark.parametrize(
    ("data", "cure"),
    [
        (b"name;price\nx;1\n", {"delimiter": ";"}),
        (b"name\tprice\nx\t1\n", {"delimiter": "\t"}),
        (b"name|price\nx|1\n", {"delimiter": "|"}),
        (b"name,prise\nx,1\n", {"mapping": {"price": "prise"}}),
        (b"n\xe4me,price\nx,1\n", {"encoding": "windows-1252"}),
        (b'null\n{"name": "x", "price": 1}\n', {"format": "NDJSON"}),
    ],
)
def test_what_the_planners_say_is_understood(data: bytes, cure: dict[str, Any]) -> None:
    assert remedy(failure(data)) == cure


def test_what_they_only_warn_of_is_understood() -> None:
    made = plan([b'[{"Name": "x", "price of \\"one}": 1}]'], Contract.of(LoadProducts.contract), InputOptions())
    assert remedy(made.warnings[0]) == {"mapping": {"name": "Name"}}


@pytest.mark.parametrize(
    "error", [None, "", "HEADER: The required column 'x' is not in the header.", 'the option mapping {"x}']
)
def test_what_names_no_option_cures_nothing(error: str | None) -> None:
    assert remedy(error) == {}


def test_the_command_gives_the_same_options_again() -> None:
    options = {
        "delimiter": "\t",
        "quote": "'",
        "encoding": "windows-1252",
        "format": "CSV",
        "mapping": {"price": "a b=c", "name": "n"},
        "mode": "UPSERT",
        "keys": ["name", "category"],
        "dryRun": True,
        "maxErrors": 0,
        "priority": "HIGH",
        "maxErrorRatio": 0.5,
    }
    given: dict[str, Any] = {}

    def run(*arguments: Any) -> int:
        given.update(arguments[4])
        assert arguments[5] == ["--url", "http://there:1"]
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "run", run)
        patch.setattr(client_module, "connect", lambda **_: None)
        words = shlex.split(command(["load", __file__, "--job", "X", *flags(options), "--url", "http://there:1"]))
        assert CliRunner().invoke(app, [*words[1:], "--password", "secret"]).exit_code == 0
    assert given == options


def test_a_remedy_is_added_to_what_was_given() -> None:
    assert joined({"delimiter": ";", "mapping": {"a": "b"}}, {"mapping": {"c": "d"}}) == {
        "delimiter": ";",
        "mapping": {"a": "b", "c": "d"},
    }
    assert joined({"delimiter": ","}, {"delimiter": ";"}) == {"delimiter": ";"}


@pytest.mark.parametrize(("pairs", "mapping"), [(("x",), ()), ((), ("price",)), ((), ("=x",)), ((), ("price=",))])
def test_what_is_no_option_is_wrong_usage(pairs: tuple[str, ...], mapping: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        load.options_of(pairs, mapping, None)
