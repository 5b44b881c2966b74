"""Array-likes as sources: those of numpy, HDMF, xarray, netCDF4, and a user's own."""

import math
import os
import uuid
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import OF_A_TABLE, as_dtype, as_shape, is_table
from lazyio.errors import OptionError, SourceError, UnknownFormatError, UnsupportedDtypeError
from lazyio.regions import Region
from lazyio.sources.base import Source, chosen
from lazyio.sources.files import describing, existing
from lazyio.sources.function import ArraySource, FunctionSource, OwnLock, SerialSource
from lazyio.sources.raw import RawSource


class VariableReader:
    """An xarray variable as an array that is read in parts.

    ``.data`` loads a whole variable that dask does not hold, and so does dask
    when it looks for a name for one.
    """

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self._token = uuid.uuid4().hex
        self.shape: tuple[int, ...] = variable.shape
        self.dtype: np.dtype[Any] = variable.dtype

    def __getitem__(self, region: Any) -> npt.NDArray[Any]:
        """Return a part, read now where it is not in memory."""
        return np.asarray(self._variable[region])

    def __dask_tokenize__(self) -> Any:
        """Return a name of its own: what xarray reads may change unseen."""
        return "lazyio.VariableReader", self._token


def unwrapped(obj: Any, key: str | None = None) -> tuple[Any, str | None]:
    """Return the array in a wrapper, and what is left of the key."""
    if is_xarray(obj, "Dataset"):
        obj, key = _variable(obj, key), None
    if is_xarray(obj, "DataArray"):
        if key is not None:
            msg = f"key={key!r} is for files and groups; a DataArray is one array"
            raise OptionError(msg)
        return (VariableReader(obj.variable) if obj.chunks is None else obj.variable.data), None
    if (hasattr(obj, "io_settings") or hasattr(obj, "neurodata_type")) and hasattr(obj, "data"):
        return unwrapped(obj.data, key)  # Of H5DataIO, or of a container such as a TimeSeries.
    return obj, key


def is_xarray(obj: Any, name: str) -> bool:
    """Return whether an object is of an xarray class, without importing xarray."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == "xarray"
        for kind in type(obj).__mro__
    )


def _variable(dataset: Any, key: str | None) -> Any:
    if key is not None and key in dataset.variables:
        return dataset[key]  # Coordinates, too.
    names = {str(name): name for name in dataset.data_vars}
    return dataset[names[chosen([*names], key, "the Dataset", "variable")]]


_TO_NUMPY = {"sparse": ".todense()", "scipy": ".toarray()", "cupy": ".get()", "torch": ".numpy()"}
_ITERATOR_METHODS = ("_get_data", "_get_maxshape", "_get_dtype")


def array_like_source(obj: Any) -> Source:
    """Return the source for anything with the facts of an array and a way to read parts."""
    if isinstance(obj, np.memmap):
        mapped = _from_memmap(obj)
        if mapped is not None:
            return mapped
    refuse_elements(obj)
    _refuse_rows(obj)
    if is_indexed(obj):
        reader = FunctionSource(
            function=_moving_bar(obj),
            shape=as_shape(obj._get_maxshape()),
            dtype=as_dtype(obj._get_dtype()),
        )
        # HDMF never calls one twice at a time: it may seek in a file.
        return SerialSource(part=reader, lock=_lock_of(obj), has_one_thread=True)
    if isinstance(obj, (list, tuple, int, float, complex)):
        obj = _from_sequence(obj)
    if isinstance(obj, Source):
        return _with_facts(obj)
    _require_indexing(obj)
    chunks = getattr(obj, "chunks", None)
    regular = isinstance(chunks, tuple) and all(isinstance(c, int) for c in chunks)
    source = ArraySource(
        array=obj,
        shape=as_shape(obj.shape),
        dtype=as_dtype(obj.dtype),
        chunk_shape=chunks if regular and chunks else None,
        kind=f"the {type(obj).__name__}",
    )
    lock = _lock_of_library(obj)
    return source if lock is None else SerialSource(part=source, lock=lock)


def _lock_of_library(obj: Any) -> Any:
    """Return the lock of the netCDF library, which two threads crash; xarray takes the same."""
    if _library_of(obj) != "netCDF4":
        return None
    from xarray.backends.locks import NETCDFC_LOCK

    return NETCDFC_LOCK


def _library_of(obj: Any) -> str:
    return type(obj).__module__.partition(".")[0]


def _refuse_rows(obj: Any) -> None:
    """Refuse PyTables' arrays of rows that differ in length, which say that they are others."""
    if _library_of(obj) == "tables" and type(obj).__name__ == "VLArray":
        msg = (
            "a PyTables VLArray has rows of differing length, and no dask array holds those; read "
            "the rows that are wanted, and give them joined: numpy.concatenate(array[:100])"
        )
        raise UnsupportedDtypeError(msg)


