"""What a user hands in, recognised once: a source to read, or a graph to compute."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from dask.base import is_dask_collection

from lazyio.blocks import location_of, locations_in, source_of
from lazyio.errors import OptionError, PlanError, UnsupportedDtypeError
from lazyio.planning import Facts
from lazyio.sources.base import Source
from lazyio.sources.lookup import array_source, source_for
from lazyio.spec import Shape, as_dtype


@dataclass(frozen=True, kw_only=True)
class Input:
    """An array that is to be planned or written."""

    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element, as the source or the graph gives it."""
    source: Source | None = None
    """Where blocks are read from, where it comes straight from a source."""
    array: da.Array | None = None
    """The graph, where there is one; of a straight source its blocks are a wish."""
    dims: tuple[str, ...] = ()
    """Names of the axes, where it has them."""
    has_coordinates: bool = False
    """Whether it is an xarray object with more to it than its array."""

    @property
    def locations(self) -> set[tuple[str, str]]:
        """Path and key of every file or store that is read."""
        if self.source is not None:
            found = location_of(getattr(self.source, "array", self.source))
            own = location_of(self.source)
            return {location for location in (found, own) if location is not None}
        return locations_in(self.array) if self.array is not None else set()

    def _held_itemsize(self, dtype: np.dtype[Any]) -> int:
        """Return the bytes of an element in memory; a cast keeps both forms."""
        if dtype == self.dtype:
            return dtype.itemsize
        return dtype.itemsize + self.dtype.itemsize

    def facts(self, dtype: np.dtype[Any], *, own_blocks: bool) -> Facts:
        """Return what a plan needs to know.

        Parameters
        ----------
        dtype : numpy.dtype
            Type on disk.
        own_blocks : bool
            Whether the blocks of a straight source's dask array are to be kept.
        """
        edges = None
        if self.array is not None and (self.source is None or own_blocks):
            # Empty blocks have no place in a plan; there is nothing to write for them.
            edges = tuple(tuple(n for n in sizes if n) for sizes in self.array.chunks)
        source = self.source if edges is None else None
        return Facts(
            shape=self.shape,
            dtype=dtype,
            held_itemsize=self._held_itemsize(dtype),
            source_chunk_shape=None if source is None else source.chunk_shape,
            in_rows=lies_in_rows(source),
            edges=edges,
        )


def lies_in_rows(source: Source | None) -> bool:
    """Return whether a source is one C-ordered run of bytes in a file."""
    return bool(getattr(source, "in_rows", False))


def recognise(data: Any) -> Input:
    """Return what an object is, for planning and for writing.

    Parameters
    ----------
    data : dask array, array-like, Source, xarray.DataArray
        What the user handed in.

    Returns
    -------
    Input
        Nothing has been computed.

    Raises
    ------
    PlanError
        When block sizes are not known.
    UnsupportedDtypeError
        When blocks are not plain numpy arrays of fixed-size elements.
    """
    if _is_xarray(data, "Dataset"):
        msg = (
            "an xarray Dataset holds several arrays, which cannot be written yet; give one of "
            "them, such as dataset['name']"
        )
        raise OptionError(msg)
    if _is_xarray(data, "DataArray"):
        given = recognise(data.variable.data)
        has_coordinates = bool(data.coords) or bool(data.attrs)
        return replace(given, dims=tuple(map(str, data.dims)), has_coordinates=has_coordinates)
    if is_dask_collection(data):
        return _from_dask(data)
    if isinstance(data, Mapping):
        msg = "several arrays at once ({key: array}) cannot be written yet; write one at a time"
        raise OptionError(msg)
    if hasattr(data, "io_settings") and hasattr(data, "data"):
        msg = (
            f"the settings of {type(data).__name__} cannot be taken over yet; give its .data, and "
            "the settings as arguments"
        )
        raise OptionError(msg)
    if isinstance(data, (str, os.PathLike)):
        source = source_for(data)
        return Input(shape=source.shape, dtype=source.dtype, source=source)
    source = array_source(data)
    dtype = as_dtype(source.dtype)
    return Input(shape=source.shape, dtype=dtype, source=source)


def _is_xarray(data: Any, name: str) -> bool:
    """Return whether an object is of an xarray class, without importing xarray."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == "xarray"
        for kind in type(data).__mro__
    )


def _from_dask(array: Any) -> Input:
    if not isinstance(array, da.Array):
        kind = type(array).__name__
        msg = (
            f"a dask {kind} is not an array; convert it first, as with .to_dask_array(lengths=True)"
        )
        raise OptionError(msg)
    if any(math.isnan(size) for sizes in array.chunks for size in sizes):
        msg = (
            f"the array's chunks {array.chunks} are not known (NaN); call .compute_chunk_sizes() "
            "first, which computes it once"
        )
        raise PlanError(msg)
    meta = array._meta
    if not isinstance(meta, np.ndarray) or isinstance(meta, np.ma.MaskedArray):
        kind = f"{type(meta).__module__}.{type(meta).__name__}"
        msg = (
            f"blocks of {kind} have no plain bytes to store; make them numpy arrays first, with "
            ".map_blocks(lambda b: b.todense()), .filled(value) or .get()"
        )
        raise UnsupportedDtypeError(msg)
    return Input(
        shape=tuple(map(int, array.shape)),
        dtype=as_dtype(array.dtype),
        source=source_of(array),
        array=array,
    )
