"""An HDF5 file that is written: the ways to open it, and who may call h5py."""

import contextlib
import errno
import functools
import io
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from lazyio.atomic.descriptors import opened, write_at
from lazyio.atomic.fsync import write_whole
from lazyio.atomic.in_place import InPlaceFile
from lazyio.atomic.journal import Record
from lazyio.atomic.log import PATIENCE
from lazyio.atomic.workdir import COPIED_NBYTES, WorkDirectory
from lazyio.errors import LazyioError, OptionError, ResumeError, TargetError
from lazyio.os_errors import errno_of
from lazyio.sources.libhdf5 import bound_metadata
from lazyio.storage.disk_errors import disk_errors, target_error
from lazyio.storage.hdf5.dataset import Hdf5Target, check_libver
from lazyio.storage.hdf5.deferred_metadata import CACHE_NBYTES, DeferredMetadata, EngineError
from lazyio.storage.hdf5.file_form import FileForm
from lazyio.storage.hdf5.payloads import InPlacePayloads, SpooledPayloads

logger = logging.getLogger("lazyio")

if sys.platform == "linux":
    import fcntl

_FICLONE = 0x40049409

Result = TypeVar("Result")

Filled = tuple[Hdf5Target, h5py.Dataset]
"""A target, and the dataset that it fills."""

OVERWRITTEN = "overwritten.json"
"""In a hidden folder: the ranges of a copy that hold metadata of the new file, or are about to."""

PAYLOADS = "payloads"
"""In a hidden folder: what waits to be put into the file at the end."""


