"""Public: write any array to HDF5 or Zarr, whole or not at all."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.filters import advice_on_filters, parse_filters
from lazyio.errors import OptionError, TargetError
from lazyio.inputs import Input, recognise
from lazyio.options import (
    as_fill_value,
    check_attributes,
    check_flags,
    plain_values,
    refuse_unready,
    wishes_for,
)
from lazyio.places import (
    array_path,
    check_hdf5_place,
    check_key,
    check_mode,
    check_zarr_place,
    make_groups,
    store_path,
    target_path,
)
from lazyio.planning import Plan, solve
from lazyio.planning.plan import Advice
from lazyio.run.report import WriteReport
from lazyio.run.write import Job, run
from lazyio.safety.workdir import WorkDirectory
from lazyio.spec import as_dtype, nbytes_of
from lazyio.targets.base import Target
from lazyio.targets.disk import disk_errors
from lazyio.targets.hdf5 import Hdf5Options, Hdf5Target
from lazyio.targets.zarr import ZarrOptions, ZarrTarget

logger = logging.getLogger("lazyio")

PathLike = str | os.PathLike[str]


def to_hdf5(
    data: Any,
    path: Any,
    key: Any = "/data",
    *,
    mode: str = "a",
    overwrite: bool = False,
    chunks: Any = "auto",
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    access: Any = None,
    dtype: npt.DTypeLike | None = None,
    compression: Any = None,
    compression_opts: Any = None,
    shuffle: bool | None = None,
    fletcher32: bool = False,
    fillvalue: Any = None,
    maxshape: Any = None,
    attrs: Mapping[str, Any] | None = None,
    dims: Any = None,
    region: Any = None,
    append_dim: Any = None,
    links: str = "copy",
    libver: Any = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    digests: bool = True,
    progress: Any = False,
    compute: bool = True,
    scheduler: Any = None,
    comm: Any = None,
) -> WriteReport:
    """Write an array to a dataset of an HDF5 file.

    The file appears under its name only when it is complete: it is built in
    a hidden folder beside it, and a failed or killed run leaves what was there.

    Parameters
    ----------
    data : dask array, array-like or Source
        What to write. Straight from :func:`open` it is read in blocks that
        suit the chunks; a graph's blocks are each computed once.
    path : path-like
        The file. ``to_hdf5(path, key, data)`` works too.
    key : str
        Path of the dataset; groups on the way are made.
    mode : {"a", "w", "w-", "x", "r+"}
        h5py's file mode: create or add, new file, must not exist, must exist.
    overwrite : bool
        Whether a dataset of that key may be replaced.
    chunks, chunk_nbytes : optional
        As in :func:`plan`.
    dtype : dtype-like, optional
        Cast to this type.
    compression : None, str, int or hdf5plugin object
        ``"gzip" "zstd" "blosc"`` are encoded here, in parallel; ``"lzf"
        "lz4" "bitshuffle" "blosc2" "szip"`` and any filter id by libhdf5.
    compression_opts : optional
        A level, or ``(cname, clevel, shuffle)`` for blosc and blosc2.
    shuffle, fletcher32 : bool
        HDF5's byte shuffle before, its checksum after.
    fillvalue : scalar, optional
        What a reader gets where nothing was written.
    maxshape : tuple, optional
        How far the dataset may grow, ``None`` per axis for no bound.
    attrs : mapping, optional
        Attributes of the dataset.
    libver : optional
        File format bounds, as in h5py, but never ``"latest"``.
    memory_limit : int or str, optional
        Bytes for everything in flight; 1 GiB by default.
    workers : int, optional
        Blocks in flight; by default dask's number of workers.
    progress : bool or callable
        ``True`` draws a bar; a callable is given a step for every block.
    digests : bool
        Accepted; stores nothing yet.
    access, dims, region, append_dim, links, resume, compute, scheduler, comm
        Not yet: anything but the default raises :class:`OptionError`.

    Returns
    -------
    WriteReport
        What was written, how large it is and how long it took.

    Raises
    ------
    TargetExistsError
        When the dataset, or with ``mode="x"`` the file, is there already.
    TargetLockedError
        When another writer is at work on the file.
    TargetError
        When the file cannot be written.
    BlockError
        When a block raises or is not what it should be; names its region.
    PlanError, OptionError, UnsupportedDtypeError
        Before anything is computed.

    Examples
    --------
    >>> import dask.array as da, h5py, lazyio
    >>> report = lazyio.to_hdf5(da.ones((1000, 64)), "ones.h5", "x", compression="gzip")
    >>> with h5py.File("ones.h5") as file:
    ...     file["x"].shape, file["x"].compression
    ((1000, 64), 'gzip')
    """
    began = time.perf_counter()
    if isinstance(data, (str, os.PathLike)) and isinstance(path, Mapping):
        data, path = path, data
    if not isinstance(key, str) and isinstance(data, (str, os.PathLike)):
        # dask's own order of arguments: to_hdf5(path, key, data).
        data, path, key = key, data, path
    refuse_unready(
        access=(access, None),
        dims=(dims, None),
        region=(region, None),
        append_dim=(append_dim, None),
        links=(links, "copy"),
        resume=(resume, False),
        compute=(compute, True),
        scheduler=(scheduler, None),
        comm=(comm, None),
    )
    check_flags(
        overwrite=overwrite,
        shuffle=False if shuffle is None else shuffle,
        fletcher32=fletcher32,
        digests=digests,
    )
    check_key(key)
    check_mode(mode)
    if chunks is None:
        msg = 'chunks=None (contiguous) does not work yet in this version; leave it at "auto"'
        raise OptionError(msg)
    given = recognise(data)
    _refuse_coordinates(given)
    element = given.dtype if dtype is None else as_dtype(dtype)
    check_attributes("attrs", attrs)
    target_file = target_path(path)
    plan = _plan(given, element, chunks, chunk_nbytes, memory_limit, workers, "hdf5")
    options = Hdf5Options(
        key=key,
        filters=parse_filters(
            compression,
            compression_opts,
            shuffle=shuffle,
            fletcher32=fletcher32,
            dtype=element,
            chunk_nbytes=plan.chunk_nbytes,
        ),
        fillvalue=as_fill_value("fillvalue", fillvalue, element),
        maxshape=_maxshape(maxshape, plan.shape),
        attrs=attrs,
        libver=libver,
        replace=overwrite,
    )
    check = partial(check_hdf5_place, given, target_file, key, mode, replace=overwrite)
    check()
    with WorkDirectory(target_file) as work:
        # Again, now that no other writer can publish between the check and the copy.
        if check():
            with disk_errors(target_file.parent):
                shutil.copyfile(target_file, work.built)
        target = Hdf5Target(
            work.built,
            shape=plan.shape,
            chunk_shape=plan.chunk_shape,
            dtype=element,
            options=options,
        )
        order = _Order(
            given=given,
            plan=plan,
            path=target_file,
            key=key,
            progress=progress,
            began=began,
            advice=advice_on_filters(options.filters),
        )
        return _write(order, target, work)


def to_zarr(
    data: Any,
    store: Any,
    path: str | None = None,
    *,
    mode: str = "a",
    overwrite: bool = False,
    chunks: Any = "auto",
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    access: Any = None,
    dtype: npt.DTypeLike | None = None,
    shards: Any = None,
    compressors: Any = "auto",
    filters: Any = "auto",
    fill_value: Any = None,
    zarr_format: int = 3,
    dimension_names: Sequence[str | None] | None = None,
    attributes: Mapping[str, Any] | None = None,
    region: Any = None,
    append_dim: Any = None,
    write_empty_chunks: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    digests: bool = True,
    progress: Any = False,
    compute: bool = True,
    scheduler: Any = None,
) -> WriteReport:
    """Write an array to a Zarr array in a local directory.

    The array appears under its name only when it is complete: it is built in
    a hidden folder beside it, and a failed or killed run leaves what was there.

    Parameters
    ----------
    data : dask array, array-like or Source
        What to write, as in :func:`to_hdf5`.
    store : path-like
        Directory of the store.
    path : str, optional
        Path of the array inside it; by default the store is the array.
    mode : {"a", "w", "w-", "x", "r+"}
        Create or add; replace the named array; store must not, or must, exist.
    overwrite : bool
        Whether an array of that path may be replaced.
    chunks, chunk_nbytes : optional
        As in :func:`plan`.
    dtype : dtype-like, optional
        Cast to this type.
    compressors, filters : optional
        As in ``zarr.create_array``. zstd, blosc, gzip and crc32c, and any
        numcodecs codec of v2, are encoded here; others by zarr-python.
    fill_value : scalar, optional
        What a reader gets where nothing was written. Chunks that hold
        nothing else are not stored, as zarr does it.
    zarr_format : {3, 2}
        Version of the metadata.
    dimension_names : sequence of str, optional
        Names of the axes.
    attributes : mapping, optional
        Attributes of the array.
    memory_limit : int or str, optional
        Bytes for everything in flight; 1 GiB by default.
    workers : int, optional
        Blocks in flight; by default dask's number of workers.
    progress : bool or callable
        ``True`` draws a bar; a callable is given a step for every block.
    digests : bool
        Accepted; stores nothing yet.
    access, shards, region, append_dim, write_empty_chunks, storage_options
        Not yet: anything but the default raises :class:`OptionError`.
    resume, compute, scheduler
        Not yet: anything but the default raises :class:`OptionError`.

    Returns
    -------
    WriteReport
        What was written, how large it is and how long it took.

    Raises
    ------
    TargetExistsError
        When the array is there already.
    TargetLockedError
        When another writer is at work on it.
    TargetError
        When the store cannot be written.
    BlockError
        When a block raises or is not what it should be; names its region.
    PlanError, OptionError, UnsupportedDtypeError
        Before anything is computed.

    Examples
    --------
    >>> import dask.array as da, lazyio, zarr
    >>> report = lazyio.to_zarr(da.ones((1000, 64)), "ones.zarr", overwrite=True)
    >>> zarr.open_array("ones.zarr").shape
    (1000, 64)
    """
    began = time.perf_counter()
    refuse_unready(
        access=(access, None),
        shards=(shards, None),
        region=(region, None),
        append_dim=(append_dim, None),
        write_empty_chunks=(write_empty_chunks, None),
        storage_options=(storage_options, None),
        resume=(resume, False),
        compute=(compute, True),
        scheduler=(scheduler, None),
    )
    check_flags(overwrite=overwrite, digests=digests)
    check_mode(mode)
    if zarr_format not in (2, 3):
        msg = f"zarr_format={zarr_format!r}; give 3 or 2"
        raise OptionError(msg)
    given = recognise(data)
    _refuse_coordinates(given)
    element = given.dtype if dtype is None else as_dtype(dtype)
    check_attributes("attributes", attributes)
    root = store_path(store)
    name = array_path(path)
    plan = _plan(given, element, chunks, chunk_nbytes, memory_limit, workers, "zarr")
    options = ZarrOptions(
        compressors=compressors,
        filters=filters,
        fill_value=as_fill_value("fill_value", fill_value, element),
        zarr_format=2 if zarr_format == 2 else 3,
        # v2 has no place for names, which matters only where they were asked for.
        dimension_names=dimension_names or (given.dims if zarr_format == 3 else ()) or None,
        attributes=plain_values(attributes or {}),
    )
    check = partial(
        check_zarr_place, given, root, name, mode, zarr_format, replace=overwrite or mode == "w"
    )
    is_kept = check()
    final = root / name if is_kept else root
    # A new store is built whole; an array for one that is there, inside its folder.
    with WorkDirectory(final, folder=root if is_kept else None) as work:
        if check() != is_kept:
            msg = f"{root} was made or removed by another program just now; run the call again"
            raise TargetError(errno.EBUSY, msg)
        target = ZarrTarget(
            work.built,
            "" if is_kept else name,
            shape=plan.shape,
            chunk_shape=plan.chunk_shape,
            dtype=element,
            options=options,
        )
        order = _Order(
            given=given,
            plan=plan,
            path=root,
            key=name,
            progress=progress,
            began=began,
            before_publish=partial(make_groups, root, name if is_kept else "", options.zarr_format),
        )
        return _write(order, target, work)


def _plan(
    given: Input,
    element: np.dtype[Any],
    chunks: Any,
    chunk_nbytes: Any,
    memory_limit: Any,
    workers: Any,
    target_format: str,
) -> Plan:
    wishes = wishes_for(
        memory_limit=memory_limit,
        workers=workers,
        chunks=chunks,
        chunk_nbytes=chunk_nbytes,
        format=target_format,
        dims=given.dims,
    )
    return solve(given.facts(element, own_blocks=chunks is True), wishes)


def _nothing() -> None:
    """Do nothing before the rename: a file needs no more."""


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What both public functions come down to, once all is checked."""

    given: Input
    """What is written."""
    plan: Plan
    """How it is cut."""
    path: Path
    """File or store, as the report names it."""
    key: str
    """Where inside it."""
    progress: Any
    """As the user gave it."""
    began: float
    """When the call came, on the performance counter."""
    before_publish: Callable[[], object] = _nothing
    """What has to be there for the target to have a place."""
    advice: Advice = ()
    """On what the plan does not know of."""


