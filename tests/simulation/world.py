"""One simulated campaign: services, people who submit, and faults, all from one seed.

python -m tests.simulation --seed 17
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from api.jobs.decide import Limits
from jobber import faults
from jobber.errors import Conflict, InvalidState, Transient
from jobber.model import PLAIN, State, Writing
from tests.simulation.broker import Broker
from tests.simulation.checker import Broken, Watch, check_end, need
from tests.simulation.database import Database
from tests.simulation.jobs import Jobs
from tests.simulation.kernel import Kernel, Process, drive
from tests.simulation.network import Network
from tests.simulation.products import Ledger
from tests.simulation.rows import Cut, JobRow
from tests.simulation.services import Cluster, Truth

#: Seconds after the last fault in which every job must have ended (I2). The work itself takes about two.
RECOVERY, WORK = 60.0, 5.0
#: Seconds in which jobs end when nothing at all goes wrong, and when only executors die: no sweep has to help there.
SMOOTH, SWIFT = 4.0, 12.0
#: Seconds after the last fault in which what was frozen shows what it still does.
AFTERMATH = 1.0
#: Seconds after the last job's end in which what is left over goes away.
REST = 40.0


@dataclass(frozen=True)
class Weather:
    """How bad it gets."""

    name: str
    faults: tuple[str, ...]
    #: Seconds that jobs may take after the last fault.
    patience: float


#: How rows are written: most of them plainly.
WRITINGS = (*[PLAIN] * 5, *[Writing(whole=True)] * 2, Writing(dry_run=True), Writing(dry_run=True, whole=True))
KILLS = ("kill executor", "kill jobs", "kill products")
CALM = Weather("calm", (), SMOOTH)
DEATHS = Weather("deaths of executors", ("kill executor",), SWIFT)
STORM = Weather(
    "storm",
    (
        *(KILLS * 2),
        *("freeze executor", "freeze jobs", "freeze products"),
        *("crash database", "crash broker", "wipe broker", "haunt", "cut network", "lose commits"),
    ),
    RECOVERY + WORK,
)


@dataclass
class Story:
    """What happened, for people who look into a seed."""

    seed: int
    weather: str
    steps: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)


def simulate(seed: int, most_faults: int = 6) -> Story:
    """Run one campaign. Raises Broken when a promise does not hold, naming the seed."""
    kernel = Kernel(seed)
    with _points(kernel):
        world = World(kernel, most_faults)
        story = world.story
        try:
            world.run()
        except Broken as fault:
            raise Broken(f"{fault} (seed {seed}, {story.weather}: {', '.join(story.faults) or 'no fault'})") from fault
        finally:
            story.steps, story.seconds = kernel.steps, kernel.now
            for process in kernel.processes:
                process.died.clear()
                process.kill()
    return story


@contextmanager
def _points(kernel: Kernel) -> Iterator[None]:
    """Every named fault point of the shipped code gives way."""
    shipped = faults.point
    faults.point = lambda name: kernel.step()
    try:
        yield
    finally:
        faults.point = shipped


class World:
    """Builds the cluster and lets the seed do its worst."""

    def __init__(self, kernel: Kernel, most_faults: int) -> None:
        self.kernel = kernel
        self.random = kernel.random
        self.weather = self.random.choices((STORM, DEATHS, CALM), (8, 2, 1))[0]
        self.story = Story(kernel.seed, self.weather.name)
        self.database = Database(kernel)
        self.network = Network(kernel)
        self.broker = Broker(kernel)
        self.cluster = Cluster(kernel, self.network, self.broker, Jobs(self.database), Ledger(self.database))
        if self.weather is STORM:
            # Long enough for a planner to die over a file while its message is lost.
            self.cluster.planning = 3.0
        self.watch = Watch(self.cluster, calm=self.weather is CALM)
        self.faults_left = self.random.randint(1, most_faults) if self.weather.faults else 0
        #: Faults that still last.
        self.unmended = 0
        self.last_fault = 0.0
        self.people = 0
        #: Jobs whose submission was answered.
        self.accepted: set[str] = set()
        #: What people wait for, or saw, that must not be.
        self.broken: Broken | None = None

    def run(self) -> None:
        """Until all is still. Raises Broken."""
        kernel, cluster = self.kernel, self.cluster
        starts = (
            ("jobs", cluster.jobs_service, self.random.randint(1, 2)),
            ("products", cluster.products_service, self.random.randint(1, 2)),
            ("executor", cluster.executor, self.random.randint(1, 2)),
        )
        for name, start, replicas in starts:
            self.network.services[name] = [kernel.process(f"{name}-{number}", start) for number in range(replicas)]
            for process in self.network.services[name]:
                process.died += [self.database.client_died, self.broker.client_died, self._restart]
        people = kernel.process("people", self._people)
        people.spawn(self._nemesis)
        people.spawn(self._tidy)
        if not kernel.run(self._still, 600.0):
            stuck = [f"{row.id} {row.state}" for row in cluster.jobs.rows() if not row.state.terminal]
            raise Broken(f"I2: not ended after {kernel.now:.0f} s: {stuck}")
        self._raise()
        ended_at = kernel.now
        # An idle system moves on as well: messages of ended jobs are taken and dropped.
        kernel.run(lambda: not self.broker.messages and not self.database.open, ended_at + REST)
        self._raise()
        check_end(cluster)
        for row in cluster.jobs.rows():
            self.story.ended[row.state] = self.story.ended.get(row.state, 0) + 1
        lost = self.accepted - {row.id for row in cluster.jobs.rows()}
        need(not lost, "I4", f"accepted jobs {lost} are not there")

    def _raise(self) -> None:
        for fault in (self.watch.broken, self.broken):
            if fault:
                raise fault

    def _still(self) -> bool:
        if self.watch.broken or self.broken:
            return True
        if self.people or self.faults_left or self.unmended:
            return False
        waited = self.kernel.now - self.last_fault
        if all(row.state.terminal for row in self.cluster.jobs.rows()):
            # What thawed last may still carry out what its caller has given up: a submission, for one.
            return waited > AFTERMATH
        if waited > self.weather.patience:
            late = [f"{row.id} is {row.state}" for row in self.cluster.jobs.rows() if not row.state.terminal]
            self.broken = Broken(f"I2: {waited:.0f} s after the last fault {', '.join(late)}")
        return False

    # People.

    def _people(self, process: Process) -> None:
        for number in range(self.random.randint(1, 3)):
            self.people += 1
            process.spawn(lambda number=number: self._person(f"owner-{number % 2}", number))  # type: ignore[misc]

    def _person(self, owner: str, number: int) -> None:
        try:
            self.kernel.sleep(self.random.random() * 2)
            job_id = self._submit(owner, number)
            if job_id is not None and self.weather is not CALM:
                self._steer(job_id)
        except Broken as fault:
            self.broken = fault
        finally:
            self.people -= 1
            self.last_fault = max(self.last_fault, self.kernel.now)

    def _submit(self, owner: str, number: int) -> str | None:
        truth = self._truth()
        key = f"key-{number}" if self.random.random() < 0.7 else None
        limits = Limits(max_errors=self.random.randint(0, 2)) if self.random.random() < 0.2 else Limits()
        writing = self.random.choice(WRITINGS)
        if writing.whole and limits == Limits():
            limits = Limits(max_errors=0)
        cut = None if self.random.random() < 0.4 else self._cut(truth)
        rate = self.random.choice((None, None, 20))
        first = None
        for attempt in range(20):
            job_id = f"{number:08x}-0000-7000-8000-{attempt:012x}"
            row = JobRow(
                id=job_id,
                number=number * 100 + attempt,
                owner=owner,
                key=key,
                payload="one",
                limits=limits,
                lane="bulk" if cut and len(cut) > 1 else "fast",
                priority=self.random.randint(0, 2),
                writing=writing,
                max_rows_per_second=rate,
            )
            self.cluster.truths[job_id] = truth
            try:
                answered = self._ask(lambda row=row: self._stored(row, cut))
            except Transient:
                if key is None:
                    return None
                self.kernel.sleep(1.0)
                continue
            self.accepted.add(answered)
            need(first in (None, answered), "I3", f"one key gave {first} and {answered}")
            first = answered
            if key is None or self.random.random() < 0.7:
                break
        if first is not None and key is not None and self.random.random() < 0.3:
            self._ask_conflict(JobRow(id="other", number=-1, owner=owner, key=key, payload="another"))
        return first

    def _stored(self, row: JobRow, cut: Cut | None) -> str:
        return self.cluster.jobs.submit(row, cut)[0]

    def _ask_conflict(self, row: JobRow) -> None:
        try:
            self._ask(lambda: self._stored(row, ()))
        except (Conflict, Transient):
            return
        raise Broken("I3: another payload under the same key was taken")

    def _ask(self, work: object) -> str:
        def answer(server: Process) -> str:
            stored: str = work()  # type: ignore[operator]
            self.cluster.dispatchers[server.name].wake()
            return stored

        return self.network.call("jobs", answer)

    def _steer(self, job_id: str) -> None:
        """Perhaps cancel it, perhaps pause and resume it."""
        self.kernel.sleep(self.random.random() * 3)
        choice = self.random.random()
        try:
            if choice < 0.25:
                self._cancel(job_id)
            elif choice < 0.35:
                # A frozen service may carry out the pause long after its caller gave up: people look again.
                self.kernel.current.spawn(lambda: self._look_again(job_id))
                self._insist(lambda: self.cluster.jobs.pause(job_id))
                self.kernel.sleep(self.random.random() * 5)
                self._insist(lambda: self.cluster.jobs.resume(job_id))
        except InvalidState:
            return

    def _look_again(self, job_id: str) -> None:
        while True:
            self.kernel.sleep(5.0)
            row: JobRow = self.database.rows[("job", job_id)]
            if row.state is State.PAUSED:
                with contextlib.suppress(InvalidState):
                    self._insist(lambda: self.cluster.jobs.resume(job_id))

    def _insist(self, work: object) -> None:
        while True:
            try:
                self.network.call("jobs", lambda server: work())  # type: ignore[operator]
                return
            except Transient:
                self.kernel.sleep(0.5)

    def _cancel(self, job_id: str) -> None:
        """As the mutation does; once it answers CANCELED no further row may appear, which the watch sees to."""

        def work(server: Process) -> State:
            self.cluster.jobs.cancel(job_id)
            faults.point("cancel.after_commit")
            dispatcher = self.cluster.dispatchers[server.name]
            drive(dispatcher.close_jobs())
            dispatcher.wake()
            row: JobRow = self.database.rows[("job", job_id)]
            return row.state

        while True:
            try:
                self.network.call("jobs", work)
                return
            except Transient:
                self.kernel.sleep(0.5)

    def _truth(self) -> Truth:
        rows = self.random.choice((0, 1, 1, 2, 5, 9, 14))
        bad = frozenset(row for row in range(1, rows + 1) if self.random.random() < self.random.choice((0, 0, 0.2, 1)))
        poison = frozenset({self.random.randint(1, rows)}) if rows and self.random.random() < 0.08 else frozenset()
        return Truth(rows, bad, poison if self.weather is STORM else frozenset())

    def _cut(self, truth: Truth) -> Cut:
        size = self.random.randint(1, 4)
        return tuple((row, min(size, truth.rows - row + 1)) for row in range(1, truth.rows + 1, size))

    # Faults.

    def _tidy(self) -> None:
        while True:
            self.kernel.sleep(1.0)
            self.database.tidy()

    def _nemesis(self) -> None:
        self.broker.repeats = self.broker.forgets = 0.05 if self.weather is STORM else 0.0
        while self.faults_left:
            self.kernel.sleep(self.random.random() * self.random.choice((0.05, 0.5, 4.0)))
            what = self.random.choice(self.weather.faults)
            self.story.faults.append(f"{what} at {self.kernel.now:.2f}")
            self._inflict(what)
            self.faults_left -= 1
        self.broker.repeats = self.broker.forgets = 0.0
        self.last_fault = max(self.last_fault, self.kernel.now)

    def _inflict(self, what: str) -> None:
        verb, _, whom = what.partition(" ")
        if verb in ("kill", "freeze"):
            process = self.random.choice(self.network.services[whom])
            (self._kill if verb == "kill" else self._freeze)(process)
        elif what == "crash database":
            self.database.crash(self._later(3.0, lambda: None))
        elif what == "crash broker":
            self.broker.down_until = self.kernel.now + self._later(5.0, lambda: None)
        elif what == "wipe broker":
            self.broker.wipe()
        elif what == "haunt":
            for _ in range(3):
                self.broker.haunt()
        elif what == "cut network":
            self.network.loss = self.random.choice((0.1, 0.5, 1.0))
            self._later(10.0, lambda: setattr(self.network, "loss", 0.0))
        else:
            self.database.lose_answers = 0.3
            self._later(5.0, lambda: setattr(self.database, "lose_answers", 0.0))

    def _kill(self, process: Process) -> None:
        process.kill()

    def _restart(self, process: Process) -> None:
        """The supervisor starts it again."""
        self._later(1.0, lambda: None if process.alive else process.boot())

    def _freeze(self, process: Process) -> None:
        process.frozen = True
        life = process.life
        self._later(40.0, lambda: setattr(process, "frozen", False) if process.life == life else None)

    def _later(self, most: float, mend: object) -> float:
        """Mend it after a while; the fault ends then."""
        seconds = self.random.random() * most
        self.unmended += 1

        def wait() -> None:
            self.kernel.sleep(seconds)
            mend()  # type: ignore[operator]
            self.unmended -= 1
            self.last_fault = max(self.last_fault, self.kernel.now)

        self.kernel.processes[-1].spawn(wait)
        return seconds
