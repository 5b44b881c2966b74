"""A source as a dask array, and the way back from a dask array to its source."""

import os
import uuid
from collections.abc import Iterator
from typing import Any, cast

import dask.array as da
import numpy as np
from dask.base import tokenize

from lazyio.dtypes import Shape
from lazyio.errors import BlockError, LazyioError, SourceError, TooLargeError
from lazyio.execution.dask_inner_state import refuse_compute, values_in
from lazyio.memory import total_nbytes
from lazyio.regions import Region, as_region, format_region
from lazyio.sources.base import Array, Source, Stored, Watched, fills_memory, leaves_of, parts_of
from lazyio.sources.function import ArraySource, FunctionSource, SerialSource, checked_part
from lazyio.sources.in_memory import InMemoryHdf5Source
from lazyio.sources.zarr_metadata import is_zarr
from lazyio.units import format_size

_MARK = "lazyio_source"
"""Attribute of the layer that reads a source, by which :func:`source_of` knows it again."""

_MOST_PATHS = 16
"""Files by way of which a source is read that still travels with every task."""


class SourceReader:
    """What a graph holds of a source: indexing, and nothing that dask would copy.

    ``da.from_array`` copies whatever looks like an array with ``.copy``, a
    whole memmap included, and pickles what has no token to find its name.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def shape(self) -> Shape:
        """Extents of the source."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.source.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.source.shape)

    def __dask_tokenize__(self) -> Any:
        """Return the source's own token; its content where it has none."""
        return "lazyio.SourceReader", type(self.source).__qualname__, tokenize(self.source)

    def __getitem__(self, index: Any) -> Array:
        """Return one block, read now.

        dask fuses the user's slices into this one, with integers, steps and
        lists: the box around them is read, and the rest is done in memory.
        """
        region, rest = _around(index, self.source.shape)
        block = read_block(self.source, region)
        if not block.flags.writeable:
            # The user may work in place on a block, never on the source.
            block = block.copy()
        return block if rest is None else block[rest]


def read_block(source: Source, region: Region, out: Array | None = None) -> Array:
    """Return a part of a source, in memory that is given or new."""
    try:
        if out is not None and fills_memory(source):
            source.read_into(region, out)
            return out
        part = source.read(region)
    except LazyioError:
        raise
    except Exception as error:
        msg = f"reading region {format_region(region)} failed: {type(error).__name__}: {error}"
        raise BlockError(msg) from error
    return checked_part(part, region, source.dtype, f"the {type(source).__name__}")


def as_blocks(source: Source, blocks: Shape | tuple[Shape, ...]) -> da.Array:
    """Return a source as a dask array with blocks of one shape, or of sizes along each axis.

    Nothing is read.
    """
    reader = SourceReader(source)
    chunks = blocks
    if all(isinstance(size, int) for size in blocks):
        chunks = _blocks_within(source.shape, cast("Shape", blocks))
    array: da.Array = da.from_array(
        reader,
        chunks=chunks,
        name=f"lazyio-read-{tokenize(reader, chunks)}",
        asarray=False,
        lock=False,
        inline_array=not _is_large(source),
        meta=np.empty((0,) * reader.ndim, reader.dtype),
    )
    setattr(array.dask.layers[array.name], _MARK, source)
    total = total_nbytes()
    if total is not None and array.nbytes > total:
        # dask would compute one block after another and keep them until memory is full. What is
        # made of the array is another array, and is computed as ever.
        size = format_size(int(array.nbytes))
        msg = (
            f"the whole array, {array.shape} {array.dtype}, takes {size}, and this "
            f"machine has {format_size(total)} of memory; compute a part of it, "
            "array[...].compute(), or reduce it, or write it with lazyio.to_hdf5 or lazyio.to_zarr"
        )
        refuse_compute(array, TooLargeError(msg))
    return array


def _blocks_within(shape: Shape, block_shape: Shape) -> Shape:
    pairs = zip(block_shape, shape, strict=True)
    return tuple(max(1, min(block, extent)) for block, extent in pairs)


def _is_large(source: Source) -> bool:
    """Return whether a source is better sent once than with every task: a file, or many paths."""
    leads_on = isinstance(source, Watched) and len(source.paths) > _MOST_PATHS
    return leads_on or isinstance(source, InMemoryHdf5Source) or len(parts_of(source)) > 1


class MaskedReader:
    """What a graph holds of a masked array: indexing that keeps the mask."""

    def __init__(self, array: np.ma.MaskedArray[Any, Any]) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.ndim = array.ndim

    def __getitem__(self, index: Any) -> Any:
        """Return one block, which the user may work on in place."""
        return self.array[index].copy()


