"""``da.to_hdf5`` and ``da.to_zarr``; a block is a row of chunks."""

from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np

from benchmarks.cases import Array, Job
from benchmarks.contenders.opened import KEY, hdf5_filters, open_source
from benchmarks.contenders.zarr_codecs import zarr_compressors


class RawReader:
    """A raw file as dask likes it best.

    ``from_array`` would copy a memmap into memory and hash it; a reader that
    holds one would be hashed as well.

    Parameters
    ----------
    array : Array
        Which one.
    """

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape = array.shape
        self.ndim = len(array.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, region: Any) -> np.ndarray:
        return np.asarray(open_source(self._array)[region])

    def __dask_tokenize__(self) -> str:
        return repr(self._array)


def prepare(job: Job) -> Callable[[], Any]:
    """Return what writes with dask.

    Parameters
    ----------
    job : Job
        What to write.
    """
    dask.config.set(num_workers=job.threads)
    array = job.array
    source = RawReader(array) if array.key is None else open_source(array)
    data = da.from_array(source, chunks=(array.chunks[0], *array.shape[1:]))
    if job.row.format == "zarr":
        compressors = zarr_compressors(job.row)
        return lambda: da.to_zarr(data, job.output, chunks=array.chunks, compressors=compressors)
    filters = hdf5_filters(job.row)
    return lambda: da.to_hdf5(job.output, KEY, data, chunks=array.chunks, **filters)