def _moving_bar(iterator: Any) -> Any:
    """Return what reads a part of HDMF's iterator, and moves the bar that it draws, if it does."""
    bar = getattr(iterator, "progress_bar", None)
    if not getattr(iterator, "display_progress", False) or bar is None:
        return iterator._get_data
    n_all = max(1, math.prod(map(int, iterator._get_maxshape())))
    n_read = 0

    def read(region: Region) -> Any:
        nonlocal n_read
        found = iterator._get_data(region)
        n_read += math.prod(part.stop - part.start for part in region)
        # Its steps are HDMF's own buffers, and what is read here are blocks.
        steps = min(1.0, n_read / n_all) * (bar.total or 1)
        bar.update(int(steps) - bar.n)
        if n_read >= n_all:
            bar.close()
        return found

    return read


_LOCKS: "weakref.WeakKeyDictionary[Any, OwnLock]" = weakref.WeakKeyDictionary()
"""Of objects of which several sources may be made."""


def _lock_of(obj: Any) -> OwnLock:
    try:
        return _LOCKS.setdefault(obj, OwnLock())
    except TypeError:
        return OwnLock()  # It cannot be remembered.


def is_indexed(obj: object) -> bool:
    """Return whether something reads any part of itself, as HDMF's iterators with methods do."""
    return all(callable(getattr(obj, name, None)) for name in _ITERATOR_METHODS)


def refuse_elements(obj: object) -> None:
    """Raise where the elements of an array-like have no plain bytes."""
    if isinstance(obj, np.ma.MaskedArray):
        msg = "a masked array has values that are not there; call .filled(value) first"
        raise UnsupportedDtypeError(msg)
    library = _library_of(obj)
    if library in _TO_NUMPY and hasattr(obj, "shape"):
        msg = (
            f"{library}'s {type(obj).__name__} has no plain bytes that could be read in parts; "
            f"make it a numpy array with {_TO_NUMPY[library]} first"
        )
        raise UnsupportedDtypeError(msg)


def _require_indexing(obj: object) -> None:
    """Raise, and say what it is instead, unless something has the facts of an array."""
    if all(hasattr(obj, name) for name in ("shape", "dtype", "__getitem__")):
        return
    name = type(obj).__name__
    why = getattr(type(obj), "lazyio_why_no_array", None)
    if isinstance(why, str):
        raise SourceError(why)
    if is_table(obj):
        msg = f"{name} is a table, whose columns may differ in type; {OF_A_TABLE}"
        raise UnknownFormatError(msg)
    if hasattr(obj, "read") and hasattr(obj, "seek"):
        msg = (
            f"{name} is an open file, which says nothing of its format; give its path, or for "
            "HDF5 open it with h5py.File(...) and give that"
        )
        raise UnknownFormatError(msg)
    is_stream = hasattr(obj, "__next__") or hasattr(obj, "__iter__")
    if is_stream and not isinstance(obj, (dict, set, frozenset, bytes, bytearray)):
        remedy = "give it to to_hdf5 or to_zarr as it is"
        if not hasattr(obj, "recommended_data_shape"):
            remedy = "give to_hdf5 or to_zarr a lazyio.Stream of it"
        msg = (
            f"{name} can only be gone through once, from its start; it has no shape, dtype and "
            f"indexing, which a lazy array needs: {remedy}"
        )
        raise SourceError(msg)
    msg = (
        f"{name} is no path and no array; give one, or an object with "
        "shape, dtype and read(region) (see lazyio.Source)"
    )
    raise UnknownFormatError(msg)


def _with_facts(source: Source) -> Source:
    """Return a user's source once its facts are seen to be facts."""
    shape = as_shape(source.shape)
    as_dtype(source.dtype)
    if source.chunk_shape is not None:
        chunk_shape = as_shape(source.chunk_shape, "chunk_shape")
        if len(chunk_shape) != len(shape) or 0 in chunk_shape:
            msg = (
                f"chunk_shape={chunk_shape} does not fit shape {shape}; it has one positive "
                "extent for each of its axes"
            )
            raise OptionError(msg)
    return source


def _from_sequence(obj: Any) -> Any:
    if isinstance(obj, (list, tuple)) and any(isinstance(item, os.PathLike) for item in obj):
        msg = (
            f"a {type(obj).__name__} of paths is no array; join their arrays with "
            "lazyio.concatenate or lazyio.stack"
        )
        raise OptionError(msg)
    try:
        return np.asarray(obj)
    except ValueError as error:
        msg = (
            f"a {type(obj).__name__} of rows that differ in length (ragged) is no array, and "
            f"written as lazyio.Ragged.from_rows(...): {error}"
        )
        raise OptionError(msg) from error


def _from_memmap(mapped: np.memmap[Any, Any]) -> RawSource | None:
    """Return where a memmap lies; views and unnamed maps are read as arrays."""
    is_view = isinstance(mapped.base, np.memmap)
    # Mode "c" keeps changes in memory, where the file does not have them.
    if is_view or mapped.filename is None or mapped.dtype.hasobject or mapped.mode == "c":
        return None
    path = str(existing(mapped.filename))
    with describing(path) as (_, identity):
        # What the caller may write into by this very map is read as it then is.
        identity = replace(identity, is_fixed=not mapped.flags.writeable)
    return RawSource(
        path=path,
        shape=tuple(map(int, mapped.shape)),
        dtype=mapped.dtype,
        offset=int(mapped.offset),
        order="C" if mapped.flags.c_contiguous else "F",
        identity=identity,
    )
