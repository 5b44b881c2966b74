"""Public: how an array would be cut, before anything is read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from lazyio.dtypes import as_dtype, as_shape
from lazyio.errors import OptionError
from lazyio.inputs import Input, is_labelled, recognise
from lazyio.iterables.hdmf import is_iterator
from lazyio.options import (
    AUTO,
    plan_request,
    refuse_no_chunks,
    refuse_no_target,
    source_chunks_of,
    value_of,
)
from lazyio.planning import ArraySpec, Plan, Plans, solve
from lazyio.sources.adapters import is_indexed, is_xarray
from lazyio.sources.lookup import array_source
from lazyio.sources.zarr_metadata import require_zarr
from lazyio.writing.by_key import settings_of_each
from lazyio.writing.hdf5_settings import Hdf5Settings, dataset_item, plan_for_hdf5, run_shape
from lazyio.writing.multi_array import holds_several, items_of, planned
from lazyio.writing.refusals import Refusals
from lazyio.writing.settings import ArraySettings


def plan(
    what: Any,
    dtype: npt.DTypeLike | None = None,
    *,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    chunks: Any = AUTO,
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    block_shape: Sequence[int] | None = None,
    shards: Any = None,
    access: Any = None,
    source_chunks: Sequence[int] | None = None,
    format: str = "hdf5",
    strategy: str = "auto",
) -> Any:
    """Return how an array would be cut into chunks and blocks; print it.

    Parameters
    ----------
    what : tuple of int, dask array, Source, path, array-like or mapping
        A shape, for which nothing is read and ``dtype`` is needed; or an array
        or anything that :func:`open` takes, of which only metadata is read. Several of them by
        key are planned as they would be written, in one run under one limit; what is said of
        chunks may then be given by key, too.
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
        axis); or a dict from axis to one of those. ``None`` stores one run, in
        HDF5 only. Where nothing is given, what the data ask for holds, such as
        the chunks of an ``H5DataIO``, or those that an iterator recommends.
    chunk_nbytes : int, str or pair, optional
        Upper bound of a chunk in bytes, or ``(lower, upper)``; by default
        1 MiB for HDF5 and 4 MiB for Zarr. The lower bound where ``access`` is
        given is 64 KiB for HDF5, but at most a quarter of the upper one, and
        that quarter for Zarr.
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
    Plan or lazyio.planning.Plans
        Of a Dataset, a mapping from its variables to their plans, as of a mapping. The same that
        :func:`to_hdf5` or :func:`to_zarr` makes of the same arguments; windows are
        priced as of the codec that is named there.
        ``print`` shows what is on disk, in memory and read twice, and why.

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
    >>> lazyio.plan({"raw": (30000, 64), "mean": (64,)}, "int16")["mean"].chunk_shape
    (64,)
    """
    options: dict[str, Any] = {
        "memory_limit": memory_limit,
        "workers": workers,
        "chunks": chunks,
        "chunk_nbytes": chunk_nbytes,
        "block_shape": block_shape,
        "access": access,
        "strategy": strategy,
    }
    if holds_several(what):
        return _plans(what, {**options, "dtype": dtype, "shards": shards}, format, source_chunks)
    if _is_shape(what):
        shape = as_shape(what)
        chunk_shape = source_chunks_of(source_chunks, shape)
        facts = ArraySpec(shape=shape, dtype=as_dtype(dtype), source_chunk_shape=chunk_shape)
        options["chunks"] = value_of(chunks)
        if options["chunks"] is None:
            refuse_no_chunks(format)
            options["chunks"] = run_shape(shape, facts.dtype.itemsize)
        return solve(facts, plan_request(**options, shards=shards, format=format))
    if source_chunks is not None:
        msg = "source_chunks goes with a shape; an array or a file says itself how it is chunked"
        raise OptionError(msg)
    if is_iterator(what) and not is_indexed(what):
        # To be planned it would have to be looked into; refuses, and says what takes it.
        array_source(what)
    if is_xarray(what, "Dataset") or is_xarray(what, "DataTree"):
        several: Plan = what.lazyio.by_function(
            "plan", {**options, "format": format, "dtype": dtype}
        )
        return several
    given = recognise(getattr(what, "variable", what) if is_labelled(what) else what)
    if format != "zarr":
        refuse_no_target(format, shards)
        return plan_for_hdf5(given, Hdf5Settings(**options, dtype=dtype))
    require_zarr()
    from lazyio.writing.zarr_settings import ZarrSettings, plan_for_zarr

    return plan_for_zarr(given, ZarrSettings(**options, dtype=dtype, shards=shards))


def _plans(
    several: Mapping[str, Any], options: Mapping[str, Any], format: str, source_chunks: Any
) -> Plans:
    """Return the plans of several arrays that are written in one run."""
    if source_chunks is not None:
        msg = "source_chunks goes with one shape; plan the arrays of that source one at a time"
        raise OptionError(msg)
    refuse_no_target(format)
    settings, item = _target_of(format)
    each = settings_of_each(settings.of(options), list(several))
    refusals, given = Refusals(len(several)), {}
    for (key, one), own in zip(several.items(), each, strict=True):
        with refusals.of(key):
            given[key] = _shaped(one, own.dtype) if _is_shape(one) else recognise(one)
    refusals.check()
    items = planned(item, items_of(given, ""), each)
    return Plans({one.arranged.key: one.arranged.plan for one in items})


def _shaped(shape: Any, dtype: Any) -> Input:
    """Return an array of which there are only extents."""
    return Input(shape=as_shape(shape), dtype=as_dtype(dtype))


def _target_of(format: str) -> tuple[type[ArraySettings], Callable[..., Any]]:
    """Return the settings of a format, and what makes an array of them."""
    if format != "zarr":
        return Hdf5Settings, dataset_item
    require_zarr()
    from lazyio.writing.zarr_settings import ZarrSettings, array_item

    return ZarrSettings, array_item


def _is_shape(what: Any) -> bool:
    """Return whether it is extents, and no array of values."""
    return isinstance(what, int) or (
        isinstance(what, (tuple, list)) and all(not isinstance(n, (tuple, list)) for n in what)
    )
