"""Operations whose system calls are made to fail: what is there before, and what is right then."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import zarr

import lazyio
from benchmarks.soak.cases import Array, same, values
from lazyio.atomic import log as redo
from lazyio.atomic import workdir
from lazyio.atomic.recovery import clean, recover
from lazyio.storage.hdf5 import file as building
from lazyio.verification.verify import verify_here

_ROWS = 60
_OLD = values(7, 7 + _ROWS)
_NEW = values(500, 500 + _ROWS)
_HDF5 = {"chunks": (10, 32), "compression": "gzip", "workers": 2}
_ZARR = {"chunks": (20, 64), "workers": 2}
_N_BATCHES = 4


class Failed(Exception):
    """The command line ended with an error."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of lazyio, in a folder of its own."""

    name: str
    target: str
    """Name of the file or store."""
    run: Callable[[Path], object]
    """Does it, given the path of the target; returns rows that are sure to be there, if it says."""
    prepare: Callable[[Path], object] | None = None
    """Makes what is there before."""
    old: dict[str, Array] | None = None
    """What is there before, by key."""
    new: dict[str, Array] | None = None
    """What is there afterwards."""
    resumes: bool = False
    """Whether a failed call leaves what the next one goes on with."""
    grows: bool = False
    """Whether what was flushed is kept, and nothing is promised of the rest."""
    in_place: bool = False
    """Whether the file is changed itself."""

    def begin(self, folder: Path) -> None:
        """Make what is there before."""
        folder.mkdir()
        if self.prepare is not None:
            self.prepare(folder / self.target)

    def do(self, folder: Path) -> object:
        """Do what is to be done."""
        limit = 0 if self.in_place else 1 << 40
        with (
            mock.patch.object(workdir, "COPIED_NBYTES", limit),
            mock.patch.object(building, "COPIED_NBYTES", limit),
        ):
            return self.run(folder / self.target)

    def state(self, folder: Path, n_sure: int = 0) -> str:
        """Return ``old``, ``new``, both, or what is there else, for stock readers."""
        path = folder / self.target
        if self.grows:
            return self._grown(path, n_sure)
        is_new = _is(path, self.new) and (
            self.new is None
            or verify_here(str(path), None, deep=True).status in ("ok", "unverifiable")
        )
        found = [name for name, there in (("old", _is(path, self.old)), ("new", is_new)) if there]
        return " ".join(found) or "neither"

    def _grown(self, path: Path, n_sure: int) -> str:
        whole = (self.new or {})["a"]
        if not path.exists():
            return "old" if not n_sure else f"nothing, and {n_sure} rows were flushed"
        if path.suffix == ".h5":
            with h5py.File(path, "r", locking=False) as file:
                rows = file["a"][...] if "a" in file else whole[:0]
        else:
            group = zarr.open_group(path, mode="r")
            rows = group["a"][...] if "a" in group else whole[:0]
        if len(rows) < n_sure:
            return f"{len(rows)} rows, and {n_sure} were flushed"
        is_prefix = np.array_equal(rows, whole[: len(rows)])
        return ("new" if len(rows) == len(whole) else "old") if is_prefix else "other values"

    def again(self, folder: Path) -> None:
        """Make the same call, or for what grows go on."""
        if not self.grows:
            self.do(folder)
            return
        path = folder / self.target
        with lazyio.writer(path, swmr="swmr" in self.name) as writer:
            array = writer.create("a", dtype="i2", item_shape=(64,), chunks=(10, 64))
            array.append(values(0, 1))


def _is(path: Path, arrays: dict[str, Array] | None) -> bool:
    if arrays is None or not path.exists():
        return arrays is None and not os.path.lexists(path)
    return same(path, arrays)


def _old_hdf5(path: Path) -> None:
    lazyio.to_hdf5(_OLD, path, "old", chunks=(10, 32), maxshape=(None, None))


def _old_zarr(path: Path) -> None:
    lazyio.to_zarr(_OLD, path, "old", chunks=(20, 64))


def _to_hdf5(key: str = "new", **options: Any) -> Callable[[Path], object]:
    layout = {} if {"region", "append_dim"} & set(options) else _HDF5
    return lambda path: lazyio.to_hdf5(_NEW, path, key, **{**layout, **options}) and None


def _to_zarr(name: str | None = None, **options: Any) -> Callable[[Path], object]:
    layout = {} if {"region", "append_dim"} & set(options) else _ZARR
    return lambda path: lazyio.to_zarr(_NEW, path, name, **{**layout, **options}) and None


def _several(path: Path) -> None:
    lazyio.to_zarr({"new": _NEW, "old": _NEW}, path, overwrite=True, **_ZARR)


def _stream(path: Path) -> None:
    stream = lazyio.Stream(iter(_NEW), dtype="i2", expected_length=len(_NEW))
    lazyio.to_hdf5(stream, path, "new", **_HDF5)


class Interrupted(Exception):
    """A writer failed; says how many rows had been flushed."""

    def __init__(self, n_sure: int) -> None:
        super().__init__(n_sure)
        self.n_sure = n_sure


def _write(*, swmr: bool = False) -> Callable[[Path], object]:
    def run(path: Path) -> int:
        n_sure = 0
        try:
            with lazyio.writer(path, swmr=swmr) as writer:
                array = writer.create("a", dtype="i2", item_shape=(64,), chunks=(10, 64))
                for at in range(_N_BATCHES):
                    array.append(values(at * 15, at * 15 + 15))
                    writer.flush()
                    n_sure = at * 15 + 15
        except BaseException as error:
            raise Interrupted(n_sure) from error
        return n_sure

    return run


