"""Public: write arrays to an HDF5 file, whole or not at all."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import h5py
import numpy.typing as npt

from lazyio.errors import OptionError, TargetError
from lazyio.execution.progress import check_progress
from lazyio.execution.report import WriteReport
from lazyio.execution.schedulers import scheduler_for
from lazyio.options import (
    AUTO,
    COPY,
    FALSE,
    NONE,
    check_flags,
    check_resume,
    is_trust,
    refuse_comm,
    value_of,
)
from lazyio.os_errors import system_errors
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.storage.hdf5.dataset import check_libver
from lazyio.writing.hdf5_new import DatasetsInGroup, Hdf5Item, NewDatasets
from lazyio.writing.hdf5_region import PartOfDataset, PartOfFile, refuse_unusable
from lazyio.writing.hdf5_request import Hdf5Settings, advice_on, dataset_item, part_of
from lazyio.writing.multi_array import (
    for_each,
    holds_several,
    items_of,
    only_item,
    planned,
    refuse_clashes,
    refuse_for_streams,
)
from lazyio.writing.run_options import RunOptions, now_or_later
from lazyio.writing.target_checks import (
    check_key,
    check_mode,
    check_open_file,
    check_writable,
    refuse_own_source,
    target_path,
    without_slash,
)

Hdf5Order = NewDatasets | DatasetsInGroup | PartOfFile | PartOfDataset

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
    data : dask array, array-like, Source or mapping
        What to write. Straight from :func:`open` it is read in blocks that
        suit the chunks; a graph's blocks are each computed once. Several
        arrays, ``{key: array}``, are written in one pass: what their graphs
        share is computed once. Settings of an HDMF ``H5DataIO`` hold.
    path : path-like, h5py.Dataset or h5py.Group
        The file; or an open dataset to fill, or an open group to add to, for
        which there is no lock and nothing is undone. ``to_hdf5(path, key,
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
        times become ISO text, ``None`` an empty attribute, nested values JSON.
    dims : sequence of str, optional
        Names of the axes, written as netCDF-4 dimension scales.
    region : tuple of int and slice, optional
        The part of an existing dataset to write, which grows as far as its
        ``maxshape`` allows. Chunks at its rim keep what lies outside.
    append_dim : int or str, optional
        The axis of an existing dataset at whose end the data goes.
    links : {"copy", "link"}
        ``"link"`` makes links of datasets that lie in HDF5 files already.
    libver : optional
        File format bounds, as in h5py, but never ``"latest"``.
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
    comm
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
    data, path, key = _in_order(data, path, key)
    refuse_comm(comm)
    check_flags(overwrite=overwrite, digests=digests, compute=compute)
    check_resume(resume)
    check_mode(mode)
    check_libver(libver)
    check_progress(progress)
    scheduler_for(scheduler)
    settings = Hdf5Settings(
        chunks=chunks,
        chunk_nbytes=chunk_nbytes,
        access=access,
        dtype=dtype,
        compression=compression,
        compression_opts=compression_opts,
        shuffle=shuffle,
        fletcher32=fletcher32,
        fillvalue=fillvalue,
        maxshape=maxshape,
        attrs=attrs,
        dims=dims,
        links=links,
        memory_limit=memory_limit,
        workers=workers,
        scheduler=scheduler,
    )
    call = _Call(
        path=path,
        key=without_slash(key),
        mode=mode,
        overwrite=overwrite,
        libver=libver,
        settings=settings,
        running=RunOptions(
            progress=progress,
            scheduler=scheduler,
            digests=digests,
            resume=bool(resume),
            trusts=is_trust(resume),
        ),
    )
    order: Hdf5Order
    if isinstance(path, h5py.Dataset) or region is not None or append_dim is not None:
        order = call.part(data, region, append_dim, is_now=compute)
    else:
        order = call.new(data)
    report: WriteReport = now_or_later(order, compute=compute)
    return report


def _in_order(data: Any, path: Any, key: Any) -> tuple[Any, Any, Any]:
    """Return data, path and key, which dask's own to_hdf5 takes in another order."""
    if isinstance(data, (str, os.PathLike, h5py.Group)):
        # An open group is a mapping as well, but of what is there already.
        if isinstance(path, Mapping) and not isinstance(path, h5py.Group):
            return path, data, key
        if not isinstance(key, str):
            return key, data, path
    return data, path, key


