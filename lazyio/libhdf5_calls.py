"""Calls of libhdf5 for which h5py has no lock, or no name.

libhdf5 is not thread-safe in the wheels of h5py: each call is made under h5py's own lock, or a
second thread damages what libhdf5 has in memory.
"""

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import h5py
from h5py._objects import phil

from lazyio.codecs.libraries import shared_functions

_PLAIN_EDGES = 2
"""H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS."""


def write_direct_chunk(
    dataset: h5py.Dataset, corner: Sequence[int], payload: Any, mask: int
) -> None:
    """Store a payload, with the filters of the mask left out; h5py locks it from 3.16 on."""
    with phil:
        dataset.id.write_direct_chunk(tuple(corner), payload, mask)


def read_direct_chunk(dataset: h5py.Dataset, corner: Sequence[int]) -> tuple[int, bytes]:
    """Return mask and payload of a chunk that is stored; h5py locks it from 3.16 on."""
    with phil:
        mask, payload = dataset.id.read_direct_chunk(tuple(corner))
    return mask, payload


def leaves_edges_plain(properties: h5py.h5p.PropDCID) -> bool | None:
    """Return whether filters are not applied to chunks at the edge, ``None`` if nobody knows."""
    options = ctypes.c_uint()
    library = _library()
    if library is None:
        return None
    with phil:
        failed = library.H5Pget_chunk_opts(properties.id, ctypes.byref(options)) < 0
    return None if failed else bool(options.value & _PLAIN_EDGES)


def chunk_index_type(dataset: h5py.Dataset) -> int | None:
    """Return the number of the kind of index that a dataset has, ``None`` if nobody knows."""
    kind = ctypes.c_int()
    library = _library()
    if library is None:
        return None
    with phil:
        failed = library.H5Dget_chunk_index_type(dataset.id.id, ctypes.byref(kind)) < 0
    return None if failed else kind.value


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the library that h5py uses, ``None`` where it cannot be called."""
    arguments = {
        "H5Dget_chunk_index_type": [ctypes.c_int64, ctypes.POINTER(ctypes.c_int)],
        "H5Pget_chunk_opts": [ctypes.c_int64, ctypes.POINTER(ctypes.c_uint)],
    }
    return shared_functions(h5py.h5d.__file__, arguments, returns=ctypes.c_int)
