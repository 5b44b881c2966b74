"""A plain loop over rows of chunks with h5py."""

from collections.abc import Callable

import h5py

from benchmarks.cases import Job
from benchmarks.contenders.opened import hdf5_filters, open_source
from benchmarks.outputs import OUTPUTS


def prepare(job: Job) -> Callable[[], None]:
    """Return what writes with h5py.

    Parameters
    ----------
    job : Job
        What to write.
    """
    source = open_source(job.array)
    filters = hdf5_filters(job.row)
    made = {name: OUTPUTS[name] for name in job.array.outputs}

    def write() -> None:
        with h5py.File(job.output, "w") as file:
            for name, make in made.items():
                shape = (len(source), *make(source[:1]).shape[1:])
                file.create_dataset(name, shape, source.dtype, chunks=job.array.chunks, **filters)
            for rows in job.blocks():
                block = source[rows]
                for name, make in made.items():
                    file[name][rows] = make(block)

    return write
