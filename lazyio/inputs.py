"""What a user hands in, recognised once: a source to read, or a graph to compute."""

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks
from dask.base import is_dask_collection, tokenize
from dask.tokenize import TokenizationError

from lazyio.dtypes import OF_OBJECTS, Shape, as_dtype, is_integer, is_text
from lazyio.errors import OptionError, UnsupportedDtypeError
from lazyio.execution.dask_arrays import (
    held_in,
    locations_in,
    locations_of,
    masked_blocks,
    reads_file,
    source_of,
)
from lazyio.execution.dask_graphs import as_dask_array
from lazyio.execution.ranks import RankPart
from lazyio.iterables.base import BlockIterator
from lazyio.iterables.blocks import Blocks
from lazyio.iterables.hdmf import HdmfBlocks, is_iterator, recommended_chunks
from lazyio.iterables.sparse import SparseBlocks, is_sparse
from lazyio.iterables.stream import Stream
from lazyio.planning import ArraySpec, OnePass
from lazyio.regions import Bounds
from lazyio.sources.adapters import VariableReader, is_indexed, is_xarray
from lazyio.sources.base import Source, lies_in_rows
from lazyio.sources.lookup import array_source, source_for

_MASKED_NBYTES = 4 * 2**20
"""Blocks of a masked array in memory: small, for a mask and a filled copy come with each."""
_STREAM_NBYTES = 64 * 2**20
"""To plan for of what does not say how long it will be."""


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
    stream: Stream | None = None
    """Where it comes from in one go, when its length is not known: then it is planned for one."""
    pieces: BlockIterator | None = None
    """Where its parts come from in any order, once."""
    dims: tuple[str, ...] = ()
    """Names of the axes, where it has them."""
    mask_fill: Any = None
    """What the gaps of a masked array are filled with, unless another is asked for."""
    container: tuple[str, str] | None = None
    """Path and key of a group, which is no array and can only be linked to."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it wants to be stored, where it says so: keywords of ``create_dataset``."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Settings that hold for it, whatever the call says of its arrays."""
    is_bound: bool = False
    """Whether what it holds depends on where it goes: it cannot go behind another end instead."""
    parts: tuple[RankPart, ...] = ()
    """What each rank of MPI has of it, where none has all of it."""
    share: Fraction = Fraction(1)
    """Of the memory limit: of streams that are fed from one source, each holds slabs of its own."""

    def wanted(self, dims: str) -> dict[str, Any]:
        """Return its own settings, the names of its axes under that of their argument."""
        return {dims: self.dims or None, **self.settings}

    @property
    def locations(self) -> set[tuple[str, str]]:
        """Path and key of every file or store that is read."""
        if self.source is not None:
            return locations_of(self.source)
        return locations_in(self.array) if self.array is not None else set()

    def reads(self, path: Path) -> bool:
        """Return whether any of it is read from a file, of which the path has no links in it."""
        held = [self.source]
        if self.source is None:
            held = [] if self.array is None else list(held_in(self.array))
        return any(reads_file(one, str(path)) for one in held)

    @functools.cached_property
    def token(self) -> tuple[str, bool]:
        """Name of the source by its type and content, and whether that lasts beyond the process.

        Of an array in memory it takes a look at every element, so once.
        """
        try:
            return tokenize(self.source, ensure_deterministic=True), True
        except TokenizationError:
            return tokenize(self.source), False

    @property
    def is_empty(self) -> bool:
        """Whether there is only a shape, and nothing to write."""
        return self.source is None and self.array is None and not self.comes_once

    @property
    def comes_once(self) -> bool:
        """Whether what has been taken of it cannot be had again."""
        return self.stream is not None or self.pieces is not None

    @property
    def bounds(self) -> Bounds | None:
        """How far it may grow as it comes, ``None`` where its extents are known."""
        if self.pieces is not None:
            return self.pieces.max_shape
        return None if self.stream is None else self.stream.maxshape

    def _held_itemsize(self, dtype: np.dtype[Any]) -> int:
        """Return the bytes of an element in memory; a cast keeps both forms."""
        if dtype == self.dtype:
            return dtype.itemsize
        return dtype.itemsize + self.dtype.itemsize

    def facts(self, dtype: np.dtype[Any], *, own_blocks: bool) -> ArraySpec:
        """Return what a plan needs to know."""
        edges = None
        if self.array is not None and (self.source is None or own_blocks):
            # Empty blocks have no place in a plan; there is nothing to write for them.
            edges = tuple(tuple(n for n in sizes if n) for sizes in self.array.chunks)
        source = self.source if edges is None else None
        return ArraySpec(
            shape=self.shape,
            dtype=dtype,
            held_itemsize=self._held_itemsize(dtype),
            source_chunk_shape=None if source is None else source.chunk_shape,
            in_rows=lies_in_rows(source),
            edges=edges,
            one_pass=self._one_pass(),
        )

    def _one_pass(self) -> OnePass | None:
        """Return how it arrives, where it can be had only once."""
        if self.stream is not None:
            has_length = self.stream.expected_length is not None
            return OnePass(axis=self.stream.axis, has_length=has_length)
        return None if self.pieces is None else OnePass(chunk_shape=self.pieces.chunk_shape)