def _verify(path: Path) -> None:
    status = verify_here(str(path), None, deep=True).status
    if status != "ok":
        raise Failed(status)


def _convert(path: Path) -> None:
    lazyio.to_zarr(lazyio.open(path.with_suffix(".h5"), "old"), path, **_ZARR)


def _killed_in_place(path: Path) -> None:
    """Leave a change that is complete in its log, and was not made."""
    _old_hdf5(path)
    child = os.fork()
    if not child:
        with (
            mock.patch.object(redo, "apply", side_effect=lambda *_, **__: os._exit(0)),
            mock.patch.object(workdir, "COPIED_NBYTES", 0),
            mock.patch.object(building, "COPIED_NBYTES", 0),
        ):
            _to_hdf5()(path)
        os._exit(1)
    os.waitpid(child, 0)


def _failed_job(path: Path) -> None:
    """Leave a job that can be resumed."""

    def read(region: tuple[slice, ...]) -> Array:
        if region[0].stop > 30:
            raise RuntimeError
        return _NEW[region]

    array = lazyio.from_function(read, _NEW.shape, "i2", chunks=(10, 64))
    with contextlib.suppress(lazyio.LazyioError):
        lazyio.to_hdf5(array, path, "new", chunks=(10, 64), resume=True, workers=1)


_H5 = {"target": "x.h5", "new": {"new": _NEW}}
_Z = {"target": "x.zarr", "new": {"": _NEW}}
_TO_H5 = {"target": "x.h5", "prepare": _old_hdf5, "old": {"old": _OLD}}
_TO_Z = {"target": "x.zarr", "prepare": _old_zarr, "old": {"old": _OLD}}
_BOTH = {"new": {"old": _OLD, "new": _NEW}}
_APPENDED = {"new": {"old": np.concatenate([_OLD, _NEW])}}
_REGION = np.concatenate([_OLD[:30], _NEW])
_AT = np.s_[30:90, :]
_ROWS_IN_ALL = {"new": {"a": values(0, _N_BATCHES * 15)}, "grows": True}


def operations() -> dict[str, Operation]:
    """Return all operations, by name."""
    made = (
        Operation(name="hdf5-new", run=_to_hdf5(), **_H5),
        Operation(name="hdf5-new-plain", run=_to_hdf5(compression=None), **_H5),
        Operation(name="hdf5-new-szip", run=_to_hdf5(compression="szip"), **_H5),
        Operation(name="hdf5-new-stream", run=_stream, **_H5),
        Operation(name="hdf5-new-resume", run=_to_hdf5(resume=True), resumes=True, **_H5),
        Operation(name="hdf5-add", run=_to_hdf5(), **_TO_H5, **_BOTH),
        Operation(
            name="hdf5-add-resume", run=_to_hdf5(resume=True), resumes=True, **_TO_H5, **_BOTH
        ),
        Operation(name="hdf5-add-in-place", run=_to_hdf5(), in_place=True, **_TO_H5, **_BOTH),
        Operation(
            name="hdf5-overwrite",
            run=_to_hdf5("old", overwrite=True),
            new={"old": _NEW},
            **_TO_H5,
        ),
        Operation(
            name="hdf5-region", run=_to_hdf5("old", region=_AT), new={"old": _REGION}, **_TO_H5
        ),
        Operation(
            name="hdf5-region-in-place",
            run=_to_hdf5("old", region=_AT),
            new={"old": _REGION},
            in_place=True,
            **_TO_H5,
        ),
        Operation(name="hdf5-append", run=_to_hdf5("old", append_dim=0), **_TO_H5, **_APPENDED),
        Operation(
            name="hdf5-append-in-place",
            run=_to_hdf5("old", append_dim=0),
            in_place=True,
            **_TO_H5,
            **_APPENDED,
        ),
        Operation(name="hdf5-writer", target="x.h5", run=_write(), **_ROWS_IN_ALL),
        Operation(name="hdf5-writer-swmr", target="x.h5", run=_write(swmr=True), **_ROWS_IN_ALL),
        Operation(name="zarr-writer", target="x.zarr", run=_write(), **_ROWS_IN_ALL),
        Operation(name="zarr-new", run=_to_zarr(), **_Z),
        Operation(name="zarr-new-resume", run=_to_zarr(resume=True), resumes=True, **_Z),
        Operation(name="zarr-add", run=_to_zarr("new"), **_TO_Z, **_BOTH),
        Operation(name="zarr-several", run=_several, new={"new": _NEW, "old": _NEW}, **_TO_Z),
        Operation(
            name="zarr-region", run=_to_zarr("old", region=_AT), new={"old": _REGION}, **_TO_Z
        ),
        Operation(name="zarr-append", run=_to_zarr("old", append_dim=0), **_TO_Z, **_APPENDED),
        Operation(name="verify", run=_verify, new={"old": _OLD}, **_TO_H5),
        Operation(name="verify-zarr", run=_verify, new={"old": _OLD}, **_TO_Z),
        Operation(
            name="convert",
            run=_convert,
            target="x.zarr",
            prepare=lambda path: _old_hdf5(path.with_suffix(".h5")),
            new={"": _OLD},
        ),
        Operation(
            name="recover",
            run=lambda path: recover(path) and None,
            **{**_TO_H5, "prepare": _killed_in_place},
            **_BOTH,
            in_place=True,
        ),
        Operation(
            name="clean",
            run=lambda path: clean(path) and None,
            target="x.h5",
            prepare=_failed_job,
        ),
    )
    return {one.name: one for one in made}


NAMES = list(operations())
