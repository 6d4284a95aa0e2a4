"""The executor, whose wall clock is set back: Bytewax waits by that clock, and would stand still until it is right again."""

import threading
from pathlib import Path

import pytest

from tests.integration.peers import csv_of, peers, until
from tests.integration.test_pipelines_process import executor
from tests.support import clocks


@pytest.mark.campaign
def test_a_clock_that_is_set_back_stops_nobody(database: str, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clocks.tell(clock, "+3h")
    (tmp_path / "blobs").mkdir()
    with peers(database, tmp_path / "blobs") as around:
        around.products.faults.held["Load"] = held = threading.Event()
        first = around.submit(csv_of(10))
        with executor(around, JOBBER_IN_FLIGHT="1", **clocks.wrong(clock)) as process:
            # With no room it asks again and again.
            until(lambda: around.products.faults.calls["Load"] == 1, 60)
            clocks.tell(clock, "-3h")
            threading.Event().wait(2.5)
            held.set()
            second = around.submit(csv_of(10))
            until(lambda: around.settled([*first, *second]), 60)
            assert process.end() == 0