def _write(order: _Order, target: Target, work: WorkDirectory) -> WriteReport:
    """Run to the published target and its report, or leave nothing."""
    given, plan = order.given, order.plan
    job = Job(
        plan=plan,
        target=target,
        source=given.source,
        array=given.array,
        key=order.key,
        progress=order.progress,
        scratch=work.scratch,
    )
    logger.info("writing %s %s: %s", order.path, order.key, plan)
    try:
        n_blocks = run(job)
        stored_nbytes = target.finish()
    except BaseException:
        target.abort()
        raise
    order.before_publish()
    work.publish()
    logger.info("published %s %s", order.path, order.key)
    return WriteReport(
        path=str(order.path),
        keys=(order.key,),
        nbytes=nbytes_of(plan.shape, plan.dtype),
        stored_nbytes=stored_nbytes,
        seconds=time.perf_counter() - order.began,
        n_blocks=n_blocks,
        n_chunks=plan.n_chunks,
        n_resumed=0,
        peak_nbytes=plan.peak_nbytes,
        engine=target.engine,
        advice=(*plan.advice, *order.advice),
        plan=plan,
    )


def _refuse_coordinates(given: Input) -> None:
    """Refuse an xarray object, whose coordinates and attributes would be lost."""
    if given.has_coordinates:
        msg = (
            "coordinates and attributes of xarray objects cannot be written yet; give .data, the "
            "array alone"
        )
        raise OptionError(msg)


def _maxshape(maxshape: Any, shape: tuple[int, ...]) -> tuple[int | None, ...] | None:
    if maxshape is None:
        return None
    if maxshape is True:
        return (None,) * len(shape)
    bounds = tuple(maxshape) if isinstance(maxshape, (tuple, list)) else (maxshape,)
    fits = len(bounds) == len(shape) and all(
        bound is None or (isinstance(bound, (int, np.integer)) and bound >= extent)
        for bound, extent in zip(bounds, shape, strict=False)
    )
    if not fits:
        msg = (
            f"maxshape={maxshape!r} does not hold shape {shape}; give per axis None for no bound, "
            "or at least the extent there is"
        )
        raise OptionError(msg)
    return tuple(None if bound is None else int(bound) for bound in bounds)
