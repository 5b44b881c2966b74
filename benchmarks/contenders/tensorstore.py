"""tensorstore's zarr drivers, a few rows of chunks in flight."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorstore

from benchmarks.cases import Array, Job, Row
from benchmarks.contenders.opened import open_source

SYNCS_ITSELF = True
"""``file_io_sync`` forces every file to the disk as it is written."""


def prepare(job: Job) -> Callable[[], None]:
    """Return what writes with tensorstore.

    Parameters
    ----------
    job : Job
        What to write.
    """
    source = open_source(job.array)
    context = tensorstore.Context(
        {"file_io_sync": job.is_synced, "data_copy_concurrency": {"limit": job.threads}}
    )
    spec = _spec_v2(job) if job.row.zarr_format == 2 else _spec_v3(job)

    def write() -> None:
        store = tensorstore.open(spec, context=context, create=True).result()
        pending: deque[Any] = deque()
        for rows in job.blocks():
            written = store[rows].write(source[rows], can_reference_source_data_indefinitely=True)
            pending.append(written)
            if len(pending) > 2 * job.threads:
                pending.popleft().result()
        while pending:
            pending.popleft().result()

    return write


def _spec_v2(job: Job) -> dict[str, Any]:
    return {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": job.output},
        "metadata": {
            "shape": job.array.shape,
            "chunks": job.array.chunks,
            "dtype": job.array.dtype,
            "fill_value": 0,
            "compressor": {"id": "zstd", "level": job.row.level},
        },
    }


def _spec_v3(job: Job) -> dict[str, Any]:
    array = job.array
    codecs = _codecs(job.row, array)
    if job.row.is_sharded:
        codecs = [_sharding(array.chunks, codecs)]
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": job.output},
        "metadata": {
            "shape": array.shape,
            "data_type": np.dtype(array.dtype).name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": job.unit}},
            "codecs": codecs,
        },
    }


def _sharding(chunks: tuple[int, ...], codecs: list[dict[str, Any]]) -> dict[str, Any]:
    configuration = {
        "chunk_shape": chunks,
        "codecs": codecs,
        "index_codecs": [_bytes(), {"name": "crc32c"}],
    }
    return {"name": "sharding_indexed", "configuration": configuration}


def _codecs(row: Row, array: Array) -> list[dict[str, Any]]:
    """Return how a chunk is encoded."""
    found = [_bytes()]
    if row.family in ("zstd", "gzip"):
        found.append({"name": row.family, "configuration": {"level": row.level}})
    if row.family == "blosc":
        options = {
            "cname": row.cname,
            "clevel": row.level,
            "shuffle": "shuffle",
            "typesize": np.dtype(array.dtype).itemsize,
            "blocksize": 0,
        }
        found.append({"name": "blosc", "configuration": options})
    if row.is_checksummed:
        found.append({"name": "crc32c"})
    return found


def _bytes() -> dict[str, Any]:
    return {"name": "bytes", "configuration": {"endian": "little"}}
