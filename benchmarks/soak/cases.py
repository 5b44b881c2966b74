"""Ways to write that are interrupted: what is there before, what is written, what is right."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import zarr

import lazyio
from lazyio.atomic import workdir
from lazyio.storage.hdf5 import file as building

N_COLUMNS = 64
_DTYPE = np.dtype("i2")
ROWS_A_CHUNK = 50
_COMMON = {"resume": True, "workers": 2, "memory_limit": "150 KiB"}
_OLD = np.full((300, N_COLUMNS), -7, "i2")
_REPLACED = np.full((200, N_COLUMNS), 9, "f4")

Array = np.ndarray[Any, Any]


def values(start: int, stop: int) -> Array:
    """Return some rows of what is written: numbers that look random."""
    rows = np.arange(start, stop)[:, None] * N_COLUMNS + np.arange(N_COLUMNS)
    return ((rows * 2654435761 >> 8) % 1000).astype("i2")


@dataclass(frozen=True)
class Slow:
    """A source that takes its time, and notes in a file what is read of it."""

    log: str
    seconds: float
    n_rows: int
    dtype: Any = _DTYPE
    chunk_shape: None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, N_COLUMNS

    def __dask_tokenize__(self) -> Any:
        """Return a name that lasts."""
        return "benchmarks.soak.Slow", self.n_rows

    def read(self, region: tuple[slice, ...]) -> Array:
        """Return some rows."""
        rows = region[0]
        time.sleep(self.seconds)
        with open(self.log, "a") as file:
            file.write(f"{rows.stop - rows.start}\n")
        return values(rows.start, rows.stop)[:, region[1]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to write."""

    name: str
    target: str
    """Name of the file or store."""
    write: Callable[[Path, Any], Any]
    """Writes what is read from a source, or several."""
    prepare: Callable[[Path], Any] | None = None
    """Makes what is there before."""
    expected: Callable[[], dict[str, Array]]
    """What is there afterwards, by key."""
    old: Callable[[], dict[str, Array]] | None = None
    """What is there before."""
    in_place: bool = False
    """Whether the file is changed itself, as large ones are."""
    several: bool = False
    """Whether it takes several renames, which ``recover`` has to finish."""

    @contextmanager
    def forced_way(self) -> Iterator[None]:
        """Have files of any size changed as this case says, until the end of the context."""
        limit = 0 if self.in_place else 1 << 40
        with (
            mock.patch.object(workdir, "COPIED_NBYTES", limit),
            mock.patch.object(building, "COPIED_NBYTES", limit),
        ):
            yield

    def is_old(self, folder: Path) -> bool:
        """Return whether what was there before is there, or nothing where nothing was."""
        path = folder / self.target
        if self.old is None:
            return not path.exists()
        return same(path, self.old())

    def is_new(self, folder: Path) -> bool:
        """Return whether all is there, for stock readers and for ``verify``."""
        path = folder / self.target
        if not path.exists() or not same(path, self.expected()):
            return False
        return lazyio.verify(path).status == "ok"


def same(path: Path, arrays: dict[str, Array]) -> bool:
    """Return whether a stock reader finds these arrays and no others."""
    if path.suffix == ".h5":
        with h5py.File(path, "r") as file:
            names = {name for name in file if name != "_lazyio"}
            return names == set(arrays) and all(
                np.array_equal(file[name][...], array) for name, array in arrays.items()
            )
    found = zarr.open(path, mode="r")
    if isinstance(found, zarr.Array):
        return list(arrays) == [""] and np.array_equal(found[...], arrays[""])
    return set(found.array_keys()) == set(arrays) and all(
        np.array_equal(found[name][...], array) for name, array in arrays.items()
    )


def _hdf5(key: str = "data", **options: Any) -> Callable[[Path, Any], Any]:
    chunks = {"chunks": (ROWS_A_CHUNK, 32)} if "region" not in options else {}

    def write(path: Path, source: Any) -> Any:
        return lazyio.to_hdf5(lazyio.from_source(source), path, key, **chunks, **_COMMON, **options)

    return write


