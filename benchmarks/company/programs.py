"""Second programs: what they do to a file or store, and what that makes of a state.

Each is a function from a :class:`Scene` to an :class:`Act`; what is drawn at
random is drawn then, before anything runs.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import tables
import zarr

from benchmarks.company import model
from benchmarks.company.model import Array, Step

N_COLUMNS, ROWS_A_CHUNK = 8, 16
TARGET, BACKUP, MOVED, COPIED, SNAPSHOT, FRESH = (
    "target",
    "backup",
    "moved",
    "copied",
    "snapshot",
    "fresh",
)
"""Names in the folder of a trial."""

Tell = Callable[..., None]
"""Takes ``"begin"``, ``"done"`` or ``"read"``, the place of a step, and what was read."""


@dataclass(frozen=True)
class Scene:
    """Where a trial takes place, and what is drawn from."""

    folder: Path
    kind: str
    """``hdf5`` or ``zarr``."""
    rng: random.Random
    n_rows: int
    """Of the array ``x`` at the beginning."""
    who: int
    """Number of the actor, which makes its values unlike those of others."""

    def path(self, name: str = TARGET) -> Path:
        """Return the path of a file or store."""
        return self.folder / name

    def rows(self, n: int, nth: int = 0) -> Array:
        """Return some rows that nobody else writes."""
        first = self.who * 1_000_000 + nth * 10_000
        return np.arange(first, first + n * N_COLUMNS, dtype="i4").reshape(n, N_COLUMNS)

    def part(self) -> tuple[int, Array]:
        """Return the first row of a part of ``x``, and what is written there."""
        start = self.rng.randrange(self.n_rows)
        return start, self.rows(self.rng.randint(1, min(40, self.n_rows - start)))


@dataclass(frozen=True)
class Act:
    """What one program is to do."""

    what: str
    steps: Sequence[Step | None]
    """What each step makes of a state; ``None`` is for what is read, and known afterwards only."""
    run: Callable[[Tell], None]
    """Does it, in a process of its own."""
    is_reading: bool = False
    """Whether nothing on the disk may change by it."""
    key: str = "x"
    """The array that is read."""
    context: Callable[[], AbstractContextManager[Any]] | None = field(default=None, compare=False)
    """Is entered in that process before."""


@dataclass(frozen=True)
class Program:
    """A second program."""

    name: str
    kinds: tuple[str, ...]
    """Formats that it knows."""
    act: Callable[[Scene], Act]
    alone: bool = False
    """Whether it does nothing as one step, and so only acts when nobody else does."""


def _once(what: str, step: Step | None, run: Callable[[], Any], **options: Any) -> Act:
    """Return an act of one step."""

    def act(tell: Tell) -> None:
        tell("begin", 0)
        found = run()
        tell("done" if step is not None else "read", 0, found if step is None else None)

    return Act(what, [step], act, **options)


def _put(array: Any, start: int, rows: Array) -> None:
    """Write some rows that are there; libraries differ in what they make of others."""
    if array.shape[0] < start + len(rows):
        msg = "there are fewer rows by now"
        raise IndexError(msg)
    array[start : start + len(rows)] = rows


def _held(scene: Scene) -> float:
    """Return how long a program keeps a file open."""
    return scene.rng.choice([0.0, 0.0, scene.rng.uniform(0, 0.15)])


# ---- h5py


def _h5py_reads(scene: Scene) -> Act:
    seconds = _held(scene)

    def run() -> Array:
        with h5py.File(scene.path(), "r") as file:
            time.sleep(seconds)
            return np.asarray(file["x"][...])

    return _once("reading", None, run)


def _h5py_follows(scene: Scene) -> Act:
    seconds = _held(scene)

    def run(_: Tell) -> None:
        with h5py.File(scene.path(), "r", libver="latest", swmr=True) as file:
            dataset = file["x"]
            time.sleep(seconds)
            dataset.id.refresh()
            dataset[...]

    return Act("following", [], run)


def _in_h5py(scene: Scene, what: str, step: Step, edit: Callable[[h5py.File], Any]) -> Act:
    before, after = _held(scene), _held(scene)

    def run() -> None:
        with h5py.File(scene.path(), "r+") as file:
            time.sleep(before)
            edit(file)
            time.sleep(after)

    return _once(what, step, run)


def _h5py_edits(scene: Scene) -> Act:
    start, rows = scene.part()

    def edit(file: h5py.File) -> None:
        _put(file["x"], start, rows)

    return _in_h5py(scene, "edit", model.put(TARGET, "x", start, rows), edit)


def _h5py_adds(scene: Scene) -> Act:
    rows = scene.rows(scene.rng.randint(1, 50))

    def edit(file: h5py.File) -> None:
        file.create_dataset("y", data=rows, chunks=True, compression="gzip")

    return _in_h5py(scene, "new array", model.add(TARGET, "y", rows), edit)


def _h5py_appends(scene: Scene) -> Act:
    rows = scene.rows(scene.rng.randint(1, 40))

    def edit(file: h5py.File) -> None:
        dataset = file["x"]
        dataset.resize(len(dataset) + len(rows), axis=0)
        dataset[-len(rows) :] = rows

    return _in_h5py(scene, "append", model.append(TARGET, "x", rows), edit)


def _h5py_marks(scene: Scene) -> Act:
    def edit(file: h5py.File) -> None:
        file["x"].attrs["mark"] = scene.who

    return _in_h5py(scene, "attribute", model.mark(TARGET, "x", "mark", scene.who), edit)


# ---- netCDF4 and PyTables


def _netcdf_reads(scene: Scene) -> Act:
    seconds = _held(scene)

    def run() -> Array:
        with netCDF4.Dataset(scene.path(), "r") as file:
            file.set_auto_mask(False)
            time.sleep(seconds)
            return np.asarray(file["x"][...])

    return _once("reading", None, run)


def _netcdf_edits(scene: Scene) -> Act:
    (start, rows), seconds = scene.part(), _held(scene)

    def run() -> None:
        with netCDF4.Dataset(scene.path(), "a") as file:
            time.sleep(seconds)
            _put(file["x"], start, rows)

    return _once("edit", model.put(TARGET, "x", start, rows), run)


def _tables_reads(scene: Scene) -> Act:
    seconds = _held(scene)

    def run() -> Array:
        with tables.open_file(str(scene.path()), "r") as file:
            time.sleep(seconds)
            return np.asarray(file.root.x[:])

    return _once("reading", None, run)


def _tables_edits(scene: Scene) -> Act:
    (start, rows), seconds = scene.part(), _held(scene)

    def run() -> None:
        with tables.open_file(str(scene.path()), "a") as file:
            _put(file.root.x, start, rows)
            time.sleep(seconds)

    return _once("edit", model.put(TARGET, "x", start, rows), run)


def _tables_appends(scene: Scene) -> Act:
    rows, seconds = scene.rows(scene.rng.randint(1, 40)), _held(scene)

    def run() -> None:
        with tables.open_file(str(scene.path()), "a") as file:
            file.root.x.append(rows)
            time.sleep(seconds)

    return _once("append", model.append(TARGET, "x", rows), run)


# ---- zarr-python, which knows no locks: what it does is short


def _zarr_reads(scene: Scene) -> Act:
    def run(_: Tell) -> None:
        zarr.open_group(scene.path(), mode="r")["x"][...]

    # Not one step: it reads one chunk after the other.
    return Act("reading", [], run)


def _zarr_edits(scene: Scene) -> Act:
    start, rows = scene.part()

    def run() -> None:
        array: Any = zarr.open_group(scene.path(), mode="r+")["x"]
        _put(array, start, rows)

    return _once("edit", model.put(TARGET, "x", start, rows), run)


def _zarr_appends(scene: Scene) -> Act:
    rows = scene.rows(scene.rng.randint(1, 40))

    def run() -> None:
        array: Any = zarr.open_group(scene.path(), mode="r+")["x"]
        array.append(rows)

    return _once("append", model.append(TARGET, "x", rows), run)


def _zarr_adds(scene: Scene) -> Act:
    rows = scene.rows(scene.rng.randint(1, 50))

    def run() -> None:
        group = zarr.open_group(scene.path(), mode="r+")
        group.create_array("y", data=rows)

    return _once("new array", model.add(TARGET, "y", rows), run)


def _zarr_marks(scene: Scene) -> Act:
    def run() -> None:
        array: Any = zarr.open_group(scene.path(), mode="r+")["x"]
        array.attrs["mark"] = scene.who

    return _once("attribute", model.mark(TARGET, "x", "mark", scene.who), run)


# ---- programs that know nothing of what is inside


def _moves(scene: Scene) -> Act:
    def run() -> None:
        os.rename(scene.path(), scene.path(MOVED))

    return _once("mv away", model.move(TARGET, MOVED), run)


def _copies(scene: Scene) -> Act:
    return _once(
        "cp away", model.copy(TARGET, COPIED), lambda: copy(scene.path(), scene.path(COPIED))
    )


def _restores(scene: Scene) -> Act:
    """Give the target what it was at the beginning, by a rename."""

    def run() -> None:
        target, built = scene.path(), scene.folder / "restored"
        copy(scene.path(BACKUP), built)
        if built.is_dir() and target.exists():
            os.rename(target, scene.folder / "discarded")
        os.replace(built, target)

    return _once("mv back", model.copy(BACKUP, TARGET), run)


def _copies_back(scene: Scene) -> Act:
    """Give the target what it was at the beginning, by writing over it."""

    def run() -> None:
        if scene.path().is_dir():
            shutil.rmtree(scene.path())
        copy(scene.path(BACKUP), scene.path())

    return _once("cp back", model.copy(BACKUP, TARGET), run)


def _links(scene: Scene) -> Act:
    def run() -> None:
        link = os.link
        if scene.path().is_dir():
            shutil.copytree(scene.path(), scene.path(SNAPSHOT), copy_function=link)
        else:
            link(scene.path(), scene.path(SNAPSHOT))

    return _once("ln", model.copy(TARGET, SNAPSHOT), run)


def _removes(scene: Scene) -> Act:
    def run() -> None:
        if scene.path().is_dir():
            shutil.rmtree(scene.path())
        else:
            scene.path().unlink()

    return _once("rm", model.remove(TARGET), run)


def copy(path: Path, other: Path) -> None:
    """Copy a file or store, as ``cp -r`` does."""
    if path.is_dir():
        shutil.copytree(path, other)
    else:
        shutil.copyfile(path, other)


_HDF5, _ZARR, _BOTH = ("hdf5",), ("zarr",), ("hdf5", "zarr")

PROGRAMS = (
    Program("h5py-read", _HDF5, _h5py_reads),
    Program("h5py-swmr", _HDF5, _h5py_follows),
    Program("h5py-edit", _HDF5, _h5py_edits),
    Program("h5py-add", _HDF5, _h5py_adds),
    Program("h5py-append", _HDF5, _h5py_appends),
    Program("h5py-attribute", _HDF5, _h5py_marks),
    Program("netcdf4-read", _HDF5, _netcdf_reads),
    Program("netcdf4-edit", _HDF5, _netcdf_edits),
    Program("pytables-read", _HDF5, _tables_reads),
    Program("pytables-edit", _HDF5, _tables_edits),
    Program("pytables-append", _HDF5, _tables_appends),
    Program("zarr-read", _ZARR, _zarr_reads),
    Program("zarr-edit", _ZARR, _zarr_edits),
    Program("zarr-append", _ZARR, _zarr_appends),
    Program("zarr-add", _ZARR, _zarr_adds),
    Program("zarr-attribute", _ZARR, _zarr_marks),
    Program("mv", _BOTH, _moves),
    Program("cp", _BOTH, _copies, alone=True),
    Program("mv-back", _BOTH, _restores, alone=True),
    Program("cp-back", _BOTH, _copies_back, alone=True),
    Program("ln", _BOTH, _links, alone=True),
    Program("rm", _BOTH, _removes, alone=True),
)
