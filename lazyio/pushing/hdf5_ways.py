"""How an HDF5 file changes while it grows: by a log of each change, or under SWMR."""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import h5py

from lazyio.codecs.encode import Payload
from lazyio.errors import OptionError, TargetLockedError
from lazyio.os_errors import errno_of
from lazyio.safety import superblock
from lazyio.safety.redo import PATIENCE
from lazyio.safety.sync import sync_file, sync_folder
from lazyio.safety.workdir import WorkDirectory
from lazyio.spec import Shape
from lazyio.targets.building import building
from lazyio.targets.disk import disk_errors, target_error
from lazyio.targets.hdf5 import Hdf5Target
from lazyio.targets.layout_engine import LayoutEngine

logger = logging.getLogger("lazyio")

Result = TypeVar("Result")
Put = Callable[[Shape, Payload, int], object]

FOLLOWED_LIBVER = ("v110", "v114")
"""SWMR needs the first, and other readers the second."""

_SWMR_VERSION = 3
_OFF = 0
"""Of the ways in which libhdf5 fits its cache of metadata to what is done."""


class Way(Protocol):
    """A file that is open for writing, and who may call h5py for it."""

    file: h5py.File
    reads_by_handle: bool
    """Whether the file cannot be opened once more in this process, to be read."""

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file."""

    def put_into(self, dataset: h5py.Dataset) -> Put | None:
        """Return what takes payloads of a dataset, ``None`` where libhdf5 does."""

    def check(self) -> None:
        """Raise what libhdf5 was not told of."""

    def begin(self) -> None:
        """Get ready for the first chunk; called once."""

    def commit(self, datasets: Iterable[h5py.Dataset]) -> None:
        """Have what was written on the disk, and readers see it.

        Raises
        ------
        TargetLockedError
            When some have the file open who must not see the change half made; it may be tried
            again later.
        """

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


class Logged:
    """A file that is at any time what it was at the last commit.

    Parameters
    ----------
    work : WorkDirectory
        Its hidden folder, which is locked.
    """

    def __init__(self, work: WorkDirectory) -> None:
        self._work = work
        self.reads_by_handle = False
        path = work.target
        self._folder = path.parent
        with disk_errors(self._folder), contextlib.ExitStack() as stack:
            stack.enter_context(work)
            in_place = work.in_place()
            stack.callback(in_place.close)
            self._engine = LayoutEngine(path, None, in_place=in_place)
            self.file = self._engine.file
            self._stack = stack.pop_all()

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, on the thread that may."""
        with disk_errors(self._folder):
            return self._engine.call(function)

    def put_into(self, dataset: h5py.Dataset) -> Put:
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
            try:
                self.call(lambda: change(self.file))
            except BaseException:
                self._engine.abandon()
                raise
            with disk_errors(self._folder):
                self._engine.close(patience=PATIENCE, may_be_later=True)
            self._work.has_name()

    def abandon(self) -> None:
        """Close the file as it was committed last."""
        with self._stack:
            self._engine.abandon()


class Followed:
    """A file that other processes follow while it grows.

    Parameters
    ----------
    work : WorkDirectory
        Its hidden folder, which is locked.
    """

    def __init__(self, work: WorkDirectory) -> None:
        path = work.target
        self._work = work
        self._path = path
        self._folder = path.parent
        self._is_begun = False
        self.reads_by_handle = False
        with disk_errors(self._folder), contextlib.ExitStack() as stack:
            stack.enter_context(work)
            if superblock.version_of(path) != _SWMR_VERSION:
                msg = (
                    f"swmr=True: {path} is of a format that SWMR does not know; copy it with "
                    "h5repack --low=3 --high=4, write a new file, or leave swmr out"
                )
                raise OptionError(msg)
            work.unshare()
            superblock.note_followed(work.path, path)
            # libhdf5 locks the file itself, until readers are let in.
            work.unlock_file()
            self.file = self._opened()
            self._stack = stack.pop_all()

    def _opened(self) -> h5py.File:
        try:
            return h5py.File(self._path, "r+", libver=FOLLOWED_LIBVER)
        except BlockingIOError:
            # Followers of the writer before us, who expect another; its lock keeps out only them.
            self.reads_by_handle = True
            return h5py.File(self._path, "r+", libver=FOLLOWED_LIBVER, locking=False)

    def _opened_alone(self) -> h5py.File:
        """Open the file once more under our own lock, which no follower shares.

        Raises
        ------
        TargetLockedError
            When it cannot be, such as when a follower in this process has it open.
        """
        try:
            return h5py.File(self._path, "r+", libver=FOLLOWED_LIBVER, locking=False)
        except OSError as error:
            raise TargetLockedError(errno.EAGAIN, str(error)) from error

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file."""
        with disk_errors(self._folder):
            return function()

    def put_into(self, _dataset: h5py.Dataset) -> None:
        """Return nothing: libhdf5 writes payloads itself, in the order that readers need."""

    def check(self) -> None:
        """Do nothing: libhdf5 raises what goes wrong."""

    def begin(self) -> None:
        """Let readers in.

        Raises
        ------
        OptionError
            When something in the file is of a format that they cannot follow.
        """
        # Extents must not be written before the chunks within them, for want of room.
        cache = self.file.id.get_mdc_config()
        cache.evictions_enabled = False
        cache.incr_mode = cache.decr_mode = cache.flash_incr_mode = _OFF
        try:
            self.file.id.set_mdc_config(cache)
            self.file.flush()
            self.file.swmr_mode = True
        except (OSError, RuntimeError, ValueError) as error:
            if errno_of(error) is not None:
                raise target_error(error, self._folder) from error
            msg = f"swmr=True: {self._path} cannot be followed: {error}; leave swmr out"
            raise OptionError(msg) from error
        self._is_begun = True

    def commit(self, datasets: Iterable[h5py.Dataset]) -> None:
        """Have what was written on the disk, and readers see it; none is in the way."""
        with disk_errors(self._folder):
            for dataset in datasets:
                dataset.flush()
            sync_file(self._path)

    def close(self, change: Callable[[h5py.File], object]) -> None:
        """Make a last change, which readers do not follow, and close the file."""
        with self._stack, disk_errors(self._folder):
            self.file.close()
            sync_file(self._path)
            try:
                self._work.lock_file()
                with self._work.alone(), self._opened_alone() as file:
                    change(file)
            except TargetLockedError as error:
                # Followers would read what is changed outside of SWMR's rules.
                logger.warning(
                    "%s is closed without digests, so that verify cannot check it: %s",
                    self._path,
                    error,
                )
            sync_file(self._path)

    def abandon(self) -> None:
        """Close the file; what libhdf5 has written by then is there."""
        with self._stack, contextlib.suppress(OSError, RuntimeError, ValueError):
            self.file.close()


def prepared(way: Way, dataset: h5py.Dataset, chunk_shape: Shape, **options: Any) -> Hdf5Target:
    """Return a target for the chunks of a dataset that is written in some way."""
    target = Hdf5Target(dataset, chunk_shape, put=way.put_into(dataset), rewrites=True, **options)
    target.check = way.check
    return target
