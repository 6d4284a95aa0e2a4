"""The rules: what people, dispatchers, planners and executors do, in any order, cut off anywhere, twice, late or at once."""

import sys
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api.jobs.decide import Limits
from jobber.model import PLAIN, State, WriteMode, Writing
from tests.state_machine.acts import Acts
from tests.state_machine.book import Input
from tests.state_machine.promises import EMPTY, Snapshot, check, look, need
from tests.state_machine.session import Cut
from tests.state_machine.world import World

#: Picks one of however many there are.
PICK = st.integers(0, 63)
PICKS = st.lists(PICK, min_size=1, max_size=4)
OWNERS = ("00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b")
WRITINGS = (
    *[PLAIN] * 4,
    *[Writing(whole=True)] * 2,
    *[Writing(mode=WriteMode.UPSERT, keys=("name",))] * 2,
    Writing(dry_run=True),
    Writing(dry_run=True, whole=True),
    Writing(dry_run=True, mode=WriteMode.UPSERT, keys=("name",)),
)
INPUTS = st.builds(
    Input,
    rows=st.integers(0, 7),
    bad=st.frozensets(st.integers(1, 7), max_size=3),
    refused=st.one_of(st.none(), st.none(), st.none(), st.integers(1, 7)),
    kind=st.sampled_from(["LoadProducts", "LoadProducts", "LoadProducts", "Compute"]),
    limits=st.builds(Limits, st.one_of(st.none(), st.none(), st.integers(0, 2))),
    cut=st.sampled_from([1, 1, 2, 3, None]),
    writing=st.sampled_from(WRITINGS),
)
#: A connection that ends before or after a round trip; mostly not.
CUTS = st.one_of(st.none(), st.none(), st.none(), st.builds(Cut, st.integers(0, 6), after=st.booleans()))
SECONDS = st.sampled_from([1, 3, 10, 40])

#: What may meet in a race: as many as two or three of these, each with a number that picks its object.
MEETINGS = (
    ("load", "cancel and close"),
    ("publish", "cancel and close"),
    ("publish", "publish"),
    ("publish", "acknowledge"),
    ("acknowledge", "acknowledge"),
    ("dispatch", "dispatch"),
    ("submit again", "submit again"),
)
RACES = st.one_of(
    st.lists(st.tuples(st.sampled_from(sorted(Acts.RACERS)), PICK), min_size=2, max_size=3),
    st.tuples(st.sampled_from(MEETINGS), PICK, PICK).map(lambda drawn: [(drawn[0][0], drawn[1]), (drawn[0][1], drawn[2])]),
)
TURNS = st.lists(st.integers(0, 2), max_size=24)


