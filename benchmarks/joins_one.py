"""The child process of ``joins``: one thing done by h5py, by hand or by lazyio."""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import dask
import h5py
import numpy as np

import lazyio
from benchmarks.memory_one import growth_of

_SLAB = 65_536
"""Rows that are read at once by hand."""


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    dask.config.set(num_workers=job["threads"])
    work = {"make": _make, "read": _read, "renew": _renew}[job["row"]](job)
    began = time.perf_counter()
    growth = growth_of(work)
    print(json.dumps({"seconds": time.perf_counter() - began, "growth": growth}))


def _make(job: dict) -> Callable[[], Any]:
    if job["who"] == "lazyio":
        return lambda: lazyio.virtual(job["output"], "x", job["paths"])

    def make() -> None:
        # As a careful user does it: shapes and types are those of the files.
        found = []
        for path in job["paths"]:
            with h5py.File(path) as file:
                found.append((path, file["x"].shape, file["x"].dtype))
        n_rows = sum(shape[0] for _, shape, _ in found)
        layout = h5py.VirtualLayout((n_rows, *found[0][1][1:]), found[0][2])
        start = 0
        for path, shape, dtype in found:
            source = h5py.VirtualSource(path, "x", shape, dtype)
            layout[start : start + shape[0]] = source
            start += shape[0]
        with h5py.File(job["output"], "w") as file:
            file.create_virtual_dataset("x", layout)

    return make


def _read(job: dict) -> Callable[[], Any]:
    if job["who"] == "lazyio":
        return lambda: lazyio.open(job["whole"], "x").max().compute()

    def read() -> int:
        with h5py.File(job["whole"]) as file:
            dataset = file["x"]
            starts = range(0, dataset.shape[0], _SLAB)
            return max(int(dataset[start : start + _SLAB].max()) for start in starts)

    return read


def _renew(job: dict) -> Callable[[], Any]:
    (path,) = job["paths"]
    if job["who"] == "lazyio":
        shutil.copyfile(path, job["output"])
        return lambda: lazyio.verify(job["output"], renew=True)

    def digest() -> str:
        # Of the elements, which also shows that they decode.
        hash_ = hashlib.sha256()
        with h5py.File(path) as file:
            for start in range(0, file["x"].shape[0], _SLAB):
                hash_.update(np.ascontiguousarray(file["x"][start : start + _SLAB]))
        return hash_.hexdigest()

    return digest


if __name__ == "__main__":
    main()
