"""How a window divides its memory: cells, what decodes them, and threads."""

import math
from dataclasses import dataclass

import numpy as np
from dask.system import CPU_COUNT

from lazyio.dtypes import Shape, nbytes_of
from lazyio.planning.budget import limit_too_small
from lazyio.regions import n_along
from lazyio.sources.base import KeptOpen, Source, lies_in_rows, reading_unit
from lazyio.sources.function import ArraySource
from lazyio.units import format_size
from lazyio.windowing.computed import ComputedSource
from lazyio.windowing.grid import Grid, RegularAxis, cell_shape

_CELL_NBYTES = 2**20
"""Of small chunks, those that are read at once."""
_ROW_NBYTES = 8 * 2**20
"""Of chunks side by side, as far as they are read at once."""
_LEAST_CELLS = 16
"""That have room in a window, where chunks are small."""
_FEW_CELLS = 4
"""Of files that the system's cache holds."""
_STRIPE_NBYTES = 2**20
"""What is read at once of rows of which only a part is wanted."""
_MOST_THREADS = 8
_LEAST_DECODE, _DECODE = 2, 3
"""Forms of a chunk beside the decoded one: as it is stored, and on the way."""


_FEW_TOUCHES = 8
"""Short reads that take as long as loading a cell, where nothing has to be decoded."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The cells of a source, and the memory for them."""

    grid: Grid
    """The cells."""
    room: int
    """Bytes for cells."""
    cell_nbytes: int
    """Bytes of the largest cell."""
    decode_nbytes: int
    """Bytes that loading a cell takes beside it."""
    n_threads: int
    """Cells that are loaded at once, by threads that read ahead."""
    is_coarse: bool
    """Whether a cell is more than what is decoded at once."""
    unit: Shape
    """What is decoded at once."""
    is_resident: bool
    """Whether the source is in memory anyway."""
    n_loads: int
    """Cells that are loaded at once with memory that is set aside for it, beside the room."""

    @property
    def most_touches(self) -> int:
        """Reads of parts of a cell that take about as long as loading it."""
        is_cheap = set(self.unit) == {1}
        return _FEW_TOUCHES if is_cheap else max(_FEW_TOUCHES, self.units_per_cell // 2)

    @property
    def units_per_cell(self) -> int:
        """Number of units that the largest cell is made of."""
        return math.prod(map(n_along, self.grid.cell_shape, self.unit))


def layout_of(source: Source, limit: int) -> Layout:
    """Return the layout of a source within some bytes."""
    room = limit * 8 // 9
    is_resident = isinstance(source, ArraySource) and isinstance(source.array, np.ndarray)
    if is_resident:
        grid = _regular(source.shape, source.shape)
        return _layout(source, grid, room, decode_nbytes=0, is_resident=True)
    if isinstance(source, ComputedSource):
        grid = source.grid()
        decode_nbytes = nbytes_of(grid.cell_shape, source.dtype)
        return _layout(source, grid, _enough(limit, grid, source, decode_nbytes), decode_nbytes)
    nbytes = max(1, min(_CELL_NBYTES, room // _LEAST_CELLS))
    rows = min(_ROW_NBYTES, room // _LEAST_CELLS)
    cell = cell_shape(source.shape, reading_unit(source), source.dtype.itemsize, nbytes, rows)
    grid = _regular(source.shape, cell)
    if source.chunk_shape is None:
        stripe = min(_STRIPE_NBYTES, room // 4) if lies_in_rows(source) else 0
        if stripe and isinstance(source, KeptOpen):
            # The system's cache holds the file, and cells are there to save calls.
            cell_nbytes = nbytes_of(grid.cell_shape, source.dtype)
            limit = min(limit, _FEW_CELLS * (cell_nbytes + stripe))
        return _layout(source, grid, _enough(limit, grid, source, stripe), stripe)
    unit = tuple(
        max(1, min(edge, extent))
        for edge, extent in zip(source.chunk_shape, source.shape, strict=True)
    )
    chunk_nbytes = nbytes_of(source.chunk_shape, source.dtype)
    room = _enough(limit, grid, source, _LEAST_DECODE * chunk_nbytes)
    copies = _DECODE if room >= 2 * _DECODE * chunk_nbytes else _LEAST_DECODE
    return _layout(source, grid, room, copies * chunk_nbytes, unit=unit)


def _layout(
    source: Source,
    grid: Grid,
    room: int,
    decode_nbytes: int,
    *,
    unit: Shape | None = None,
    is_resident: bool = False,
) -> Layout:
    cell_nbytes = nbytes_of(grid.cell_shape, source.dtype)
    # Half of the room is for cells that are being loaded, at most.
    n_fitting = room // max(1, 2 * (cell_nbytes + decode_nbytes))
    n_threads = max(1, min(_MOST_THREADS, CPU_COUNT, n_fitting))
    # Whoever reads loads cells as well. What decoded one stays in hand for the next.
    n_loads = max(1, min(n_threads + 1, room // 2 // max(1, decode_nbytes)))
    return Layout(
        grid=grid,
        room=room - n_loads * decode_nbytes,
        cell_nbytes=cell_nbytes,
        decode_nbytes=decode_nbytes,
        n_threads=n_threads,
        is_coarse=not isinstance(source, ComputedSource) and unit != grid.cell_shape,
        unit=unit or (1,) * len(source.shape),
        is_resident=is_resident,
        n_loads=n_loads,
    )


def _enough(limit: int, grid: Grid, source: Source, decode_nbytes: int) -> int:
    """Return the bytes for cells and what loads them, or refuse a limit that is too small."""
    cell_nbytes = nbytes_of(grid.cell_shape, source.dtype)
    room, needed = limit * 8 // 9, cell_nbytes + decode_nbytes
    if needed > room:
        what = f"a chunk of {source.chunk_shape}" if source.chunk_shape else "a cell"
        why = f"{what} {source.dtype} with what decodes it takes {format_size(needed)}"
        raise limit_too_small(limit, why, -(-needed * 9 // 8))
    return room


def _regular(shape: Shape, cell: Shape) -> Grid:
    return Grid.of(
        [
            RegularAxis(extent=extent, step=max(1, step))
            for extent, step in zip(shape, cell, strict=True)
        ]
    )
