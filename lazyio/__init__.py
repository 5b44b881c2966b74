"""Lazy arrays that do not fit in memory, to HDF5 and Zarr with chunks that match."""

from lazyio.appending.open import writer
from lazyio.atomic.recovery import clean, recover
from lazyio.errors import LazyioError
from lazyio.execution.report import WriteReport
from lazyio.iterables.blocks import Blocks
from lazyio.iterables.stream import Stream
from lazyio.opening.concatenate import concatenate, stack
from lazyio.opening.open import (
    from_array,
    from_function,
    from_hdf5,
    from_npy,
    from_raw,
    from_source,
    from_zarr,
    open,
)
from lazyio.planner import plan
from lazyio.planning import Plan
from lazyio.sources.base import Source
from lazyio.verification.report import VerifyReport
from lazyio.verification.verify import verify
from lazyio.writing.allocate import allocate
from lazyio.writing.to_hdf5 import to_hdf5
from lazyio.writing.to_zarr import to_zarr

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
