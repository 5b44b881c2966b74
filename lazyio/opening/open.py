"""Public: open anything as a lazy dask array."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.dtypes import as_dtype, as_shape
from lazyio.errors import OptionError, SourceError
from lazyio.opening.blocks import array_in_blocks, as_planned_blocks
from lazyio.options import is_untrusted, limit_of, source_chunks_of
from lazyio.os_errors import system_errors
from lazyio.regions import Region
from lazyio.sources.adapters import unwrapped
from lazyio.sources.base import Array, Source
from lazyio.sources.function import FunctionSource, with_lock
from lazyio.sources.hdf5 import hdf5_source
from lazyio.sources.in_memory import in_memory_source, is_file_in_memory
from lazyio.sources.lookup import (
    array_source,
    files_of,
    join_for_untrusted,
    joined_files,
    refuse_join,
    refuse_path_options,
    source_for,
    zarr_array_source,
)
from lazyio.sources.raw import npy_source, raw_sources
from lazyio.sources.untrusted import UntrustedSource, untrusted_source


def refuse_for_untrusted(**given: Any) -> None:
    """Raise for options that only files of a trusted kind have."""
    names = ", ".join(name for name, value in given.items() if value is not None)
    if names:
        msg = f"{names}: not an option of files on a disk here, as trusted=False takes them"
        raise OptionError(msg)


def open_in_subprocess(
    path: str | os.PathLike[str],
    key: str | None,
    request: dict[str, Any],
    memory_limit: Any,
    allow_external: Any = None,
) -> UntrustedSource:
    """Return the source for an array that child processes read."""
    return untrusted_source(path, key, limit_of(memory_limit), request, allow_external)


PathLike = str | os.PathLike[str]


@system_errors(SourceError)
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
    trusted: bool = True,
    join: str | None = None,
    **options: Any,
) -> da.Array:
    """Return anything as a dask array whose blocks fit one memory limit.

    Parameters
    ----------
    obj : path-like, bytes, array-like or Source
        A file or store, told apart by content, then by suffix; or an array. A glob
        such as ``"day*.h5"``, or a folder of files of one format, is all of them as one
        array, in natural order (``day2`` before ``day10``). ``bytes`` and
        ``io.BytesIO`` are the content of an HDF5 or ``.npy`` file, which travels
        with the graph: to a cluster give a path that its workers see.
    key : str, optional
        Path of the array inside it, or inside each; not needed where there is only one.
    format : str, optional
        When content and suffix should not decide: ``"npy"``, ``"hdf5"``, ``"zarr"``, ``"tiff"``,
        ``"netcdf3"``, ``"nifti"``, ``"matlab"``, ``"pytables"``, ``"raw"``, or the name of a
        plugin's format.
        ``"hdf5"`` gives MATLAB's arrays as HDF5 has them, the axes in reverse order.
        ``"pytables"`` reads what only PyTables can; only for files that you trust.
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
        Folders, beside the file's own, that links in an HDF5 file or symbolic
        links in a Zarr store may lead to.
    trusted : bool
        ``False`` for a file of a stranger: child processes with limits of
        memory and time read it, here and on workers, and never this process.
        Each needs ``memory_limit`` and a little more.
    join : {"concatenate", "stack"}, optional
        Whether several files follow each other along axis 0 or lie side by side
        along a new axis 0. By default images, which are TIFF files of one page, are
        stacked, and all else is concatenated.
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
    UnsafeFileError
        When it leads outside its folder; or when it is not trusted, and crashes
        what reads it, or takes too long or too much memory.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> np.save("ramp.npy", np.arange(10))
    >>> lazyio.open("ramp.npy").sum().compute()
    np.int64(45)
    """
    given, key = unwrapped(obj, key)
    is_raw = format == "raw"  # Bytes of which the user says what they are: nothing to distrust.
    if not is_raw and is_untrusted(given, trusted):
        refuse_for_untrusted(storage_options=storage_options, **options)
        if format == "pytables":
            msg = 'format="pytables": PyTables unpickles attributes; read it so if you trust it'
            raise OptionError(msg)
        several = files_of(given, format)
        sources: list[Source] = [
            open_in_subprocess(path, key, {"format": format}, memory_limit, allow_external)
            for path in (several or [given])
        ]
        if several is None:
            refuse_join(given, join)
            return as_planned_blocks(sources[0], chunks, memory_limit, access)
        whole = joined_files(several, sources, join_for_untrusted(several, join, format))
        return as_planned_blocks(whole, chunks, memory_limit, access)
    paths = {
        "format": format,
        "storage_options": storage_options,
        "options": options,
        "allow_external": allow_external,
        "join": join,
    }
    if isinstance(given, (da.Array, np.ma.MaskedArray)):
        refuse_path_options(given, key=key, **paths)
        return array_in_blocks(given, chunks, memory_limit, access)
    return as_planned_blocks(source_for(given, key, **paths), chunks, memory_limit, access)


def from_array(
    array_like: Any,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    lock: Any = False,
) -> da.Array:
    """Return an array-like as a dask array, without a copy of the whole.

    Parameters
    ----------
    array_like : ndarray, memmap, h5py.Dataset, zarr.Array or array-like
        Anything with ``shape``, ``dtype`` and indexing by slices. Memmaps and
        datasets of files that are open for reading travel as their path.
    chunks, memory_limit, access : optional
        As in :func:`open`.
    lock : bool or lock
        As in ``dask.array.from_array``: held while a part is read, for what must not be
        called by two threads at a time, such as a function that seeks in a file.

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
    if lock is not False:
        return as_planned_blocks(with_lock(array_source(given), lock), chunks, memory_limit, access)
    return array_in_blocks(given, chunks, memory_limit, access)


