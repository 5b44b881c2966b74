"""The limit: chunks read and decoded from where they lie, on as many threads."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bare.codecs import decoder
from benchmarks.bare.placed import stored_chunks
from benchmarks.bare.turns import Turns, run_threads
from benchmarks.cases import Job


def prepare(job: Job) -> Callable[[], Any]:
    """Return what reads; where the chunks lie is found before.

    Parameters
    ----------
    job : Job
        What to read.
    """
    chunks = stored_chunks(job)

    def read() -> Any:
        # Freed once, a large block stops glibc from unmapping every payload.
        np.empty(30 << 20, "u1")
        return sum(run_threads(job.threads, partial(_run, job, Turns(chunks))))

    return read


def _run(job: Job, turns: Turns) -> Any:
    """Add up chunks until there are none left."""
    decode = decoder(job.row, np.dtype(job.array.dtype), job.array.chunks)
    total = 0
    for placed in turns:
        inside = tuple(slice(0, axis.stop - axis.start) for axis in placed.region)
        total += decode(placed.read())[inside].sum()
    return total
