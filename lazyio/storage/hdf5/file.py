"""An HDF5 file that is written: the ways to open it, and who may call h5py."""

import contextlib
import functools
import io
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from lazyio.atomic.fsync import write_whole
from lazyio.atomic.journal import Record
from lazyio.atomic.log import PATIENCE, write_at
from lazyio.atomic.workdir import COPIED_NBYTES, WorkDirectory
from lazyio.errors import ResumeError
from lazyio.os_errors import errno_of
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.hdf5.dataset import Hdf5Target, hidden_file, opening_errors
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata, EngineError
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


class OpenMode:
    """A file that is being built; a job on it cannot be resumed."""

    is_resumable = False
    """Whether payloads are noted in a journal."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file."""
        return function()

    def prepare(self, target: Hdf5Target, dataset: h5py.Dataset) -> None:
        """Tell a target where its payloads go."""

    def replay(self, records: Sequence[Record], targets: Sequence[Filled]) -> None:
        """Give chunks the places that they had, in the same order."""


class DirectMode(OpenMode):
    """A file whose payloads go to their places at once, and whose metadata pass through."""

    def __init__(self, engine: DeferredMetadata, folder: Path) -> None:
        super().__init__(engine.file)
        self._engine = engine
        self._folder = folder

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, on the thread that may."""
        with disk_errors(self._folder):
            return self._engine.call(function)

    def prepare(self, target: Hdf5Target, dataset: h5py.Dataset) -> None:
        """Tell a target where its payloads go, and how to find out what has gone wrong."""
        target.check = self._engine.check
        target.put_by(self._engine.putter(dataset))


class ResumableMode(OpenMode):
    """A file on which a job can be resumed."""

    is_resumable = True

    def __init__(
        self, file: h5py.File, spool: SpooledPayloads, engine: DeferredMetadata | None, folder: Path
    ) -> None:
        super().__init__(file)
        self._folder = folder
        self._spool = spool
        self._engine = engine

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, on the thread that may."""
        if self._engine is None:
            return function()
        with disk_errors(self._folder):
            return self._engine.call(function)

    def prepare(self, target: Hdf5Target, dataset: h5py.Dataset) -> None:
        """Tell a target where its payloads go."""
        if self._engine is None or not target.encodes:
            target.payloads = self._spool
        else:
            target.payloads = InPlacePayloads(self._engine, dataset)

    def replay(self, records: Sequence[Record], targets: Sequence[Filled]) -> None:
        """Give chunks the places that they had, in the same order."""
        self._spool.places = {}
        if self._engine is None:
            return
        engine = self._engine
        engine.settle()
        engine.call(lambda: self._replay(engine, records, targets))

    def _replay(
        self, engine: DeferredMetadata, records: Sequence[Record], targets: Sequence[Filled]
    ) -> None:
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
def building(path: Path, libver: Any, *, nbytes: int = 0) -> Iterator[OpenMode]:
    """Open a hidden file, and close it whatever happens.

    libhdf5 writes through a file object, which keeps errors of the disk from
    it: it would end the process on some of them (h5py#1120).
    """
    folder = path.parent.parent
    if not engine_works():
        with hidden_file(path, libver) as file:
            yield OpenMode(file)
        return
    with _engine(path, libver, folder, nbytes=nbytes) as engine:
        yield DirectMode(engine, folder)


@contextlib.contextmanager
def resumable(path: Path, libver: Any, *, old: Path | None) -> Iterator[OpenMode]:
    """Open a hidden file on which a job can be resumed."""
    folder = path.parent.parent
    with contextlib.ExitStack() as stack:
        spool = SpooledPayloads(path.parent / PAYLOADS)
        stack.callback(spool.close)
        nbytes = 0 if old is None else old.stat().st_size
        noted = path.parent / OVERWRITTEN
        if old is not None and path.exists():
            with disk_errors(folder):
                _restore(path, old, noted)
        if not engine_works():
            path.unlink(missing_ok=True)
            if old is not None:
                with disk_errors(folder):
                    shutil.copyfile(old, path)
            file = stack.enter_context(hidden_file(path, libver))
            yield ResumableMode(file, spool, None, folder)
            return

        def note(ranges: list[tuple[int, int]]) -> None:
            write_whole(noted, json.dumps(ranges).encode())

        on_overwrite = None if old is None else note
        opened = _engine(path, libver, folder, nbytes=nbytes, on_overwrite=on_overwrite)
        engine = stack.enter_context(opened)
        yield ResumableMode(engine.file, spool, engine, folder)


def _restore(copy: Path, old: Path, noted: Path) -> None:
    """Take back what a run that was killed before the end had written over a copy's old bytes.

    Places are given anew by the file as it was; payloads that lie there stay.
    """
    if not noted.exists():
        return
    source, target = os.open(old, os.O_RDONLY), os.open(copy, os.O_RDWR)
    try:
        nbytes = os.fstat(source).st_size
        for at, length in json.loads(noted.read_bytes()):
            write_at(target, memoryview(os.pread(source, min(length, nbytes - at), at)), at)
    finally:
        os.close(source)
        os.close(target)


@contextlib.contextmanager
def in_place(work: WorkDirectory) -> Iterator[OpenMode]:
    """Open a file that is changed itself: all of the change is made, or nothing.

    The change is made when the context is left without an error.
    """
    folder = work.target.parent
    with contextlib.ExitStack() as stack:
        spool = SpooledPayloads(work.path / PAYLOADS)
        stack.callback(spool.close)
        with disk_errors(folder):
            changed = work.in_place()
        stack.callback(changed.close)
        opened = _engine(work.target, None, folder, patience=PATIENCE, in_place=changed)
        engine = stack.enter_context(opened)
        yield ResumableMode(engine.file, spool, engine, folder)


@contextlib.contextmanager
def _engine(
    path: Path, libver: Any, folder: Path, *, patience: float = 0.0, **options: Any
) -> Iterator[DeferredMetadata]:
    """Open a file by the layout engine; after an error nothing more is written to it."""
    with opening_errors(folder, libver):
        engine = DeferredMetadata(path, libver, **options)
    try:
        yield engine
        with disk_errors(folder):
            engine.close(patience=patience)
    except BaseException:
        engine.abandon()
        raise


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
    """Return whether libhdf5 does what the layout engine relies on, tried once a process."""
    with _short_lived_file() as path:
        try:
            works, reason = _is_read_back(path), "it read back other values"
        except (EngineError, OSError, RuntimeError, ValueError, TypeError) as error:
            if errno_of(error) is not None:
                raise
            works, reason = False, str(error)
    if not works:
        logger.warning(
            "the layout engine is off: payloads of jobs with resume=True are written twice, and "
            "libhdf5 may end the process when a disk is full: %s",
            reason,
        )
    return works


def _is_read_back(path: Path) -> bool:
    """Write a small file by the layout engine, and return whether h5py reads what it should."""
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
