"""A plain loop over rows of chunks, or shards, with zarr-python."""

from collections.abc import Callable

from benchmarks.cases import Job
from benchmarks.contenders.opened import open_source
from benchmarks.contenders.zarr_arrays import create_arrays, use_threads
from benchmarks.outputs import OUTPUTS


def prepare(job: Job) -> Callable[[], None]:
    """Return what writes with zarr-python.

    Parameters
    ----------
    job : Job
        What to write.
    """
    use_threads(job.threads)
    source = open_source(job.array)

    def write() -> None:
        targets = create_arrays(job)
        for rows in job.blocks():
            block = source[rows]
            for name, target in targets.items():
                target[rows] = OUTPUTS[name](block)

    return write
