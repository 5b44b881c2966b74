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
MEANWHILE = """
import resource, threading, time
import numpy as np
from lazyio import malloc

malloc._LINGERING = 0.1

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.empty(2**20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def kept():
    with malloc.freed_is_kept(2**20):
        faults()
        return faults()

def wait():
    while any(isinstance(one, threading.Timer) for one in threading.enumerate()):
        time.sleep(0.01)

before = faults()
first = kept()
between = faults()
with malloc.freed_is_kept(2**20):
    time.sleep(0.3)  # The timer of the last one does nothing.
    inside = faults()
wait()
after = faults()
again = kept()
wait()
print(before, first, between, inside, after, again, faults())
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


def printed(program, *arguments, **told):
    """Return the numbers that a process prints, with glibc's own settings or some."""
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name} | told
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


def test_freed_blocks_are_kept_meanwhile_where_they_are_to_be_given_back():
    """As dask's workers are told; as soon as nobody is inside they are given back again."""
    found = printed(MEANWHILE, MALLOC_TRIM_THRESHOLD_="65536")
    before, first, between, inside, after, again, last = found
    for given_back in (before, after, last):
        assert given_back > 20 * 200
    for kept in (first, between, inside, again):
        assert kept < 600, found


def test_where_nothing_is_told_malloc_adapts():
    before, first, *_ = printed(MEANWHILE)
    assert first < 600 < 20 * 200
    assert before > first
