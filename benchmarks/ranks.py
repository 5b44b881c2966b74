"""``python -m benchmarks ranks``: ranks of MPI fill one dataset, lazyio and its peers in turns.

Peers are rank 0 alone with what all others send it, which is what is left to who has an h5py
without MPI, and h5py's collective writes where it has MPI.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.ranks_one import PEERS, ROWS

_SEED = 0
_N_COLUMNS = 64
_MOST_SECONDS = 3600


def main(arguments: list[str]) -> int:
    """Time each row; print seconds and ratios.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks ranks", description=__doc__)
    add_shared(parser)
    parser.add_argument("--rows", type=chosen_from(ROWS), default=list(ROWS))
    parser.add_argument("--peers", type=chosen_from(PEERS), default=list(PEERS))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args(arguments)
    with output_folder(given.data) as folder:
        n_rows = 20_000 if given.short else 2_000_000
        random = np.random.default_rng(_SEED)
        np.save(folder / "x.npy", random.normal(0, 40, (n_rows, _N_COLUMNS)).astype("i2"))
        job = {
            "folder": str(folder),
            "rows": given.rows,
            "peers": given.peers,
            "repeats": 1 if given.short else given.repeats,
        }
        results = _launched(given.ranks, job)
    print("row           who          seconds (least)   of lazyio's time")
    for row in given.rows:
        least = {one["who"]: min(one["seconds"]) for one in results if one["row"] == row}
        for who, seconds in least.items():
            ratio = seconds / least["lazyio"] if "lazyio" in least else float("nan")
            print(f"{row:13} {who:12} {seconds:15.4f} {ratio:17.2f}x")
    save(given.json, results=results)
    return 0


def _launched(n_ranks: int, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the first of some ranks has measured."""
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        msg = "mpiexec is not installed; that of the package openmpi will do"
        raise SystemExit(msg)
    command = [launcher, "--oversubscribe", "-n", str(n_ranks), sys.executable]
    out = Path(job["folder"], "results.json")
    subprocess.run(
        [*command, "-m", "benchmarks.ranks_one", json.dumps(job | {"out": str(out)})],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        timeout=_MOST_SECONDS,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(out.read_text())
    return found
