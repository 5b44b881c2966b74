"""dask's threads, zarr-python's arrays and the zarrs codec pipeline."""

from collections.abc import Callable
from typing import Any

import zarrs  # noqa: F401 - named in zarr's configuration, and said to be missing here

from benchmarks.cases import Job
from benchmarks.contenders.dask import prepare_zarr
from benchmarks.contenders.zarr_arrays import ZARRS, use_threads


def prepare(job: Job) -> Callable[[], Any]:
    """Return what writes with dask and zarrs.

    Parameters
    ----------
    job : Job
        What to write.
    """
    use_threads(job.threads, ZARRS)
    return prepare_zarr(job)