@system_errors(SourceError)
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
    return as_planned_blocks(source, chunks, memory_limit, access)


@system_errors(SourceError)
def from_npy(
    path: Any,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    trusted: bool = True,
) -> da.Array:
    """Return an ``.npy`` file as a dask array; pickles are never loaded.

    Parameters
    ----------
    path : path-like, bytes or io.BytesIO
        The file, or its content.
    chunks, memory_limit, access, trusted : optional
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
    if is_untrusted(path, trusted):
        source = open_in_subprocess(path, None, {"format": "npy"}, memory_limit)
        return as_planned_blocks(source, chunks, memory_limit, access)
    if is_file_in_memory(path):
        held = in_memory_source(path, None, "npy")
        return as_planned_blocks(held, chunks, memory_limit, access)
    return as_planned_blocks(npy_source(path), chunks, memory_limit, access)


@system_errors(SourceError)
def from_hdf5(
    path: Any,
    key: str | None = None,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    allow_external: Any = None,
    trusted: bool = True,
) -> da.Array:
    """Return a dataset of an HDF5 file as a dask array.

    Parameters
    ----------
    path : path-like, bytes or io.BytesIO
        The file: HDF5, netCDF-4 or NWB; or its content.
    key : str, optional
        Path of the dataset; not needed where there is only one.
    chunks, memory_limit, access, allow_external, trusted : optional
        As in :func:`open`.

    Returns
    -------
    dask.array.Array
        Blocks are whole chunks of the dataset; the file is open only while a
        block is read.

    Raises
    ------
    SourceError
        When the file or key is missing, or a filter is not available.
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
    if is_untrusted(path, trusted):
        source = open_in_subprocess(path, key, {"format": "hdf5"}, memory_limit, allow_external)
        return as_planned_blocks(source, chunks, memory_limit, access)
    if is_file_in_memory(path):
        refuse_path_options(path, allow_external=allow_external)
        held = in_memory_source(path, key, "hdf5")
        return as_planned_blocks(held, chunks, memory_limit, access)
    return as_planned_blocks(hdf5_source(path, key, allow_external), chunks, memory_limit, access)


@system_errors(SourceError)
def from_zarr(
    store: Any,
    path: str | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    allow_external: Any = None,
    trusted: bool = True,
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
    chunks, memory_limit, access, allow_external, trusted : optional
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
    if is_untrusted(store, trusted):
        refuse_for_untrusted(storage_options=storage_options)
        source = open_in_subprocess(store, path, {"format": "zarr"}, memory_limit, allow_external)
        return as_planned_blocks(source, chunks, memory_limit, access)
    stored = zarr_array_source(store, path, storage_options, allow_external)
    return as_planned_blocks(stored, chunks, memory_limit, access)


def from_function(
    read: Callable[[Region], Array],
    shape: int | Iterable[int],
    dtype: npt.DTypeLike,
    *,
    source_chunks: Sequence[int] | None = None,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    lock: Any = False,
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
    lock : bool or lock
        As in ``dask.array.from_array``: held while a part is read, for what must not be
        called by two threads at a time, such as a function that seeks in a file.

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
        chunk_shape=source_chunks_of(source_chunks, extents),
    )
    return as_planned_blocks(with_lock(source, lock), chunks, memory_limit, access)


def from_source(
    source: Source,
    *,
    chunks: Any = "auto",
    memory_limit: int | str | None = None,
    access: Any = None,
    lock: Any = False,
) -> da.Array:
    """Return a source of your own as a dask array.

    Parameters
    ----------
    source : Source
        With ``shape``, ``dtype``, ``chunk_shape`` and ``read(region)``; HDMF's
        GenericDataChunkIterator subclasses are taken as they are.
    chunks, memory_limit, access : optional
        As in :func:`open`.
    lock : bool or lock
        As in ``dask.array.from_array``: held while a part is read, for what must not be
        called by two threads at a time, such as a function that seeks in a file.

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
    return as_planned_blocks(with_lock(array_source(source), lock), chunks, memory_limit, access)


def _check_callable(read: Any) -> None:
    if not callable(read):
        msg = f"read={read!r} is not a function; give one that takes a region"
        raise OptionError(msg)
