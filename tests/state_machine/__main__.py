"""Run the state machine.

python -m tests.state_machine                          1,000 runs
python -m tests.state_machine --seed 7 --runs 5000     others, or a failure once more: it is the same every time
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from jobber.local.postgres import EmbeddedPostgres
from tests.state_machine.campaign import CAMPAIGN, run
from tests.state_machine.world import World, migrated


def main() -> int:
    """0 when every promise held; else the steps that break one."""
    parser = argparse.ArgumentParser(prog="python -m tests.state_machine", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=CAMPAIGN)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="jobber-states-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start("fsync=off")
        try:
            migrated(server.dsn)
            world, began = World(server.dsn), time.monotonic()
            run(world, seed=asked.seed, examples=asked.runs)
            seconds = time.monotonic() - began
            print(f"{world.runs:,} runs, {world.steps:,} steps, {world.steps / seconds:,.0f} a second: every promise held")
            world.close()
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
