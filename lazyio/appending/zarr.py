"""A Zarr store in a local folder that grows: objects first, then the metadata that tell of them."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore

from lazyio.appending.backend import ArrayOptions, OpenedArray, last_row
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
from lazyio.dtypes import Shape, as_dtype, is_integer, is_text
from lazyio.errors import OptionError
from lazyio.inputs import Input
from lazyio.os_errors import walk
from lazyio.regions import Region, grid_shape, open_along, touched
from lazyio.sources.zarr import describe_array
from lazyio.sources.zarr_metadata import zarr_kind
from lazyio.sources.zarr_objects import index_named
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.zarr.array import PARTIAL, ZarrTarget, create_array
from lazyio.writing.target_checks import array_path, check_array_writable, check_place
from lazyio.writing.zarr_new import renew_consolidated, settings_of
from lazyio.writing.zarr_region import fitted_to
from lazyio.writing.zarr_request import ZarrSettings, array_item

_METADATA = ("zarr.json", ".zarray")

GROUP_METADATA = ("zarr.json", ".zmetadata")
"""Files of a group that may hold what its arrays are as well, consolidated."""


def tell_shape(folder: Path, shape: Shape) -> None:
    """Have readers see other extents of an array, from one moment to the next, and keep them."""
    path = next(folder / name for name in _METADATA if (folder / name).exists())
    held = json.loads(path.read_bytes())
    held["shape"] = list(shape)
    write_whole(path, json.dumps(held, indent=2).encode())
    sync_folder(folder)


def objects_in(array: Any, folder: Path, region: Region, chunk_shape: Shape) -> dict[Path, bytes]:
    """Return the objects of a part of an array as they are stored; not those that are not."""
    paths = _paths_in(array, folder, region, chunk_shape)
    return {path: path.read_bytes() for path in paths if path.exists()}


def bring_back(
    array: Any, folder: Path, region: Region, chunk_shape: Shape, old: Mapping[Path, bytes]
) -> None:
    """Put the objects of a part of an array back; those that there were not are removed."""
    for path in _paths_in(array, folder, region, chunk_shape):
        if path in old:
            write_whole(path, old[path])
        else:
            path.unlink(missing_ok=True)


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


def _paths_in(array: Any, folder: Path, region: Region, chunk_shape: Shape) -> Iterator[Path]:
    for index, _, _ in touched(region, chunk_shape):
        yield folder / array.metadata.encode_chunk_key(index)


_LEVELS = {"gzip": 4, "zstd": 3, "blosc": 5}
"""Codecs that have a name in both formats, with the level that they have by default."""


def compressors_for(wish: ArrayOptions, zarr_format: int, *, default: Any = None) -> Any:
    """Return the compressors of an array."""
    codec, level, shuffle = wish.compression, wish.compression_opts, wish.shuffle
    if not isinstance(codec, str) or codec == "auto":
        if level is not None or shuffle is not None:
            what = "compression_opts" if level is not None else "shuffle"
            msg = f"{what} goes with compression= gzip, zstd or blosc; give it to the codec itself"
            raise OptionError(msg)
        return default if codec is None else codec
    if codec not in _LEVELS:
        msg = (
            f"compression={codec!r} is none that Zarr has by that name; give one of "
            f"{', '.join(_LEVELS)}, or a codec of zarr.codecs"
        )
        raise OptionError(msg)
    if shuffle and codec != "blosc":
        msg = f"shuffle=True: {codec} of Zarr has no shuffle; leave it out, or give 'blosc'"
        raise OptionError(msg)
    if level is not None and not is_integer(level):
        msg = f"compression_opts={level!r} is no level; give an integer"
        raise OptionError(msg)
    level = _LEVELS[codec] if level is None else int(level)
    return _made(codec, level, shuffle=shuffle is not False, zarr_format=zarr_format)


def _made(codec: str, level: int, *, shuffle: bool, zarr_format: int) -> Any:
    if codec == "gzip":
        return numcodecs.GZip(level) if zarr_format == 2 else GzipCodec(level=level)
    if codec == "zstd":
        return numcodecs.Zstd(level) if zarr_format == 2 else ZstdCodec(level=level)
    if zarr_format == 2:
        kind = numcodecs.Blosc.SHUFFLE if shuffle else numcodecs.Blosc.NOSHUFFLE
        return numcodecs.Blosc(cname="zstd", clevel=level, shuffle=kind)
    return BloscCodec(cname="zstd", clevel=level, shuffle="shuffle" if shuffle else "noshuffle")


logger = logging.getLogger("lazyio")


@dataclass(kw_only=True)
class ArrayAppendState:
    """An array of the writer, and what it was before."""

    key: str
    folder: Path
    array: Any
    target: ZarrTarget
    noted: NotedDigests
    opened: OpenedArray
    stack: contextlib.ExitStack
    made_at: Path | None = None
    """What was made for it, itself or the outermost group; ``None`` if it was there."""
    known: Known | None = None
    last: dict[Path, bytes] = field(default_factory=dict)
    """Objects of the last row of chunks, where they may have to be put back."""
    told: int = 0
    """Length that readers see."""

    @property
    def length(self) -> int:
        """Elements that it has by now."""
        return self.target.shape[self.opened.axis]

    def tell(self, root: Path) -> None:
        """Tell readers of the elements that there are, once they are on the disk."""
        names, self.target.written = self.target.written or [], []
        sync_names(self.folder, names)
        tell_shape(self.folder, self.target.shape)
        self.told = self.length
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
        if self.made_at is not None:
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
            opened = self.opened
            shape = opened.with_length(opened.length)
            tell_shape(self.folder, shape)
            region = last_row(shape, opened.axis, opened.unit)
            bring_back(self.array, self.folder, region, opened.target.chunk_shape, self.last)
            remove_beyond(self.array, self.folder)
            renew_consolidated(LocalStore(root), self.key)
            if self.known is not None and self.known.table is not None:
                store(self.folder, self.known.table)


def target_of(array: Any, axis: int) -> tuple[ZarrTarget, NotedDigests]:
    """Return what takes the objects of an array, and what takes their digests."""
    noted = NotedDigests()
    target = ZarrTarget(
        array,
        keeps_empty=bool(array.config.write_empty_chunks),
        replaces=True,
        noted=noted,
        bounds=open_along(array.shape, axis),
    )
    target.written = []
    return target, noted


_OLD = "old"
"""In a hidden folder: the array that another has taken the place of."""


_ANY_LENGTH = 2**62


class ZarrAppendBackend:
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
        self._grown: list[ArrayAppendState] = []
        self._is_begun = False

    def create(self, wish: ArrayOptions) -> OpenedArray:
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

    def _made(
        self, wish: ArrayOptions, work: WorkDirectory, folder: Path, *, is_there: bool
    ) -> ArrayAppendState:
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
        opened = OpenedArray(target=target, form=item.arranged.form, axis=axis, length=0)
        renew_consolidated(LocalStore(self._root), wish.key)
        return ArrayAppendState(
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

    def _taken_up(self, wish: ArrayOptions, folder: Path) -> ArrayAppendState:
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
        opened = OpenedArray(target=target, form=form, axis=axis, length=shape[axis], head=head)
        return ArrayAppendState(
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
