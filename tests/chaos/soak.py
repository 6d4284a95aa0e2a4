"""Run Jobber under a steady load, and tell whether memory, descriptors or connections of any process grow.

    python -m tests.chaos.soak --minutes 30
    python -m tests.chaos.soak --minutes 5 --broker pulsar
    python -m tests.chaos.soak --minutes 3 --leak        a job type leaks: the verdict must say so

The first third is warm-up. A table line for each process and measure; exit code 0 only when all are flat and no process ended.
"""

import argparse
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.campaign import place
from tests.chaos.load import Load
from tests.chaos.processes import Holds, holdings
from tests.chaos.trend import CACHED_FILES, CONNECTIONS, DESCRIPTORS, MEMORY, Bar, Trend, trend
from tests.support.system import start

#: Seconds between two samples.
EVERY = 5.0
#: Share of the time in which caches fill and pools grow.
WARM_UP = 1 / 3
#: Fewer samples of something, like a child that lives for a moment, tell nothing of growth.
ENOUGH = 8
MEASURES: dict[str, tuple[Bar, Callable[[Holds], float]]] = {
    "MiB": (MEMORY, lambda holds: holds.memory),
    "descriptors": (DESCRIPTORS, lambda holds: holds.descriptors),
    "connections": (CONNECTIONS, lambda holds: holds.connections),
}
ROLES = ("auth", "jobs", "executor", "products", "postgres", "broker")


@dataclass
class Soaked:
    """What a soak came to."""

    #: (process, measure) -> its trend.
    trends: dict[tuple[str, str], Trend] = field(default_factory=dict)
    #: Roles whose processes are not those of the start.
    restarted: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)

    @property
    def growing(self) -> list[tuple[str, str]]:
        """What is not flat."""
        return [key for key, line in self.trends.items() if not line.flat]

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{'process':24} {'measure':12} {'first':>9} {'median':>9} {'most':>9} {'growth':>9} {'an hour':>9}"
        for (process, measure), line in sorted(self.trends.items()):
            unit = 1 << 20 if measure == "MiB" else 1
            numbers = (line.first, line.median, line.most, line.growth, line.hourly)
            told = " ".join(f"{number / unit:9.1f}" for number in numbers)
            yield f"{process:24} {measure:12} {told}  {'flat' if line.flat else 'NOT FLAT'}"
        yield "done: " + ", ".join(f"{count} {kind}" for kind, count in self.done.items())
        if self.restarted:
            yield f"processes ended during the soak: {', '.join(self.restarted)}"
        yield "flat" if not self.growing and not self.restarted else "NOT FLAT"


def soak(minutes: float, folder: Path, *, broker: str, leak: bool, tell: Callable[[str], None]) -> Soaked:
    """Start, load, sample, stop. Raises what went wrong with a job."""
    modules = {"JOBBER_JOB_MODULES": "tests.chaos.leaky"} if leak else None
    system = start(folder / "up", "--executors", "2", "--jobs", "2", "--broker", broker, environment=modules)
    samples: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    try:
        load = Load(system, folder, leak=leak)
        before = {role: system.pids(role) for role in ROLES}
        load.start()
        began = time.monotonic()
        while (at := time.monotonic() - began) < minutes * 60 and load.fault is None:
            for process, holds in holdings(system).items():
                for measure, (_, value) in MEASURES.items():
                    samples[process, measure].append((at, value(holds)))
            if int(at / 60) != int((at - EVERY) / 60):
                tell(f"{at / 60:.0f} of {minutes:.0f} minutes, {sum(load.done.values())} requests for work")
            time.sleep(EVERY)
        load.stop()
        restarted = [role for role in ROLES if system.pids(role) != before[role]]
    finally:
        system.stop()
    return Soaked(dict(_trends(samples, minutes * 60 * WARM_UP)), restarted, dict(load.done))


def _trends(samples: dict[tuple[str, str], list[tuple[float, float]]], warm: float) -> Iterator[tuple[tuple[str, str], Trend]]:
    for (process, measure), series in samples.items():
        counted = [(at, value) for at, value in series if at >= warm]
        if len(counted) >= ENOUGH and any(value for _, value in counted):
            cache = (process, measure) == ("postgres", "descriptors")
            yield (process, measure), trend(counted, CACHED_FILES if cache else MEASURES[measure][0])


def main() -> int:
    """0 when all is flat."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--broker", choices=("embedded", "pulsar"), default="embedded")
    parser.add_argument("--data-dir", type=Path, help="keep everything there")
    parser.add_argument("--leak", action="store_true", help="let a job type leak: the verdict must be NOT FLAT")
    asked = parser.parse_args()
    folder = place(asked.data_dir)
    soaked = soak(asked.minutes, folder, broker=asked.broker, leak=asked.leak, tell=lambda text: print(text, flush=True))
    if asked.data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    for line in soaked.lines():
        print(line, flush=True)
    return 1 if soaked.growing or soaked.restarted else 0


if __name__ == "__main__":
    sys.exit(main())
