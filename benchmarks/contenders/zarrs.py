"""zarr-python with the zarrs codec pipeline, which is given as much at once as it can take.

It cuts one assignment into chunks and encodes them on its own threads, so a
memmap is assigned whole; of anything else a few blocks are.
"""

from collections.abc import Callable

import zarrs  # noqa: F401 - named in zarr's configuration, and said to be missing here

from benchmarks.cases import Job
from benchmarks.contenders.opened import open_source
from benchmarks.contenders.zarr_arrays import ZARRS, create_arrays, use_threads
from benchmarks.outputs import OUTPUTS


def prepare(job: Job) -> Callable[[], None]:
    """Return what writes with zarrs.

    Parameters
    ----------
    job : Job
        What to write.
    """
    use_threads(job.threads, ZARRS)
    source = open_source(job.array)
    is_whole = job.array.key is None and len(job.array.outputs) == 1
    regions = [slice(0, job.array.shape[0])] if is_whole else job.blocks()

    def write() -> None:
        targets = create_arrays(job)
        for rows in regions:
            block = source[rows]
            for name, target in targets.items():
                target[rows] = OUTPUTS[name](block)

    return write