RECOMMENDED = "recommended_chunks"
"""Among the settings of an input: chunks that suit it, which yield to a limit or a target."""


def is_labelled(data: Any) -> bool:
    """Return whether something is an xarray object with more to it than one array."""
    if is_xarray(data, "Dataset") or is_xarray(data, "DataTree"):
        return True
    return is_xarray(data, "DataArray") and bool(len(data.coords))


def recognise(data: Any) -> Input:
    """Return what an object is, for planning and for writing."""
    if isinstance(data, Input):
        return data
    if isinstance(data, Stream):
        first = tuple(extent or data.expected_length or 0 for extent in data.maxshape)
        shape = first
        if not data.expected_length:
            shape = _expected_shape(first, data.maxshape, data.dtype.itemsize)
        return Input(shape=shape, dtype=data.dtype, stream=data)
    if is_xarray(data, "Dataset"):
        msg = (
            "an xarray Dataset holds several arrays with coordinates; write it by itself, with "
            "dataset.lazyio.to_hdf5 or dataset.lazyio.to_zarr, or give one of its variables"
        )
        raise OptionError(msg)
    if is_xarray(data, "DataArray") or is_xarray(data, "Variable"):
        if len(getattr(data, "coords", ())):
            msg = (
                "a DataArray with coordinates is written by itself, with array.lazyio.to_hdf5 or "
                "array.lazyio.to_zarr; for its elements alone give .variable"
            )
            raise OptionError(msg)
        variable = getattr(data, "variable", data)
        # What dask does not hold is read in parts: .data would load it whole.
        given = recognise(VariableReader(variable) if variable.chunks is None else variable.data)
        dims = tuple(map(str, data.dims))
        return replace(given, dims=dims, settings={"attrs": dict(data.attrs)})
    # First: without data it raises when asked for anything that it has not itself.
    if hasattr(type(data), "io_settings"):
        return _from_wrapper(data)
    pieces = _pieces_in(data)
    if pieces is not None:
        return from_pieces(pieces)
    if is_dask_collection(data):
        return _from_dask(as_dask_array(data))
    if isinstance(data, Mapping):
        msg = "a mapping holds several arrays, and this takes one; give one of them"
        raise OptionError(msg)
    if isinstance(data, np.ma.MaskedArray):
        block = normalize_chunks("auto", data.shape, limit=_MASKED_NBYTES, dtype=data.dtype)
        return _from_dask(masked_blocks(data, tuple(max(sizes, default=1) for sizes in block)))
    if isinstance(data, (str, os.PathLike)):
        source = source_for(data)
        return Input(shape=source.shape, dtype=source.dtype, source=source)
    source = array_source(data)
    chunks = recommended_chunks(data)
    settings = {} if chunks is None else {RECOMMENDED: chunks}
    dtype = as_dtype(source.dtype)
    return Input(shape=source.shape, dtype=dtype, source=source, settings=settings)


