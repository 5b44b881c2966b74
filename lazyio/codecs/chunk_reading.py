"""The one way from chunks to a block: of HDF5 datasets, Zarr arrays, and shards."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy.typing as npt

from lazyio.dtypes import Shape
from lazyio.regions import Region, overlap, touched

ReadPart = Callable[[Shape, Region, npt.NDArray[Any]], bool]
"""Fills memory with a part of the chunk at a position; ``False`` where that is not stored."""


def read_chunks(
    region: Region,
    chunk_shape: Shape,
    out: npt.NDArray[Any],
    fill_value: Any,
    read_part: ReadPart,
    *,
    stored: Iterable[Shape] | None = None,
    most_missing: float = math.inf,
) -> bool:
    """Fill ``out`` from the chunks that a region touches, or from those alone that are stored.

    It gives up, and returns ``False``, once more chunks are missing than may be.
    """
    wanted: Iterable[tuple[Shape, Region, Region]] = touched(region, chunk_shape)
    if stored is not None:
        out[...] = fill_value
        wanted = ((index, *overlap(region, chunk_shape, index)) for index in stored)
    n_missing = 0
    for index, inside, outside in wanted:
        part = out[outside] if outside else out
        if not read_part(index, inside, part):
            part[...] = fill_value
            n_missing += 1
            if n_missing > most_missing:
                return False
    return True