class Machine(RuleBasedStateMachine):
    """One run."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.begin()
        self.acts = Acts(world)
        self.book = self.acts.book
        self.seen: Snapshot = EMPTY
        self.alone = True

    @invariant()
    def promises_hold(self) -> None:
        self.world.steps += 1
        new = look(self.world.watch)
        check(self.seen, new, self.book, alone=self.alone)
        self.seen, self.acts.seen, self.alone = new, new, True

    @initialize(first=st.lists(INPUTS, min_size=1, max_size=3), delivered=st.booleans())
    def some_jobs(self, first: list[Input], delivered: bool) -> None:
        """Most of what goes wrong goes wrong with jobs that are on their way."""
        for number, given in enumerate(first):
            self._do(self.acts.submit(self.acts.new_job(OWNERS[0], f"first {number}", given, 0)))
        self._do(self.acts.dispatch(0))
        self.promises_hold()
        if delivered and self.world.transport.messages:
            self._do(self.acts.deliver(range(8), keep=False))

    # People.

    @rule(given=INPUTS, owner=st.sampled_from(OWNERS), key=st.sampled_from([None, "k", "l"]), upload=PICK, cut=CUTS)
    def submit(self, given: Input, owner: str, key: str | None, upload: int, cut: Cut | None) -> None:
        self._do(self.acts.submit(self.acts.new_job(owner, key, given, upload)), cut)

    @precondition(lambda self: self.acts.keyed())
    @rule(pick=PICK, other=st.booleans(), cut=CUTS)
    def submit_again(self, pick: int, other: bool, cut: Cut | None) -> None:
        self._do(self.acts.submit(self.acts.same_job(pick, other=other)), cut)

    @rule(expire=st.booleans(), pick=PICK)
    def upload(self, expire: bool, pick: int) -> None:
        self._do(self.acts.expire(pick) if expire else self.acts.add_upload())

    @precondition(lambda self: self.seen.jobs)
    @rule(what=st.sampled_from(["cancel", "pause", "resume", "resume"]), pick=PICK, cut=CUTS)
    def steer(self, what: str, pick: int, cut: Cut | None) -> None:
        self._do(self.acts.RACERS[what](self.acts, pick), cut)

    @precondition(lambda self: self.seen.jobs)
    @rule(pick=PICK)
    def cancel_and_close(self, pick: int) -> None:
        """As the mutation does."""
        self._do(self.acts.cancel_and_close(pick))

    # The dispatcher.

    @rule(fails_after=st.sampled_from([None, None, None, 0, 1]), away=st.sampled_from([False, False, True]), cut=CUTS)
    def dispatch(self, fails_after: int | None, away: bool, cut: Cut | None) -> None:
        self.world.transport.fails_after, self.world.products.away = fails_after, away
        self._do(self.acts.dispatch(0), cut)
        self.world.transport.fails_after, self.world.products.away = None, False

    @rule(seconds=SECONDS, cut=CUTS)
    def sweep(self, seconds: int, cut: Cut | None) -> None:
        self.world.later(seconds)
        self._do(self.acts.sweep(0), cut)

    @precondition(lambda self: any(job.state is State.CANCELING for job in self.seen.jobs.values()))
    @rule(away=st.booleans(), loses_answer=st.booleans(), cut=CUTS)
    def close(self, away: bool, loses_answer: bool, cut: Cut | None) -> None:
        self.world.products.away, self.world.products.loses_answer = away, loses_answer
        self._do(self.acts.close(0), cut)
        self.world.products.away = self.world.products.loses_answer = False

    @rule(away=st.sampled_from([False, False, True]), loses_answer=st.booleans(), cut=CUTS)
    def publish(self, away: bool, loses_answer: bool, cut: Cut | None) -> None:
        self.world.products.away, self.world.products.loses_answer = away, loses_answer
        self._do(self.acts.publish(0), cut)
        self.world.products.away = self.world.products.loses_answer = False

    # The transport.

    @precondition(lambda self: self.world.transport.history)
    @rule(pick=PICK, what=st.sampled_from(["forget", "forget all", "haunt", "haunt"]))
    def disturb(self, pick: int, what: str) -> None:
        """Messages are lost, and come again long after."""
        messages, history = self.world.transport.messages, self.world.transport.history
        if what == "haunt":
            messages.append(history[pick % len(history)])
        elif messages:
            first = pick % len(messages)
            del messages[slice(None) if what == "forget all" else slice(first, first + 1)]

    # Executors.

    @precondition(lambda self: self.world.transport.messages)
    @rule(picks=PICKS, keep=st.sampled_from([False, False, True]), cut=CUTS)
    def deliver(self, picks: list[int], keep: bool, cut: Cut | None) -> None:
        self._do(self.acts.deliver(picks, keep=keep), cut)

    @precondition(lambda self: self.seen.batches)
    @rule(pick=PICK, ahead=st.integers(-2, 1))
    def claim_out_of_order(self, pick: int, ahead: int) -> None:
        """A message with a dispatch number that need not be the last one."""
        self._do(self.acts.forge(pick, ahead))

    @precondition(lambda self: self.acts.planners)
    @rule(pick=PICK, cut_into=st.integers(1, 3), fault=st.sampled_from([False, False, True]), again=st.booleans(), cut=CUTS)
    def record_plan(self, pick: int, cut_into: int, fault: bool, again: bool, cut: Cut | None) -> None:
        if again:
            self._do(self.acts.record_plan(pick, 1 + cut_into % 3, fault=False))
            self.promises_hold()
        self._do(self.acts.record_plan(pick, cut_into, fault=fault), cut)

    @precondition(lambda self: self.acts.planners)
    @rule(pick=PICK)
    def renew_plan(self, pick: int) -> None:
        self._do(self.acts.renew_plan(pick))

    @precondition(lambda self: self.acts.attempts)
    @rule(picks=PICKS, version=st.integers(0, 1), cut=CUTS)
    def load(self, picks: list[int], version: int, cut: Cut | None) -> None:
        """Attempts write what they claimed, however long ago."""
        self._do(self.acts.load(picks, version), cut)

    @precondition(lambda self: self.acts.receipts)
    @rule(picks=PICKS, cut=CUTS)
    def acknowledge(self, picks: list[int], cut: Cut | None) -> None:
        self._do(self.acts.acknowledge(picks), cut)

    @precondition(lambda self: self.seen.jobs)
    @rule(racers=RACES, turns=TURNS)
    def at_once(self, racers: list[tuple[str, int]], turns: list[int]) -> None:
        """Several sessions, a round trip at a time."""
        self.alone = False
        answers = self.world.race([self.acts.RACERS[name](self.acts, pick) for name, pick in racers], turns)
        for answer in answers:
            self.acts.expect(answer)

    @rule(rounds=st.integers(1, 3), acknowledged=st.booleans())
    def work(self, rounds: int, acknowledged: bool) -> None:
        """Nothing goes wrong for a while."""
        for _ in range(rounds):
            self.world.run(self.acts.dispatch(0))
            self.world.run(self.acts.serve(acknowledged=acknowledged))
            self.world.run(self.acts.publish(0))
            self.promises_hold()

    def teardown(self) -> None:
        """Without further faults every job ends within a minute and its work, and nothing is left."""
        if sys.exc_info()[1] is not None:
            return
        world, acts = self.world, self.acts
        for job in self.seen.jobs.values():
            if job.state is State.PAUSED:
                world.run(acts.act(world.store.resume, job.id))
        # Seven times ten seconds, and a round for each window of what is left: a third of it is wasted by retries.
        for _ in range(7 + sum(job.input.rows for job in self.book.asked.values())):
            self.promises_hold()
            if all(job.state.terminal for job in self.seen.jobs.values()):
                break
            world.later(10)
            world.run(acts.sweep(0))
            world.run(acts.dispatch(0))
            world.run(acts.serve(acknowledged=True))
            world.run(acts.publish(0))
        left = [f"{job.id} is {job.state}" for job in self.seen.jobs.values() if not job.state.terminal]
        need(not left, "I2", f"nothing goes wrong any more, and {left}")
        need(world.staged() == 0, "I17", "a staging table is left")
        need(world.idle_in_transaction() == 0, "I17", "a transaction is open")

    def _do(self, work: Coroutine[Any, Any, Any], cut: Cut | None = None) -> None:
        self.acts.expect(self.world.do(work, cut))


def machine(world: World) -> Callable[[], Machine]:
    """As Hypothesis makes it."""
    return lambda: Machine(world)
