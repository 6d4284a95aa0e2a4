"""One campaign: start everything, let people submit, inflict the schedule, heal, wait, compare."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobber import errors
from jobber.cli.client import Client
from jobber.errors import Unavailable
from jobber.local.processes import tail
from tests.chaos import faults as chaos
from tests.chaos.compare import compare
from tests.chaos.database import Database
from tests.chaos.leftover import left_over, running
from tests.chaos.model import Model
from tests.chaos.people import RESUME, Person
from tests.chaos.sabotage import WITHOUT, sabotage
from tests.chaos.toxiproxy import Toxiproxy
from tests.chaos.watcher import Watcher
from tests.support.system import System, start

PEOPLE = 4
#: Seconds after the last fault in which every job ends (I2), beyond the work that is left.
RECOVERY = 60.0
#: Records a second that a shared machine loads at the least; what is left of work is measured by it.
SPEED = 20_000
#: Folders of the system that lie on small disks, which can be filled, and their bytes.
DISKS = {"blobs": 1 << 30, "postgres": 4 << 30}

PROMISES = {
    "I1": "every record ends exactly once",
    "I2": "every job ends within 60 s plus its remaining work",
    "I3": "the same key is the same job",
    "I4": "an answered submission survives",
    "I5": "no row appears after an answered cancel",
    "I6": "terminal is final",
    "I7": "a batch is always the same records",
    "I8": "progress only grows, up to the total",
    "I9": "only poison is POISON",
    "I11": "rejects keep row, column, code, message and raw text",
    "I12": "whole jobs are seen whole or not at all, dry runs never",
    "I17": "nothing is left over",
}


@dataclass
class Verdict:
    """What a campaign came to."""

    seed: int
    broker: str
    faults: Counter[str] = field(default_factory=Counter)
    impossible: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    jobs: Counter[str] = field(default_factory=Counter)
    #: By what was asked, and how it was to be written.
    kinds: Counter[str] = field(default_factory=Counter)
    records: int = 0
    answered: int = 0
    samples: int = 0
    #: Seconds from the last fault to the last job's end.
    recovery: float = 0.0
    broken: dict[str, str] = field(default_factory=dict)
    #: What was not tried, and why.
    missing: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For people, and for scripts that look for BROKEN."""
        faults = ", ".join(f"{count} {name}" for name, count in self.faults.most_common())
        yield f"seed {self.seed}, {self.broker}: {sum(self.faults.values())} faults, {self.kills} SIGKILLs: {faults}"
        if self.impossible:
            yield "found nobody to inflict: " + ", ".join(f"{count} {name}" for name, count in self.impossible.items())
        jobs = ", ".join(f"{count} {state}" for state, count in self.jobs.most_common())
        yield f"{sum(self.jobs.values())} jobs ({jobs}) of {self.records:,} records"
        yield "asked for: " + ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        yield f"{self.answered} answered submissions; progress was sampled {self.samples} times"
        yield f"all ended {self.recovery:.1f} s after the last fault"
        for what in self.missing:
            yield f"NOT TRIED {what}"
        for promise, text in PROMISES.items():
            verdict = f"BROKEN {self.broken[promise]}" if promise in self.broken else "held"
            yield f"{promise:4} {text:55} {verdict}"


def run(
    seed: int, count: int, *, broker: str, folder: Path, tell: Callable[[str], None], without: str | None = None
) -> Verdict:
    """The campaign; `folder` keeps data and logs. `without` takes one of MECHANISMS away: then something must break."""
    verdict, model = Verdict(seed, broker), Model()
    with contextlib.ExitStack() as stack:
        toxiproxy = stack.enter_context(contextlib.closing(Toxiproxy(folder / "toxiproxy.log")))
        disks = [
            disk
            for name, size in DISKS.items()
            if (disk := stack.enter_context(_small_disk(folder / "up" / name, size, verdict))) is not None
        ]
        system = _system(folder, toxiproxy.url, broker, without or "", surveyed=bool(seed % 2))
        stack.callback(system.kill_up)
        stack.push(lambda kind, *_: _tell_of_logs(folder / "up", tell) if kind else None)
        if without:
            sabotage(system.state["database"], without)
        database = Database(lambda: str(system.state["database"]))
        watcher = Watcher(database, model)
        watcher.start()
        people = [Person(n, seed, _user(system, n), folder, model, database.count) for n in range(PEOPLE)]
        for person in people:
            person.start()
        nemesis = chaos.Nemesis(system, toxiproxy.url, disks, tell)
        for fault in chaos.schedule(seed, count, pulsar=broker == "pulsar"):
            chaos.wait(fault.pause)
            nemesis.inflict(fault)
            if system.process.poll() is not None:
                raise AssertionError(f"`jobber up` ended: {system.said()[-3000:]}")
        nemesis.heal()
        healed = time.monotonic()
        tell("all faults are over")
        for person in people:
            person.enough.set()
        for person in people:
            person.join(120)
            if person.fault is not None:
                raise person.fault
        _wait(system, database, model, healed, verdict)
        watcher.enough.set()
        watcher.join()
        admin = _insist(lambda: system.login(system.state["admin"]["email"], system.state["admin"]["password"]))
        compare(model, database, admin)
        watcher.look()
        left = left_over(database, folder / "up", pulsar=broker == "pulsar")
        if left:
            model.blame("I17", ", ".join(f"{number} {what}" for what, number in left.items()))
        verdict.jobs.update(row[0] for row in database.rows("SELECT state FROM jobs.jobs"))
        system.stop()
        time.sleep(1)
        if processes := running(folder / "up"):
            model.blame("I17", f"processes that still run: {processes}")
    verdict.faults, verdict.impossible, verdict.kills = nemesis.done, nemesis.impossible, nemesis.kills
    verdict.records = sum(job.total for job in model.jobs)
    verdict.kinds.update(job.kind for job in model.jobs)
    verdict.answered, verdict.samples, verdict.broken = model.answered, watcher.samples, model.broken
    return verdict


