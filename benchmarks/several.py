"""``python -m benchmarks several``: several arrays of one source, by each library in turns."""

import argparse
import importlib.util
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.child import run_child
from benchmarks.memory_one import removed
from benchmarks.options import add_shared, chosen_from, output_folder, save

_PEERS = {
    "pyramid": ("loop", "dask", "ome-zarr", "lazyio"),
    "derived": ("h5py", "dask", "lazyio"),
    "append": ("h5py", "lazyio"),
}
_THREADS = 2
_LIMIT = 256 << 20


def main(arguments: list[str]) -> int:
    """Time each row; print seconds, ratios, memory and how often the source was read.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks several", description=__doc__)
    add_shared(parser)
    parser.add_argument("--rows", type=chosen_from(_PEERS), default=list(_PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(arguments)
    results = []
    print("row      who      seconds (least)  peak MiB   read MiB  written MiB")
    with output_folder(given.data) as folder:
        for row in given.rows:
            job = _prepared(row, folder, is_short=given.short)
            outcomes: dict[str, list[dict[str, Any]]] = {who: [] for who in _peers(row)}
            for _ in range(1 if given.short else given.repeats):
                for who, runs in outcomes.items():
                    runs.append(_run(job | {"who": who}))
            results += [{"row": row, "who": who, "runs": runs} for who, runs in outcomes.items()]
            for line in _lines(row, outcomes):
                print(line, flush=True)
            for path in folder.iterdir():
                removed(path)
    save(given.json, results=results)
    return 0


def _peers(row: str) -> list[str]:
    """Return who does a row: ome-zarr only where it is installed."""
    has_ome = importlib.util.find_spec("ome_zarr") is not None
    return [who for who in _PEERS[row] if who != "ome-zarr" or has_ome]


def _prepared(row: str, folder: Path, *, is_short: bool) -> dict[str, Any]:
    """Make what a row reads, and return its job."""
    job: dict[str, Any] = {
        "row": row,
        "threads": _THREADS,
        "source": str(folder / "source.npy"),
        "output": str(folder / "output"),
        "existing": str(folder / "existing.h5"),
        "memory_limit": _LIMIT,
    }
    rng = np.random.default_rng(0)
    if row == "pyramid":
        # 537 MB of voxels: a gradient with noise of a few bits in it.
        shape = (16, 512, 1024) if is_short else (16, 4096, 4096)
        plane = np.add.outer(np.arange(shape[1]) // 8, np.arange(shape[2]) // 8)
        noise = rng.integers(0, 32, shape, dtype="u2")
        np.save(job["source"], (noise + plane).astype("u2"))
        return job
    # 537 MB of a recording.
    n_rows = 20_000 if is_short else 700_000
    walk = rng.normal(0, 5, (n_rows, 384)).astype("f4").cumsum(axis=1)
    np.save(job["source"], walk.astype("i2"))
    if row == "append":
        with h5py.File(job["existing"], "w") as file:
            for key, dtype in (("raw", "i2"), ("lfp", "i2"), ("power", "f4")):
                file.create_dataset(
                    key,
                    (5000, 384),
                    dtype,
                    maxshape=(None, 384),
                    chunks=(4096, 96),
                    compression="gzip",
                )
    return job


def _run(job: dict[str, Any]) -> dict[str, Any]:
    found = run_child("several_one", json.dumps(job))
    removed(Path(job["output"]))
    return dict(found)


def _lines(row: str, outcomes: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    least = {who: min(one["seconds"] for one in runs) for who, runs in outcomes.items()}
    for who, runs in outcomes.items():
        growth, read, written = (
            statistics.median(one[name] for one in runs) / 2**20
            for name in ("growth", "read", "written")
        )
        yield f"{row:8} {who:8} {least[who]:15.3f} {growth:9.0f} {read:10.1f} {written:12.1f}"
    for who in list(outcomes)[:-1]:
        yield f"{row:8} {'ratio':8} {least[who] / least['lazyio']:15.2f} to {who}"
