"""Lazy arrays that do not fit in memory, to HDF5 and Zarr with chunks that match."""

from lazyio.errors import LazyioError
from lazyio.opening.joining import concatenate, stack
from lazyio.opening.reading import (
    from_array,
    from_function,
    from_hdf5,
    from_npy,
    from_raw,
    from_source,
    from_zarr,
    open,
)
from lazyio.pieces.blocks import Blocks
from lazyio.pieces.stream import Stream
from lazyio.planner import plan
from lazyio.planning import Plan
from lazyio.pushing.opening import writer
from lazyio.run.report import WriteReport
from lazyio.safety.leftovers import clean, recover
from lazyio.sources.base import Source
from lazyio.verifying.findings import VerifyReport
from lazyio.verifying.verify import verify
from lazyio.writing.allocation import allocate
from lazyio.writing.into_hdf5 import to_hdf5
from lazyio.writing.into_zarr import to_zarr

__all__ = [
    "Blocks",
    "LazyioError",
    "Plan",
    "Source",
    "Stream",
    "VerifyReport",
    "WriteReport",
    "allocate",
    "clean",
    "concatenate",
    "from_array",
    "from_function",
    "from_hdf5",
    "from_npy",
    "from_raw",
    "from_source",
    "from_zarr",
    "open",
    "plan",
    "recover",
    "stack",
    "to_hdf5",
    "to_zarr",
    "verify",
    "writer",
]
