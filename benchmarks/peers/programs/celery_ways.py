"""Sends a file's records to Celery workers, a thousand or one a task, and waits until all are written."""

import itertools
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.programs.celery_app import FINISHED, app, copy_batch, counter, insert_record
from benchmarks.peers.programs.served import records, serve

#: Rows of a task that COPYs.
BATCH = 1000
#: Worker processes: one for each of two cores.
WORKERS = 2


def load(csv_file: Path) -> None:
    """Send while the workers work."""
    counter().set(FINISHED, 0)
    sent = 0
    with records(csv_file) as rows:
        if sys.argv[1] == "copy":
            while batch := list(itertools.islice(rows, BATCH)):
                copy_batch.delay(batch)
                sent += len(batch)
        else:
            for row in rows:
                insert_record.delay(row)
                sent += 1
    while int(counter().get(FINISHED) or 0) < sent:
        time.sleep(0.005)


def main() -> None:
    """With workers of its own."""
    # Workers that tell each other nothing, as each is alone.
    options = ["--concurrency", str(WORKERS), "--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.programs.celery_app", "worker", "--loglevel", "WARNING"]
    workers = subprocess.Popen([*worker, *options], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        while not app.control.ping(timeout=0.5):
            if workers.poll() is not None:
                raise SystemExit("the workers ended")
        serve(load)
    finally:
        workers.terminate()
        workers.wait()


if __name__ == "__main__":
    main()
