"""Many runs of the machine, each of which comes again by its seed."""

import contextlib
import io
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.state_machine.machine import Machine
from tests.state_machine.world import World

#: Runs of every test run and of CI, runs that a mutant may survive, and steps of a run.
EXAMPLES, CAMPAIGN, MUTANT_EXAMPLES, STEPS = 40, 1_000, 400, 30


def run(world: World, *, seed: int, examples: int, shrink: bool = True) -> None:
    """So many runs; raises what broke first, with its steps: the fewest that break it when `shrink`."""
    world.runs = world.steps = 0

    def machine() -> Machine:
        return Machine(world)

    asked = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    made: Any = seeded(seed)(machine)  # Any callable is taken, whatever the annotation says.
    try:
        run_state_machine_as_test(made, settings=asked)
    except BaseException as fault:
        fault.add_note(f"python -m tests.state_machine --seed {seed} --runs {examples}")
        raise


class Quiet(contextlib.ExitStack):
    """Nothing is printed."""

    def __enter__(self) -> "Quiet":
        self.enter_context(contextlib.redirect_stdout(io.StringIO()))
        self.enter_context(contextlib.redirect_stderr(io.StringIO()))
        return super().__enter__()
