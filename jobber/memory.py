"""What the allocator of the C library does with memory that is freed."""

import contextlib
import ctypes

#: Of mallopt(3), in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes that stay with the process when they are free, and from which on a block comes from the system and goes back to it.
KEPT, LARGE = 64 << 20, 32 << 20


def keep_freed() -> None:
    """Keep some memory that is freed, to be used again; for processes that pass large buffers on, one after the other.

    Without it glibc gives each of them back, and the system hands out zeroed pages for the next one: a fifth of the CPU that
    products needs for a load. Elsewhere than with glibc it does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_MMAP_THRESHOLD, LARGE)
