"""tensorstore's zarr3 driver, a few rows of chunks in flight, without fsync."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorstore

from benchmarks.cases import Job, Row
from benchmarks.contenders.opened import open_source


def prepare(job: Job) -> Callable[[], None]:
    """Return what writes with tensorstore.

    Parameters
    ----------
    job : Job
        What to write.
    """
    source = open_source(job.array)
    context = tensorstore.Context(
        {"file_io_sync": False, "data_copy_concurrency": {"limit": job.threads}}
    )
    step = job.array.chunks[0]

    def write() -> None:
        store = tensorstore.open(_spec(job), context=context, create=True).result()
        pending: deque[Any] = deque()
        for start in range(0, source.shape[0], step):
            rows = slice(start, min(start + step, source.shape[0]))
            written = store[rows].write(source[rows], can_reference_source_data_indefinitely=True)
            pending.append(written)
            if len(pending) > 2 * job.threads:
                pending.popleft().result()
        while pending:
            pending.popleft().result()

    return write


def _spec(job: Job) -> dict[str, Any]:
    array = job.array
    dtype = np.dtype(array.dtype)
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": job.output},
        "metadata": {
            "shape": array.shape,
            "data_type": dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": array.chunks}},
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                *_codecs(job.row, dtype.itemsize),
            ],
        },
    }


def _codecs(row: Row, itemsize: int) -> list[dict[str, Any]]:
    if row.family == "zstd":
        return [{"name": "zstd", "configuration": {"level": row.level}}]
    if row.family == "blosc":
        options = {
            "cname": "zstd",
            "clevel": row.level,
            "shuffle": "shuffle",
            "typesize": itemsize,
            "blocksize": 0,
        }
        return [{"name": "blosc", "configuration": options}]
    return []
