"""How an HDF5 file changes while it grows: by a log of each change, or under SWMR."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import h5py

from lazyio.atomic import hdf5_superblock as superblock
from lazyio.atomic.fsync import sync_file, sync_folder
from lazyio.atomic.log import PATIENCE
from lazyio.atomic.workdir import WorkDirectory
from lazyio.codecs.hdf5_chunks import Payload
from lazyio.dtypes import Shape
from lazyio.errors import OptionError, TargetError, TargetLockedError
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.hdf5.dataset import Hdf5Target
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata
from lazyio.storage.hdf5.file import building

logger = logging.getLogger("lazyio")

Result = TypeVar("Result")
Put = Callable[[Shape, Payload, int], object]

FOLLOWED_LIBVER = ("v110", "v114")
"""SWMR needs the first, and other readers the second."""

_SWMR_VERSION = 3
_OFF = 0
"""Of the ways in which libhdf5 fits its cache of metadata to what is done."""


class CommitStrategy(Protocol):
    """A file that is open for writing, and who may call h5py for it."""

    file: h5py.File

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file."""

    def put_into(self, dataset: h5py.Dataset) -> Put | None:
        """Return what takes payloads of a dataset, ``None`` where libhdf5 does."""

    def check(self) -> None:
        """Raise what libhdf5 was not told of."""

    def begin(self) -> None:
        """Get ready for the first chunk; called once."""

    def commit(self, datasets: Iterable[h5py.Dataset]) -> None:
        """Have what was written on the disk, and readers see it."""

    def close(self, change: Callable[[h5py.File], object]) -> None:
        """Make a last change, and close the file."""

    def abandon(self) -> None:
        """Close the file as it was committed last."""


def make_file(work: WorkDirectory, libver: Any, *, keeps_old: bool) -> None:
    """Give a new and empty file its name; what has it goes aside, or is replaced."""
    target = work.target
    with disk_errors(target.parent):
        with building(work.built, libver):
            pass
        sync_file(work.built)
        if keeps_old and target.exists():
            # Whoever clears the hidden folder puts it back, unless there is another by then.
            os.link(target, work.path / "old")
        os.replace(work.built, target)
        sync_folder(target.parent)
        # The lock was on the file that had the name before.
        work.lock_file()


class LoggedFile:
    """A file that is at any time what it was at the last commit."""

    def __init__(self, work: WorkDirectory, libver: Any = None, version: int | None = None) -> None:
        self._work = work
        self._path = work.target
        self._folder = self._path.parent
        with disk_errors(self._folder), contextlib.ExitStack() as stack:
            stack.enter_context(work)
            if version is not None:
                _refuse_other_version(self._path, version)
            self._engine = _engine(work, stack, libver)
            self.file = self._engine.file
            self._stack = stack.pop_all()

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, on the thread that may."""
        with disk_errors(self._folder):
            return self._engine.call(function)

    def put_into(self, dataset: h5py.Dataset) -> Put | None:
        """Return what writes payloads of a dataset to their places."""
        return self._engine.putter(dataset)

    def check(self) -> None:
        """Raise what libhdf5 was not told of."""
        self._engine.check()

    def begin(self) -> None:
        """Do nothing."""

    def commit(self, _datasets: Iterable[h5py.Dataset]) -> None:
        """Bring the file to where it stands now, if no reader looks."""
        with disk_errors(self._folder):
            self._engine.commit()

    def close(self, change: Callable[[h5py.File], object]) -> None:
        """Make a last change, and close the file."""
        with self._stack:
            self._change(self._engine, change, patience=PATIENCE, may_be_later=True)
            self._work.has_name()

    def _change(
        self, engine: DeferredMetadata, change: Callable[[h5py.File], object], **how: Any
    ) -> None:
        """Change the file and close it, or leave it as it was."""
        with disk_errors(self._folder):
            try:
                engine.call(lambda: change(engine.file))
            except BaseException:
                engine.abandon()
                raise
            engine.close(**how)

    def abandon(self) -> None:
        """Close the file as it was committed last."""
        with self._stack:
            self._engine.abandon()


class SwmrFile(LoggedFile):
    """A file that other processes follow while it grows.

    What is created goes through the log, like any change. From then on libhdf5 writes each part
    at once, in the order that followers rely on; should the disk fail, nothing goes behind
    what is there, and the file is as if the writer had been killed.
    """

    def __init__(self, work: WorkDirectory) -> None:
        super().__init__(work, FOLLOWED_LIBVER, _SWMR_VERSION)

    def put_into(self, _dataset: h5py.Dataset) -> None:
        """Return nothing: libhdf5 writes payloads itself, in the order that readers need."""

    def begin(self) -> None:
        """Let readers in."""
        with disk_errors(self._folder):
            # Followers of the writer before us expect another; what they look at stays valid.
            # A reader without SWMR cannot be told from them, and may see a part of the change.
            self._engine.commit(is_followed=True)
            superblock.note_followed(self._work.path, self._path)
            self._engine.follow()
        try:
            self.call(self._let_in)
        except TargetError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            msg = f"swmr=True: {self._path} cannot be followed: {error}; leave swmr out"
            raise OptionError(msg) from error

    def _let_in(self) -> None:
        # Extents must not be written before the chunks within them, for want of room.
        cache = self.file.id.get_mdc_config()
        cache.evictions_enabled = False
        cache.incr_mode = cache.decr_mode = cache.flash_incr_mode = _OFF
        self.file.id.set_mdc_config(cache)
        self.file.flush()
        self.file.swmr_mode = True

    def commit(self, datasets: Iterable[h5py.Dataset]) -> None:
        """Have what was written on the disk, and readers see it; none is in the way."""
        for dataset in datasets:
            self.call(dataset.flush)
        with disk_errors(self._folder):
            sync_file(self._path)

    def close(self, change: Callable[[h5py.File], object]) -> None:
        """Make a last change, which readers do not follow, and close the file."""
        with self._stack as stack, disk_errors(self._folder):
            self._engine.close()
            sync_file(self._path)
            try:
                self._change(_engine(self._work, stack, FOLLOWED_LIBVER), change)
            except TargetLockedError as error:
                # Followers would read what is changed outside of SWMR's rules.
                logger.warning(
                    "%s is closed without digests, so that verify cannot check it: %s",
                    self._path,
                    error,
                )


def _engine(work: WorkDirectory, stack: contextlib.ExitStack, libver: Any) -> DeferredMetadata:
    """Return the target of a hidden folder, to be changed by a log."""
    in_place = work.in_place()
    stack.callback(in_place.close)
    return DeferredMetadata(work.target, libver, in_place=in_place)


def _refuse_other_version(path: Path, version: int) -> None:
    if superblock.version_of(path) != version:
        msg = (
            f"swmr=True: {path} is of a format that SWMR does not know; copy it with h5repack "
            "--low=2 --high=2, write a new file, or leave swmr out"
        )
        raise OptionError(msg)


def prepared(
    way: CommitStrategy, dataset: h5py.Dataset, chunk_shape: Shape, **options: Any
) -> Hdf5Target:
    """Return a target for the chunks of a dataset that is written in some way."""
    target = Hdf5Target(dataset, chunk_shape, put=way.put_into(dataset), rewrites=True, **options)
    target.check = way.check
    return target
