"""Restart every service under load, and count what is lost or loaded twice; exit code 1 when anything broke.

python -m tests.rolling [--rows 2000000] [--broker pulsar]
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.rolling.restart import roll


def main() -> int:
    """Run it, and say what was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.rolling", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--broker", choices=("embedded", "pulsar"), default="embedded")
    asked = parser.parse_args()
    began, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="jobber-rolling-"))

    def tell(sentence: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {sentence}", flush=True)

    outcome = roll(asked.rows, folder, tell, asked.broker)
    tell(outcome.line())
    for broken in outcome.broken:
        print(f"BROKEN  {broken}", flush=True)
    if outcome.broken:
        print(f"data and logs: {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    print("0 lost, 0 twice, no request that was not cured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
