"""lazyio with its defaults; where nobody syncs, it does not either."""

import os
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da

import lazyio
from benchmarks.cases import Array, Job, Row
from benchmarks.contenders.opened import as_it_is
from benchmarks.contenders.zarr_arrays import zarr_settings
from benchmarks.outputs import KEY, OUTPUTS

SYNCS_ITSELF = True


def prepare(job: Job) -> Callable[[], Any]:
    """Return what writes with lazyio.

    Parameters
    ----------
    job : Job
        What to write.
    """
    dask.config.set(num_workers=job.threads)
    if not job.is_synced:
        # It always does, and has no option for it: here it would be alone with that.
        os.fsync = lambda _: None
    data: Any = _opened(job.array)
    is_sole = job.array.outputs == (KEY,)
    if not is_sole:
        data = {name: OUTPUTS[name](data) for name in job.array.outputs}
    if job.row.format == "zarr":
        settings = zarr_settings(job)
        return lambda: lazyio.to_zarr(data, job.output, **settings)
    settings = {"chunks": job.array.chunks, **_filters(job.row)}
    return lambda: lazyio.to_hdf5(data, job.output, **settings)


def _opened(array: Array) -> da.Array:
    if array.key is not None:
        return lazyio.open(array.path, array.key)
    if array.graph_blocks is None:
        return lazyio.from_raw(array.path, array.shape, array.dtype)
    blocks = lazyio.from_raw(array.path, array.shape, array.dtype, chunks=array.graph_blocks)
    return blocks.map_blocks(as_it_is)


def _filters(row: Row) -> dict[str, Any]:
    if row.family == "none":
        return {}
    if row.family in ("blosc", "blosc2"):
        options: Any = (row.cname, row.level, "byte")
    else:
        options = row.level if row.family in ("gzip", "zstd") else None
    return {"compression": row.family, "compression_opts": options, "shuffle": row.shuffle}
