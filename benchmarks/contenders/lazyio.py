"""lazyio with its defaults."""

from collections.abc import Callable
from typing import Any

import dask

import lazyio
from benchmarks.cases import Job, Row
from benchmarks.contenders.zarr_codecs import zarr_compressors


def prepare(job: Job) -> Callable[[], Any]:
    """Return what writes with lazyio.

    Parameters
    ----------
    job : Job
        What to write.
    """
    dask.config.set(num_workers=job.threads)
    array = job.array
    if array.key is None:
        data = lazyio.from_raw(array.path, array.shape, array.dtype)
    else:
        data = lazyio.open(array.path, array.key)
    if job.row.format == "zarr":
        compressors = zarr_compressors(job.row)
        return lambda: lazyio.to_zarr(
            data, job.output, chunks=array.chunks, compressors=compressors
        )
    filters = _filters(job.row)
    return lambda: lazyio.to_hdf5(data, job.output, "/data", chunks=array.chunks, **filters)


def _filters(row: Row) -> dict[str, Any]:
    if row.family == "none":
        return {}
    if row.family == "blosc":
        return {"compression": "blosc", "compression_opts": ("zstd", row.level, "byte")}
    return {"compression": row.family, "compression_opts": row.level, "shuffle": row.shuffle}
