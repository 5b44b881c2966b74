"""A plain loop over rows of chunks with h5py."""

from collections.abc import Callable
from typing import Any

import h5py

from benchmarks.cases import Job
from benchmarks.outputs import KEY


def prepare(job: Job) -> Callable[[], Any]:
    """Return what reads with h5py.

    Parameters
    ----------
    job : Job
        What to read.
    """

    def read() -> Any:
        with h5py.File(job.output, "r") as file:
            return sum(file[KEY][rows].sum() for rows in job.blocks())

    return read
