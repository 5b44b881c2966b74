"""``da.from_array`` of a Zarr array that the zarrs codec pipeline decodes."""

from collections.abc import Callable
from typing import Any

import zarrs  # noqa: F401 - named in zarr's configuration, and said to be missing here

from benchmarks.cases import Job
from benchmarks.contenders.zarr_arrays import ZARRS, use_threads
from benchmarks.readers.dask import prepare_dask


def prepare(job: Job) -> Callable[[], Any]:
    """Return what reads with dask and zarrs.

    Parameters
    ----------
    job : Job
        What to read.
    """
    use_threads(job.threads, ZARRS)
    return prepare_dask(job)
