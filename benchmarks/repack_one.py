"""The child process of ``repack``: one file copied by h5repack, cp, h5py or lazyio."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import dask
import h5py

import lazyio
from benchmarks.memory_one import growth_of

_CODEC = {"compression": "gzip", "compression_opts": 4}
_SERIES = (104_000, 12)
"""Chunks of a few channels for long, for who reads those."""


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    dask.config.set(num_workers=job["threads"])
    work = {"h5repack": _h5repack, "cp": _cp, "h5py": _h5py, "lazyio": _lazyio}[job["who"]](job)
    began = time.perf_counter()
    growth = growth_of(work)
    if job["sync"] and job["who"] != "lazyio":
        with open(job["output"], "rb") as file:
            os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    size = os.stat(job["output"]).st_size
    print(json.dumps({"seconds": seconds, "growth": growth, "size": size}))


def _lazyio(job: dict[str, Any]) -> Callable[[], Any]:
    paths, limit = (job["source"], job["output"]), job["memory_limit"]
    if job["row"] == "virtual":
        return lambda: lazyio.consolidate(*paths, memory_limit=limit)
    of_rows: dict[str, dict[str, Any]] = {
        "gzip-4": _CODEC,
        "shuffle": {**_CODEC, "shuffle": True},
        "rechunk": {"chunks": _SERIES},
    }
    asked = of_rows.get(job["row"], {})
    return lambda: lazyio.repack(*paths, memory_limit=limit, **asked)


def _h5repack(job: dict[str, Any]) -> Callable[[], Any]:
    options = {
        "gzip-4": ["-f", "GZIP=4"],
        "shuffle": ["-f", "SHUF", "-f", "GZIP=4"],
        "rechunk": ["-l", f"CHUNK={'x'.join(map(str, _SERIES))}"],
    }.get(job["row"], [])
    command = ["h5repack", *options, job["source"], job["output"]]
    return lambda: subprocess.run(command, check=True)


def _cp(job: dict[str, Any]) -> Callable[[], Any]:
    return lambda: subprocess.run([shutil.which("cp"), job["source"], job["output"]], check=True)


def _h5py(job: dict[str, Any]) -> Callable[[], Any]:
    """Copy a virtual dataset in rows of chunks."""

    def copy() -> None:
        with h5py.File(job["source"]) as source, h5py.File(job["output"], "w") as target:
            there = source["x"]
            codec = {"compression": 4, "shuffle": True, "chunks": tuple(job["chunks"])}
            here = target.create_dataset("x", there.shape, there.dtype, **codec)
            for begin in range(0, len(there), job["chunks"][0]):
                rows = slice(begin, min(begin + job["chunks"][0], len(there)))
                here[rows] = there[rows]

    return copy


if __name__ == "__main__":
    main()
