"""tensorstore, a few rows of chunks in flight."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorstore

from benchmarks.cases import Job
from benchmarks.outputs import KEY


def prepare(job: Job) -> Callable[[], Any]:
    """Return what reads with tensorstore.

    Parameters
    ----------
    job : Job
        What to read.
    """
    context = tensorstore.Context({"data_copy_concurrency": {"limit": job.threads}})
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(Path(job.output, KEY))},
    }

    def read() -> Any:
        store = tensorstore.open(spec, context=context, read=True).result()
        pending: deque[Any] = deque()
        total = 0
        for rows in job.blocks():
            pending.append(store[rows].read())
            if len(pending) > job.threads:
                total += pending.popleft().result().sum()
        return total + sum(one.result().sum() for one in pending)

    return read
