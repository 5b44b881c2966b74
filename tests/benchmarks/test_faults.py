"""A short run of the faults; it has to see what is broken on purpose."""

import random
import shutil
import sys

import pytest

from benchmarks.soak import fault_cases, faults
from benchmarks.soak.fault_server import Fault

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"
)

_NEW = ["hdf5-new", "hdf5-new-plain", "hdf5-new-szip", "hdf5-new-stream", "hdf5-new-resume"]
_SERIOUS = ("signal", "neither old nor new", "not made, and no error", "cannot be done again")
_UNSAFE = ["hdf5-writer-swmr"]
"""Where libhdf5 writes the file itself, and may end the process."""


def test_a_fault_is_parsed_as_it_is_printed():
    fault = Fault("write", 3, "ENOSPC", True)
    assert Fault.parse(str(fault)) == fault


def test_faults(tmp_path):
    """No process ends by a signal, nothing old is lost, and the same call ends what failed."""
    # The same each time: long runs take others.
    seed = 1
    names = random.Random(seed).sample(sorted({*fault_cases.NAMES} - {*_UNSAFE}), 10)
    trials = list(faults.run(tmp_path, names, 100, seed))
    wrong = [one for one in trials if one.violation and one.violation.startswith(_SERIOUS)]
    assert wrong == [], f"seed {seed}"
    assert len(trials) > 80


@pytest.mark.parametrize("fault", ["write 2 ENOSPC on", "size 2000 limit on", "write 3 short once"])
def test_a_full_disk_below_a_new_file(tmp_path, fault):
    trials = list(faults.run(tmp_path, _NEW, 10, 0, fault))
    assert [one for one in trials if one.violation] == []
    assert len(trials) >= 8
