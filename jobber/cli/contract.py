"""`jobber contract NAME`: the rules that a job type's records must meet."""

import json
import os
from pathlib import Path

from rich.text import Text

from jobber.cli.progress import console, table
from jobber.contract import Contract
from jobber.errors import InvalidState
from jobber.job import discover, find


def show(name: str, *, json_schema: bool, template: bool = False) -> None:
    """Print the contract as a table, as JSON Schema, or as the header of a CSV file.

    Raises UnknownJob.
    """
    contract = _contract(name)
    if template:
        print(contract.template(), end="")
    elif json_schema:
        print(json.dumps(contract.json_schema(), indent=2))
    else:
        out = console()
        shown = table(("column", "left"), ("type", "left"), ("required", "left"), ("rules", "left"))
        for row in contract.table():
            shown.add_row("", *(Text(row[key]) for key in ("name", "type", "required", "rules")))
        out.print(shown)


def template(name: str, output: Path | None) -> None:
    """Write a CSV file with the header that an input wants; one that is there is not overwritten.

    Raises UnknownJob, InvalidState.
    """
    text = _contract(name).template()
    if output is None:
        print(text, end="")
        return
    try:
        with output.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidState(f"{output} is there already, and was left as it is") from None
    console().print(f"  {output}: the header of {name}. `jobber contract {name}` shows the rules of its columns.", markup=False)


def _contract(name: str) -> Contract:
    discover(part.strip() for part in os.environ.get("JOBBER_JOB_MODULES", "").split(",") if part.strip())
    return Contract.of(find(name).contract)
