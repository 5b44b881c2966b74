"""A Zarr store in a local folder that grows: objects first, then metadata that tell of them."""

import contextlib
import logging
import shutil
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from lazyio.elements import is_text
from lazyio.inputs import Input
from lazyio.pushing.place import Opened, Wish, last_row
from lazyio.pushing.zarr_grown import GrownArray, target_of
from lazyio.pushing.zarr_objects import objects_in, remove_beyond
from lazyio.pushing.zarr_wishes import compressors_for
from lazyio.safety.sync import sync_above, sync_tree
from lazyio.safety.workdir import WorkDirectory
from lazyio.safety.zarr_digests import Known, forget
from lazyio.sources.zarr import describe_array, zarr_kind
from lazyio.spec import as_dtype
from lazyio.targets.disk import disk_errors
from lazyio.targets.zarr import create_array
from lazyio.writing.places import array_path, check_array_writable, check_place
from lazyio.writing.zarr_existing import fitted_to
from lazyio.writing.zarr_filling import settings_of
from lazyio.writing.zarr_settings import ZarrSettings, array_item
from lazyio.writing.zarr_stores import renew_consolidated

logger = logging.getLogger("lazyio")

_OLD = "old"
"""In a hidden folder: the array that another has taken the place of."""


_ANY_LENGTH = 2**62


class ZarrPlace:
    """A store that grows."""

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
        self._grown: list[GrownArray] = []
        self._is_begun = False

    def create(self, wish: Wish) -> Opened:
        """Make an array, or take up one that is there."""
        key = array_path(wish.key)
        folder = self._root / key
        check_array_writable(self._root, key)
        with contextlib.ExitStack() as stack, disk_errors(self._root):
            work = stack.enter_context(WorkDirectory(folder, folder=self._root))
            is_there = (zarr_kind(folder) or ("",))[0] == "array"
            if is_there and not self._replaces:
                check_place(self._root, key, self._version, replace=True)
                grown = self._taken_up(wish, folder)
            else:
                grown = self._made(wish, work, folder, is_there=is_there)
            grown.stack = stack.pop_all()
        self._grown.append(grown)
        if self._is_begun:
            forget(folder)
        return grown.opened

    def take_back(self) -> None:
        """Bring the array created last back to what it was."""
        self._grown.pop().undo(self._root)

    def begin(self) -> None:
        """Remove digests of objects that will be others, before the first of them is."""
        self._is_begun = True
        with disk_errors(self._root):
            for grown in self._grown:
                forget(grown.folder)

    def commit(self) -> None:
        """Have the arrays on the disk and visible as they are; readers are never in the way."""
        with disk_errors(self._root):
            for grown in self._grown:
                if grown.length != grown.told:
                    grown.tell(self._root)

    def close(self) -> None:
        """Have all on the disk, and store digests."""
        with self._ended(), disk_errors(self._root):
            self.commit()
            for grown in self._grown:
                try:
                    grown.keep_digests(self._root)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    # All that was appended is there, and is not to be appended again.
                    logger.warning(
                        "%s is complete without digests, so that verify cannot check it: %s",
                        grown.folder,
                        error,
                    )

    def abandon(self) -> None:
        """Leave what was committed last."""
        with self._ended():
            pass

    def drop(self) -> None:
        """Bring the store back to what it was."""
        with self._ended(), disk_errors(self._root):
            while self._grown:
                self.take_back()
            if self._is_new:
                shutil.rmtree(self._root)

    @contextlib.contextmanager
    def _ended(self) -> Any:
        """Let go of everything afterwards, come what may."""
        with self._stack:
            for grown in self._grown:
                self._stack.push(grown.stack)
            yield

    def _made(self, wish: Wish, work: WorkDirectory, folder: Path, *, is_there: bool) -> GrownArray:
        given = wish.as_input()
        axis = wish.axis_in(len(given.shape))
        settings = ZarrSettings(
            chunks=wish.chunks,
            compressors=compressors_for(wish, self._version),
            zarr_format=self._version,
            memory_limit=wish.memory_limit,
        )
        item = array_item(wish.key, given, settings)
        check_place(self._root, wish.key, self._version, replace=self._replaces)
        create_array(work.built, "", **settings_of(item))
        sync_tree(work.built)
        made_at = self._make_room(work, wish.key, folder, is_there=is_there)
        work.built.rename(folder)
        if made_at != folder:
            sync_tree(made_at)
        sync_above(self._root, folder)
        array = zarr.open_array(folder, mode="r+")
        target, noted = target_of(array, axis)
        opened = Opened(target=target, form=item.arranged.form, axis=axis, length=0)
        renew_consolidated(LocalStore(self._root), wish.key)
        return GrownArray(
            key=wish.key,
            folder=folder,
            array=array,
            target=target,
            noted=noted,
            opened=opened,
            stack=contextlib.ExitStack(),
            made_at=made_at,
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

    def _taken_up(self, wish: Wish, folder: Path) -> GrownArray:
        array = zarr.open_array(folder, mode="r+")
        shape = tuple(map(int, array.shape))
        axis = wish.axis_in(len(shape))
        dtype = None if wish.dtype is None else as_dtype(wish.dtype)
        if dtype is not None and not is_text(dtype) and array.metadata.zarr_format == 3:
            # There the order of bytes is the codec's, and none of the elements'.
            dtype = dtype.newbyteorder("=")
        settings = ZarrSettings(
            chunks=wish.chunks,
            compressors=compressors_for(wish, array.metadata.zarr_format, default="auto"),
            dtype=dtype,
            zarr_format=array.metadata.zarr_format,
        )
        items = (*shape[:axis], *shape[axis + 1 :])
        # Chunks that are asked for may be longer than it is by now.
        open_shape = (*shape[:axis], _ANY_LENGTH, *shape[axis + 1 :])
        given = Input(shape=open_shape, dtype=dtype or array.dtype)
        name = f"array {folder}"
        sizes = (items, wish.items)
        form = fitted_to(array, name, settings.completed(given), given, item_shapes=sizes)
        remove_beyond(array, folder)
        target, noted = target_of(array, axis)
        region = last_row(shape, axis, target.chunk_shape[axis])
        head, last = None, {}
        if region[axis].start < region[axis].stop:
            head = describe_array(array).read(region).astype(target.dtype, copy=False)
            if self._keeps_old:
                last = objects_in(array, folder, region, target.chunk_shape)
        opened = Opened(target=target, form=form, axis=axis, length=shape[axis], head=head)
        return GrownArray(
            key=wish.key,
            folder=folder,
            array=array,
            target=target,
            noted=noted,
            opened=opened,
            stack=contextlib.ExitStack(),
            known=Known.of(folder, wish.key, array),
            last=last,
            told=shape[axis],
        )
