"""Run a campaign of faults against the whole of Jobber, and print a verdict for each promise.

python -m tests.chaos --seed 7 --faults 200
python -m tests.chaos --seed 7 --faults 200 --broker pulsar
python -m tests.chaos --seed 7 --faults 40 --data-dir somewhere       # keep data and logs
"""

import argparse
import sys
import time
from pathlib import Path

from tests.chaos.campaign import place, run


def main() -> int:
    """0 when every promise held, 1 when one did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--broker", choices=("embedded", "pulsar"), default="embedded")
    parser.add_argument("--data-dir", type=Path, help="keep everything there")
    asked = parser.parse_args()
    began = time.monotonic()

    def tell(sentence: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {sentence}", flush=True)

    with place(asked.data_dir) as folder:
        verdict = run(asked.seed, asked.faults, broker=asked.broker, folder=folder, tell=tell)
        for line in verdict.lines():
            print(line, flush=True)
        if verdict.broken:
            print(f"data and logs: {folder}")
            # The folder stays for whoever looks into it.
            sys.stdout.flush()
            import os

            os._exit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
