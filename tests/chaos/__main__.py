"""Run a campaign of faults against the whole of Jobber, and print a verdict for each promise.

python -m tests.chaos --seed 7 --faults 200
python -m tests.chaos --seed 7 --faults 200 --broker pulsar
python -m tests.chaos --seed 7 --faults 40 --data-dir somewhere       # keep data and logs
python -m tests.chaos --seed 7 --faults 40 --without ledger           # must report a broken promise
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from tests.chaos.campaign import place, run
from tests.chaos.sabotage import MECHANISMS


def main() -> int:
    """0 when every promise held, 1 when one did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--broker", choices=("embedded", "pulsar"), default="embedded")
    parser.add_argument("--data-dir", type=Path, help="keep everything there")
    parser.add_argument("--without", choices=MECHANISMS, help="take a mechanism away: a promise must break")
    asked = parser.parse_args()
    began = time.monotonic()

    def tell(sentence: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {sentence}", flush=True)

    folder = place(asked.data_dir)
    verdict = None
    try:
        verdict = run(asked.seed, asked.faults, broker=asked.broker, folder=folder, tell=tell, without=asked.without)
    finally:
        if verdict is None or verdict.broken:
            print(f"data and logs: {folder}", flush=True)
    for line in verdict.lines():
        print(line, flush=True)
    if not verdict.broken and asked.data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    sys.exit(main())
