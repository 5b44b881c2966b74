"""What is asked of glibc's malloc still has its effect."""

import os
import platform
import subprocess
import sys

import pytest

if platform.libc_ver()[0] != "glibc":
    pytest.skip("another malloc", allow_module_level=True)

KEEP = """
import resource, sys
import numpy as np
from lazyio.malloc import keep_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

start = faults()
keep_freed(int(sys.argv[1]))
asked = faults()
for nbytes in range(2**18, 2**21, 2**13):
    np.empty(nbytes, np.uint8).fill(1)
print(asked - start, faults() - asked)
"""
GIVE = """
import os
from lazyio.malloc import give_back

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

pieces = [bytes(2000) for _ in range(50_000)]
last = bytes(2000)  # Above them: the heap cannot shrink.
del pieces
before = resident()
give_back()
print(before - resident())
"""


def printed(program, *arguments):
    """Return the numbers that a process prints, with glibc's own settings."""
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_freed_blocks_are_kept():
    """Blocks of growing size touch few new pages; all of theirs where each is unmapped."""
    asking, using = printed(KEEP, 2**21)
    assert asking < 20
    assert 5 * using < printed(KEEP, 2**16)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_freed_pieces_are_given_back():
    (given_back,) = printed(GIVE)
    assert given_back > 50 * 10**6
