"""A Zarr store in a local folder that grows: objects first, then the metadata that tell of them."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from lazyio.appending.backend import OF_ZARR, ArrayOptions, OpenedArray
from lazyio.atomic.digests import NotedDigests
from lazyio.atomic.fsync import sync_above, sync_folder, sync_names, sync_tree, write_whole
from lazyio.atomic.workdir import WorkDirectory
from lazyio.atomic.zarr_digests import (
    NAME,
    Known,
    beside,
    facts_of,
    forget,
    introduce,
    make_room,
    store,
    table_of,
)
from lazyio.dtypes import Shape, as_dtype, is_text
from lazyio.inputs import Input
from lazyio.iterables.elements import axis_within
from lazyio.os_errors import walk
from lazyio.regions import Region, grid_shape, open_along, span, touched, with_extent
from lazyio.sources.zarr import describe_array
from lazyio.sources.zarr_metadata import zarr_kind
from lazyio.sources.zarr_objects import index_named
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.zarr.array import PARTIAL, ZarrTarget, create_array
from lazyio.storage.zarr.groups import ARRAY_FILES
from lazyio.writing.target_checks import array_path, check_array_writable, check_place
from lazyio.writing.zarr_backend import renew_consolidated
from lazyio.writing.zarr_settings import (
    ExistingZarrArray,
    ZarrSettings,
    array_item,
    with_compressors,
)

GROUP_METADATA = ("zarr.json", ".zmetadata")
"""Files of a group that may hold what its arrays are as well, consolidated."""


def tell_shape(folder: Path, shape: Shape) -> None:
    """Have readers see other extents of an array, from one moment to the next, and keep them."""
    path = next(folder / name for name in ARRAY_FILES if (folder / name).exists())
    held = json.loads(path.read_bytes())
    held["shape"] = list(shape)
    write_whole(path, json.dumps(held, indent=2).encode())
    sync_folder(folder)


def objects_of(array: Any, folder: Path, region: Region) -> Iterator[Path]:
    """Yield where the objects of a part of an array lie, if they are stored."""
    for index, _, _ in touched(region, array.shards or array.chunks):
        yield folder / array.metadata.encode_chunk_key(index)


def remove_beyond(array: Any, folder: Path) -> None:
    """Remove objects beyond the end of an array, and those that are not all there.

    A writer that was killed leaves them. Zarr takes no notice, until the array
    grows by other means.
    """
    grid = grid_shape(array.shape, array.shards or array.chunks)
    for parent, _, names in walk(folder):
        for name in names:
            path = Path(parent, name)
            if name.endswith(PARTIAL) or _is_beyond(array, folder, path, grid):
                path.unlink()


def _is_beyond(array: Any, folder: Path, path: Path, grid: Shape) -> bool:
    index = index_named(array.metadata, len(grid), path.relative_to(folder).as_posix())
    return index is not None and any(at >= count for at, count in zip(index, grid, strict=True))


def settings_for(asked: ArrayOptions, zarr_format: int, *, default: Any = None) -> ZarrSettings:
    """Return how an array is to be stored, its codec by a name of both formats or as Zarr has it.

    ``default`` are the compressors where nothing is said of them.
    """
    own = with_compressors(asked.settings, zarr_format, default=default)
    return ZarrSettings(**own, zarr_format=zarr_format)


logger = logging.getLogger("lazyio")


@dataclass(kw_only=True)
class ZarrArray(OpenedArray):
    """An array of the writer."""

    key: str
    folder: Path
    array: Any
    """It as it was."""
    target: ZarrTarget
    told: int
    """Length that readers see."""
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def tell(self, root: Path) -> None:
        """Tell readers of the elements that there are, once they are on the disk."""
        names, self.target.written = self.target.written or [], []
        sync_names(self.folder, names)
        tell_shape(self.folder, self.target.shape)
        self.told = self.now
        # From here on readers see it: who is told of an error would append it once more.
        try:
            renew_consolidated(LocalStore(root), self.key)
            for group in self.folder.parents:
                if group != root and root not in group.parents:
                    break
                sync_names(group, [str(group / name) for name in GROUP_METADATA])
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning(
                "%s is as long as it is to be, but not all of its store tells of it: %s",
                self.folder,
                error,
            )

    def keep_digests(self, root: Path) -> None:
        """Store the digests of what was written, with those that were there."""
        target = self.target
        if self.noted is None:
            if self.known is None or self.now > self.length:
                return
            # Nothing was appended: those that there were still hold.
            self.known.renew(self.folder, target.array, NotedDigests(), {}, grid=target.grid)
        elif self.made_at is not None:
            places = beside(root, [self.key])
            facts = facts_of(self.folder, self.key)
            rows, rims = target.rows(self.noted), target.rims(self.noted)
            place = places[self.key].to_dict()
            store(self.folder, table_of(target.array, facts, rows, rims, place=place))
            make_room(self.folder)
            introduce(root, places)
        elif self.known is not None:
            self.known.renew(self.folder, target.array, self.noted, {}, grid=target.grid)
        sync_names(self.folder, [str(self.folder / NAME)])

    def undo(self, root: Path) -> None:
        """Remove an array that was made, shrink one that was there."""
        with self.stack:
            if self.made_at is not None:
                shutil.rmtree(self.made_at)
                return
            if self.now > self.length:
                tell_shape(self.folder, self.with_length(self.length))
                for path in objects_of(self.array, self.folder, self.last_row):
                    if path in self.last:
                        write_whole(path, self.last[path])
                    else:
                        path.unlink(missing_ok=True)
                remove_beyond(self.array, self.folder)
                renew_consolidated(LocalStore(root), self.key)
            if self.known is not None and self.known.table is not None:
                store(self.folder, self.known.table)


_OLD = "old"
"""In a hidden folder: the array that another has taken the place of."""

_ANY_LENGTH = 2**62


class ZarrAppendBackend:
    """A store that grows."""

    format = "zarr"
    own_options: tuple[str, ...] = OF_ZARR

    def __init__(
        self,
        root: Path,
        stack: contextlib.ExitStack,
        *,
        is_new: bool,
        replaces: bool,
        keeps_old: bool,
    ) -> None:
        self._root = root
        self._stack = stack
        self._is_new = is_new
        self._replaces = replaces
        self._keeps_old = keeps_old
        self._version = (zarr_kind(root) or ("", 3))[1]
        self._arrays: list[ZarrArray] = []
        self._is_begun = False

    def create(self, asked: ArrayOptions) -> OpenedArray:
        """Make an array, or take up one that is there."""
        key = array_path(asked.key)
        folder = self._root / key
        check_array_writable(self._root, key)
        with contextlib.ExitStack() as stack, disk_errors(self._root):
            work = stack.enter_context(WorkDirectory(folder, folder=self._root))
            is_there = (zarr_kind(folder) or ("",))[0] == "array"
            if is_there and not self._replaces:
                check_place(self._root, key, self._version, replace=True)
                array = self._taken_up(asked, folder)
            else:
                array = self._made(asked, work, folder, is_there=is_there)
            array.stack = stack.pop_all()
        self._arrays.append(array)
        if self._is_begun:
            forget(folder)
        return array

    def last_element(self, key: str) -> npt.NDArray[Any] | None:
        """Return the last element of an array, ``None`` if it is not there."""
        folder = self._root / array_path(key)
        if self._replaces or (zarr_kind(folder) or ("",))[0] != "array":
            return None
        source = describe_array(zarr.open_array(folder, mode="r"))
        length = source.shape[0]
        return source.read(span(source.shape, 0, max(0, length - 1), length))

    def take_back(self) -> None:
        """Bring the array created last back to what it was."""
        self._arrays.pop().undo(self._root)

    def begin(self) -> None:
        """Remove digests of objects that will be others, before the first of them is."""
        self._is_begun = True
        with disk_errors(self._root):
            for array in self._arrays:
                forget(array.folder)

    def commit(self) -> None:
        """Have the arrays on the disk and visible as they are; readers are never in the way."""
        with disk_errors(self._root):
            for array in self._arrays:
                if array.now != array.told:
                    array.tell(self._root)

    def close(self) -> None:
        """Have all on the disk, and store digests."""
        with self._ended(), disk_errors(self._root):
            self.commit()
            for array in self._arrays:
                try:
                    array.keep_digests(self._root)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    # All that was appended is there, and is not to be appended again.
                    logger.warning(
                        "%s is complete without digests, so that verify cannot check it: %s",
                        array.folder,
                        error,
                    )

    def abandon(self) -> None:
        """Leave what was committed last."""
        with self._ended():
            pass

    def drop(self) -> None:
        """Bring the store back to what it was."""
        with self._ended(), disk_errors(self._root):
            while self._arrays:
                self.take_back()
            if self._is_new:
                shutil.rmtree(self._root)

    @contextlib.contextmanager
    def _ended(self) -> Any:
        """Let go of everything afterwards, come what may."""
        with self._stack:
            for array in self._arrays:
                self._stack.push(array.stack)
            yield

    def _made(
        self, asked: ArrayOptions, work: WorkDirectory, folder: Path, *, is_there: bool
    ) -> ZarrArray:
        settings = settings_for(asked, self._version)
        settings = replace(settings, memory_limit=asked.memory_limit)
        item = array_item(asked.key, asked.as_input(), settings)
        check_place(self._root, asked.key, self._version, replace=self._replaces)
        create_array(work.built, "", **item.to_create)
        sync_tree(work.built)
        made_at = self._make_room(work, asked.key, folder, is_there=is_there)
        work.built.rename(folder)
        if made_at != folder:
            sync_tree(made_at)
        sync_above(self._root, folder)
        array = zarr.open_array(folder, mode="r+")
        renew_consolidated(LocalStore(self._root), asked.key)
        return self._array(asked, folder, array, form=item.arranged.form, made_at=made_at)

    def _array(self, asked: ArrayOptions, folder: Path, array: Any, **others: Any) -> ZarrArray:
        axis = axis_within(asked.axis, array.ndim)
        noted = NotedDigests() if asked.digests else None
        target = ZarrTarget(
            array,
            keeps_empty=bool(array.config.write_empty_chunks),
            replaces=True,
            noted=noted,
            bounds=open_along(array.shape, axis),
        )
        target.written = []
        length = target.shape[axis] if asked.starts_at is None else asked.starts_at
        return ZarrArray(
            key=asked.key,
            folder=folder,
            array=array,
            target=target,
            noted=noted,
            axis=axis,
            length=length,
            told=target.shape[axis],
            **others,
        )

    def _make_room(self, work: WorkDirectory, key: str, folder: Path, *, is_there: bool) -> Path:
        """Make the groups on the way to an array, and return what is made at the outermost."""
        if is_there:
            # Whoever clears the hidden folder puts it back, unless there is another by then.
            folder.rename(work.path / _OLD)
            return folder
        parts = key.split("/")
        made_at = None
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if zarr_kind(self._root / above) is None:
                made_at = made_at or self._root / above
                version: Any = self._version
                zarr.create_group(LocalStore(self._root), path=above, zarr_format=version)
        return made_at or folder

    def _taken_up(self, asked: ArrayOptions, folder: Path) -> ZarrArray:
        array = zarr.open_array(folder, mode="r+")
        shape = tuple(map(int, array.shape))
        axis = axis_within(asked.axis, len(shape))
        dtype = None if asked.dtype is None else as_dtype(asked.dtype)
        if dtype is not None and not is_text(dtype) and array.metadata.zarr_format == 3:
            # There the order of bytes is the codec's, and none of the elements'.
            dtype = dtype.newbyteorder("=")
        settings = settings_for(asked, array.metadata.zarr_format, default="auto")
        settings = replace(settings, dtype=dtype)
        items = (*shape[:axis], *shape[axis + 1 :])
        # Chunks that are asked for may be longer than it is by now.
        open_shape = with_extent(shape, axis, _ANY_LENGTH)
        given = Input(shape=open_shape, dtype=dtype or array.dtype)
        name = f"array {folder}"
        sizes = (items, asked.items)
        fixed = ExistingZarrArray(handle=array, name=name, item_shapes=sizes)
        full = settings.completed(given)
        full.check()
        form = fixed.fitted(full, given, fixed.others_asked(settings))
        remove_beyond(array, folder)
        known = Known.of(folder, asked.key, array)
        opened = self._array(asked, folder, array, form=form, known=known)
        if opened.read_head(describe_array(array)) and self._keeps_old:
            paths = objects_of(array, folder, opened.last_row)
            opened.last = {path: path.read_bytes() for path in paths if path.exists()}
        return opened
