"""How an HDF5 file changes while it grows: by a log of each change, or under SWMR."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import h5py

from lazyio.atomic import hdf5_superblock as superblock
from lazyio.atomic.fsync import sync_file, sync_folder
from lazyio.atomic.log import PATIENCE
from lazyio.atomic.workdir import WorkDirectory
from lazyio.codecs.hdf5_chunks import Payload
from lazyio.dtypes import Shape
from lazyio.errors import OptionError, TargetError, TargetLockedError
from lazyio.storage.disk_errors import disk_errors
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
    """A file that is open for writing, and at any time what it was at the last commit."""

    is_followed = False
    """Whether readers follow by SWMR."""
    _libver: Any = None

    def __init__(self, work: WorkDirectory, stack: contextlib.ExitStack) -> None:
        self._work = work
        self.path = work.target
        self._folder = self.path.parent
        with disk_errors(self._folder):
            self._engine = self._opened(stack)
        self.file = self._engine.file
        self._stack = stack.pop_all()

    def _opened(self, stack: contextlib.ExitStack) -> DeferredMetadata:
        """Return the target of the hidden folder, to be changed by a log."""
        in_place = self._work.in_place()
        stack.callback(in_place.close)
        return DeferredMetadata(self.path, self._libver, in_place=in_place)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, on the thread that may."""
        with disk_errors(self._folder):
            return self._engine.call(function)

    def put_into(self, dataset: h5py.Dataset) -> Put | None:
        """Return what writes payloads of a dataset to their places; ``None`` if libhdf5 does."""
        return self._engine.putter(dataset)

    def check(self) -> None:
        """Raise what libhdf5 was not told of."""
        self._engine.check()

    def begin(self) -> None:
        """Get ready for the first chunk; called once."""

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

    is_followed = True
    _libver = FOLLOWED_LIBVER

    def __init__(self, work: WorkDirectory, stack: contextlib.ExitStack) -> None:
        with disk_errors(work.target.parent):
            version = superblock.version_of(work.target)
        if version != _SWMR_VERSION:
            msg = (
                f"swmr=True: {work.target} is of a format that SWMR does not know; copy it with "
                "h5repack --low=2 --high=2, write a new file, or leave swmr out"
            )
            raise OptionError(msg)
        super().__init__(work, stack)

    def put_into(self, _dataset: h5py.Dataset) -> None:
        """Return nothing: libhdf5 writes payloads itself, in the order that readers need."""

    def begin(self) -> None:
        """Let readers in."""
        with disk_errors(self._folder):
            # Followers of the writer before us expect another; what they look at stays valid.
            # A reader without SWMR cannot be told from them, and may see a part of the change.
            self._engine.commit(is_followed=True)
            superblock.note_followed(self._work.path, self.path)
            self._engine.follow()
        try:
            self.call(self._let_in)
        except TargetError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            msg = f"swmr=True: {self.path} cannot be followed: {error}; leave swmr out"
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
            sync_file(self.path)

    def close(self, change: Callable[[h5py.File], object]) -> None:
        """Make a last change, which readers do not follow, and close the file."""
        with self._stack as stack, disk_errors(self._folder):
            self._engine.close()
            sync_file(self.path)
            try:
                self._change(self._opened(stack), change)
            except TargetLockedError as error:
                # Followers would read what is changed outside of SWMR's rules.
                logger.warning(
                    "%s is closed without digests, so that verify cannot check it: %s",
                    self.path,
                    error,
                )
