"""Public: make an array that is still empty, to be filled part by part."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import h5py
import numpy.typing as npt

from lazyio.dtypes import as_dtype, as_shape
from lazyio.errors import OptionError, TargetError
from lazyio.execution.report import WriteReport
from lazyio.inputs import Input
from lazyio.os_errors import system_errors
from lazyio.sources.lookup import format_of
from lazyio.writing.target_checks import is_local, is_url
from lazyio.writing.to_hdf5 import DEFAULT_KEY, to_hdf5
from lazyio.writing.to_zarr import to_zarr

_FORMATS = ("hdf5", "zarr")
_OF_BOTH = ("mode", "overwrite", "chunks", "chunk_nbytes", "access", "compute", "lock_timeout")
_OF_HDF5 = ("maxshape", "compression", "compression_opts", "shuffle", "fletcher32", "libver")
_OF_ZARR = (
    "shards",
    "compressors",
    "filters",
    "zarr_format",
    "chunk_key_encoding",
    "storage_options",
)


@system_errors(TargetError)
def allocate(
    path: Any,
    key: str = DEFAULT_KEY,
    *,
    shape: int | Sequence[int],
    dtype: npt.DTypeLike,
    maxshape: Any = None,
    fillvalue: Any = None,
    format: str | None = None,
    mode: str = "a",
    overwrite: bool = False,
    chunks: Any = "auto",
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    access: Any = None,
    compression: Any = None,
    compression_opts: Any = None,
    shuffle: bool | None = None,
    fletcher32: bool = False,
    attrs: Mapping[str, Any] | None = None,
    dims: Sequence[str] | None = None,
    libver: Any = None,
    shards: Any = None,
    compressors: Any = "auto",
    filters: Any = "auto",
    zarr_format: int = 3,
    chunk_key_encoding: Mapping[str, str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    compute: bool = True,
    lock_timeout: float | None = None,
) -> WriteReport:
    """Make an empty dataset or array, to be filled later with ``region=``.

    Nothing but metadata is written: chunks take space once they are filled,
    and until then a reader gets the fill value.

    Parameters
    ----------
    path : path-like, h5py.Group, zarr store or zarr.Group
        File or store; HDF5, unless it is a Zarr store, its suffix is
        ``.zarr``, or ``format`` says otherwise.
    key : str
        Path of the array inside it.
    shape : tuple of int
        Extents; 0 along an axis that is to grow.
    dtype : dtype-like
        Type of an element.
    maxshape : tuple, optional
        How far an HDF5 dataset may grow, ``None`` per axis for no bound; by
        default without bound along axes of no elements, and no farther along
        others. A Zarr array may always grow.
    fillvalue : scalar, optional
        What a reader gets where nothing was written.
    format : {"hdf5", "zarr"}, optional
        Where path and suffix should not decide.
    mode, overwrite, chunks, chunk_nbytes, access, attrs, dims, compute, lock_timeout : optional
        As in :func:`to_hdf5` and :func:`to_zarr`.
    compression, compression_opts, shuffle, fletcher32, libver : optional
        As in :func:`to_hdf5`, for HDF5.
    shards, compressors, filters, zarr_format, chunk_key_encoding, storage_options : optional
        As in :func:`to_zarr`, for Zarr.

    Returns
    -------
    WriteReport
        Of an array of which nothing has been stored.

    Raises
    ------
    TargetExistsError
        When the array already exists.
    PlanError, OptionError, UnsupportedDtypeError, TargetError
        When it cannot be made as asked.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> report = lazyio.allocate(
    ...     "grid.h5", "x", shape=(8, 10), dtype="f8", maxshape=(None, 10), fillvalue=np.nan
    ... )
    >>> report = lazyio.to_hdf5(np.ones((3, 10)), "grid.h5", "x", region=(slice(0, 3),))
    >>> np.isnan(lazyio.open("grid.h5", "x")).sum(axis=1).compute()
    array([ 0,  0,  0, 10, 10, 10, 10, 10])
    """
    given = locals()
    empty = Input(shape=as_shape(shape), dtype=as_dtype(dtype))
    kind = format_of_target(path, format)
    if maxshape is None and 0 in empty.shape and kind == "hdf5" and chunks is not None:
        # What has no elements yet is there to get some.
        given["maxshape"] = tuple(extent or None for extent in empty.shape)
    own, others = (_OF_HDF5, _OF_ZARR) if kind == "hdf5" else (_OF_ZARR, _OF_HDF5)
    refuse_of_other_format(allocate, kind, {name: given[name] for name in others})
    options = {name: given[name] for name in (*_OF_BOTH, *own)}
    if kind == "hdf5":
        return to_hdf5(empty, path, key, **options, fillvalue=fillvalue, attrs=attrs, dims=dims)
    return to_zarr(
        empty,
        path,
        None if key == DEFAULT_KEY else key,
        **options,
        fill_value=fillvalue,
        attributes=attrs,
        dimension_names=dims,
    )


def format_of_target(path: Any, given: str | None) -> str:
    """Return the format of a target: as given, or as what is there or its suffix says."""
    if given is not None and given not in _FORMATS:
        msg = f'format={given!r} is not a target format; give "hdf5" or "zarr"'
        raise OptionError(msg)
    if isinstance(path, h5py.Group):
        found = "hdf5"
    elif not is_local(path):
        found = "zarr"
    else:
        found = given or ("zarr" if format_of(path) == "zarr" else "hdf5")
    if given is not None and given != found:
        what = f"a {type(path).__name__} is {found}"
        if is_url(path):
            what = "behind a URL only Zarr is written"
        msg = f"format={given!r}, but {what}; leave it out"
        raise OptionError(msg)
    return found


def refuse_of_other_format(
    function: Callable[..., Any], kind: str, options: Mapping[str, Any]
) -> None:
    """Refuse options of the other format, unless they are what they are by default."""
    for name, value in options.items():
        default = inspect.signature(function).parameters[name].default
        if value is not default and not (type(value) is type(default) and value == default):
            other = "Zarr" if kind == "hdf5" else "HDF5"
            msg = f"{name}={value!r} is for {other}, and the target is {kind}; leave it out"
            raise OptionError(msg)
