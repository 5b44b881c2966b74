"""``python -m benchmarks joins``: files as one, and digests of what others wrote, in turns."""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lazyio
from benchmarks.child import run_child
from benchmarks.memory_one import removed
from benchmarks.options import add_shared, chosen_from, output_folder, save

_ROWS = {
    "make": ("h5py", "lazyio"),
    "read": ("h5py", "lazyio"),
    "renew": ("sha256", "lazyio"),
}
"""A virtual dataset of many small files; the elements of one of a few large files, at gzip-4; the
digests of one large file that has none."""


def main(arguments: list[str]) -> int:
    """Time each row; print seconds and ratios.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks joins", description=__doc__)
    add_shared(parser)
    parser.add_argument("--rows", type=chosen_from(_ROWS), default=list(_ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(arguments)
    results = []
    print("row      who      seconds (least)  peak MiB")
    with output_folder(given.data) as folder:
        for row in given.rows:
            job = _prepared(row, folder, is_short=given.short)
            outcomes: dict[str, list[dict[str, Any]]] = {who: [] for who in _ROWS[row]}
            for _ in range(1 if given.short else given.repeats):
                for who in outcomes:
                    outcomes[who] += [_run(job | {"who": who})]
            results += [{"row": row, "who": who, "runs": runs} for who, runs in outcomes.items()]
            for line in _lines(row, outcomes):
                print(line, flush=True)
            for path in folder.iterdir():
                removed(path)
    save(given.json, results=results)
    return 0


def _prepared(row: str, folder: Path, *, is_short: bool) -> dict[str, Any]:
    """Make the files of a row, and return its job."""
    n_files, n_rows = {"make": (500, 10), "read": (8, 250_000), "renew": (1, 1_000_000)}[row]
    if is_short:
        n_files, n_rows = min(n_files, 20), min(n_rows, 20_000)
    paths = [folder / f"{at}.h5" for at in range(n_files)]
    drift = np.cumsum(np.random.default_rng(0).normal(size=(n_rows, 1)) * 4, axis=0)
    noise = np.random.default_rng(1).normal(size=(min(n_rows, 10_000), 64)) * 5
    values = np.resize(noise, (n_rows, 64)) + drift
    for at, path in enumerate(paths):
        options = {"chunks": (min(4096, n_rows), 64), "compression": "gzip", "shuffle": True}
        data = (values + at).astype("i2")
        lazyio.to_hdf5(data, path, "x", compression_opts=4, digests=False, **options)
    whole = folder / "whole.h5"
    if row == "read":
        lazyio.virtual(whole, "x", paths)
    return {
        "row": row,
        "threads": 2,
        "paths": [str(path) for path in paths],
        "shape": [n_files * n_rows, 64],
        "whole": str(whole),
        "output": str(folder / "output.h5"),
    }


def _run(job: dict[str, Any]) -> dict[str, Any]:
    found = run_child("joins_one", json.dumps(job))
    removed(Path(job["output"]))
    return dict(found)


def _lines(row: str, outcomes: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    least = {}
    for who, runs in outcomes.items():
        least[who] = min(one["seconds"] for one in runs)
        growth = statistics.median(one["growth"] for one in runs) / 2**20
        yield f"{row:8} {who:8} {least[who]:15.3f} {growth:9.0f}"
    other, ours = _ROWS[row]
    yield f"{row:8} {'ratio':8} {least[other] / least[ours]:15.2f}"
