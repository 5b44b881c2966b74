"""The arguments of one call of ``to_zarr``, and the requests that they may be."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from lazyio.atomic.publish_steps import finish
from lazyio.errors import OptionError
from lazyio.writing.multi_array import (
    for_each,
    holds_several,
    items_of,
    only_item,
    planned,
    refuse_clashes,
    refuse_for_streams,
)
from lazyio.writing.run_options import RunOptions
from lazyio.writing.target_checks import (
    array_path,
    check_array_writable,
    check_store,
    check_zip_place,
    is_local,
    is_url,
    link_at,
    refuse_own_source,
    refuse_zip,
    store_path,
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


@dataclass(frozen=True, kw_only=True)
class ZarrCall:
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
