"""The child process of ``datasets``: one thing done to a Dataset by xarray or by lazyio."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

import lazyio
from benchmarks.memory_one import growth_of

_CODEC = {"zlib": True, "complevel": 4, "shuffle": True}


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    dask.config.set(num_workers=job["threads"])
    work = _WORK[job["row"]](job)
    before, began = _written(), time.perf_counter()
    growth = growth_of(work)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "growth": growth, "written": _written() - before}))


def _written() -> int:
    """Return the bytes that this process has had written, as far as it was told to write them."""
    return int(re.findall(r"wchar: (\d+)", Path("/proc/self/io").read_text())[0])


def _fields(job: dict) -> xr.Dataset:
    """Return three variables of float32, each in blocks of a few steps, from a file."""
    dims = ("time", "lat", "lon")
    found = xr.Dataset()
    for name, path in job["data"].items():
        step = np.load(path, mmap_mode="r")[0]
        found[name] = dims, lazyio.open(path, chunks=((8 << 20) // step.nbytes, *step.shape))
    return found


def _write(job: dict, encoding: dict[str, Any]) -> Callable[[], Any]:
    dataset, path = _fields(job), job["output"]
    given = {str(name): {**encoding, "chunksizes": tuple(job["chunks"])} for name in dataset}
    engine = {"xarray": "h5netcdf", "lazyio": "lazyio"}[job["who"]]
    return lambda: dataset.to_netcdf(path, engine=engine, encoding=given)


def _zarr(job: dict) -> Callable[[], Any]:
    dataset, path = _fields(job), job["output"]
    if job["who"] == "xarray":
        return lambda: dataset.to_zarr(path)
    return lambda: dataset.lazyio.to_zarr(path)


def _rechunk(job: dict) -> Callable[[], Any]:
    chunks = dict(zip(("time", "lat", "lon"), job["series"], strict=True))
    path = job["output"]
    if job["who"] == "xarray":
        dataset = xr.open_dataset(job["file"], engine="h5netcdf", chunks={}).chunk(chunks)
        encoding = {"t2m": {"chunksizes": tuple(job["series"]), **_CODEC}}
        return lambda: dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    limit = job["memory_limit"]
    dataset = xr.open_dataset(job["file"], engine="lazyio", chunks={}, memory_limit=limit)
    encoding = {"t2m": dict(_CODEC)}
    return lambda: dataset.lazyio.to_hdf5(
        path, encoding=encoding, chunks=chunks, memory_limit=limit
    )


def _append(job: dict) -> Callable[[], Any]:
    with xr.open_dataset(job["file"], engine="h5netcdf") as found:
        step = found.isel(time=slice(0, 1)).load()
    return lambda: step.lazyio.to_hdf5(job["file"], append_dim="time")


def _open(job: dict) -> Callable[[], Any]:
    engine = {"xarray": "h5netcdf", "lazyio": "lazyio"}[job["who"]]
    return lambda: xr.open_dataset(job["file"], engine=engine).close()


_WORK = {
    "gzip-4": lambda job: _write(job, _CODEC),
    "none": lambda job: _write(job, {}),
    "zarr": _zarr,
    "rechunk": _rechunk,
    "append": _append,
    "open": _open,
}

if __name__ == "__main__":
    main()
