"""`jobber up` whose services have wall clocks of their own (`python -m tests.support.skewed_up FOLDER up …`).

Each replica's clock is a file of FOLDER, `executor-2` with `-2h` in it. PostgreSQL's is true.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from jobber.cli import main
from jobber.local import up as local
from jobber.local.processes import Service
from tests.support import clocks

FOLDER = Path(sys.argv[1])


@dataclass(eq=False)
class Skewed(Service):
    """A service with a clock of its own."""

    def __post_init__(self) -> None:
        self.environment = {**self.environment, **clocks.wrong(FOLDER / self.name)}


if __name__ == "__main__":
    local.Service = Skewed  # type: ignore[attr-defined]
    sys.argv = ["jobber", *sys.argv[2:]]
    main()
