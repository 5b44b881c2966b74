"""Public: write arrays to an HDF5 file, whole or not at all."""

import contextlib
import errno
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.errors import OptionError, SourceError, TargetError
from lazyio.execution.report import WriteReport
from lazyio.inputs import Input, is_labelled
from lazyio.options import AUTO, COPY, FALSE, NONE, value_of
from lazyio.os_errors import system_errors
from lazyio.ragged.ragged import Ragged
from lazyio.sources.base import Source
from lazyio.sources.hdf5 import hdf5_source, open_dataset_source
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.storage.disk_errors import check_writable
from lazyio.storage.hdf5.dataset import check_libver
from lazyio.writing.by_key import targets_of_each
from lazyio.writing.call import Call
from lazyio.writing.collective import is_parallel, write_collectively
from lazyio.writing.hdf5_backend import (
    FileRegions,
    NewDatasets,
    OpenDatasets,
    OpenGroup,
    identity_of,
    path_of,
    refuse_unusable,
)
from lazyio.writing.hdf5_in_memory import NAME as IN_MEMORY
from lazyio.writing.hdf5_in_memory import FileBuffer, InMemoryFile
from lazyio.writing.hdf5_settings import (
    ExistingDataset,
    Hdf5Item,
    Hdf5Settings,
    advice_on,
    dataset_item,
    group_options,
    refuse_contradicted,
)
from lazyio.writing.multi_array import holds_several
from lazyio.writing.ragged import holds_ragged, ragged_arguments
from lazyio.writing.ranks import RankCall
from lazyio.writing.refusals import Refusals
from lazyio.writing.request import RegionItem, Request
from lazyio.writing.target_checks import (
    check_key,
    check_open_file,
    refuse_own_source,
    target_path,
    without_slash,
)

DEFAULT_KEY = "/data"
"""Of one array for which none is given."""


