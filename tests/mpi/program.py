"""What ranks do together: run by mpiexec, one case after another; tells what became of each."""

import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import hdf5plugin
import mpi4py
import numpy as np
import xarray as xr

if "funneled" in sys.argv:
    mpi4py.rc.thread_level = "funneled"

import zarr
from mpi4py import MPI

import lazyio
import lazyio.verification.verify
from lazyio.errors import (
    BlockError,
    OptionError,
    SourceChangedError,
    TargetError,
    TargetExistsError,
)

# A child for each file would have to import everything anew.
lazyio.verification.verify.is_available = lambda: False

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.rank, COMM.size
CASES: dict[str, Callable[[Path], None]] = {}

Case = Callable[[Path], None]


def case(function: Case) -> Case:
    """Add a case."""
    CASES[function.__name__] = function
    return function


def ramp(*shape: int, dtype: str = "i4") -> np.ndarray:
    """Return different numbers."""
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def rows(n_rows: int, rank: int = RANK) -> slice:
    """Return the rows of a rank, about as many for each."""
    return slice(n_rows * rank // SIZE, n_rows * (rank + 1) // SIZE)


def made(path: Path, **options: Any) -> None:
    """Make an array on one rank."""
    if RANK == 0:
        lazyio.allocate(path, **options)
    COMM.Barrier()


def stored(path: Path, key: str = "x") -> np.ndarray:
    """Return what a file or store has."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file[key][()]
    return zarr.open_array(path, mode="r")[()]


def check(path: Path, expected: np.ndarray, key: str = "x") -> None:
    """Compare all elements, and digests, on one rank; others wait for that."""
    if RANK == 0:
        np.testing.assert_array_equal(stored(path, key), expected)
        found = lazyio.verify(path)
        assert found.status == "ok", found
        assert not list(path.parent.glob(f".{path.name}*"))
    COMM.Barrier()


def same_on_all(report: Any) -> None:
    """Require that every rank was told the same."""
    assert len({str(one) for one in COMM.allgather(report)}) == 1


def refused(kind: type[BaseException], text: str, call: Callable[[], Any]) -> None:
    """Require the same error on every rank."""
    try:
        call()
    except kind as error:
        found = str(error)
    else:
        found = "nothing was raised"
    assert text in found, found
    assert len(set(COMM.allgather(found))) == 1


@case
def memory_of_a_rank(folder: Path) -> None:
    """Hold no more than the limit beside what Python has, on every rank."""
    rows_of_each, n_columns = 24, 2**20

    def read(region: tuple[slice, ...]) -> np.ndarray:
        return np.full([part.stop - part.start for part in region], RANK, "u1")

    shape = (rows_of_each, n_columns)
    part = lazyio.from_function(read, shape, "u1")
    own = slice(rows_of_each * RANK, rows_of_each * (RANK + 1))
    whole = (rows_of_each * SIZE, n_columns)
    made(folder / "a.h5", key="x", shape=whole, dtype="u1", chunks=(1, n_columns // 4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = lazyio.to_hdf5(
        part, folder / "a.h5", "x", region=(own,), memory_limit="8 MiB", workers=1, comm=COMM
    )
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert report.peak_nbytes <= 8 * 2**20
    assert grown < 14 * 2**20, grown
    expected = np.repeat(np.arange(SIZE, dtype="u1"), rows_of_each)
    if RANK == 0:
        np.testing.assert_array_equal(stored(folder / "a.h5")[:, -1], expected)
    COMM.Barrier()


@case
def same_array(folder: Path) -> None:
    x = ramp(500, 37)
    given = da.from_array(x, chunks=(45, 20)) + 1
    path = folder / "a.h5"
    same_on_all(lazyio.to_hdf5(given, path, "x", chunks=(32, 10), compression="gzip", comm=COMM))
    check(path, x + 1)
    codec = hdf5plugin.Blosc2(cname="zstd", clevel=3)
    lazyio.to_hdf5(given, path, "x", chunks=(32, 10), compression=codec, mode="w", comm=COMM)
    check(path, x + 1)
    path = folder / "a.zarr"
    shape = {"chunks": (16, 10), "shards": (32, 20)}
    codecs = [zarr.codecs.BloscCodec(cname="lz4")]
    same_on_all(lazyio.to_zarr(given, path, **shape, compressors=codecs, comm=COMM))
    check(path, x + 1)


@case
def same_source(folder: Path) -> None:
    x = ramp(500, 37)
    if RANK == 0:
        np.save(folder / "x.npy", x)
    COMM.Barrier()
    for source in (lazyio.open(folder / "x.npy"), x):
        report = lazyio.to_hdf5(source, folder / "a.h5", "x", mode="w", chunks=(32, 37), comm=COMM)
        same_on_all(report)
        assert report.n_blocks >= SIZE
        check(folder / "a.h5", x)
    lazyio.to_zarr(lazyio.open(folder / "x.npy"), folder / "a.zarr", chunks=(32, 37), comm=COMM)
    check(folder / "a.zarr", x)


@case
def every_rank_computes_its_own_blocks_only(folder: Path) -> None:
    seen = []

    def note(block: np.ndarray) -> np.ndarray:
        seen.append(int(block.flat[0]))
        return block

    x = ramp(320, 8)
    given = da.from_array(x, chunks=(20, 8)).map_blocks(note, dtype=x.dtype, meta=x[:0])
    lazyio.to_hdf5(given, folder / "a.h5", "x", chunks=(20, 8), comm=COMM)
    everybody = COMM.allgather(sorted(seen))
    assert sorted(start for one in everybody for start in one) == list(range(0, x.size, 160))
    assert all(everybody)
    check(folder / "a.h5", x)


@case
def parts_of_whole_chunks(folder: Path) -> None:
    x = ramp(64 * SIZE, 10)
    own = slice(64 * RANK, 64 * RANK + 64)
    for path in (folder / "a.h5", folder / "a.zarr"):
        more = {"key": "x"} if path.suffix == ".h5" else {}
        made(path, **more, shape=x.shape, dtype="i4", chunks=(16, 10))
        write = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
        same_on_all(write(x[own], path, *more.values(), region=(own,), comm=COMM))
        check(path, x)


@case
def parts_that_cut_chunks(folder: Path) -> None:
    x = ramp(501, 23)
    own = rows(501)
    made(folder / "a.h5", key="x", shape=x.shape, dtype="i4", chunks=(64, 10), compression="gzip")
    report = lazyio.to_hdf5(x[own], folder / "a.h5", "x", region=np.s_[own, :], comm=COMM)
    assert "multiples of 64 along axis 0" in dict(report.advice)["ranks-share-chunks"]
    check(folder / "a.h5", x)
    given = da.from_array(x[own], chunks=(30, 9)) * 2
    lazyio.to_hdf5(given, folder / "a.h5", "x", region=np.s_[own, :], comm=COMM)
    check(folder / "a.h5", x * 2)
    made(folder / "a.zarr", shape=x.shape, dtype="i4", chunks=(16, 10), shards=(64, 20))
    lazyio.to_zarr(given, folder / "a.zarr", region=np.s_[own, :], comm=COMM)
    check(folder / "a.zarr", x * 2)


@case
def parts_at_random(folder: Path) -> None:
    random = np.random.default_rng(7)
    for number in range(8):
        shape = tuple(map(int, random.integers(SIZE, 60, 2)))
        chunks = tuple(map(int, random.integers(1, 25, 2)))
        x = random.integers(0, 9999, shape)
        axis = int(random.integers(2))
        cut = np.sort(random.integers(0, shape[axis] + 1, SIZE - 1))
        ends = [0, *map(int, cut), shape[axis]]
        region = [slice(0, extent) for extent in shape]
        region[axis] = slice(ends[RANK], ends[RANK + 1])
        given = x[tuple(region)]
        if random.random() < 0.5:
            given = da.from_array(given, chunks=tuple(map(int, random.integers(1, 30, 2))))
        if number % 2:
            path = folder / f"{number}.h5"
            made(path, key="x", shape=shape, dtype="i8", chunks=chunks, compression="lzf")
            lazyio.to_hdf5(given, path, "x", region=tuple(region), comm=COMM)
        else:
            path = folder / f"{number}.zarr"
            made(path, shape=shape, dtype="i8", chunks=chunks)
            lazyio.to_zarr(given, path, region=tuple(region), comm=COMM)
        check(path, x)


@case
def a_part_of_what_is_there_stays(folder: Path) -> None:
    x = ramp(100, 10)
    if RANK == 0:
        lazyio.to_hdf5(-x, folder / "a.h5", "x", chunks=(16, 7), compression="gzip")
    own = slice(7 + 60 * RANK // SIZE, 7 + 60 * (RANK + 1) // SIZE)
    COMM.Barrier()
    lazyio.to_hdf5(x[own, 1:9], folder / "a.h5", "x", region=np.s_[own, 1:9], comm=COMM)
    expected = -x
    expected[7:67, 1:9] = x[7:67, 1:9]
    check(folder / "a.h5", expected)


@case
def a_tile_of_each_rank(folder: Path) -> None:
    x = ramp(60, 60)
    n_down = 2 if SIZE % 2 == 0 else 1
    n_across = SIZE // n_down
    down, across = divmod(RANK, n_across)
    region = (
        slice(60 * down // n_down, 60 * (down + 1) // n_down),
        slice(60 * across // n_across, 60 * (across + 1) // n_across),
    )
    made(folder / "a.h5", key="x", shape=x.shape, dtype="i4", chunks=(13, 13))
    lazyio.to_hdf5(x[region], folder / "a.h5", "x", region=region, comm=COMM)
    check(folder / "a.h5", x)


@case
def a_rank_may_have_nothing(folder: Path) -> None:
    x = ramp(50, 4)
    own = slice(0, 50) if RANK == SIZE - 1 else slice(0, 0)
    made(folder / "a.h5", key="x", shape=x.shape, dtype="i4", chunks=(8, 4))
    lazyio.to_hdf5(x[own], folder / "a.h5", "x", region=(own,), comm=COMM)
    check(folder / "a.h5", x)
    nothing = slice(5, 5)
    lazyio.to_hdf5(x[nothing], folder / "a.h5", "x", region=(nothing,), comm=COMM)
    check(folder / "a.h5", x)


@case
def a_row_of_each_rank(folder: Path) -> None:
    x = ramp(SIZE, 100)
    made(folder / "a.h5", key="x", shape=x.shape, dtype="i4", chunks=(1, 30))
    lazyio.to_hdf5(x[RANK], folder / "a.h5", "x", region=(RANK, slice(None)), comm=COMM)
    check(folder / "a.h5", x)
    given = da.from_array(x[RANK], chunks=17) + 1
    lazyio.to_hdf5(given, folder / "a.h5", "x", region=(RANK, slice(None)), comm=COMM)
    check(folder / "a.h5", x + 1)


@case
def an_array_grows(folder: Path) -> None:
    x = ramp(90, 5)
    made(folder / "a.h5", key="x", shape=(0, 5), maxshape=(None, 5), dtype="i4", chunks=(8, 5))
    own = rows(90)
    lazyio.to_hdf5(x[own], folder / "a.h5", "x", region=(own,), comm=COMM)
    check(folder / "a.h5", x)
    lazyio.to_hdf5(x, folder / "a.h5", "x", append_dim=0, comm=COMM)
    check(folder / "a.h5", np.concatenate([x, x]))
    lazyio.to_hdf5(-x, folder / "a.h5", "x", region=np.s_[3:93], comm=COMM)
    check(folder / "a.h5", np.concatenate([x[:3], -x, x[3:]]))


@case
def several_arrays(folder: Path) -> None:
    x = ramp(40, 6)
    data = {"g/a": da.from_array(x, chunks=(7, 6)), "b": x * 2, "c": np.float64(3)}
    lazyio.to_hdf5(data, folder / "a.h5", comm=COMM, compression={"g/a": "gzip"})
    for key, expected in {"g/a": x, "b": x * 2, "c": np.float64(3)}.items():
        check(folder / "a.h5", np.asarray(expected), key)
    own = rows(40)
    parts = {"g/a": -x[own], "b": da.from_array(x[own], chunks=(3, 6))}
    lazyio.to_hdf5(parts, folder / "a.h5", region={"g/a": (own,), "b": (own,)}, comm=COMM)
    check(folder / "a.h5", -x, "g/a")
    check(folder / "a.h5", x, "b")


@case
def elements_that_only_the_first_rank_encodes(folder: Path) -> None:
    words = np.array([f"word {number}" for number in range(60)], dtype="T")
    made(folder / "a.h5", key="x", shape=(60,), dtype="T", chunks=(8,))
    own = rows(60)
    lazyio.to_hdf5(words[own], folder / "a.h5", "x", region=(own,), comm=COMM)
    if RANK == 0:
        with h5py.File(folder / "a.h5") as file:
            assert file["x"].asstr()[:].tolist() == list(words)
    x = ramp(60, 5)
    lazyio.to_hdf5(x, folder / "b.h5", "x", chunks=None, comm=COMM)
    check(folder / "b.h5", x)
    masked = da.from_array(np.ma.masked_equal(x.astype("f8"), 7), chunks=(11, 5))
    lazyio.to_hdf5(masked, folder / "c.h5", "x", fillvalue=-1.0, chunks=(8, 5), comm=COMM)
    check(folder / "c.h5", np.where(x == 7, -1.0, x))


@case
def ranks_that_do_not_see_the_files(folder: Path) -> None:
    import lazyio.execution.ranks as module

    seen, module.proof_is_seen = module.proof_is_seen, lambda *_: False
    try:
        x = ramp(300, 11)
        path = folder / "a.h5"
        lazyio.to_hdf5(x, path, "x", chunks=(16, 11), compression="gzip", comm=COMM)
        check(path, x)
        own = rows(300)
        lazyio.to_hdf5(-x[own], path, "x", region=(own,), comm=COMM)
        check(path, -x)
        lazyio.to_zarr(da.from_array(x, chunks=(40, 11)), folder / "a.zarr", comm=COMM)
        check(folder / "a.zarr", x)
    finally:
        module.proof_is_seen = seen


@case
def messages_of_the_program_are_left_alone(folder: Path) -> None:
    other = (RANK + 1) % SIZE
    requests = [COMM.isend(f"from {RANK}", dest=other, tag=tag) for tag in range(5)]
    lazyio.to_hdf5(ramp(90), folder / "a.h5", "x", chunks=(8,), comm=COMM)
    for tag in range(5):
        assert COMM.recv(source=(RANK - 1) % SIZE, tag=tag) == f"from {(RANK - 1) % SIZE}"
    MPI.Request.waitall(requests)


@case
def other_communicators(folder: Path) -> None:
    lazyio.to_hdf5(ramp(90), folder / f"self{RANK}.h5", "x", chunks=(8,), comm=MPI.COMM_SELF)
    half = COMM.Split(RANK % 2)
    path = folder / f"half{RANK % 2}.h5"
    lazyio.to_hdf5(ramp(90) + RANK % 2, path, "x", chunks=(8,), comm=half)
    half.Free()
    check(folder / "half0.h5", ramp(90))
    check(folder / "half1.h5", ramp(90) + 1)


@case
def progress_is_told_to_the_first(folder: Path) -> None:
    steps = []
    main = threading.current_thread()

    def note(step: Any) -> None:
        assert threading.current_thread() is main
        steps.append(step)

    given = da.from_array(ramp(100, 4), chunks=(10, 4))
    lazyio.to_hdf5(given, folder / "a.h5", "x", chunks=(10, 4), progress=note, comm=COMM)
    assert (len(steps) >= 10) is (RANK == 0)


@case
def an_error_of_any_rank_is_that_of_all(folder: Path) -> None:
    for wanted in range(SIZE):

        def fail(block: np.ndarray, wanted: int = wanted) -> np.ndarray:
            if wanted == RANK:
                msg = f"rank {wanted} has no idea"
                raise ValueError(msg)
            time.sleep(0.01)
            return block

        given = da.from_array(ramp(160, 4), chunks=(4, 4)).map_blocks(
            fail, dtype="i4", name=f"fail{wanted}"
        )
        path = folder / "a.h5"
        refused(
            BlockError,
            f"rank {wanted} has no idea",
            lambda given=given, path=path: lazyio.to_hdf5(
                given, path, "x", chunks=(4, 4), compression="gzip", comm=COMM
            ),
        )
        refused(
            BlockError,
            f"rank {wanted} has no idea",
            lambda given=given: lazyio.to_zarr(given, folder / "a.zarr", chunks=(4, 4), comm=COMM),
        )
        COMM.Barrier()
        assert not list(folder.iterdir())
        COMM.Barrier()
    x = ramp(90, 4)

    def interrupt(block: np.ndarray) -> np.ndarray:
        if RANK == 1:
            raise KeyboardInterrupt
        return block

    given = da.from_array(x, chunks=(5, 4)).map_blocks(
        interrupt, dtype="i4", meta=x[:0], name="interrupt"
    )
    refused(KeyboardInterrupt, "", lambda: lazyio.to_hdf5(given, folder / "a.h5", "x", comm=COMM))
    made(folder / "a.h5", key="x", shape=x.shape, dtype="i4", chunks=(8, 4))
    own = rows(90)
    part = da.from_array(x[own], chunks=(5, 4))
    if RANK == SIZE - 1:
        part = part.map_blocks(lambda block: block.nothing, dtype="i4")
    refused(
        BlockError,
        "no attribute 'nothing'",
        lambda: lazyio.to_hdf5(part, folder / "a.h5", "x", region=(own,), comm=COMM),
    )
    check(folder / "a.h5", np.zeros_like(x))


@case
def a_target_that_cannot_be_written(folder: Path) -> None:
    x = ramp(90, 4)
    lazyio.to_hdf5(x, folder / "a.h5", "x", comm=COMM)
    refused(
        TargetExistsError,
        "has 'x' already",
        lambda: lazyio.to_hdf5(x, folder / "a.h5", "x", comm=COMM),
    )
    refused(
        TargetError,
        "does not exist",
        lambda: lazyio.to_hdf5(x, folder / "none" / "a.h5", "x", comm=COMM),
    )
    refused(
        TargetError,
        "lazyio.allocate",
        lambda: lazyio.to_hdf5(x, folder / "b.h5", "x", region=rows(90), comm=COMM),
    )
    check(folder / "a.h5", x)


@case
def arguments_that_do_not_go_together(folder: Path) -> None:
    x, own = ramp(90, 4), rows(90)
    made(folder / "a.h5", key="x", shape=x.shape, dtype="i4", chunks=(8, 4))

    def write(data: Any, **options: Any) -> Callable[[], Any]:
        where = {"path": folder / "b.h5", "key": "x"} | options
        if "region" in options:
            where["path"] = folder / "a.h5"
        return lambda: lazyio.to_hdf5(data, **where, comm=COMM)

    refused(OptionError, "is another array on rank", write(x + RANK))
    refused(OptionError, "is another array on rank 1", write(da.random.random((9, 9))))
    refused(OptionError, "overlap", write(x[:10] + RANK, region=np.s_[RANK : RANK + 10]))
    refused(OptionError, "leave", write(x[:2], region=np.s_[3 * RANK : 3 * RANK + 2]))
    astype = ["i4", "i8"][RANK % 2]
    refused(OptionError, "has dtype", write(x[own].astype(astype), region=(own,)))
    region = (own,) if RANK else None
    data = x[own] if RANK else x
    refused(OptionError, "gives no region=", write(data, region=region, path=folder / "a.h5"))
    refused(OptionError, "takes data of shape", write(x[:1], region=(own,)))
    refused(OptionError, "compression='lzf'", write(x, compression=["gzip", "lzf"][RANK % 2]))
    refused(OptionError, "gives the arrays", write({f"a{RANK}": x}, key="/"))
    refused(OptionError, "compute=False", write(x, compute=False))
    refused(OptionError, "scheduler=", write(x, scheduler="threads"))
    refused(OptionError, "comes once", write(lazyio.Stream(iter(x))))
    refused(OptionError, "objects of xarray", write(xr.Dataset({"x": ("n", x[:, 0])})))
    refused(OptionError, "ragged rows", write(lazyio.Ragged(x[:, 0], [0, 9, 90])))
    refused(OptionError, "give integers and slices", write(x[own], region=(own, lambda: RANK)))
    refused(OptionError, "mode=", write(x, mode="q" if RANK == SIZE - 1 else "a"))
    with h5py.File(folder / f"own{RANK}.h5", "w") as file:
        refused(OptionError, "is open in one process", write(x, path=file))
    assert not (folder / "b.h5").exists()
    check(folder / "a.h5", np.zeros_like(x))


@case
def a_source_must_stay_as_it_is(folder: Path) -> None:
    x, own = ramp(90, 4), rows(90)
    np.save(folder / f"{RANK}.npy", x[own])
    part = lazyio.open(folder / f"{RANK}.npy")
    made(folder / "a.h5", key="x", shape=x.shape, dtype="i4", chunks=(8, 4))
    if RANK == SIZE - 1:
        np.save(folder / f"{RANK}.npy", x)
    refused(
        SourceChangedError,
        f"{SIZE - 1}.npy",
        lambda: lazyio.to_hdf5(part, folder / "a.h5", "x", region=(own,), comm=COMM),
    )
    check(folder / "a.h5", np.zeros_like(x))
    whole = lazyio.open(folder / "a.h5", "x") if RANK == SIZE - 1 else x
    part = whole[own]
    refused(
        TargetError,
        "is the source of this array",
        lambda: lazyio.to_hdf5(part, folder / "a.h5", "x", region=(own,), comm=COMM),
    )
    check(folder / "a.h5", np.zeros_like(x))


@case
def a_job_that_is_done_is_kept(folder: Path) -> None:
    x = ramp(500, 8)
    given = da.from_array(x, chunks=(50, 8)) + 0
    for n_kept in (0, 10):
        report = lazyio.to_hdf5(given, folder / "a.h5", "x", chunks=(50, 8), resume=True, comm=COMM)
        assert report.n_resumed == n_kept
    check(folder / "a.h5", x)
    made(folder / "b.zarr", shape=x.shape, dtype="i4", chunks=(50, 8))
    own = rows(500)
    for _ in range(2):
        report = lazyio.to_zarr(x[own], folder / "b.zarr", region=(own,), resume=True, comm=COMM)
    assert report.n_resumed == report.n_blocks
    check(folder / "b.zarr", x)


@case
def an_empty_series_of_pynwb_is_filled(folder: Path) -> None:
    """Make the structure on one rank, and fill the dataset on all of them."""
    from datetime import UTC, datetime

    import pynwb

    path, key = folder / "a.nwb", "acquisition/es/data"
    x = ramp(4000, 8, dtype="i2")
    if RANK == 0:
        nwbfile = pynwb.NWBFile("parallel", "id", datetime(2026, 1, 1, tzinfo=UTC))
        device = nwbfile.create_device("probe")
        group = nwbfile.create_electrode_group("shank", "", "", device)
        for _ in range(8):
            nwbfile.add_electrode(group=group, location="CA1")
        electrodes = nwbfile.create_electrode_table_region(list(range(8)), "all")
        data = pynwb.H5DataIO(
            shape=x.shape,
            dtype=x.dtype,
            chunks=(500, 8),
            compression="gzip",
            maxshape=(None, 8),
        )
        nwbfile.add_acquisition(pynwb.ecephys.ElectricalSeries("es", data, electrodes, rate=1e3))
        with pynwb.NWBHDF5IO(path, "w") as io:
            io.write(nwbfile)
    COMM.Barrier()
    own = rows(4000)
    lazyio.to_hdf5(x[own], path, key, region=(own,), comm=COMM)
    if RANK == 0:
        with pynwb.NWBHDF5IO(path, "r") as io:
            np.testing.assert_array_equal(io.read().acquisition["es"].data[:], x)


def main(folder: Path, names: list[str]) -> None:
    """Run cases, and write down what became of each; the first that fails ends the job."""
    for name in names or list(CASES):
        own = folder / name
        if RANK == 0:
            own.mkdir()
        COMM.Barrier()
        try:
            CASES[name](own)
        except BaseException:  # noqa: BLE001 - told
            (folder / f"{name}.{RANK}.txt").write_text(traceback.format_exc())
            # The others may be waiting for this one.
            COMM.Abort(1)
        COMM.Barrier()
        if RANK == 0:
            (folder / f"{name}.ok").touch()


if __name__ == "__main__":
    assert ("funneled" in sys.argv) is (MPI.Query_thread() < MPI.THREAD_MULTIPLE)
    main(Path(sys.argv[1]), [name for name in sys.argv[2:] if name in CASES])
