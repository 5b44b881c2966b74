"""PyTables: a plain loop over rows of chunks of a ``CArray``."""

from collections.abc import Callable

import numpy as np
import tables

from benchmarks.cases import Job, Row
from benchmarks.contenders.opened import open_source
from benchmarks.outputs import KEY


def prepare(job: Job) -> Callable[[], None]:
    """Return what writes with PyTables.

    Parameters
    ----------
    job : Job
        What to write.
    """
    tables.set_blosc_max_threads(job.threads)
    source = open_source(job.array)
    atom = tables.Atom.from_dtype(np.dtype(job.array.dtype))
    filters = _filters(job.row)

    def write() -> None:
        with tables.open_file(job.output, "w") as file:
            target = file.create_carray(
                file.root, KEY, atom, source.shape, filters=filters, chunkshape=job.array.chunks
            )
            for rows in job.blocks():
                target[rows] = source[rows]

    return write


def _filters(row: Row) -> tables.Filters:
    if row.family == "none":
        return tables.Filters(complevel=0, shuffle=False)
    if row.family == "gzip":
        return tables.Filters(complevel=row.level, complib="zlib", shuffle=row.shuffle)
    return tables.Filters(complevel=row.level, complib=f"{row.family}:{row.cname}", shuffle=True)
