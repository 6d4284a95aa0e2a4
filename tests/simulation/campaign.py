"""Many seeds at once, and the hunt for mutants."""

import gc
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.checker import Broken
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import simulate

#: Seeds that one process takes at a time.
CHUNK = 250
#: Seeds that a mutant may survive.
PATIENCE = 1500


@dataclass
class Found:
    """What a campaign came to."""

    seeds: int = 0
    steps: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    #: A sentence for each seed that broke a promise.
    broken: list[str] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        """Take another one's seeds in."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.seconds += other.seconds
        self.faults += other.faults
        self.ended += other.ended
        self.broken += other.broken

    def summary(self) -> str:
        """One line of what was tried, and what of it."""
        faults = ", ".join(f"{count:,} {name}" for name, count in self.faults.most_common())
        ended = ", ".join(f"{count:,} {name}" for name, count in self.ended.most_common())
        return (
            f"{self.seeds:,} seeds, {self.steps:,} steps, {self.seconds / 3600:,.1f} simulated hours\n"
            f"faults: {faults}\njobs: {ended}\n{len(self.broken)} seeds broke a promise"
        )


class _Complaints(logging.Handler):
    """What shipped code logs as an error is a bug of it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        fault = record.exc_info[1] if record.exc_info else ""
        self.said.append(f"logged as an error: {record.getMessage()} {fault!r}")


def run(seeds: Sequence[int], faults: int) -> Found:
    """One process's share."""
    found, complaints = Found(), _Complaints()
    logger = logging.getLogger()
    logger.addHandler(complaints)
    logging.disable(logging.WARNING)
    try:
        for seed in seeds:
            found.seeds += 1
            try:
                story = simulate(seed, faults)
                found.steps += story.steps
                found.seconds += story.seconds
                found.faults.update(fault.split(" at ")[0] for fault in story.faults)
                found.ended.update(story.ended)
                if complaints.said:
                    raise Broken(f"{complaints.said[0]} (seed {seed})")
            except Exception as fault:
                found.broken.append(str(fault) if isinstance(fault, Broken) else f"{fault!r} (seed {seed})")
            complaints.said.clear()
    finally:
        logging.disable(logging.NOTSET)
        logger.removeHandler(complaints)
    return found


def campaign(seeds: Iterable[int], faults: int = 6) -> Found:
    """All of them, on all cores."""
    every = list(seeds)
    chunks = [every[start : start + CHUNK] for start in range(0, len(every), CHUNK)]
    found = Found()
    with _processes() as pool:
        for part in pool.map(partial(run, faults=faults), chunks):
            found.add(part)
    return found


def hunt(names: Iterable[str] = tuple(MUTANTS)) -> dict[str, str | None]:
    """Mutant -> what saw it; None when it survived."""
    with _processes() as pool:
        return dict(pool.map(_hunt, list(names)))


def _hunt(name: str) -> tuple[str, str | None]:
    with MUTANTS[name]():
        # One by one: a campaign without its mechanism may be busy for all of its simulated ten minutes.
        for seed in range(PATIENCE):
            found = run([seed], 6)
            if found.broken:
                return name, found.broken[0]
    return name, None


def _processes() -> ProcessPoolExecutor:
    # Forked: importing Polars for every process would take longer than its seeds.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    import multiprocessing

    # What tests of gRPC left behind is collected here, and never in a fork: its destructor would wait there, for ever, for a
    # thread that was not forked.
    gc.collect()
    return ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork"), initializer=gc.freeze)
