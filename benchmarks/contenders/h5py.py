"""A plain loop over rows of chunks with h5py."""

from collections.abc import Callable

import h5py

from benchmarks.cases import Job
from benchmarks.contenders.opened import KEY, hdf5_filters, open_source


def prepare(job: Job) -> Callable[[], None]:
    """Return what writes with h5py.

    Parameters
    ----------
    job : Job
        What to write.
    """
    source = open_source(job.array)
    filters = hdf5_filters(job.row)
    step = job.array.chunks[0]

    def write() -> None:
        with h5py.File(job.output, "w") as file:
            dataset = file.create_dataset(
                KEY, source.shape, source.dtype, chunks=job.array.chunks, **filters
            )
            for start in range(0, source.shape[0], step):
                rows = slice(start, start + step)
                dataset[rows] = source[rows]

    return write
