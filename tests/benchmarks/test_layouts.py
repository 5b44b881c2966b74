"""Random HDF5 datasets: a few of them, and whether the generator makes what it should."""

import random
import subprocess
import sys
from pathlib import Path

from amount import amount

from benchmarks.layouts.datasets import make

ROOT = Path(__file__).parents[2]


def test_datasets_of_every_kind_come_out_right(tmp_path) -> None:
    """As the command runs it."""
    n = amount(60, 500)
    command = [sys.executable, "-m", "benchmarks", "layouts", "--data", str(tmp_path)]
    command += ["--trials", str(n)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{n} datasets, seeds 0 to {n - 1}" in found.stdout
    assert "0 faults" in found.stdout


def test_most_of_what_is_drawn_can_be_made(tmp_path) -> None:
    """And among it are the kinds that were read wrong once."""
    told = []
    for seed in range(300):
        try:
            told.append(make(tmp_path / f"{seed}.h5", random.Random(seed)).text)
        except (ValueError, RuntimeError, OSError, TypeError, KeyError):
            continue
    assert len(told) > 240
    for kind in ("plain edges", "virtual", "external", " bits at ", "record of", "(None, None"):
        assert any(kind in one for one in told), kind
