"""Lazy arrays that do not fit in memory, to HDF5 and Zarr with chunks that match."""

import importlib
from typing import Any

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
from lazyio.ragged.opening import open_ragged
from lazyio.ragged.ragged import Ragged
from lazyio.repacking.consolidate import consolidate
from lazyio.repacking.repack import repack
from lazyio.sources.base import Source
from lazyio.verification.report import VerifyReport
from lazyio.verification.verify import verify
from lazyio.windowing.window import window
from lazyio.writing.allocate import allocate
from lazyio.writing.links import link, virtual
from lazyio.writing.to_hdf5 import to_hdf5
from lazyio.writing.to_zarr import to_zarr
from lazyio.xarray.registration import register

register()

__all__ = [
    "Blocks",
    "LazyioError",
    "Plan",
    "Ragged",
    "Source",
    "Stream",
    "VerifyReport",
    "WriteReport",
    "allocate",
    "clean",
    "concatenate",
    "consolidate",
    "from_array",
    "from_function",
    "from_hdf5",
    "from_npy",
    "from_raw",
    "from_source",
    "from_zarr",
    "link",
    "open",
    "open_ragged",
    "plan",
    "recover",
    "repack",
    "stack",
    "to_hdf5",
    "to_zarr",
    "verify",
    "virtual",
    "window",
    "writer",
]


def __getattr__(name: str) -> Any:
    """Import ``lazyio.nwb`` where it is used first: it needs PyNWB."""
    if name == "nwb":
        return importlib.import_module("lazyio.nwb")
    msg = f"module 'lazyio' has no attribute {name!r}"
    raise AttributeError(msg)
