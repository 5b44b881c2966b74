"""The child process of ``several``: several arrays of one source, written by one library."""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import zarr

import lazyio
from benchmarks.memory_one import growth_of

_LEVELS = 4
_CHUNKS, _SHARDS = (4, 128, 128), (4, 1024, 1024)
_ROWS = 20_000


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    dask.config.set(num_workers=job["threads"])
    da.ones(10, chunks=5).sum().compute()  # What dask imports first is nobody's.
    work = _WORK[job["row"]](job)
    read, written, began = _counted("rchar"), _counted("wchar"), time.perf_counter()
    growth = growth_of(work)
    seconds = time.perf_counter() - began
    found = {"read": _counted("rchar") - read, "written": _counted("wchar") - written}
    print(json.dumps({"seconds": seconds, "growth": growth, **found}))


def _counted(name: str) -> int:
    """Return bytes that this process has read or had written, as it asked for them."""
    return int(re.findall(rf"{name}: (\d+)", Path("/proc/self/io").read_text())[0])


def _halved(level: da.Array) -> da.Array:
    mean = da.coarsen(np.mean, level, {1: 2, 2: 2}, trim_excess=True)
    return mean.round().astype(level.dtype)


def _levels(image: da.Array) -> dict[str, da.Array]:
    levels = {"0": image}
    for number in range(1, _LEVELS):
        levels[str(number)] = _halved(levels[str(number - 1)])
    return levels


def _array(group: Any, key: str, level: da.Array) -> Any:
    return group.create_array(
        key, shape=level.shape, chunks=_CHUNKS, shards=_SHARDS, dtype=level.dtype
    )


def _pyramid(job: dict) -> Callable[[], Any]:
    source, path = job["source"], job["output"]
    # The same blocks for all: whole rows, as the file has them.
    blocks = (*_SHARDS[:-1], -1)
    image = lazyio.open(source, chunks=blocks)

    def loop() -> None:
        group, level = zarr.create_group(path), image
        for number in range(_LEVELS):
            array = _array(group, str(number), level)
            da.store(level.rechunk(_SHARDS), array, lock=False)
            level = _halved(da.from_zarr(array, chunks=blocks))

    def at_once() -> None:
        group, levels = zarr.create_group(path), _levels(image)
        targets = [_array(group, key, level) for key, level in levels.items()]
        da.store([level.rechunk(_SHARDS) for level in levels.values()], targets, lock=False)

    def ome() -> None:
        from ome_zarr.writer import write_multiscale

        options = {"chunks": _CHUNKS, "shards": _SHARDS}
        group = zarr.create_group(path)
        write_multiscale(
            list(_levels(image).values()),
            group,
            axes="zyx",
            storage_options=[options] * _LEVELS,
        )

    def ours() -> None:
        lazyio.to_zarr(
            _levels(image),
            path,
            chunks=_CHUNKS,
            shards=_SHARDS,
            memory_limit=job["memory_limit"],
            attributes={"/": {"ome": {"version": "0.5"}}},
        )

    return {"loop": loop, "dask": at_once, "ome-zarr": ome, "lazyio": ours}[job["who"]]


def _derived(raw: Any) -> dict[str, Any]:
    """Return what is made of a recording, which numpy and dask do alike."""
    x = raw.astype("f4")
    power = x**2
    return {"raw": raw, "lfp": (x / 4).astype("i2"), "power": power}


def _new(job: dict) -> Callable[[], Any]:
    path, codec = job["output"], {"compression": "gzip", "shuffle": True}
    chunks = (4096, 96)

    def by_h5py() -> None:
        source = np.load(job["source"], mmap_mode="r")
        with h5py.File(path, "w") as file:
            made = {
                key: file.create_dataset(key, source.shape, one.dtype, chunks=chunks, **codec)
                for key, one in _derived(source[:1]).items()
            }
            for begin in range(0, len(source), _ROWS):
                for key, block in _derived(source[begin : begin + _ROWS]).items():
                    made[key][begin : begin + _ROWS] = block

    def by_dask() -> None:
        arrays = _derived(lazyio.open(job["source"], chunks=(4096 * 5, 384)))
        with h5py.File(path, "w") as file:
            targets = [
                file.create_dataset(key, one.shape, one.dtype, chunks=chunks, **codec)
                for key, one in arrays.items()
            ]
            da.store(list(arrays.values()), targets)

    def ours() -> None:
        arrays = _derived(lazyio.open(job["source"], memory_limit=job["memory_limit"]))
        lazyio.to_hdf5(arrays, path, chunks=chunks, memory_limit=job["memory_limit"], **codec)

    return {"h5py": by_h5py, "dask": by_dask, "lazyio": ours}[job["who"]]


def _append(job: dict) -> Callable[[], Any]:
    path = shutil.copyfile(job["existing"], job["output"])

    def by_h5py() -> None:
        source = np.load(job["source"], mmap_mode="r")
        with h5py.File(path, "r+") as file:
            for begin in range(0, len(source), _ROWS):
                for key, block in _derived(source[begin : begin + _ROWS]).items():
                    old = len(file[key])
                    file[key].resize(old + len(block), axis=0)
                    file[key][old:] = block

    def ours() -> None:
        arrays = _derived(lazyio.open(job["source"], memory_limit=job["memory_limit"]))
        lazyio.to_hdf5(arrays, path, append_dim=0, memory_limit=job["memory_limit"])

    return {"h5py": by_h5py, "lazyio": ours}[job["who"]]


_WORK = {"pyramid": _pyramid, "derived": _new, "append": _append}

if __name__ == "__main__":
    main()
