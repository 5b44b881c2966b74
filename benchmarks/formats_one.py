"""The child process of ``formats``: one file read or converted, by its library or by lazyio."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np

import lazyio
from benchmarks.memory_one import growth_of


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    dask.config.set(num_workers=job["threads"])
    work = _by_lazyio(job) if job["who"] == "lazyio" else _BY_LIBRARY[job["row"]](job)
    began = time.perf_counter()
    growth = growth_of(work)
    print(json.dumps({"seconds": time.perf_counter() - began, "growth": growth}))


def _by_lazyio(job: dict) -> Callable[[], Any]:
    path, limit = job["file"], job["memory_limit"]
    if job["row"] == "column":
        return lambda: lazyio.open(path, "x/c3", memory_limit=limit).sum().compute()
    source = f"{path}/*.tif" if job["row"] == "tiff-glob" else path
    return lambda: lazyio.to_zarr(
        lazyio.open(source, memory_limit=limit), job["output"], memory_limit=limit
    )


def _tiff_zarr(job: dict) -> Callable[[], Any]:
    import tifffile

    def work() -> None:
        with tifffile.TiffFile(job["file"]) as file:
            n_pages, page = len(file.pages), file.pages[0]
            read = dask.delayed(tifffile.imread)
            blocks = [
                da.from_delayed(read(job["file"], key=number), page.shape, page.dtype)
                for number in range(n_pages)
            ]
        da.stack(blocks).to_zarr(job["output"])

    return work


def _tiff_glob(job: dict) -> Callable[[], Any]:
    import tifffile

    def work() -> None:
        paths = sorted(Path(job["file"]).glob("*.tif"))
        first = tifffile.imread(paths[0])
        read = dask.delayed(tifffile.imread)
        blocks = [da.from_delayed(read(path), first.shape, first.dtype) for path in paths]
        da.stack(blocks).to_zarr(job["output"])

    return work


def _nifti_zarr(job: dict) -> Callable[[], Any]:
    import nibabel

    def work() -> None:
        proxy = nibabel.load(job["file"]).dataobj
        chunks = (*proxy.shape[:3], 50)
        array = da.from_array(proxy, chunks=chunks, meta=np.empty((0,) * 4, proxy.dtype))
        array.to_zarr(job["output"])

    return work


def _column(job: dict) -> Callable[[], Any]:
    import tables

    def work() -> float:
        total = 0.0
        with tables.open_file(job["file"]) as file:
            table = file.root.x
            step = 1_000_000
            for start in range(0, table.nrows, step):
                total += table.read(start, min(start + step, table.nrows), field="c3").sum()
        return total

    return work


_BY_LIBRARY = {
    "tiff-zarr": _tiff_zarr,
    "tiff-glob": _tiff_glob,
    "nifti-zarr": _nifti_zarr,
    "column": _column,
}

if __name__ == "__main__":
    main()