def _system(folder: Path, api: str, broker: str, without: str, *, surveyed: bool) -> System:
    replicas = ("--executors", "2", "--jobs", "2", "--products", "2", "--broker", broker)
    modules = "tests.support.poison,tests.chaos.sabotage" if without else "tests.support.poison"
    environment = {
        "JOBBER_JOB_MODULES": modules,
        WITHOUT: without,
        "JOBBER_GRACE": "5",
        "JOBBER_STRAY_MINUTES": "0.25",
        # In some campaigns uploads are planned while they come, in others by executors.
        "JOBBER_SURVEYS_AT_ONCE": "2" if surveyed else "0",
        # Ten batches of the largest inputs: keys that come again do so in several of them.
        "JOBBER_BATCH_ROWS": "10000",
    }
    program = (sys.executable, "-P", "-m", "tests.chaos.up", api, "up")
    return start(folder / "up", *replicas, environment=environment, program=program)


def _tell_of_logs(up: Path, tell: Callable[[str], None]) -> None:
    """A campaign that could not go on shows what the services said last."""
    for log in sorted((up / "logs").glob("*.log")):
        tell(tail(log))


@contextlib.contextmanager
def _small_disk(place: Path, size: int, verdict: Verdict) -> Iterator[Path | None]:
    """A file system that can be filled. It takes root to mount one."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        verdict.missing.append(f"a full disk under {place.name}: {mounted.stderr.strip()}")
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def _user(system: System, number: int) -> Client:
    email, password = f"person{number}@chaos.example", f"a long password {number}"
    system.client.ask(
        "mutation($input: CreateUserInput!) { createUser(input: $input) { id } }",
        {"input": {"email": email, "password": password}},
        service=system.client.auth,
    )
    return system.login(email, password)


def _wait(system: System, database: Database, model: Model, healed: float, verdict: Verdict) -> None:
    """Until every job has ended, or it has taken too long (I2). Pauses that were carried out late are undone."""
    records = {job.id: job.total for job in model.jobs}
    going = _going(database)
    limit = RECOVERY + sum(records.get(job_id, 0) for job_id in going) / SPEED
    admin = _insist(lambda: system.login(system.state["admin"]["email"], system.state["admin"]["password"]))
    while going:
        waited = time.monotonic() - healed
        if waited > limit:
            model.blame("I2", f"{waited:.0f} s after the last fault, {limit:.0f} s allowed: {sorted(going.items())[:5]}")
            break
        for job_id, state in going.items():
            if state == "PAUSED":
                with contextlib.suppress(errors.JobberError):
                    admin.ask(RESUME, {"id": job_id})
        time.sleep(0.3)
        going = _going(database)
    verdict.recovery = time.monotonic() - healed


def _going(database: Database) -> dict[str, str]:
    rows = database.rows(
        "SELECT id::text, state FROM jobs.jobs WHERE state NOT IN ('SUCCEEDED', 'PARTIAL', 'FAILED', 'CANCELED')"
    )
    return dict(rows)


def _insist(work: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            return work()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def place(given: Path | None) -> Path:
    """Where a campaign lives."""
    if given is None:
        given = Path(tempfile.mkdtemp(prefix="jobber-chaos-"))
    given.mkdir(parents=True, exist_ok=True)
    # Embedded PostgreSQL runs as another user when we are root.
    os.chmod(given, 0o755)
    return given.resolve()
