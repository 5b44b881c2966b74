"""``python -m benchmarks ragged``: rows of differing length, by lazyio and its peers in turns.

Peers are h5py's datasets of variable length, VLArrays of PyTables, and values with offsets that are
read by hand with h5py. None of the first two compresses its rows.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lazyio
from benchmarks.child import run_child
from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.ragged_one import PEERS, ROWS

_THREADS = 2
_SEED = 0
_MEAN_LENGTH = 100
_N_TAKEN = 2000


def main(arguments: list[str]) -> int:
    """Time each row; print seconds and ratios.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks ragged", description=__doc__)
    add_shared(parser)
    parser.add_argument("--rows", type=chosen_from(ROWS), default=list(ROWS))
    parser.add_argument("--peers", type=chosen_from(PEERS), default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n-rows", type=int, default=1_000_000, help="of about 400 bytes each")
    given = parser.parse_args(arguments)
    results = []
    print("row           who            seconds (least)      CPU  peak MiB   of lazyio's time")
    with output_folder(given.data) as folder:
        job = _prepared(folder, 20_000 if given.short else given.n_rows)
        for who in given.peers:
            run_child("ragged_one", json.dumps(job | {"row": "prepare", "who": who}))
        for row in given.rows:
            outcomes: dict[str, list[dict[str, Any]]] = {who: [] for who in given.peers}
            for _ in range(1 if given.short else given.repeats):
                for who, runs in outcomes.items():
                    runs += [dict(run_child("ragged_one", json.dumps(job | _of(row, who))))]
            results += [{"row": row, "who": who, "runs": runs} for who, runs in outcomes.items()]
            for line in _lines(row, outcomes):
                print(line, flush=True)
    save(given.json, results=results)
    return 0


def _of(row: str, who: str) -> dict[str, Any]:
    return {"row": row, "who": who}


def _prepared(folder: Path, n_rows: int) -> dict[str, Any]:
    """Make values and lengths, and return what all jobs have in common."""
    random = np.random.default_rng(_SEED)
    lengths = random.integers(0, 2 * _MEAN_LENGTH, n_rows)
    values = np.round(random.normal(size=int(lengths.sum())) * 100).astype("f4")
    np.save(folder / "values.npy", values)
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
    lazyio.Ragged(folder / "values.npy", folder / "offsets.npy")
    return {
        "folder": str(folder),
        "threads": _THREADS,
        "n_rows": n_rows,
        "n_taken": min(_N_TAKEN, n_rows // 10),
    }


def _lines(row: str, outcomes: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield a line for each library: what it takes, by that of lazyio with the same codec."""
    for who, runs in outcomes.items():
        ours = outcomes.get("lazyio-zstd" if who.endswith("zstd") else "lazyio", [])
        seconds, cpu = _least(runs, "seconds"), _least(runs, "cpu")
        ratio, cpu_ratio = seconds / _least(ours, "seconds"), cpu / _least(ours, "cpu")
        growth = statistics.median(one["growth"] for one in runs) / 2**20
        yield (
            f"{row:13} {who:14} {seconds:15.4f} {cpu:8.4f} {growth:9.0f} "
            f"{ratio:12.2f}x {cpu_ratio:7.2f}x by CPU"
        )


def _least(runs: list[dict[str, Any]], what: str) -> float:
    return min((float(one[what]) for one in runs), default=float("nan"))