@dataclass(frozen=True, kw_only=True)
class _Call:
    """The arguments of one call, and the orders that they may come down to."""

    path: Any
    key: str
    mode: str
    overwrite: bool
    libver: Any
    settings: Hdf5Settings
    running: RunOptions

    def new(self, data: Any) -> Hdf5Order:
        """Return the request for datasets that are to be made."""
        prefix = self.key
        if holds_several(data) and isinstance(self.key, str):
            prefix = "" if self.key == DEFAULT_KEY else self.key
        else:
            check_key(self.key)
        given = items_of(data, prefix)
        refuse_for_streams([one for _, one in given], resume=self.running.resume)
        for key, _ in given:
            check_key(key)
        refuse_clashes([key for key, _ in given])
        each = [self.settings]
        if holds_several(data):
            each = for_each(self.settings, list(data), dims="dims", attrs="attrs")
        items = planned(dataset_item, given, each)
        running = replace(self.running, advice=advice_on(items))
        if isinstance(self.path, h5py.Group):
            self._refuse_for_handle()
            inside = DatasetsInGroup(
                group=self.path,
                items=tuple(_below(item) for item in items),
                overwrite=self.overwrite,
                running=running,
            )
            inside.check()
            return inside
        order = NewDatasets(
            path=target_path(self.path),
            items=items,
            mode=self.mode,
            overwrite=self.overwrite,
            libver=self.libver,
            running=running,
        )
        order.check()
        return order

    def part(self, data: Any, region: Any, append_dim: Any, *, is_now: bool) -> Hdf5Order:
        """Return the request for a part of an existing dataset."""
        links = value_of(self.settings.links)
        if self.overwrite or links != "copy":
            what = "overwrite=True" if self.overwrite else f"links={links!r}"
            msg = f"{what} is for whole datasets, and this is a part of one; leave it out"
            raise OptionError(msg)
        given = only_item(data)
        refuse_for_streams([given], resume=self.running.resume)
        self._refuse_for_handle()
        where = {"region": region, "append_dim": append_dim}
        if isinstance(self.path, (h5py.Dataset, h5py.Group)):
            dataset = self._open_dataset()
            again = partial(part_of, dataset, dataset.name, given, self.settings, **where)
            # First: if another thread moves the end in between, it is found to have moved.
            seen = dataset.shape
            arranged, window = again()
            inside = PartOfDataset(
                dataset=dataset,
                arranged=arranged,
                window=window,
                seen=seen,
                appends=append_dim is not None,
                again=again if is_now and append_dim is not None else None,
                running=self.running,
            )
            inside.check()
            return inside
        check_key(self.key)
        path = target_path(self.path)
        check_writable(path)
        refuse_unusable(path, self.key)
        refuse_own_source(given, path, self.key)
        with open_hdf5(str(path)) as file:
            seen = file[self.key].shape
            arranged, window = part_of(file[self.key], self.key, given, self.settings, **where)
        return PartOfFile(
            path=path,
            arranged=arranged,
            window=window,
            seen=seen,
            appends=append_dim is not None,
            running=self.running,
        )

    def _open_dataset(self) -> h5py.Dataset:
        """Return the dataset of an open file that is written to."""
        check_open_file(self.path)
        if isinstance(self.path, h5py.Dataset):
            return self.path
        found = self.path.get(self.key.lstrip("/"))
        if not isinstance(found, h5py.Dataset):
            msg = (
                f"{self.path.name!r} of {self.path.file.filename} has no dataset {self.key!r}, of "
                "which a part could be written; make it with create_dataset first"
            )
            raise TargetError(errno.ENOENT, msg)
        return found

    def _refuse_for_handle(self) -> None:
        """Refuse what is settled where a file or dataset is there already."""
        is_open = isinstance(self.path, (h5py.Dataset, h5py.Group))
        if is_open and self.running.resume:
            msg = "resume=True: in a file that is open there is no journal to go on by; give a path"
            raise OptionError(msg)
        if self.mode not in ("a", "r+") or self.libver is not None:
            what = f"libver={self.libver!r}" if self.libver is not None else f"mode={self.mode!r}"
            msg = f"{what} is for new files, and this one is there already; leave it out"
            raise OptionError(msg)


def _below(item: Hdf5Item) -> Hdf5Item:
    """Return a dataset whose key counts from a group, and not from the root of its file."""
    return replace(item, arranged=replace(item.arranged, key=item.arranged.key.strip("/")))