def masked_blocks(array: np.ma.MaskedArray[Any, Any], block_shape: Shape) -> da.Array:
    """Return a masked array as a dask array whose blocks are masked arrays."""
    meta = np.ma.empty((0,) * array.ndim, array.dtype)
    meta.fill_value = array.fill_value
    blocks: da.Array = da.from_array(
        MaskedReader(array),
        chunks=_blocks_within(array.shape, block_shape),
        # To name it by its content would read and hash all of it.
        name=f"lazyio-masked-{uuid.uuid4().hex}",
        asarray=False,
        inline_array=True,
        meta=meta,
    )
    return blocks


def source_of(array: da.Array) -> Source | None:
    """Return the source of a dask array that comes straight from one, else ``None``.

    An array that anything was done to, slicing and rechunking too, has
    another top layer.
    """
    source: Source | None = getattr(array.dask.layers.get(array.name), _MARK, None)
    if source is None or source.shape != array.shape or source.dtype != array.dtype:
        return None
    return source


def is_read_anywhere(source: Source) -> bool:
    """Return whether a source reads files or calls a function, which other processes can, too.

    Not what has a lock, which keeps this process' threads apart, nor what lies in memory.
    """
    if isinstance(source, SerialSource):
        return False
    parts = parts_of(source)
    if parts:
        return all(map(is_read_anywhere, parts))
    if isinstance(source, Watched) and not isinstance(source, InMemoryHdf5Source):
        return bool(source.paths)
    return isinstance(source, FunctionSource)


def locations_in(array: da.Array) -> set[tuple[str, str]]:
    """Return path and key of every stored array that a graph reads.

    Those that lazyio opened, and h5py datasets, memmaps and zarr arrays that
    were given to dask directly.
    """
    return {where for held in held_in(array) for where in locations_of(held)}


def held_in(array: da.Array) -> Iterator[Any]:
    """Yield what a graph holds beside keys: sources, and arrays of other libraries."""
    for layer in array.dask.layers.values():
        for held in values_in(layer):
            yield held.source if isinstance(held, SourceReader) else held


def locations_of(held: Any) -> set[tuple[str, str]]:
    """Return path and key of every file or store that something reads.

    A source that is made of others reads wherever they do.
    """
    return {where for leaf in leaves_of(held) if (where := location_of(leaf)) is not None}


def reads_file(held: Any, path: str) -> bool:
    """Return whether something reads a file, links on the way to it resolved."""
    for leaf in leaves_of(held):
        where = location_of(leaf)
        found = [] if where is None else [where[0]]
        if isinstance(leaf, Watched):
            found += leaf.paths
        if any(os.path.realpath(one) == path for one in found):
            return True
    return False


def location_of(held: Any) -> tuple[str, str] | None:
    """Return path and key of something that reads a file or store, if it does."""
    if isinstance(held, ArraySource):
        held = held.array
    if isinstance(held, Stored):
        return held.location
    if isinstance(held, np.memmap) and held.filename is not None:
        return str(held.filename), ""
    if type(held).__module__.startswith("h5py"):
        if not held:
            msg = "the array reads a dataset whose file has been closed; open it again"
            raise SourceError(msg)
        return str(held.file.filename), str(held.name)
    if is_zarr(held, "Array"):
        from lazyio.sources.zarr import store_name

        return store_name(held.store), str(held.path)
    return None


def _around(index: Any, shape: Shape) -> tuple[Region, tuple[Any, ...] | None]:
    """Return the box around an index, and what is left to index in the box."""
    parts = index if isinstance(index, tuple) else (index,)
    plain = all(isinstance(part, slice) and part.step in (None, 1) for part in parts)
    if plain and len(parts) == len(shape):
        return as_region(index, shape), None
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        fill = (slice(None),) * (len(shape) - len(parts) + 1)
        parts = (*parts[:at], *fill, *parts[at + 1 :])
    parts += (slice(None),) * (len(shape) - len(parts))
    pairs = [_around_axis(part, extent) for part, extent in zip(parts, shape, strict=True)]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _around_axis(part: Any, extent: int) -> tuple[slice, Any]:
    if isinstance(part, slice):
        wanted = range(*part.indices(extent))
        if not wanted:
            return slice(0, 0), slice(None)
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        return slice(low, high + 1), slice(None, None, wanted.step)
    at = np.asarray(part)
    if at.dtype == bool:
        at = np.flatnonzero(at)
    at = np.where(at < 0, at + extent, at)
    if at.ndim == 0:
        return slice(int(at), int(at) + 1), 0
    if at.size == 0:
        return slice(0, 0), at.astype(np.intp)
    low = int(at.min())
    return slice(low, int(at.max()) + 1), at - low
