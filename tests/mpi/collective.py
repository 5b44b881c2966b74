"""What ranks do in a file that all of them have open; run by mpiexec, with h5py built for MPI."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
from mpi4py import MPI

import lazyio
from lazyio.errors import LazyioError

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.rank, COMM.size
VALUES = np.random.default_rng(0).integers(0, 99, (101, 30)).astype("i4")
CASES: dict[str, Callable[[Path], None]] = {}


def case(function: Callable[[Path], None]) -> Callable[[Path], None]:
    """Add a case."""
    CASES[function.__name__] = function
    return function


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[h5py.File]:
    """Yield a file that all ranks have open, with a dataset."""
    with h5py.File(path, "w", driver="mpio", comm=COMM) as file:
        settings = {"shape": VALUES.shape, "dtype": "i4", "chunks": (25, 7), "compression": "gzip"}
        file.create_dataset("g/x", **{**settings, **options})
        yield file


def rows(rank: int = RANK) -> slice:
    """Return the rows of a rank."""
    return slice(101 * rank // SIZE, 101 * (rank + 1) // SIZE)


def check(path: Path, expected: np.ndarray = VALUES) -> None:
    """Compare all elements, on one rank."""
    if RANK == 0:
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["g/x"][()], expected)


@case
def parts_that_cut_chunks(path: Path) -> None:
    """Several ranks have a part of one compressed chunk."""
    with opened(path) as file:
        part = VALUES[rows()]
        report = lazyio.to_hdf5(part, file, "g/x", region=(rows(),), comm=COMM)
    check(path)
    assert report.engine == "libhdf5"
    assert report.nbytes == VALUES.nbytes
    assert report.stored_nbytes > 0
    assert [code for code, _ in report.advice if code == "open-handle"]


@case
def graphs_of_different_lengths(path: Path) -> None:
    """Ranks that have no more blocks take part in the others' writes."""
    with opened(path, compression=None, chunks=None) as file:
        stops = [0, *(101 - SIZE + rank for rank in range(1, SIZE)), 101]
        own = slice(stops[RANK], stops[RANK + 1])
        part = da.from_array(VALUES[own], chunks=(9, 11)) + 1
        lazyio.to_hdf5(part, file["g/x"], region=(own,), comm=COMM)
    check(path, VALUES + 1)


@case
def the_same_array(path: Path) -> None:
    """Each rank computes a share of it; it is converted."""
    with opened(path, dtype="f8", shuffle=True) as file:
        array = da.from_array(VALUES, chunks=(20, 30), name="same") * 2
        steps: list[int] = []
        report = lazyio.to_hdf5(
            array, file, "g/x", region=..., comm=COMM, progress=lambda s: steps.append(s.n_done)
        )
    check(path, VALUES * 2.0)
    assert report.n_blocks == 6
    assert bool(steps) == (RANK == 0)


@case
def a_source(path: Path) -> None:
    """Blocks are read on the ranks, as the plan has them."""
    made = path.with_suffix(".npy")
    if RANK == 0:
        np.save(made, VALUES)
    COMM.Barrier()
    with opened(path) as file:
        source = lazyio.open(made, memory_limit="1 MiB")
        lazyio.to_hdf5(source, file, "g/x", region=..., comm=COMM, memory_limit="1 MiB")
    check(path)


@case
def elements_of_other_kinds(path: Path) -> None:
    """Of each dtype a row a rank, given by an integer; the last rank has nothing to give."""
    kinds = ["?", ">i2", "c8", "S5", [("a", "i4"), ("b", "f8")]]
    for number, kind in enumerate(kinds):
        own = np.arange(RANK, RANK + 12).astype("S5" if kind == "S5" else "i4")
        dtype = np.dtype(kind)
        own = np.array([(n, n / 2) for n in own], dtype) if dtype.names else own.astype(dtype)
        place: Any = (RANK, slice(None))
        if RANK == SIZE - 1:
            own, place = own[:0], (0, slice(0, 0))
        with h5py.File(path, "a", driver="mpio", comm=COMM) as file:
            chunks = (min(2, SIZE - 1), 5)
            made = file.create_dataset(
                str(number), (SIZE - 1, 12), kind, chunks=chunks, fletcher32=True
            )
            lazyio.to_hdf5(own, made, region=place, comm=COMM)
        expected = COMM.gather(own)
        if RANK == 0:
            with h5py.File(path) as file:
                np.testing.assert_array_equal(file[str(number)][()], np.stack(expected[:-1]))


@case
def digests_of_before_are_dropped(path: Path) -> None:
    """They would call what is written now damaged."""
    if RANK == 0:
        lazyio.to_hdf5(VALUES, path, "g/x", chunks=(25, 7), compression="gzip")
    COMM.Barrier()
    with h5py.File(path, "a", driver="mpio", comm=COMM) as file:
        lazyio.to_hdf5(VALUES[rows()] + 1, file, "g/x", region=(rows(),), comm=COMM)
    check(path, VALUES + 1)
    if RANK == 0:
        found = lazyio.verify(path)
        assert found.status == "unverifiable", str(found)


@case
def an_error_of_any_rank_is_that_of_all(path: Path) -> None:
    """Nobody waits in a write that the others do not make; the file can be used afterwards."""

    def fails(block: np.ndarray) -> np.ndarray:
        if RANK == SIZE - 1:
            msg = "no such block"
            raise ValueError(msg)
        return block

    with opened(path) as file:
        array = da.from_array(VALUES, chunks=(20, 30), name="same").map_blocks(
            fails, dtype="i4", name="failing"
        )
        raises("no such block", array, file, region=...)
        lazyio.to_hdf5(VALUES[rows()], file, "g/x", region=(rows(),), comm=COMM)
    check(path)


@case
def what_is_no_call_of_all(path: Path) -> None:
    """Refused on all ranks, before anything is written."""
    with opened(path, maxshape=(None, 30)) as file:
        raises("overlap; give each rank", VALUES, file, region=(slice(0, 101),), differ=True)
        raises("with create_dataset, and give region", VALUES, file, "new")
        raises("would grow from", VALUES, file, append_dim=0)
        raises("has no dataset|is no dataset|does not exist", VALUES, file, "none", region=...)
        raises("another array on rank", VALUES + RANK, file, region=...)
        half = COMM.Split(RANK % 2)
        raises("open on . ranks, and this call", VALUES, file, region=..., comm=half)
        half.Free()
        raises("resume", VALUES, file, region=..., resume=True)


def raises(match: str, data: Any, file: Any, key: str = "g/x", **options: Any) -> None:
    """Make a call that fails in the same way on all ranks."""
    if options.pop("differ", False):
        # Not the same words on all ranks, so that these are parts.
        options["region"] = (slice(0, 101, None if RANK else 1), slice(None))
    with pytest.raises(LazyioError, match=match):
        lazyio.to_hdf5(data, file, key, **{"comm": COMM, **options})


def main() -> None:
    """Run each case, and tell what became of it."""
    folder = Path(sys.argv[1])
    for name, function in CASES.items():
        try:
            function(folder / f"{name}.h5")
        except BaseException:  # noqa: BLE001 - told to the test
            (folder / f"{name}.{RANK}.txt").write_text(traceback.format_exc())
        COMM.Barrier()
        if RANK == 0:
            (folder / f"{name}.ok").touch()


if __name__ == "__main__":
    main()
