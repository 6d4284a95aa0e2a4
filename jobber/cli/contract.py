"""`jobber contract NAME`: the rules that a job type's records must meet."""

import json
import os

from rich.text import Text

from jobber.cli.progress import console, table
from jobber.contract import Contract
from jobber.job import discover, find


def show(name: str, *, json_schema: bool) -> None:
    """Print the contract as a table, or as JSON Schema.

    Raises UnknownJob.
    """
    discover(part.strip() for part in os.environ.get("JOBBER_JOB_MODULES", "").split(",") if part.strip())
    contract = Contract.of(find(name).contract)
    if json_schema:
        print(json.dumps(contract.json_schema(), indent=2))
    else:
        out = console()
        shown = table(("column", "left"), ("type", "left"), ("required", "left"), ("rules", "left"))
        for row in contract.table():
            shown.add_row("", *(Text(row[key]) for key in ("name", "type", "required", "rules")))
        out.print(shown)
