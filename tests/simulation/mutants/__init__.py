"""Each mechanism taken away once: the simulation must see that a promise breaks."""

from tests.simulation.mutants import dispatch, executors, jobs, products
from tests.simulation.mutants.table import MUTANTS

__all__ = ["MUTANTS", "dispatch", "executors", "jobs", "products"]
