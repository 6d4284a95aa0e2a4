"""Run the simulation.

python -m tests.simulation                      20,000 seeds, on all cores
python -m tests.simulation --seed 17            one seed, with its story
python -m tests.simulation --seeds 100000 --first 50000
python -m tests.simulation --mutants            each mechanism taken away once, and what saw it
"""

import argparse
import sys

from tests.simulation.campaign import campaign, hunt
from tests.simulation.checker import Broken
from tests.simulation.world import simulate


def main() -> int:
    """0 when every promise held, and with --mutants when every mutant was caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="only this one, with its story")
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--faults", type=int, default=6, help="at most so many in a campaign")
    parser.add_argument("--mutants", action="store_true")
    asked = parser.parse_args()
    if asked.mutants:
        caught = hunt()
        for name, finding in caught.items():
            print(f"{'caught' if finding else 'SURVIVED':9} {name:74} {finding or ''}")
        return 0 if all(caught.values()) else 1
    if asked.seed is not None:
        try:
            print(simulate(asked.seed, asked.faults))
        except Broken as fault:
            print(fault)
            return 1
        return 0
    found = campaign(range(asked.first, asked.first + asked.seeds), asked.faults)
    print(found.summary())
    for sentence in found.broken[:20]:
        print(sentence)
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
