"""``python -m benchmarks repack``: whole HDF5 files copied by h5repack, cp and lazyio, in turns.

h5repack is Debian's, with one thread. lazyio has its copy on the disk when it is done; with
``--sync`` the others have, too.
"""

import argparse
import json
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.child import run_child
from benchmarks.memory_one import removed
from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.recording import Recording

_PEERS = {
    "gzip-4": ("h5repack",),
    "shuffle": ("h5repack",),
    "rechunk": ("h5repack",),
    "through": ("h5repack", "cp"),
    "plain": ("h5repack", "cp"),
    "objects": ("h5repack", "cp"),
    "virtual": ("h5py",),
}
"""Who takes part in a row, beside lazyio."""
_THREADS = 2
_LIMIT = 512 << 20
_CHUNKS = (13_000, 96)


def main(arguments: list[str]) -> int:
    """Time each row; print seconds and ratios.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks repack", description=__doc__)
    add_shared(parser)
    parser.add_argument("--rows", type=chosen_from(_PEERS), default=list(_PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sync", action="store_true", help="have every copy on the disk")
    given = parser.parse_args(arguments)
    results = []
    print("row      who      seconds (least)  peak MiB   size MiB")
    with output_folder(given.data) as folder:
        for row in given.rows:
            job = _prepared(row, folder, is_short=given.short) | {"is_synced": given.sync}
            outcomes: dict[str, list[dict[str, Any]]] = {who: [] for who in _PEERS[row]}
            outcomes["lazyio"] = []
            for _ in range(1 if given.short else given.repeats):
                for who in outcomes:
                    if who != "h5repack" or shutil.which(who):
                        outcomes[who] += [_run(job | {"who": who})]
            results += [{"row": row, "who": who, "runs": runs} for who, runs in outcomes.items()]
            for line in _lines(row, outcomes):
                print(line, flush=True)
            for path in folder.iterdir():
                removed(path)
    save(given.json, results=results)
    return 0


def _prepared(row: str, folder: Path, *, is_short: bool) -> dict[str, Any]:
    """Make what a row reads, and return its job."""
    job: dict[str, Any] = {
        "row": row,
        "threads": _THREADS,
        "source": str(folder / "source.h5"),
        "output": str(folder / "output.h5"),
        "chunks": _CHUNKS,
        "memory_limit": _LIMIT,
    }
    n_rows = 26_000 if is_short else 702_000
    if row == "objects":
        _write_objects(job["source"], 20 if is_short else 500)
    elif row == "virtual":
        _write_days(folder, job["source"], n_rows // 2)
    else:
        codec = {"compression": 4, "shuffle": True} if row in ("through", "rechunk") else {}
        with h5py.File(job["source"], "w") as file:
            made = file.create_dataset("x", (n_rows, 384), "i2", chunks=_CHUNKS, **codec)
            _fill(made)
    return job


def _fill(dataset: h5py.Dataset) -> None:
    """Write a recording, the same part of it over and over."""
    part = Recording(dataset.shape[1]).slab(min(26_000, len(dataset)))
    for begin in range(0, len(dataset), len(part)):
        dataset[begin : begin + len(part)] = part[: len(dataset) - begin]


def _write_objects(path: str, n_groups: int) -> None:
    """Write many small datasets, with attributes, text and references."""
    with h5py.File(path, "w") as file:
        for number in range(n_groups):
            group = file.create_group(f"group{number}")
            for name in "abcd":
                made = group.create_dataset(name, data=np.arange(100.0))
                made.attrs["unit"] = "V"
                made.attrs["of"] = group.ref
            group["text"] = ["some", "words"]


def _write_days(folder: Path, path: str, n_rows: int) -> None:
    """Write two files, and one with a virtual dataset of both."""
    layout = h5py.VirtualLayout((2 * n_rows, 384), "i2")
    for day in range(2):
        with h5py.File(folder / f"day{day}.h5", "w") as file:
            codec = {"compression": 4, "shuffle": True}
            made = file.create_dataset("x", (n_rows, 384), "i2", chunks=_CHUNKS, **codec)
            _fill(made)
            layout[day * n_rows : (day + 1) * n_rows] = h5py.VirtualSource(
                f"day{day}.h5", "x", made.shape
            )
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    found = run_child("repack_one", json.dumps(job))
    size = Path(job["output"]).stat().st_size
    removed(Path(job["output"]))
    return {**found, "size": size}


def _lines(row: str, outcomes: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    least = {}
    for who, runs in outcomes.items():
        if runs:
            least[who] = min(one["seconds"] for one in runs)
            growth = statistics.median(one["growth"] for one in runs) / 2**20
            size = runs[0]["size"] / 2**20
            yield f"{row:8} {who:8} {least[who]:15.3f} {growth:9.0f} {size:10.1f}"
    for who, seconds in least.items():
        if who != "lazyio":
            yield f"{row:8} to {who:8} {seconds / least['lazyio']:12.2f}"