@system_errors(TargetError)
def to_hdf5(
    data: Any,
    path: Any,
    key: Any = "/data",
    *,
    mode: str = "a",
    overwrite: bool = False,
    chunks: Any = AUTO,
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    access: Any = None,
    dtype: npt.DTypeLike | None = None,
    compression: Any = NONE,
    compression_opts: Any = NONE,
    shuffle: bool | None = NONE,
    fletcher32: bool = FALSE,
    fillvalue: Any = NONE,
    maxshape: Any = NONE,
    attrs: Mapping[str, Any] | None = NONE,
    dims: Any = NONE,
    region: Any = None,
    append_dim: Any = None,
    links: str = COPY,
    libver: Any = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    lock_timeout: float | None = None,
    resume: bool | Literal["trust"] = False,
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
    data : dask array, array-like, Source, Ragged or mapping
        What to write. Straight from :func:`open` it is read in blocks that
        suit the chunks; a graph's blocks are each computed once. Several
        arrays, ``{key: array}``, are written in one pass and one commit: what their graphs
        share is computed once. ``region``, ``append_dim`` and all that is said of a dataset
        is then for each of them, or a mapping from their keys. Settings of an HDMF
        ``H5DataIO`` hold. Rows of a :class:`Ragged` go to a group of that key.
    path : path-like, io.BytesIO, h5py.Dataset, h5py.Group or mapping
        The file, or a buffer that gets all of it or stays as it was; or an open dataset to
        fill, datasets by the keys of the data, or an open group to add to (of a file in
        memory, too), for which there is no lock and nothing is undone. ``to_hdf5(path, key,
        data)`` and ``to_hdf5(path, {key: data})`` work too.
    key : str
        Path of the dataset; groups on the way are made. For several arrays
        the group that they go to, by default the root.
    mode : {"a", "w", "w-", "x", "r+"}
        h5py's file mode: create or add, new file, must not exist, must exist.
    overwrite : bool
        Whether a dataset of that key may be replaced.
    chunks, chunk_nbytes, access : optional
        As in :func:`plan`. ``chunks=None`` stores one run, without chunks.
    dtype : dtype-like, optional
        Cast to this type.
    compression : None, str, int or hdf5plugin object
        A codec's name, a filter id, or what hdf5plugin makes; see the table
        of codecs for those that are encoded here, in parallel.
    compression_opts : optional
        A level, or ``(cname, clevel, shuffle)`` for blosc and blosc2.
    shuffle, fletcher32 : bool
        HDF5's byte shuffle before, its checksum after.
    fillvalue : scalar, optional
        What a reader gets where nothing was written.
    maxshape : tuple, optional
        How far the dataset may grow, ``None`` per axis for no bound.
    attrs : mapping, optional
        Attributes of the dataset. Numbers, text and arrays of them are kept;
        times become ISO text, ``None`` an empty attribute, nested values JSON. Of several
        arrays they may be given by key, and with them those of groups:
        ``{"g/x": {"units": "V"}, "/g": {"rate": 30.0}, "/": {"title": "..."}}``.
    dims : sequence of str, optional
        Names of the axes, written as netCDF-4 dimension scales.
    region : tuple of int and slice, optional
        The part of an existing dataset to write, which grows as far as its
        ``maxshape`` allows. Chunks at its rim keep what lies outside.
    append_dim : int or str, optional
        The axis of an existing dataset at whose end the data goes.
    links : {"copy", "link"}
        ``"link"`` makes links of datasets that lie in HDF5 files already, and of open groups.
        Anything else that is asked of them has to be what they are.
    libver : optional
        File format bounds, as in h5py, but never ``"latest"``.
    memory_limit : int or str, optional
        Bytes for everything in flight; 1 GiB by default.
    workers : int, optional
        Blocks in flight; by default dask's number of workers.
    lock_timeout : float, optional
        Seconds to wait while another process writes to the file; by default 60 where
        ``region`` is given, and else 0. A region and an append then go to the file as
        that process has left it.
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
    comm : mpi4py.MPI.Comm, optional
        Ranks that make this call together: each with a part of its own and its ``region``,
        or all with the same array, of which each takes a share of the blocks. What they
        give is published as one; every rank gets the report, or the same error. Into a
        file that all of them have open with ``driver="mpio"``, h5py's collective mode
        writes it.

    Returns
    -------
    WriteReport
        What was written, how large it is and how long it took.

    Raises
    ------
    TargetExistsError
        When the dataset, or with ``mode="x"`` the file, already exists.
    TargetLockedError
        When another writer is at work on the file, still after ``lock_timeout`` seconds.
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
    data, path, key = _in_order(data, path, key)
    if comm is not None:
        return _by_ranks(locals())
    if is_labelled(data):
        written: WriteReport = data.lazyio.by_function("to_hdf5", locals())
        return written
    if value_of(links) == "link":
        data = _with_containers(data)
    given = locals()
    check_libver(libver)
    key = without_slash(key)
    request: Request[Any]
    if holds_ragged(data):
        request = _of_rows(given, path, key, libver)
    else:
        request = _request(Call.of(Hdf5Settings, given), path, key, libver)
    report: WriteReport = request.run(compute=compute)
    return report


def _by_ranks(given: Mapping[str, Any]) -> WriteReport:
    """Write what all ranks of MPI give."""
    path, key, libver = given["path"], given["key"], given["libver"]

    def call_of(given: Mapping[str, Any]) -> Call:
        check_libver(libver)
        return Call.of(Hdf5Settings, given)

    def inputs_of(call: Call) -> Sequence[tuple[str, Input]]:
        found = call.inputs(_prefix(call, without_slash(key)), check_key)[0]
        for name, one in found:
            refuse_own_source(one, path_of(path) if is_open else target_path(path), name)
        return found

    is_open = is_parallel(path)
    ranks = RankCall(
        given=given,
        target="path",
        call_of=call_of,
        inputs_of=inputs_of,
        request_of=lambda call: _request(call, path, without_slash(key), libver),
        is_open=is_open,
    )
    return write_collectively(ranks) if is_open else ranks.write()


def _request(call: Call, path: Any, key: Any, libver: Any) -> Request[Any]:
    if isinstance(path, h5py.Dataset) or _are_datasets(path) or call.is_part:
        return _regions(call, path, key, libver)
    return _new(call, path, key, libver)


def _of_rows(given: Mapping[str, Any], path: Any, key: Any, libver: Any) -> Request[Any]:
    """Return the request for ragged rows, which are several datasets."""
    if isinstance(path, h5py.Dataset):
        msg = "rows are several datasets, and do not go into one; give the file or a group of it"
        raise OptionError(msg)
    prefix = check_key(key) if isinstance(given["data"], Ragged) else given["key"]
    prefix = "" if prefix == DEFAULT_KEY and not isinstance(given["data"], Ragged) else prefix
    look = partial(_array_at, path)
    for arguments in ragged_arguments(given, prefix, look, "hdf5"):
        group = DEFAULT_KEY if isinstance(given["data"], Ragged) else key
        request = _request(Call.of(Hdf5Settings, arguments), path, group, libver)
        if given["resume"] and request.is_done:
            break
    return request


def _array_at(path: Any, key: str) -> Source | None:
    """Return the source of a dataset that exists, ``None`` where there is none."""
    if isinstance(path, h5py.Group):
        found = path.get(key)
        return open_dataset_source(found) if isinstance(found, h5py.Dataset) else None
    with contextlib.suppress(SourceError):
        return hdf5_source(target_path(path), key)
    return None


def _in_order(data: Any, path: Any, key: Any) -> tuple[Any, Any, Any]:
    """Return data, path and key, which dask's own to_hdf5 takes in another order."""
    if isinstance(data, (str, os.PathLike, h5py.Group)):
        # An open group is a mapping as well, but of what already exists.
        if isinstance(path, Mapping) and not isinstance(path, h5py.Group):
            return path, data, key
        if not isinstance(key, str):
            return key, data, path
    return data, path, key


def _with_containers(data: Any) -> Any:
    """Return data in which groups of files stand for what they are, and not for what they hold."""
    if isinstance(data, h5py.Group):
        if not data or not os.path.exists(data.file.filename):
            msg = "the group to link to is in no file on a disk; write it to one first"
            raise OptionError(msg)
        container = os.path.abspath(data.file.filename), str(data.name)
        return Input(shape=(), dtype=np.dtype("u1"), container=container)
    if holds_several(data):
        return {
            key: _with_containers(value) if isinstance(value, h5py.Group) else value
            for key, value in data.items()
        }
    return data


def _new(call: Call, path: Any, key: Any, libver: Any) -> Request[Hdf5Item]:
    """Return the request for datasets that are to be made."""
    prefix = _prefix(call, key)
    items = call.new_items(prefix, check_key, dataset_item)
    refuse_contradicted(items)
    running = replace(call.running, advice=advice_on(items))
    groups = group_options(call.group_attrs_below(prefix))
    place: OpenGroup | NewDatasets | InMemoryFile
    if isinstance(path, h5py.Group):
        _refuse_for_handle(call, libver)
        check_open_file(path)
        name = path_of(path)
        # Keys count from the group, and not from the root of its file.
        items = tuple(
            replace(one, arranged=replace(one.arranged, key=one.arranged.key.strip("/")))
            for one in items
        )
        place = OpenGroup(group=path, overwrite=call.overwrite, group_attrs=groups)
    elif isinstance(path, io.BytesIO):
        call.refuse_without_lock("in a file in memory")
        name = Path(IN_MEMORY)
        place = InMemoryFile(
            buffer=FileBuffer(content=path, mode=call.mode),
            overwrite=call.overwrite,
            libver=libver,
            group_attrs=groups,
        )
    else:
        name = running.patience.retry(lambda: target_path(path))
        place = NewDatasets(
            path=name, mode=call.mode, overwrite=call.overwrite, libver=libver, group_attrs=groups
        )
    request = Request(name=str(name), place=place, items=items, running=running)
    running.patience.retry(request.check)
    return request


def _regions(call: Call, path: Any, key: Any, libver: Any) -> Request[RegionItem]:
    """Return the request for parts of existing datasets."""
    links = value_of(call.settings.links)
    call.refuse_for_part(links=links if links != "copy" else None)
    if _are_datasets(path) and not call.is_several:
        msg = "a mapping of datasets is for several arrays; give those by the same keys"
        raise OptionError(msg)
    if isinstance(path, h5py.Dataset) and call.is_several:
        msg = (
            "several arrays do not go into one dataset; give a mapping of datasets by the same "
            "keys, or their group"
        )
        raise OptionError(msg)
    if _are_datasets(path) or isinstance(path, (h5py.Dataset, h5py.Group)):
        _refuse_for_handle(call, libver)
        return _open_regions(call, path, key)
    if isinstance(path, io.BytesIO):
        msg = (
            "a part of what lies in a BytesIO is written by way of h5py: open it with "
            "h5py.File(buffer, 'r+') and give the dataset"
        )
        raise OptionError(msg)
    given, each = call.inputs(_prefix(call, key), check_key)
    _refuse_new_file(call, libver)
    running = call.running_by_path
    path = running.patience.retry(lambda: target_path(path))
    check_writable(path)
    refusals, there = Refusals(len(given)), []
    for name, one in given:
        with refusals.of(None):
            running.patience.retry(partial(refuse_unusable, path, name))
            refuse_own_source(one, path, name)
            there.append(name)

    def items_in(file: h5py.File) -> tuple[RegionItem, ...]:
        now = {name: ExistingDataset(handle=file[name]) for name in there}
        return call.region_items((given, each), now, is_open=False)

    with contextlib.ExitStack() as stack:
        fixed = {}
        if there:
            file = stack.enter_context(open_hdf5(str(path)))
            fixed = {name: ExistingDataset(handle=file[name]) for name in there}
        _refuse_one_twice({name: one.handle for name, one in fixed.items()})
        items = call.region_items((given, each), fixed, is_open=False, refusals=refusals)
    # What is computed later goes where it was checked, or nowhere.
    place = FileRegions(path=path, again=items_in if call.compute else None)
    return Request(name=str(path), place=place, items=items, running=running)


def _open_regions(call: Call, target: Any, key: Any) -> Request[RegionItem]:
    """Return the request for parts of datasets that the caller has open."""
    is_by_key = _are_datasets(target)
    is_named = is_by_key or isinstance(target, h5py.Dataset)
    given, each = call.inputs("/" if is_named else _prefix(call, key), without_slash)
    handles = targets_of_each(target, list(call.data), "datasets") if is_by_key else [target]
    for one in handles:
        check_open_file(one)
    names, arrays = [name for name, _ in given], {}
    refusals = Refusals(len(given))
    for at, name in enumerate(names):
        with refusals.of(None):
            dataset = handles[at] if is_named else _dataset_in(target, name)
            names[at] = name if is_by_key else dataset.name
            arrays[names[at]] = ExistingDataset(handle=dataset)
    _refuse_one_twice({name: one.handle for name, one in arrays.items()})
    given = [(name, one) for name, (_, one) in zip(names, given, strict=True)]
    items = call.region_items((given, each), arrays, is_open=True, refusals=refusals)
    request = Request(
        name=str(path_of(handles[0])),
        place=OpenDatasets(file=handles[0]),
        items=items,
        running=call.running,
    )
    request.check()
    return request


def _prefix(call: Call, key: Any) -> Any:
    """Return the key of one array, or that of the group of several."""
    if call.is_several and isinstance(key, str):
        return "" if key == DEFAULT_KEY else key
    return check_key(key)


def _are_datasets(target: Any) -> bool:
    """Return whether a target is open datasets by the keys of what goes into them."""
    return (
        isinstance(target, Mapping)
        and not isinstance(target, h5py.Group)
        and bool(target)
        and all(isinstance(one, h5py.Dataset) for one in target.values())
    )


def _refuse_one_twice(datasets: Mapping[str, h5py.Dataset]) -> None:
    """Refuse keys that lead to one dataset, as links may: parts of it would lose each other."""
    names: dict[Any, str] = {}
    for name, dataset in datasets.items():
        other = names.setdefault(identity_of(dataset), name)
        if other != name:
            msg = f"{other!r} and {name!r} are one dataset; write them one at a time"
            raise OptionError(msg)


def _dataset_in(group: h5py.Group, key: str) -> h5py.Dataset:
    """Return the dataset of an open group of which a part is written."""
    found = group.get(key.lstrip("/"))
    if not isinstance(found, h5py.Dataset):
        msg = (
            f"{group.name!r} of {group.file.filename} has no dataset {key!r}, of "
            "which a part could be written; make it with create_dataset first"
        )
        raise TargetError(errno.ENOENT, msg)
    return found


def _refuse_for_handle(call: Call, libver: Any) -> None:
    """Refuse what there is not in a file that the caller has open."""
    call.refuse_without_lock("in a file that is open")
    _refuse_new_file(call, libver)


def _refuse_new_file(call: Call, libver: Any) -> None:
    """Refuse what is settled where a file or dataset already exists."""
    if call.mode not in ("a", "r+") or libver is not None:
        what = f"libver={libver!r}" if libver is not None else f"mode={call.mode!r}"
        msg = f"{what} is for new files, and this one already exists; leave it out"
        raise OptionError(msg)
