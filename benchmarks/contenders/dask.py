"""``da.to_hdf5``, or ``da.store`` to Zarr arrays; a block is whole rows of chunks."""

from collections.abc import Callable
from typing import Any

import dask
import dask.array as da

from benchmarks.cases import Job
from benchmarks.contenders.opened import hdf5_filters, open_graph
from benchmarks.contenders.zarr_arrays import create_arrays, use_threads
from benchmarks.outputs import OUTPUTS


def prepare(job: Job) -> Callable[[], Any]:
    """Return what writes with dask.

    Parameters
    ----------
    job : Job
        What to write.
    """
    if job.row.format == "zarr":
        use_threads(job.threads)
        return prepare_zarr(job)
    dask.config.set(num_workers=job.threads)
    data = open_graph(job)
    arrays = {name: OUTPUTS[name](data) for name in job.array.outputs}
    filters = hdf5_filters(job.row)
    return lambda: da.to_hdf5(job.output, arrays, chunks=job.array.chunks, **filters)


def prepare_zarr(job: Job) -> Callable[[], Any]:
    """Return what writes with dask and whoever encodes for zarr-python.

    Parameters
    ----------
    job : Job
        What to write.
    """
    dask.config.set(num_workers=job.threads)
    data = open_graph(job)

    def write() -> None:
        targets = create_arrays(job)
        sources = [OUTPUTS[name](data) for name in targets]
        # No lock: blocks are whole chunks and shards.
        da.store(sources, list(targets.values()), lock=False)

    return write
