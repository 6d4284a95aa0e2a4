"""What ties a process to the one that started it, so that nothing outlives a supervisor that was killed."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

#: Pid of the supervisor, for a process that must end with it. Not inherited further: `end_with_supervisor` takes it away.
SUPERVISOR = "JOBBER_SUPERVISOR"
#: Data folder whose `jobber up` started the process; inherited by all its descendants, which the next `up` can so find.
HOME = "JOBBER_UP"

#: Linux: the signal that the kernel sends when the parent ends (prctl(2)).
PR_SET_PDEATHSIG = 1


def end_with_supervisor() -> None:
    """Called first thing by a supervised process: from now on it gets SIGKILL when its supervisor ends, however that ends.

    Every service is made to survive kill -9, so that nothing gentler is needed where the supervisor is gone.
    """
    supervisor = os.environ.pop(SUPERVISOR, None)
    if supervisor is None:
        return
    _on_parents_death(signal.SIGKILL)
    # It may have ended before the kernel knew of our wish.
    if os.getppid() != int(supervisor):
        os._exit(1)


def ended_by_parent(with_signal: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn` for programs that are not ours. Use it from the main thread: what the kernel watches is the thread."""
    parent = os.getpid()

    def tie() -> None:
        _on_parents_death(with_signal)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def _on_parents_death(with_signal: signal.Signals) -> None:
    # Elsewhere than on Linux the next `jobber up` ends what was left over.
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)


# Loaded before any fork: a child of a process with threads must not take the loader's lock.
_LIBC = ctypes.CDLL(None, use_errno=True)