def _pieces_in(data: Any) -> BlockIterator | None:
    """Return what comes in parts, ``None`` for all else; what can be indexed is a source."""
    if isinstance(data, Blocks):
        return data
    if is_sparse(data):
        return SparseBlocks(data)
    return HdmfBlocks(data) if is_iterator(data) and not is_indexed(data) else None


def from_pieces(pieces: BlockIterator) -> Input:
    """Return parts as they come, planned for as far as the array may grow."""
    settings: dict[str, Any] = {}
    fill_value = pieces.fill_value if isinstance(pieces, Blocks) else 0
    # Zero is what formats fill with themselves, and no value of text or a record.
    if not (is_integer(fill_value) and fill_value == 0):
        settings["fillvalue"] = fill_value
    if pieces.chunk_shape is not None:
        settings["chunks" if isinstance(pieces, Blocks) else RECOMMENDED] = pieces.chunk_shape
    shape = _expected_shape(pieces.shape, pieces.max_shape, pieces.dtype.itemsize)
    return Input(shape=shape, dtype=pieces.dtype, pieces=pieces, settings=settings)


def _expected_shape(shape: Shape, bounds: Bounds, itemsize: int) -> Shape:
    """Return the extents to plan for: as far as an array may grow, or of some bytes."""
    found = [
        extent if bound is None else bound for extent, bound in zip(shape, bounds, strict=True)
    ]
    if None in bounds:
        axis = bounds.index(None)
        others = math.prod(max(1, extent) for at, extent in enumerate(found) if at != axis)
        length = _STREAM_NBYTES // max(1, others * itemsize)
        found[axis] = max(1, found[axis], length)
    return tuple(
        max(1, extent) if bound is None else extent
        for extent, bound in zip(found, bounds, strict=True)
    )


def _from_wrapper(wrapper: Any) -> Input:
    """Return what is inside of HDMF's H5DataIO, with what it asks for."""
    if wrapper.data is None:
        kind = type(wrapper).__name__
        msg = f"the {kind} holds no data; make an empty dataset with lazyio.allocate"
        raise OptionError(msg)
    settings = {name: value for name, value in wrapper.io_settings.items() if value is not None}
    if getattr(wrapper, "link_data", False):
        settings["links"] = "link"
    given = recognise(wrapper.data)
    return replace(given, settings={**given.settings, **settings})


def _from_dask(array: da.Array) -> Input:
    meta = array._meta
    is_plain = isinstance(meta, np.ndarray)
    if not is_plain or (meta.dtype.hasobject and not is_text(meta.dtype)):
        raise UnsupportedDtypeError(_refusal(meta))
    is_masked = isinstance(meta, np.ma.MaskedArray)
    return Input(
        shape=tuple(map(int, array.shape)),
        dtype=as_dtype(array.dtype),
        source=source_of(array),
        array=array,
        mask_fill=meta.fill_value if is_masked else None,
    )


def _refusal(meta: Any) -> str:
    """Say what to do about blocks that are not numpy's plain elements."""
    kind = f"{type(meta).__module__}.{type(meta).__name__}"
    if isinstance(meta, np.ndarray):
        return (
            f"blocks of dtype {meta.dtype} hold Python objects, which have no plain bytes to "
            f"store; {OF_OBJECTS}"
        )
    remedy = "make them numpy arrays first, with .map_blocks(numpy.asarray)"
    if kind.startswith("scipy"):
        remedy = (
            "make them dense first, with .map_blocks(lambda block: block.toarray(), "
            "dtype=array.dtype)"
        )
    elif "sparse" in kind:
        remedy = "make them dense first, with .map_blocks(lambda block: block.todense())"
    elif "cupy" in kind:
        remedy = "copy them from the device first, with .map_blocks(lambda block: block.get())"
    return f"blocks of {kind} have no plain bytes to store; {remedy}"
