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


def test_a_fault_is_parsed_as_it_is_printed():
    fault = Fault("write", 3, "ENOSPC", True)
    assert Fault.parse(str(fault)) == fault


def test_faults(tmp_path):
    """No process ends by a signal, nothing old is lost, and the same call ends what failed."""
    seed = random.randrange(10**6)
    trials = list(faults.run(tmp_path, fault_cases.NAMES, 100, seed))
    wrong = [one for one in trials if one.violation and one.violation.startswith(_SERIOUS)]
    assert wrong == [], f"seed {seed}"
    assert len(trials) > 80


_SERIOUS = ("signal", "neither old nor new", "not made, and no error", "cannot be done again")


@pytest.mark.parametrize("fault", ["write 2 ENOSPC on", "size 2000 limit on", "write 3 short once"])
def test_a_full_disk_below_a_new_file(tmp_path, fault):
    trials = [one for name in _NEW for one in faults.run(tmp_path / name, [name], 1, 0, fault)]
    assert [one for one in trials if one.violation] == []
    assert len(trials) >= 4
