"""Public: write arrays to a Zarr store, whole or not at all where it is a local one."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy.typing as npt

from lazyio.errors import OptionError, TargetError
from lazyio.execution.progress import check_progress
from lazyio.execution.report import WriteReport
from lazyio.execution.schedulers import scheduler_for
from lazyio.options import AUTO, NONE, check_flags, check_resume, is_trust
from lazyio.os_errors import system_errors
from lazyio.sources.zarr_metadata import is_zarr, require_zarr
from lazyio.writing.run_options import RunOptions, now_or_later
from lazyio.writing.target_checks import (
    array_path,
    check_mode,
    without_scheme,
)


@system_errors(TargetError)
def to_zarr(
    data: Any,
    store: Any,
    path: str | None = None,
    *,
    mode: str = "a",
    overwrite: bool = False,
    chunks: Any = AUTO,
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    access: Any = None,
    dtype: npt.DTypeLike | None = None,
    shards: Any = None,
    compressors: Any = "auto",
    filters: Any = "auto",
    fill_value: Any = NONE,
    zarr_format: int = 3,
    chunk_key_encoding: Mapping[str, str] | None = None,
    dimension_names: Sequence[str | None] | None = NONE,
    attributes: Mapping[str, Any] | None = NONE,
    region: Any = None,
    append_dim: Any = None,
    write_empty_chunks: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool | Literal["trust"] = False,
    digests: bool = True,
    progress: Any = False,
    compute: bool = True,
    scheduler: Any = None,
) -> WriteReport:
    """Write arrays to a Zarr store, in a local directory or anywhere zarr writes.

    In a local directory an array appears under its name only when it is
    complete: it is built in a hidden folder beside it, and a failed or killed
    run leaves what was there.

    Parameters
    ----------
    data : dask array, array-like, Source or mapping
        What to write, as in :func:`to_hdf5`; ``{path: array}`` for several.
    store : path-like, URL, zarr store, zarr.Group or zarr.Array
        Directory of the store, or a ``.zip`` file; or anything that zarr
        writes to, for which there is no lock and nothing is undone.
    path : str, optional
        Path of the array inside it; by default the store is the array. For
        several arrays the group that they go to.
    mode : {"a", "w", "w-", "x", "r+"}
        Create or add; replace the named array; store must not, or must, exist.
    overwrite : bool
        Whether an array of that path may be replaced.
    chunks, chunk_nbytes, access, shards : optional
        As in :func:`plan`.
    dtype : dtype-like, optional
        Cast to this type.
    compressors, filters : optional
        As in ``zarr.create_array``. Its own codecs and those of numcodecs are
        encoded here, inside of shards too; others by zarr-python.
    fill_value : scalar, optional
        What a reader gets where nothing was written. Chunks that hold
        nothing else are not stored, as zarr does it.
    zarr_format : {3, 2}
        Version of the metadata.
    chunk_key_encoding : mapping, optional
        How objects are named, as in ``zarr.create_array``, such as ``{"name": "v2", "separator":
        "/"}``, which OME-Zarr 0.4 asks for. An array that is replaced keeps its own.
    dimension_names : sequence of str, optional
        Names of the axes; in v2 as xarray keeps them there.
    attributes : mapping, optional
        Attributes of the array; numpy's numbers and arrays become JSON.
    region : tuple of int and slice, optional
        The part of an existing array to write, which grows where it has to.
        Chunks at its rim keep what lies outside.
    append_dim : int or str, optional
        The axis of an existing array at whose end the data goes.
    write_empty_chunks : bool, optional
        Whether chunks that hold the fill value only are stored, too.
    storage_options : mapping, optional
        For a URL, as fsspec takes them.
    memory_limit : int or str, optional
        Bytes for everything in flight; 1 GiB by default.
    workers : int, optional
        Blocks in flight; by default dask's number of workers.
    progress : bool or callable
        ``True`` draws a bar; a callable is given a step for every block.
    digests : bool
        Whether to store digests of chunks and of what describes them, by which
        :func:`lazyio.verify` finds damage.
    compute : bool
        ``False`` returns a ``dask.delayed.Delayed`` that gives the report;
        nothing is on disk or locked until it is computed.
    scheduler : optional
        What computes graphs, as in dask's ``compute``.
    resume : bool or "trust"
        Whether to keep a journal, by which the same call goes on after a kill, or
        returns at once if it is done. One chunk that is there is computed again
        and compared; ``"trust"`` leaves that out.

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
    require_zarr()
    from lazyio.writing.zarr_call import ZarrCall, ZarrOrder
    from lazyio.writing.zarr_request import ZarrSettings

    check_flags(overwrite=overwrite, digests=digests, compute=compute)
    check_resume(resume)
    check_mode(mode)
    scheduler_for(scheduler)
    check_progress(progress)
    settings = ZarrSettings(
        chunks=chunks,
        chunk_nbytes=chunk_nbytes,
        access=access,
        shards=shards,
        dtype=dtype,
        compressors=compressors,
        filters=filters,
        fill_value=fill_value,
        zarr_format=zarr_format,
        chunk_key_encoding=chunk_key_encoding,
        dimension_names=dimension_names,
        attributes=attributes,
        write_empty_chunks=write_empty_chunks,
        memory_limit=memory_limit,
        workers=workers,
        scheduler=scheduler,
    )
    if path == "":
        msg = "path='' names no array; leave it out, for the store itself to be the array"
        raise OptionError(msg)
    call = ZarrCall(
        store=without_scheme(store),
        path=array_path(path),
        mode=mode,
        overwrite=overwrite,
        storage_options=storage_options,
        settings=settings,
        running=RunOptions(
            progress=progress,
            scheduler=scheduler,
            digests=digests,
            resume=bool(resume),
            trusts=is_trust(resume),
        ),
    )
    order: ZarrOrder
    if is_zarr(store, "Array") or region is not None or append_dim is not None:
        order = call.part(data, region, append_dim, is_now=compute)
    else:
        order = call.new(data)
    report: WriteReport = now_or_later(order, compute=compute)
    return report
