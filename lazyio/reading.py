"""Public: plan anything, and open anything as a lazy dask array."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.blocks import as_blocks, masked_blocks, source_of
from lazyio.errors import OptionError, PlanError
from lazyio.grid import Region
from lazyio.inputs import recognise
from lazyio.options import wishes_for
from lazyio.planning import Facts, Plan, solve, suit_blocks
from lazyio.planning.access_windows import Window, as_windows
from lazyio.sources.agreement import common_axis, common_dtype
from lazyio.sources.base import Array, Source, lies_in_rows, reading_unit
from lazyio.sources.function import FunctionSource
from lazyio.sources.hdf5 import hdf5_source
from lazyio.sources.joined import joined, stacked
from lazyio.sources.lookup import (
    array_source,
    refuse_path_options,
    source_for,
    zarr_array_source,
)
from lazyio.sources.npy import npy_source
from lazyio.sources.raw import raw_sources
from lazyio.sources.wrapped import unwrapped
from lazyio.spec import as_dtype, as_shape, is_integer

PathLike = str | os.PathLike[str]


def plan(
    what: Any,
    dtype: npt.DTypeLike | None = None,
    *,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    chunks: Any = "auto",
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    block_shape: Sequence[int] | None = None,
    shards: Any = None,
    access: Any = None,
    source_chunks: Sequence[int] | None = None,
    format: str = "hdf5",
    strategy: str = "auto",
) -> Plan:
    """Return how an array would be cut into chunks and blocks; print it.

    Parameters
    ----------
    what : tuple of int, dask array, Source, path or array-like
        A shape, for which nothing is read and ``dtype`` is needed; or an array
        or anything that :func:`open` takes, of which only metadata is read.
    dtype : dtype-like, optional
        Type of an element, where ``what`` does not say it or it will be cast.
    memory_limit : int or str, optional
        Bytes for everything in flight at once, such as ``"256 MiB"``; 1 GiB
        by default. ``"auto"`` is half of what is free.
    workers : int, optional
        Blocks in flight; by default dask's number of workers, or fewer where
        the limit does not allow as many.
    chunks : optional
        ``"auto"``; ``True`` for a dask array's own blocks; a :class:`Plan`; an
        integer; per axis an integer, ``None`` (solver's choice) or -1 (whole
        axis); or a dict from axis to one of those.
    chunk_nbytes : int, str or pair, optional
        Upper bound of a chunk in bytes, or ``(lower, upper)``; by default
        1 MiB for HDF5 and 4 MiB for Zarr, and a quarter of that as lower bound
        where ``access`` is given.
    block_shape : tuple of int, optional
        Elements per axis of a block; by default what the limit allows.
    shards : tuple of int, int or "auto", optional
        Elements per axis of a Zarr shard, a multiple of the chunk, -1 for the
        whole axis; ``"auto"`` keeps the number of files small.
    access : optional
        Windows that readers will ask for, such as ``[(30000, 1), (1, 384)]`` or
        ``[((30000, 1), weight), ...]``, -1 or ``None`` for a whole axis. The chunk
        is the one that costs the least to read them out of.
    source_chunks : tuple of int, optional
        Chunk shape of the source, for a shape whose source is not at hand.
    format : {"hdf5", "zarr"}
        Whose default chunk size to take, and whose costs of reading.
    strategy : {"auto", "hdmf"}
        ``"hdmf"`` gives the shapes of HDMF's GenericDataChunkIterator, with
        ``memory_limit`` and ``chunk_nbytes`` as its ``buffer_gb`` and ``chunk_mb``.

    Returns
    -------
    Plan
        Shapes, counts and bytes; ``print`` shows what is on disk, in memory
        and read twice, and why.

    Raises
    ------
    PlanError
        When what was fixed does not tile or does not fit the limit.
    OptionError
        When an argument cannot be.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((20000, 5000), "int32", chunks=(1000, 250), block_shape=(10000, 2500))
    >>> plan.n_blocks, plan.n_chunks
    (4, 400)
    """
    facts, dims = _facts(what, dtype, chunks is True, source_chunks)
    wishes = wishes_for(
        memory_limit=memory_limit,
        workers=workers,
        chunks=chunks,
        chunk_nbytes=chunk_nbytes,
        block_shape=block_shape,
        shards=shards,
        access=access,
        format=format,
        strategy=strategy,
        dims=dims,
    )
    return solve(facts, wishes)


def open(
    obj: Any,
    key: str | None = None,
    *,
    format: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    allow_external: Any = None,
    **options: Any,
) -> da.Array:
    """Return anything as a dask array whose blocks fit one memory limit.

    Parameters
    ----------
    obj : path-like, array-like or Source
        A file or store, told apart by content, then by suffix; or an array.
    key : str, optional
        Path of the array inside it; not needed where there is only one.
    format : {"npy", "hdf5", "zarr", "raw"}, optional
        When content and suffix should not decide.
    storage_options : mapping, optional
        For a URL, as fsspec takes them.
    chunks : optional
        Blocks of the dask array, as in ``dask.array.from_array``: ``"auto"``
        for the plan's, a tuple, an integer, -1, or a :class:`Plan`.
    memory_limit : int or str, optional
        Bytes for all blocks in flight; 1 GiB by default, ``"auto"`` for half of
        what is free.
    access : optional
        Windows that will be taken out of the array, as in :func:`plan`. Blocks
        are then as many of the source's chunks, in the proportions that compute
        the least in vain for them.
    allow_external : list of path-like, optional
        Folders, beside the file's own, that links in an HDF5 file may lead to.
    **options
        The adapter's own: ``shape``, ``dtype``, ``offset``, ``order`` of raw files.

    Returns
    -------
    dask.array.Array
        Nothing is read until it is computed. Blocks are whole chunks of the
        source. It pickles with paths, without open files.

    Raises
    ------
    UnknownFormatError
        When neither content nor suffix says what it is.
    SourceError
        When it is missing, truncated or cannot be read.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> np.save("ramp.npy", np.arange(10))
    >>> lazyio.open("ramp.npy").sum().compute()
    np.int64(45)
    """
    given, key = unwrapped(obj, key)
    paths = {
        "format": format,
        "storage_options": storage_options,
        "options": options,
        "allow_external": allow_external,
    }
    if isinstance(given, (da.Array, np.ma.MaskedArray)):
        refuse_path_options(given, key=key, **paths)
        return _from_array(given, chunks, memory_limit, access)
    return _lazy(source_for(given, key, **paths), chunks, memory_limit, access)


def concatenate(
    items: Iterable[Any],
    axis: int = 0,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    allow_external: Any = None,
) -> da.Array:
    """Return arrays one after another, such as one file for each day.

    Parameters
    ----------
    items : iterable
        Each is anything that :func:`open` takes: a path, an open dataset, an
        array, a dask array, a :class:`Source`. To name an array inside a file,
        give ``lazyio.open(path, key)``.
    axis : int
        Along which they follow each other; elsewhere shapes must agree.
    chunks, memory_limit, access, allow_external : optional
        As in :func:`open`, for the whole.

    Returns
    -------
    dask.array.Array
        Blocks are planned for the whole; a block opens only the files that it
        touches. Where an item is computed by a graph of its own, the blocks
        are those of the items.

    Raises
    ------
    OptionError
        When shapes or dtypes do not go together; the item and its file are named.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> for day in range(3):
    ...     np.save(f"day{day}.npy", np.full((4, 2), day))
    >>> lazyio.concatenate([f"day{day}.npy" for day in range(3)]).shape
    (12, 2)
    """
    parts = _items(items, allow_external)
    if all(isinstance(part, Source) for part in parts):
        return _lazy(joined(parts, axis), chunks, memory_limit, access)
    along, dtype = common_axis(parts, axis), common_dtype(parts)
    whole = da.concatenate(_as_graphs(parts, dtype, memory_limit), axis=along)
    return _from_array(whole, chunks, memory_limit, access)


def stack(
    items: Iterable[Any],
    axis: int = 0,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    allow_external: Any = None,
) -> da.Array:
    """Return arrays of one shape side by side, such as one file for each channel.

    Parameters
    ----------
    items : iterable
        As in :func:`concatenate`, all of one shape.
    axis : int
        Position of the new axis.
    chunks, memory_limit, access, allow_external : optional
        As in :func:`open`, for the whole.

    Returns
    -------
    dask.array.Array
        With one axis more than the items.

    Raises
    ------
    OptionError
        When shapes or dtypes differ; the item and its file are named.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> for channel in range(4):
    ...     np.save(f"channel{channel}.npy", np.arange(100))
    >>> lazyio.stack([f"channel{channel}.npy" for channel in range(4)], axis=1).shape
    (100, 4)
    """
    parts = _items(items, allow_external)
    if all(isinstance(part, Source) for part in parts):
        return _lazy(stacked(parts, axis), chunks, memory_limit, access)
    along, dtype = common_axis(parts, axis, is_new=True), common_dtype(parts)
    whole = da.stack(_as_graphs(parts, dtype, memory_limit), axis=along)
    return _from_array(whole, chunks, memory_limit, access)


def from_array(
    array_like: Any,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
) -> da.Array:
    """Return an array-like as a dask array, without a copy of the whole.

    Parameters
    ----------
    array_like : ndarray, memmap, h5py.Dataset, zarr.Array or array-like
        Anything with ``shape``, ``dtype`` and indexing by slices. Memmaps and
        datasets of files that are open for reading travel as their path.
    chunks, memory_limit, access : optional
        As in :func:`open`.

    Returns
    -------
    dask.array.Array
        Nothing is read until it is computed.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> lazyio.from_array(np.arange(10), chunks=5).chunks
    ((5, 5),)
    """
    given, _ = unwrapped(array_like)
    return _from_array(given, chunks, memory_limit, access)


def from_raw(
    path: PathLike | Sequence[PathLike],
    shape: int | Iterable[int],
    dtype: npt.DTypeLike,
    *,
    offset: int = 0,
    order: str = "C",
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
) -> da.Array:
    """Return a headerless binary file, or several, as a dask array.

    Parameters
    ----------
    path : path-like or sequence of path-like
        The file; its size must be what shape, dtype and offset say. Several
        are joined on axis 0.
    shape : tuple of int
        Extents of a file; one may be -1 and follows from the size of each.
    dtype : dtype-like
        Type of an element, with its byte order, such as ``">i2"``.
    offset : int
        Bytes to skip at the start.
    order : {"C", "F"}
        Whether the last or the first axis is the fastest.
    chunks, memory_limit, access : optional
        As in :func:`open`.

    Returns
    -------
    dask.array.Array
        Nothing is read until it is computed.

    Raises
    ------
    TruncatedSourceError, SourceError
        When the file is shorter, or longer, than it should be.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> np.arange(12, dtype="int16").tofile("recording.raw")
    >>> lazyio.from_raw("recording.raw", (-1, 4), "int16").shape
    (3, 4)
    """
    source = raw_sources(path, shape, dtype, offset=offset, order=order)
    return _lazy(source, chunks, memory_limit, access)


def from_npy(
    path: PathLike,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
) -> da.Array:
    """Return an ``.npy`` file as a dask array; pickles are never loaded.

    Parameters
    ----------
    path : path-like
        The file.
    chunks, memory_limit, access : optional
        As in :func:`open`.

    Returns
    -------
    dask.array.Array
        Nothing is read until it is computed.

    Raises
    ------
    SourceError
        When it is missing, truncated or has no readable header.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> np.save("image.npy", np.ones((4, 4)))
    >>> lazyio.from_npy("image.npy").mean().compute()
    np.float64(1.0)
    """
    return _lazy(npy_source(path), chunks, memory_limit, access)


def from_hdf5(
    path: PathLike,
    key: str | None = None,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    allow_external: Any = None,
) -> da.Array:
    """Return a dataset of an HDF5 file as a dask array.

    Parameters
    ----------
    path : path-like
        The file: HDF5, netCDF-4 or NWB.
    key : str, optional
        Path of the dataset; not needed where there is only one.
    chunks, memory_limit, access, allow_external : optional
        As in :func:`open`.

    Returns
    -------
    dask.array.Array
        Blocks are whole chunks of the dataset; the file is open only while a
        block is read.

    Raises
    ------
    SourceError
        When the file or key is missing, or a filter is not to be had.
    UnsafeFileError
        When a link in the file leads outside its folder.

    Examples
    --------
    >>> import h5py, lazyio, numpy as np
    >>> with h5py.File("scan.h5", "w") as file:
    ...     file["raw"] = np.arange(6).reshape(2, 3)
    >>> lazyio.from_hdf5("scan.h5", "raw").shape
    (2, 3)
    """
    return _lazy(hdf5_source(path, key, allow_external), chunks, memory_limit, access)


def from_zarr(
    store: Any,
    path: str | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
) -> da.Array:
    """Return a Zarr array, v2 or v3, as a dask array.

    Parameters
    ----------
    store : path-like, URL or zarr store
        Where it lies.
    path : str, optional
        Path of the array; not needed where there is only one.
    storage_options : mapping, optional
        For a URL, as fsspec takes them.
    chunks, memory_limit, access : optional
        As in :func:`open`.

    Returns
    -------
    dask.array.Array
        Blocks are whole chunks; of shards, whole chunks inside them.

    Raises
    ------
    SourceError
        When store or array is missing, or its metadata cannot be read.

    Examples
    --------
    >>> import lazyio, numpy as np, zarr
    >>> _ = zarr.create_array("scan.zarr", data=np.arange(6), overwrite=True)
    >>> lazyio.from_zarr("scan.zarr").sum().compute()
    np.int64(15)
    """
    source = zarr_array_source(store, path, storage_options)
    return _lazy(source, chunks, memory_limit, access)


def from_function(
    read: Callable[[Region], Array],
    shape: int | Iterable[int],
    dtype: npt.DTypeLike,
    *,
    source_chunks: Sequence[int] | None = None,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
) -> da.Array:
    """Return an array that a function reads as a dask array.

    Parameters
    ----------
    read : callable
        Given a region, a tuple of slices; returns an ndarray of exactly that
        region's shape and of ``dtype``. Called from several threads.
    shape : tuple of int
        Extents.
    dtype : dtype-like
        Type of an element.
    source_chunks : tuple of int, optional
        What ``read`` fetches at once, so that nothing is fetched twice.
    chunks, memory_limit, access : optional
        As in :func:`open`.

    Returns
    -------
    dask.array.Array
        ``read`` is not called until a block is computed.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> def read(region):
    ...     rows, columns = region
    ...     return np.add.outer(np.arange(10)[rows], np.arange(10)[columns])
    >>> int(lazyio.from_function(read, (10, 10), "int64")[3, 4])
    7
    """
    _check_callable(read)
    extents = as_shape(shape)
    source = FunctionSource(
        function=read,
        shape=extents,
        dtype=as_dtype(dtype),
        chunk_shape=_source_chunks(source_chunks, extents),
    )
    return _lazy(source, chunks, memory_limit, access)


def from_source(
    source: Source,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
) -> da.Array:
    """Return a source of your own as a dask array.

    Parameters
    ----------
    source : Source
        With ``shape``, ``dtype``, ``chunk_shape`` and ``read(region)``; HDMF's
        GenericDataChunkIterator subclasses are taken as they are.
    chunks, memory_limit, access : optional
        As in :func:`open`.

    Returns
    -------
    dask.array.Array
        ``read`` is not called until a block is computed.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> class Ramp:
    ...     shape, dtype, chunk_shape = (10,), np.dtype("int64"), None
    ...     def read(self, region):
    ...         return np.arange(region[0].start, region[0].stop)
    >>> lazyio.from_source(Ramp()).sum().compute()
    np.int64(45)
    """
    return _lazy(array_source(source), chunks, memory_limit, access)


def _from_array(given: Any, chunks: Any, memory_limit: Any, access: Any) -> da.Array:
    """Return an array-like as blocks; one of dask keeps its own unless others are asked for."""
    if isinstance(given, np.ma.MaskedArray):
        planned = _lazy(array_source(np.asarray(given.data)), chunks, memory_limit, access)
        return masked_blocks(given, tuple(map(int, planned.chunksize)))
    if not isinstance(given, da.Array):
        return _lazy(array_source(given), chunks, memory_limit, access)
    if access is not None:
        msg = (
            f"access={access!r} suits the blocks of what is read; a dask array has its blocks "
            "already, give chunks= to change them"
        )
        raise OptionError(msg)
    if isinstance(chunks, str) and chunks == "auto":
        return given
    _require_known_shape(given)
    block_shape = chunks.block_shape if isinstance(chunks, Plan) else _given_blocks(chunks, given)
    reblocked: da.Array = given.rechunk(block_shape)
    return reblocked


def _require_known_shape(array: da.Array) -> None:
    if any(math.isnan(extent) for extent in array.shape):
        msg = (
            f"the array's chunks {array.chunks} are not known (NaN); call .compute_chunk_sizes() "
            "first, which computes it once"
        )
        raise PlanError(msg)


def _items(items: Any, allow_external: Any) -> list[Any]:
    """Return a source for each item, or a dask array where a graph computes it."""
    is_one = isinstance(items, (str, bytes, os.PathLike, Mapping)) or hasattr(items, "shape")
    given = [] if is_one or not isinstance(items, Iterable) else list(items)
    if not given:
        msg = f"items={items!r}; give a list of at least one path, array or source"
        raise OptionError(msg)
    return [_item(item, allow_external) for item in given]


def _item(item: Any, allow_external: Any) -> Any:
    array, _ = unwrapped(item)
    if isinstance(array, np.ma.MaskedArray):
        array = _from_array(array, "auto", None, None)
    if isinstance(array, da.Array):
        _require_known_shape(array)
        return source_of(array) or array
    folders = allow_external if isinstance(array, (str, os.PathLike)) else None
    return source_for(array, allow_external=folders)


def _as_graphs(parts: list[Any], dtype: np.dtype[Any], memory_limit: Any) -> list[da.Array]:
    arrays = (
        part if isinstance(part, da.Array) else _lazy(part, "auto", memory_limit, None)
        for part in parts
    )
    return [array.astype(dtype, copy=False) for array in arrays]


def _check_callable(read: Any) -> None:
    if not callable(read):
        msg = f"read={read!r} is not a function; give one that takes a region"
        raise OptionError(msg)


def _facts(
    what: Any, dtype: npt.DTypeLike | None, own_blocks: bool, source_chunks: Any
) -> tuple[Facts, tuple[str, ...]]:
    if isinstance(what, int) or (
        isinstance(what, (tuple, list)) and all(not isinstance(n, (tuple, list)) for n in what)
    ):
        shape = as_shape(what)
        chunk_shape = _source_chunks(source_chunks, shape)
        return Facts(shape=shape, dtype=as_dtype(dtype), source_chunk_shape=chunk_shape), ()
    if source_chunks is not None:
        msg = "source_chunks goes with a shape; an array or a file says itself how it is chunked"
        raise OptionError(msg)
    given = recognise(what)
    element = given.dtype if dtype is None else as_dtype(dtype)
    return given.facts(element, own_blocks=own_blocks), given.dims


def _source_chunks(source_chunks: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if source_chunks is None:
        return None
    chunk_shape = as_shape(source_chunks, "source_chunks")
    if len(chunk_shape) != len(shape) or 0 in chunk_shape:
        msg = f"source_chunks={chunk_shape} does not fit shape {shape}; give one extent of at \
least 1 per axis"
        raise OptionError(msg)
    return chunk_shape


def _lazy(source: Source, chunks: Any, memory_limit: Any, access: Any) -> da.Array:
    """Return a source as blocks: the user's own, or the plan's along its chunks."""
    windows = as_windows(access, source.shape)
    block_shape = None
    if isinstance(chunks, Plan):
        block_shape = chunks.block_shape
        if len(block_shape) != len(source.shape):
            msg = f"the plan is for shape {chunks.shape}, the source has shape {source.shape}"
            raise OptionError(msg)
    elif not (isinstance(chunks, str) and chunks == "auto"):
        if chunks is None or chunks is True:
            msg = f'chunks={chunks!r}; give "auto", a block shape, an integer, -1 or a Plan'
            raise OptionError(msg)
        block_shape = _given_blocks(chunks, source)
    if block_shape is not None:
        return as_blocks(source, block_shape)
    return as_blocks(source, _reading_block(source, memory_limit, windows))


def _given_blocks(chunks: Any, source: Source | da.Array) -> tuple[int, ...]:
    """Return the block shape that the user gave in any of dask's forms."""
    sizes = chunks if isinstance(chunks, (tuple, list)) else (chunks,) * len(source.shape)
    try:
        edges = da.core.normalize_chunks(sizes, shape=source.shape, dtype=source.dtype)
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        msg = f"chunks={chunks!r} does not cut shape {source.shape} into blocks: {error}"
        raise OptionError(msg) from error
    fits = len(edges) == len(source.shape) and all(
        all(is_integer(n) and n >= 0 for n in axis) for axis in edges
    )
    if not fits:
        msg = f"chunks={chunks!r} does not cut shape {source.shape}; give one extent per axis"
        raise OptionError(msg)
    return tuple(max((1, *axis)) for axis in edges)