def _zarr(name: str | None = None, **options: Any) -> Callable[[Path, Any], Any]:
    def write(path: Path, source: Any) -> Any:
        array = lazyio.from_source(source)
        return lazyio.to_zarr(array, path, name, **_COMMON, **options)

    return write


def _graph(path: Path, source: Any) -> Any:
    array = lazyio.from_source(source, chunks=(100, N_COLUMNS)).map_blocks(np.ascontiguousarray)
    return lazyio.to_hdf5(array, path, chunks=(ROWS_A_CHUNK, N_COLUMNS), **_COMMON)


def _old_hdf5(path: Path) -> None:
    lazyio.to_hdf5(_OLD, path, "old", chunks=(40, 24), maxshape=(None, None))


def _old_zarr(path: Path) -> None:
    lazyio.to_zarr(_OLD, path, "old", chunks=(40, 24))


def _old_consolidated(path: Path) -> None:
    _old_zarr(path)
    with warnings.catch_warnings():
        # That v3 has no specification of it yet is known.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)


def _several(path: Path, source: Any) -> Any:
    arrays = {"new": lazyio.from_source(source), "old": _REPLACED}
    return lazyio.to_zarr(arrays, path, chunks=(50, 32), overwrite=True, **_COMMON)


def _overwritten(n_rows: int) -> Array:
    whole = np.zeros((max(300, n_rows + 100), N_COLUMNS), "i2")
    whole[:300] = _OLD
    whole[100 : 100 + n_rows] = values(0, n_rows)
    return whole


_GZIP = {"compression": "gzip", "compression_opts": 1}
_IS_OLD = {"old": lambda: {"old": _OLD}}
_AT_HDF5 = {"target": "x.h5", "prepare": _old_hdf5}
_AT_ZARR = {"target": "x.zarr", "prepare": _old_zarr}


def cases(n_rows: int) -> dict[str, Case]:
    """Return the cases for an array of so many rows, by name."""
    region = {"region": np.s_[100 : n_rows + 100, :]}
    new_hdf5 = {"target": "x.h5", "expected": lambda: {"data": values(0, n_rows)}}
    new_zarr = {"target": "x.zarr", "expected": lambda: {"": values(0, n_rows)}}
    added = {"expected": lambda: {"old": _OLD, "new": values(0, n_rows)}, **_IS_OLD}
    changed = {"expected": lambda: {"old": _overwritten(n_rows)}, **_IS_OLD}
    made = (
        Case(name="hdf5", write=_hdf5(), **new_hdf5),
        Case(name="hdf5-gzip", write=_hdf5(**_GZIP), **new_hdf5),
        Case(name="hdf5-szip", write=_hdf5(compression="szip"), **new_hdf5),
        Case(name="hdf5-graph", write=_graph, **new_hdf5),
        Case(name="zarr", write=_zarr(chunks=(ROWS_A_CHUNK, 32)), **new_zarr),
        Case(name="zarr-sharded", write=_zarr(chunks=(25, 32), shards=(50, 64)), **new_zarr),
        Case(name="hdf5-added", write=_hdf5("new", **_GZIP), **_AT_HDF5, **added),
        Case(name="hdf5-in-place", write=_hdf5("new"), **_AT_HDF5, **added, in_place=True),
        Case(name="hdf5-part", write=_hdf5("old", **region), **_AT_HDF5, **changed),
        Case(
            name="hdf5-part-in-place",
            write=_hdf5("old", **region),
            **_AT_HDF5,
            **changed,
            in_place=True,
        ),
        Case(name="zarr-added", write=_zarr("new", chunks=(50, 32)), **_AT_ZARR, **added),
        Case(
            name="zarr-several",
            target="x.zarr",
            prepare=_old_consolidated,
            write=_several,
            expected=lambda: {"new": values(0, n_rows), "old": _REPLACED},
            **_IS_OLD,
            several=True,
        ),
        Case(name="zarr-part", write=_zarr("old", **region), **_AT_ZARR, **changed, several=True),
    )
    return {case.name: case for case in made}


NAMES = list(cases(1))
