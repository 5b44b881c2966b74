"""Public: write arrays to a Zarr store, whole or not at all where it is a local one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from lazyio.atomic.publish_steps import finish
from lazyio.errors import OptionError, TargetError
from lazyio.execution.progress import check_progress
from lazyio.execution.report import WriteReport
from lazyio.execution.schedulers import scheduler_for
from lazyio.options import AUTO, NONE, check_flags, check_resume, is_trust
from lazyio.os_errors import system_errors
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
    array_path,
    check_array_writable,
    check_mode,
    check_store,
    check_zip_place,
    is_local,
    is_url,
    link_at,
    refuse_own_source,
    refuse_zip,
    store_path,
    without_scheme,
)
from lazyio.writing.zarr_new import (
    ArraysInStore,
    NewArrays,
    NewZip,
    ZarrItem,
    node_name,
    store_behind,
)
from lazyio.writing.zarr_region import PartOfArray, PartOfStore, existing_array, part_of_array
from lazyio.writing.zarr_request import ZarrSettings, advice_on, array_item

ZarrOrder = NewArrays | NewZip | ArraysInStore | PartOfStore | PartOfArray


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
    call = _Call(
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
    if isinstance(store, zarr.Array) or region is not None or append_dim is not None:
        order = call.part(data, region, append_dim, is_now=compute)
    else:
        order = call.new(data)
    report: WriteReport = now_or_later(order, compute=compute)
    return report


@dataclass(frozen=True, kw_only=True)
class _Call:
    """The arguments of one call, and the orders that they may come down to."""

    store: Any
    path: str
    mode: str
    overwrite: bool
    storage_options: Mapping[str, Any] | None
    settings: ZarrSettings
    running: RunOptions

    def new(self, data: Any) -> ZarrOrder:
        """Return the request for arrays that are to be made."""
        items = self._items(data)
        if not is_local(self.store):
            check_store(self.store)
            self._refuse_resume("in a store that is no local folder, or is open already")
            inside = self._in_store(items)
            inside.check()
            return inside
        self._refuse_storage_options()
        root = store_path(self.store)
        if root.suffix == ".zip":
            self._refuse_resume("in a .zip file")
            return self._in_zip(root, items)
        for item in items:
            finish(root / item.arranged.key)
        order = NewArrays(
            root=root,
            items=items,
            mode=self.mode,
            overwrite=self.overwrite,
            running=self._advised(items),
        )
        order.check()
        return order

    def part(self, data: Any, region: Any, append_dim: Any, *, is_now: bool) -> ZarrOrder:
        """Return the request for a part of an existing array."""
        if self.overwrite:
            msg = "overwrite=True is for whole arrays, and this is a part of one; leave it out"
            raise OptionError(msg)
        if self.mode not in ("a", "r+"):
            msg = f"mode={self.mode!r} is for new arrays, and this one is there; leave it out"
            raise OptionError(msg)
        given = only_item(data)
        refuse_for_streams([given], resume=self.running.resume)
        array = self._existing()
        where = {"region": region, "append_dim": append_dim}
        again = partial(part_of_array, array, self.path, given, self.settings, **where)
        # First: if another thread moves the end in between, it is found to have moved.
        seen = array.shape
        arranged, window = again()
        facts = {
            "arranged": arranged,
            "window": window,
            "seen": seen,
            "keeps_empty": self.settings.write_empty_chunks,
            "running": self.running,
        }
        if not is_local(self.store):
            self._refuse_resume("in a store that is no local folder, or is open already")
            appended = again if is_now and append_dim is not None else None
            appends = append_dim is not None
            inside = PartOfArray(array=array, appends=appends, again=appended, **facts)
            inside.check()
            return inside
        root = store_path(self.store)
        refuse_own_source(given, root, self.path)
        behind = link_at(root, self.path)
        if behind is not None:
            refuse_own_source(given, behind, "")
        return PartOfStore(
            root=root,
            name=self.path,
            behind=behind,
            appends=append_dim is not None,
            **facts,
        )

    def _refuse_resume(self, where: str) -> None:
        if self.running.resume:
            msg = f"resume=True: {where} there is no journal to go on by; write to a local folder"
            raise OptionError(msg)

    def _existing(self) -> Any:
        """Return the array of which a part is to be written."""
        if not is_url(self.store):
            self._refuse_storage_options()
        if isinstance(self.store, zarr.Array):
            return self.store
        if is_local(self.store):
            root = store_path(self.store)
            refuse_zip(root)
            check_array_writable(root, self.path)
            finish(root / self.path)
            # For reading: zarr-python makes the folder of any other store that is not there.
            return existing_array(LocalStore(root, read_only=True), self.path)
        check_store(self.store)
        store, inside = store_behind(self.store, self.storage_options)
        return existing_array(store, f"{inside}/{self.path}".strip("/"))

    def _items(self, data: Any) -> tuple[ZarrItem, ...]:
        """Return the arrays, each with its plan and settings."""
        if holds_several(data) and any(isinstance(key, str) and not key.strip("/") for key in data):
            msg = f"a mapping with the keys {list(data)}; give every array a path in the store"
            raise OptionError(msg)
        given = [(array_path(path), one) for path, one in items_of(data, self.path)]
        refuse_for_streams([one for _, one in given], resume=self.running.resume)
        paths = [path for path, _ in given]
        refuse_clashes(paths)
        each = [self.settings]
        if holds_several(data):
            each = for_each(self.settings, list(data), dims="dimension_names", attrs="attributes")
        return planned(array_item, given, each)

    def _advised(self, items: tuple[ZarrItem, ...]) -> RunOptions:
        return replace(self.running, advice=advice_on(items))

    def _in_store(self, items: tuple[ZarrItem, ...]) -> ArraysInStore:
        """Return the request for a store or group that is open, or lies behind a URL."""
        if not is_url(self.store):
            self._refuse_storage_options()
        store, inside = store_behind(self.store, self.storage_options)
        below = tuple(_below(item, inside) for item in items) if inside else items
        return ArraysInStore(
            store=store,
            inside=inside,
            name=str(self.store) if is_url(self.store) else node_name(store, inside),
            items=below,
            mode=self.mode,
            overwrite=self.overwrite,
            running=self._advised(items),
        )

    def _in_zip(self, path: Path, items: tuple[ZarrItem, ...]) -> NewZip:
        check = partial(
            check_zip_place,
            {item.arranged.key: item.arranged.given for item in items},
            path,
            self.mode,
            replace=self.overwrite,
        )
        check()
        return NewZip(path=path, items=items, check_place=check, running=self._advised(items))

    def _refuse_storage_options(self) -> None:
        if self.storage_options:
            msg = "storage_options are for stores behind a URL; this one is not, leave them out"
            raise OptionError(msg)


def _below(item: ZarrItem, prefix: str) -> ZarrItem:
    """Return an array whose path counts from the root of the store, and not from a group."""
    arranged = item.arranged
    return replace(item, arranged=replace(arranged, key=f"{prefix}/{arranged.key}".strip("/")))
