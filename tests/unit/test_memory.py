"""Memory that is freed is used again: the system is not asked for the pages of each large buffer."""

import subprocess
import sys

#: Makes some buffers and frees them, ten times; prints how many of them cost page faults.
PROGRAM = """
import resource, sys
from jobber.memory import KEPT, keep_freed
if "keep" in sys.argv:
    keep_freed()
size = KEPT // 4 - (1 << 20)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for number in range(10):
    buffers = [b"x" * size for _ in range(3)]
    del buffers
print((faults() - before) * resource.getpagesize() // size)
"""


def buffers_faulted(*arguments: str) -> int:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_buffers_are_made_of_pages_that_were_there() -> None:
    assert buffers_faulted("keep") <= 6
