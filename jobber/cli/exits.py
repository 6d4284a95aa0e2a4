"""Exit codes of the command line; scripts rely on them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from jobber.errors import Forbidden, JobberError, NotFound, Transient, Unauthenticated, UnknownJob


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    #: The job is done, and some of its records were rejected.
    REJECTS = 3
    NOT_FOUND = 4
    UNREACHABLE = 5


def exit_for(fault: JobberError) -> Exit:
    """The exit code of an error."""
    if isinstance(fault, NotFound | UnknownJob):
        return Exit.NOT_FOUND
    return Exit.UNREACHABLE if isinstance(fault, Transient) else Exit.FAILED


@contextmanager
def told(*, unreachable: Exit = Exit.UNREACHABLE) -> Iterator[None]:
    """Turn an expected error into its sentence and exit code; `unreachable` is that of something that does not answer."""
    try:
        yield
    except JobberError as fault:
        hint = ""
        if isinstance(fault, (Unauthenticated, Forbidden)):
            hint = " (--token, or --email and --password, say who you are)"
        print(f"jobber: {fault.message}{hint}", file=sys.stderr)
        sys.exit(unreachable if isinstance(fault, Transient) else exit_for(fault))
    except KeyboardInterrupt:
        sys.exit(130)
