"""``da.from_array`` of an h5py dataset or a Zarr array; a block is whole rows of chunks."""

from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import h5py
import zarr

from benchmarks.cases import Job
from benchmarks.contenders.zarr_arrays import use_threads
from benchmarks.outputs import KEY


def prepare(job: Job) -> Callable[[], Any]:
    """Return what reads with dask.

    Parameters
    ----------
    job : Job
        What to read.
    """
    use_threads(job.threads)
    return prepare_dask(job)


def prepare_dask(job: Job) -> Callable[[], Any]:
    """Return what reads with dask and whoever decodes for zarr-python.

    Parameters
    ----------
    job : Job
        What to read.
    """
    dask.config.set(num_workers=job.threads)
    blocks = (job.block_rows, *job.array.shape[1:])

    def read() -> Any:
        if job.row.format == "zarr":
            stored = zarr.open_array(job.output, path=KEY, mode="r")
            return da.from_array(stored, chunks=blocks).sum().compute()
        with h5py.File(job.output, "r") as file:
            return da.from_array(file[KEY], chunks=blocks).sum().compute()

    return read
