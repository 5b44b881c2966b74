"""Mutated files: a few trials, and whether the generator does what it should."""

import random
import subprocess
import sys
from pathlib import Path

from amount import amount

from benchmarks.fuzz.mutations import mutated

ROOT = Path(__file__).parents[2]


def test_no_file_does_harm(tmp_path) -> None:
    """As the command runs it."""
    n = amount(60, 1000)
    command = [sys.executable, "-m", "benchmarks", "fuzz", "--data", str(tmp_path)]
    command += ["--trials", str(n)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{n} files, seeds 0 to {n - 1}" in found.stdout
    assert "0 violations" in found.stdout


def test_a_seed_tells_all_of_a_file() -> None:
    """Trials can be tried again, and most of them change something."""
    files = {"x/zarr.json": b'{"a": [1, {"b": 2}]}', "x/c/0": bytes(range(200)), "l": b"->x"}
    made = [[mutated(files, random.Random(seed)) for seed in range(200)] for _ in range(2)]
    assert made[0] == made[1]
    assert sum(one != files for one in made[0]) > 180
