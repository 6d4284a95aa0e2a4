"""`jobber contract NAME`: the rules that a job type's records must meet."""

import json
import os

from jobber.cli.progress import console
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
        console().print(contract.table(), markup=False)
