"""lazyio with its defaults."""

from collections.abc import Callable
from typing import Any

import dask

import lazyio
from benchmarks.cases import Job
from benchmarks.outputs import KEY


def prepare(job: Job) -> Callable[[], Any]:
    """Return what reads with lazyio.

    Parameters
    ----------
    job : Job
        What to read.
    """
    dask.config.set(num_workers=job.threads)
    return lambda: lazyio.open(job.output, KEY).sum().compute()
