"""Public: write arrays to a Zarr store, whole or not at all where it is a local one."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy.typing as npt

from lazyio.errors import OptionError, SourceError, TargetError
from lazyio.execution.report import WriteReport
from lazyio.inputs import Input, is_labelled
from lazyio.options import AUTO, NONE
from lazyio.os_errors import system_errors
from lazyio.ragged.ragged import Ragged
from lazyio.sources.base import Source
from lazyio.sources.lookup import array_source, zarr_array_source
from lazyio.sources.zarr_metadata import is_zarr, require_zarr
from lazyio.writing.call import Call
from lazyio.writing.ragged import holds_ragged, ragged_arguments
from lazyio.writing.ranks import RankCall
from lazyio.writing.target_checks import (
    array_path,
    is_local,
    refuse_own_source,
    store_path,
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
    lock_timeout: float | None = None,
    comm: Any = None,
) -> WriteReport:
    """Write arrays to a Zarr store, in a local directory or anywhere zarr writes.

    In a local directory an array appears under its name only when it is
    complete: it is built in a hidden folder beside it, and a failed or killed
    run leaves what was there.

    Parameters
    ----------
    data : dask array, array-like, Source, Ragged or mapping
        What to write, as in :func:`to_hdf5`; ``{path: array}`` for several, in one commit.
    store : path-like, URL, zarr store, zarr.Group, zarr.Array or mapping
        Directory of the store, or a ``.zip`` file; or anything that zarr
        writes to, for which there is no lock and nothing is undone. Several arrays may
        go into open ones by the same keys.
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
        Attributes of the array; numpy's numbers and arrays become JSON. Of several arrays
        they may be given by key, and with them those of groups, such as
        ``{"/": {"ome": {...}}}``.
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
        Whether to keep a journal, with which the same call resumes after a kill, or
        returns at once if it is done. One chunk that is there is computed again
        and compared; ``"trust"`` leaves that out.
    lock_timeout : float, optional
        Seconds to wait for other processes that write to the array: to any part of it, or with
        ``region`` to chunks or shards that this region touches, too. By default 60 where
        ``region`` is given, and else 0.
    comm : mpi4py.MPI.Comm, optional
        Ranks that make this call together, as in :func:`to_hdf5`.

    Returns
    -------
    WriteReport
        What was written, how large it is and how long it took.

    Raises
    ------
    TargetExistsError
        When the array already exists.
    TargetLockedError
        When another writer is at work on it, still after ``lock_timeout`` seconds.
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
    given = locals()
    if comm is not None:
        return _by_ranks(given)
    if is_labelled(data):
        written: WriteReport = data.lazyio.by_function("to_zarr", given)
        return written
    require_zarr()
    from lazyio.writing.zarr_backend import are_arrays, new_request, region_request
    from lazyio.writing.zarr_settings import ZarrSettings

    if path == "":
        msg = "path='' names no array; leave it out, for the store itself to be the array"
        raise OptionError(msg)

    def request_of(arguments: Mapping[str, Any], path: str | None) -> Any:
        call = Call.of(ZarrSettings, arguments)
        is_open = is_zarr(store, "Array") or are_arrays(store)
        make = region_request if is_open or call.is_part else new_request
        return make(call, without_scheme(store), array_path(path), storage_options)

    if not holds_ragged(data):
        request = request_of(given, path)
    else:
        for arguments in _with_rows(given):
            request = request_of(arguments, None if isinstance(data, Ragged) else path)
            if resume and request.is_done:
                break
    report: WriteReport = request.run(compute=compute)
    return report


def _by_ranks(given: Mapping[str, Any]) -> WriteReport:
    """Write what all ranks of MPI give."""
    require_zarr()
    from lazyio.writing.zarr_backend import new_request, region_request
    from lazyio.writing.zarr_settings import ZarrSettings

    store, path, options = given["store"], given["path"], given["storage_options"]

    def request_of(call: Call) -> Any:
        make = region_request if call.is_part else new_request
        return make(call, without_scheme(store), array_path(path), options)

    def inputs_of(call: Call) -> Sequence[tuple[str, Input]]:
        found, target = call.inputs(array_path(path), array_path)[0], without_scheme(store)
        for name, one in found if is_local(target) else ():
            refuse_own_source(one, store_path(target), name)
        return found

    return RankCall(
        given=given,
        target="store",
        call_of=lambda given: Call.of(ZarrSettings, given),
        inputs_of=inputs_of,
        request_of=request_of,
    ).write()


def _with_rows(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield arguments with the arrays of ragged rows in place of these."""
    store, options = given["store"], given["storage_options"]
    if is_zarr(store, "Array"):
        msg = "rows are several arrays, and do not go into one; give the store or a group of it"
        raise OptionError(msg)

    def look(path: str) -> Source | None:
        with contextlib.suppress(SourceError, KeyError):
            if is_zarr(store, "Group"):
                return array_source(store[path])
            return zarr_array_source(without_scheme(store), path, options)
        return None

    yield from ragged_arguments(given, array_path(given["path"]), look, "zarr")