@dataclass(frozen=True)
class OpenMode:
    """An HDF5 file that is open to be written: who may call h5py, and where payloads go.

    All goes with deferred metadata where libhdf5 does what that relies on, and else by h5py.
    """

    file: h5py.File
    folder: Path
    """In which its hidden folder lies."""
    engine: DeferredMetadata | None
    spool: SpooledPayloads | None
    """Takes payloads that the engine cannot place, of a job that can be resumed."""

    @property
    def is_resumable(self) -> bool:
        """Whether payloads are noted in a journal."""
        return self.spool is not None

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, on the thread that may."""
        if self.engine is None:
            return function()
        with disk_errors(self.folder):
            return self.engine.call(function)

    def prepare(self, target: Hdf5Target, dataset: h5py.Dataset) -> None:
        """Tell a target where its payloads go, and how to find out what has gone wrong."""
        if self.spool is not None and (self.engine is None or not target.encodes):
            target.payloads = self.spool
        elif self.engine is not None:
            if self.spool is not None:
                target.payloads = InPlacePayloads(self.engine, dataset)
            target.place_by(self.engine)

    def replay(self, records: Sequence[Record], targets: Sequence[Filled]) -> None:
        """Give chunks the places that they had, in the same order."""
        if self.spool is not None:
            self.spool.places = {}
        if self.engine is not None:
            engine = self.engine
            engine.settle()
            engine.call(lambda: _replay(engine, records, targets))


def _replay(engine: DeferredMetadata, records: Sequence[Record], targets: Sequence[Filled]) -> None:
    for record in records:
        target, dataset = targets[record.array]
        if not target.encodes:
            continue
        corner = target.corner_of(record.chunk)
        found = engine.reserve(dataset, corner, record.nbytes, record.mask, lambda _: None)
        if found != record.offset:
            msg = (
                "libhdf5 gives chunks other places than before, so that the interrupted job "
                "cannot be resumed; remove it with: lazyio clean"
            )
            raise ResumeError(msg)


@contextlib.contextmanager
def building(
    path: Path, libver: Any, *, nbytes: int = 0, form: FileForm | None = None
) -> Iterator[OpenMode]:
    """Open a hidden file, and close it whatever happens."""
    with _opened(path, libver, path.parent.parent, nbytes=nbytes, form=form) as mode:
        yield mode


@contextlib.contextmanager
def resumable(
    path: Path, libver: Any, *, old: Path | None, form: FileForm | None = None
) -> Iterator[OpenMode]:
    """Open a hidden file on which a job can be resumed."""
    folder, noted = path.parent.parent, path.parent / OVERWRITTEN

    def note(ranges: list[tuple[int, int]]) -> None:
        write_whole(noted, json.dumps(ranges).encode())

    how: dict[str, Any] = {}
    if old is not None:
        how = {"nbytes": old.stat().st_size, "on_overwrite": note}
    with contextlib.closing(SpooledPayloads(path.parent / PAYLOADS)) as spool:
        with disk_errors(folder):
            if old is not None and path.exists():
                _restore(path, old, noted)
            if not engine_works():
                path.unlink(missing_ok=True)
                if old is not None:
                    shutil.copyfile(old, path)
        with _opened(path, libver, folder, spool=spool, form=form, **how) as mode:
            yield mode


def _restore(copy: Path, old: Path, noted: Path) -> None:
    """Take back what a run that was killed before the end had written over a copy's old bytes.

    Places are given anew by the file as it was; payloads that lie there stay.
    """
    if not noted.exists():
        return
    with opened(old) as source, opened(copy, os.O_RDWR) as target:
        nbytes = os.fstat(source).st_size
        for at, length in json.loads(noted.read_bytes()):
            write_at(target, memoryview(os.pread(source, min(length, nbytes - at), at)), at)


@contextlib.contextmanager
def in_place(work: WorkDirectory) -> Iterator[OpenMode]:
    """Open a file that is changed in place: all of the change is made, or nothing.

    The change is made when the context is left without an error.
    """
    folder = work.target.parent
    with contextlib.closing(SpooledPayloads(work.path / PAYLOADS)) as spool:
        with disk_errors(folder):
            changed = work.in_place()
        how: dict[str, Any] = {"patience": PATIENCE, "in_place": changed}
        with contextlib.closing(changed), _opened(work.target, None, folder, spool, **how) as mode:
            yield mode


@contextlib.contextmanager
def _opened(
    path: Path,
    libver: Any,
    folder: Path,
    spool: SpooledPayloads | None = None,
    *,
    patience: float = 0.0,
    in_place: InPlaceFile | None = None,
    form: FileForm | None = None,
    **how: Any,
) -> Iterator[OpenMode]:
    """Open a file with deferred metadata, if that works; after an error nothing more is written.

    libhdf5 writes through a file object, which keeps errors of the disk from
    it: it would end the process on some of them (h5py#1120).
    """
    if in_place is None and not engine_works():
        with _plain(path, libver, folder, form) as file:
            yield OpenMode(file, folder, None, spool)
        return
    with _opening_errors(folder, libver):
        engine = DeferredMetadata(path, libver, in_place=in_place, form=form, **how)
    try:
        yield OpenMode(engine.file, folder, engine, spool)
        with disk_errors(folder):
            engine.close(patience=patience)
    except BaseException:
        engine.abandon()
        raise


@contextlib.contextmanager
def _plain(path: Path, libver: Any, folder: Path, form: FileForm | None) -> Iterator[h5py.File]:
    """Open a file that nobody else knows by h5py's own driver, and close it whatever happens."""
    with _opening_errors(folder, libver):
        # The lock of a file that only we know keeps nobody out, and would stay with the
        # processes of a pool that were forked meanwhile, after the file is published.
        if form is not None:
            file = form.create(str(path), cache_nbytes=CACHE_NBYTES)
        else:
            file = h5py.File(path, "a", libver=libver, locking=False, track_order=True)
        bound_metadata(file)
    try:
        yield file
    except BaseException:
        # A full disk fails the close as well; the file is removed anyway.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            file.close()
        raise
    with disk_errors(folder):
        file.close()


@contextlib.contextmanager
def _opening_errors(folder: Path, libver: Any) -> Iterator[None]:
    """Say what is wrong where libhdf5 cannot open or create a file."""
    check_libver(libver)
    try:
        yield
    except LazyioError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        msg = f"libver={libver!r} is not a pair of HDF5 versions: {error}"
        raise OptionError(msg) from error
    except (OSError, RuntimeError) as error:
        if errno_of(error) is not None:
            raise target_error(error, folder) from error
        msg = f"the existing file cannot be opened as HDF5: {error}; pass mode='w' to replace it"
        raise TargetError(errno.EINVAL, msg) from error


def is_added_in_place(path: Path, copy: Path, *, is_read: bool) -> bool:
    """Return whether a file is too large to be copied; makes the copy where that costs nothing.

    One that is read while it is written is always copied: to its readers it
    has to stay as it is.
    """
    with disk_errors(path.parent):
        facts = path.stat()
        # A file with another name is a snapshot under that name, and stays as it is.
        is_copied = facts.st_size <= COPIED_NBYTES or facts.st_nlink > 1
        if is_copied or not engine_works():
            shutil.copyfile(path, copy)
            return False
        if _cloned(path, copy):
            return False
        if is_read:
            shutil.copyfile(path, copy)
        return not is_read


def _cloned(path: Path, copy: Path) -> bool:
    """Make a copy that shares its blocks with the original, where the file system can."""
    if sys.platform != "linux":
        return False
    try:
        with path.open("rb") as source, copy.open("wb") as target:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        copy.unlink(missing_ok=True)
        return False
    return True


@functools.cache
def engine_works() -> bool:
    """Return whether libhdf5 does what deferred metadata relies on, tried once a process."""
    with _short_lived_file() as path:
        try:
            works, reason = _is_read_back(path), "it read back other values"
        except (EngineError, OSError, RuntimeError, ValueError, TypeError) as error:
            if errno_of(error) is not None:
                raise
            works, reason = False, str(error)
    if not works:
        logger.warning(
            "deferred metadata is off: payloads of jobs with resume=True are written twice, and "
            "libhdf5 may end the process when a disk is full: %s",
            reason,
        )
    return works


def _is_read_back(path: Path) -> bool:
    """Write a small file with deferred metadata, and return whether h5py reads what it should."""
    values = np.arange(100, dtype="i4")
    engine = DeferredMetadata(path, None)
    try:
        dataset = engine.call(lambda: engine.file.create_dataset("x", (100,), "i4", chunks=(50,)))
        engine.settle()
        for at in (50, 0):
            payload = values[at : at + 50].tobytes()
            engine.reserve(dataset, (at,), 200, 0, functools.partial(engine.write, payload))
        engine.close()
    except BaseException:
        engine.abandon()
        raise
    with h5py.File(io.BytesIO(path.read_bytes()), "r") as file:
        return bool((file["x"][...] == values).all())


@contextlib.contextmanager
def _short_lived_file() -> Iterator[Path]:
    """Yield the path of an empty file, in memory where the system can."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("lazyio")
        try:
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory(prefix="lazyio-") as folder:
            yield Path(folder, "x.h5")
