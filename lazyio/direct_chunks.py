"""Chunks of an HDF5 dataset as they are stored, passed by libhdf5 as they are.

h5py takes its lock for these two calls only from 3.16 on; without it a second thread
damages what libhdf5 has in memory.
"""

from collections.abc import Sequence
from typing import Any

import h5py
from h5py._objects import phil


def write_direct_chunk(
    dataset: h5py.Dataset, corner: Sequence[int], payload: Any, mask: int
) -> None:
    """Store a payload, with the filters of the mask left out."""
    with phil:
        dataset.id.write_direct_chunk(tuple(corner), payload, mask)


def read_direct_chunk(dataset: h5py.Dataset, corner: Sequence[int]) -> tuple[int, bytes]:
    """Return mask and payload of a chunk that is stored."""
    with phil:
        mask, payload = dataset.id.read_direct_chunk(tuple(corner))
    return mask, payload