def _reading_block(
    source: Source, memory_limit: Any, windows: tuple[Window, ...]
) -> tuple[int, ...]:
    """Return the block of a plan whose chunks are the source's own, or long runs of it."""
    run_shape = reading_unit(source)
    if run_shape != source.chunk_shape:
        # A limit too small for long runs may do for short ones.
        with suppress(PlanError):
            return _block_of(source, run_shape, memory_limit, windows)
    try:
        return _block_of(source, source.chunk_shape, memory_limit, windows)
    except PlanError as error:
        if source.chunk_shape is None:
            raise
        msg = f"{error}. The chunks are the source's own: reading less decodes a whole one"
        raise PlanError(msg) from error


def _block_of(
    source: Source,
    unit: tuple[int, ...] | None,
    memory_limit: Any,
    windows: tuple[Window, ...],
) -> tuple[int, ...]:
    """Return the block of a plan in chunks of some unit, suited to windows."""
    facts = Facts(
        shape=source.shape,
        dtype=as_dtype(source.dtype),
        source_chunk_shape=source.chunk_shape,
        in_rows=lies_in_rows(source),
    )
    wishes = wishes_for(
        memory_limit=memory_limit,
        workers=None,
        chunks=unit or "auto",
        chunk_nbytes=None,
        access=[(window.shape, window.weight) for window in windows] or None,
        format="hdf5",
    )
    return suit_blocks(solve(facts, wishes))
