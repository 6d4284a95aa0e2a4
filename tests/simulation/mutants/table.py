"""The table of mutants.

A mutant is a context in which one function is another one, and what of it the campaign should report.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Mutant = Callable[[], Any]
MUTANTS: dict[str, Mutant] = {}


def mutant(name: str) -> Callable[[Mutant], Mutant]:
    """Give a mutant its name in the table."""

    def keep(made: Mutant) -> Mutant:
        MUTANTS[name] = contextmanager(made)
        return made

    return keep


@contextmanager
def replaced(owner: Any, name: str, other: Any) -> Iterator[Any]:
    """`owner.name` is another one for a while; gives the shipped one."""
    shipped = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield shipped
    finally:
        setattr(owner, name, shipped)
