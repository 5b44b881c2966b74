"""Writing HDF5: any input, any chunking, any codec; read back by libraries that are not ours."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import h5py
import hdf5plugin
import netCDF4
import numpy as np
import pytest
import tables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import lazyio
from lazyio.errors import BlockError, OptionError, TargetExistsError
from lazyio.storage.hdf5.dataset import Hdf5Target

CODECS = {
    "none": {},
    "gzip-1": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "gzip-4": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "gzip-9-fletcher32": {"compression": "gzip", "compression_opts": 9, "fletcher32": True},
    "shuffle-only": {"shuffle": True},
    "fletcher32-only": {"fletcher32": True},
    "zstd": {"compression": "zstd", "compression_opts": 1, "shuffle": True},
    "zstd-negative": {"compression": "zstd", "compression_opts": -5},
    "blosc": {"compression": "blosc", "compression_opts": ("zstd", 1, "byte")},
    "blosc-lz4-bit": {"compression": "blosc", "compression_opts": ("lz4", 5, "bit")},
    "object-zstd": {"compression": hdf5plugin.Zstd(clevel=2)},
    "keywords-blosc": dict(hdf5plugin.Blosc(cname="zstd", clevel=2)),
    "id": {"compression": 32015, "compression_opts": (2,)},
    "lzf": {"compression": "lzf", "shuffle": True},
    "szip": {"compression": "szip"},
    "lz4": {"compression": "lz4"},
    "bitshuffle": {"compression": "bitshuffle"},
    "blosc2": {"compression": "blosc2", "compression_opts": ("zstd", 1, "byte")},
    "zfp-object": {"compression": hdf5plugin.Zfp(reversible=True), "dtype": "int32"},
}
STOCK = ["none", "gzip-1", "gzip-4", "gzip-9-fletcher32", "shuffle-only", "fletcher32-only"]


def read(path: Path, key: str = "/data") -> np.ndarray:
    """Return a dataset as stock h5py reads it."""
    with h5py.File(path, "r") as file:
        return file[key][()]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return where to write."""
    return tmp_path / "out.h5"


@pytest.mark.parametrize("codec", CODECS, ids=list(CODECS))
@pytest.mark.parametrize("chunks", ["auto", (100, 64), (37, 5)], ids=["auto", "rows", "odd"])
def test_every_codec_reads_back_with_stock_h5py(out, recording, codec, chunks) -> None:
    """The values, the filters and the chunks are those that were asked for."""
    report = lazyio.to_hdf5(recording, out, chunks=chunks, **CODECS[codec])
    assert (read(out) == recording).all()
    with h5py.File(out) as file:
        assert file["data"].chunks == report.plan.chunk_shape
        assert report.n_chunks == file["data"].id.get_num_chunks()
        assert file["data"].fletcher32 == CODECS[codec].get("fletcher32", False)
        assert file["data"].shuffle == CODECS[codec].get("shuffle", False)


@pytest.mark.parametrize("codec", ["gzip-4", "zstd", "blosc", "object-zstd", "keywords-blosc"])
def test_filter_settings_are_those_of_h5py(tmp_path, recording, codec) -> None:
    """The file names the same filters with the same options as one that h5py wrote."""
    spelled = {
        "gzip-4": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
        "zstd": {**hdf5plugin.Zstd(clevel=1), "shuffle": True},
        "blosc": dict(hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=1)),
        "object-zstd": dict(hdf5plugin.Zstd(clevel=2)),
        "keywords-blosc": dict(hdf5plugin.Blosc(cname="zstd", clevel=2)),
    }[codec]
    lazyio.to_hdf5(recording, tmp_path / "ours.h5", chunks=(100, 64), **CODECS[codec])
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file.create_dataset("data", data=recording, chunks=(100, 64), **spelled)
    described = []
    for name in ("ours.h5", "theirs.h5"):
        with h5py.File(tmp_path / name) as file:
            plist = file["data"].id.get_create_plist()
            found = [plist.get_filter(at) for at in range(plist.get_nfilters())]
            described.append([(number, opts) for number, _, opts, _ in found])
    assert described[0] == described[1]


@pytest.mark.parametrize("level", range(2, 10))
def test_gzip_is_no_larger_than_h5py_writes_it(tmp_path, recording, level) -> None:
    """From level 2 on the stored size is within 1 % of h5py's at that level, or less."""
    options = {"compression": "gzip", "compression_opts": level, "shuffle": True}
    report = lazyio.to_hdf5(recording, tmp_path / "ours.h5", chunks=(1000, 64), **options)
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        theirs = file.create_dataset("data", data=recording, chunks=(1000, 64), **options)
        assert report.stored_nbytes <= 1.01 * theirs.id.get_storage_size()


@pytest.mark.parametrize("codec", STOCK)
def test_independent_readers_agree(out, recording, codec, h5dump) -> None:
    """pyfive, PyTables, netCDF4 and h5dump read what stock HDF5 filters wrote."""
    lazyio.to_hdf5(recording, out, "group/data", chunks=(300, 20), **CODECS[codec])
    pyfive = pytest.importorskip("pyfive")  # It asks for a numcodecs that zarr 2 does not take.
    with pyfive.File(str(out)) as file:
        assert (file["group/data"][:] == recording).all()
    with tables.open_file(str(out)) as file:
        assert (file.root.group.data[:] == recording).all()
    with netCDF4.Dataset(out) as file:
        assert (file["group"]["data"][:] == recording).all()
    dumped = out.with_name("dumped")
    command = [h5dump, "-d", "/group/data", "-b", "LE", "-o", str(dumped), str(out)]
    subprocess.run(command, capture_output=True, check=True)
    assert dumped.read_bytes() == recording.tobytes()


@pytest.mark.parametrize("codec", ["zstd", "blosc", "blosc-lz4-bit"])
def test_pytables_reads_the_codecs_that_it_has(out, recording, codec) -> None:
    """PyTables has libraries of its own for blosc, and hdf5plugin's zstd."""
    lazyio.to_hdf5(recording, out, chunks=(300, 20), **CODECS[codec])
    # In a process of its own: its copy of HDF5 looks for filters once, when it is first used.
    code = "import sys, tables; sys.stdout.buffer.write(tables.open_file(sys.argv[1]).root.data[:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        capture_output=True,
        check=True,
        env=os.environ | {"HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH},
    )
    assert done.stdout == recording.tobytes()


@pytest.mark.parametrize(
    "kind", ["numpy", "raw", "memmap", "dask", "misaligned", "hdf5", "function"]
)
@pytest.mark.parametrize("limit", ["1 GiB", "400 kB"])
def test_every_kind_of_input(tmp_path, recording, kind, limit) -> None:
    """Sources and graphs, with room and without, give the same dataset."""
    recording.tofile(tmp_path / "x.raw")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=recording, chunks=(90, 7), compression="gzip")
    inputs = {
        "numpy": lambda: recording,
        "raw": lambda: lazyio.from_raw(tmp_path / "x.raw", (-1, 64), "int16"),
        "memmap": lambda: np.memmap(tmp_path / "x.raw", "int16", "r", shape=(1000, 64)),
        "dask": lambda: da.from_array(recording, chunks=(200, 32)) + np.int16(0),
        "misaligned": lambda: da.from_array(recording, chunks=(333, 17)) + np.int16(0),
        "hdf5": lambda: lazyio.open(tmp_path / "x.h5"),
        "function": lambda: lazyio.from_function(recording.__getitem__, (1000, 64), "int16"),
    }
    report = lazyio.to_hdf5(
        inputs[kind](), tmp_path / "out.h5", chunks=(100, 8), memory_limit=limit, compression="gzip"
    )
    assert (read(tmp_path / "out.h5") == recording).all()
    assert report.peak_nbytes <= report.plan.memory_limit
    assert report.plan.chunk_shape == (100, 8)


DTYPES = ["?", "i1", "u1", "<i2", ">i2", "u4", ">i8", "f2", "<f4", ">f8", "c8", "c16", "S3"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", ["none", "gzip-1", "zstd", "blosc", "lzf"])
def test_dtypes(out, dtype, codec) -> None:
    """Each dtype comes back as it was, byte order included."""
    values = np.arange(-60, 60).astype("f8").astype(dtype).reshape(20, 6)
    lazyio.to_hdf5(values, out, chunks=(7, 4), **CODECS[codec])
    found = read(out)
    assert found.dtype == values.dtype
    assert (found == values).all()


def test_structured_dtype(out) -> None:
    """Records are stored as HDF5 compounds, encoded here."""
    values = np.zeros(1000, [("time", "<f8"), ("unit", "<i2"), ("position", "<f4", (3,))])
    values["time"] = np.arange(1000)
    values["position"] = 3
    report = lazyio.to_hdf5(values, out, compression="gzip", shuffle=True)
    assert (read(out) == values).all()
    assert report.engine == "direct"


@pytest.mark.parametrize(
    "shape", [(), (0,), (0, 5), (5, 0), (1,), (1, 1, 1), (997,), (2, 3, 2, 3, 2, 1, 2, 3), (31, 37)]
)
def test_shapes(out, shape) -> None:
    """No axis, no elements, one element, eight axes, primes."""
    values = np.arange(int(np.prod(shape)), dtype="int32").reshape(shape)
    for data in (values, da.from_array(values, chunks=2) + np.int32(0)):
        report = lazyio.to_hdf5(data, out, overwrite=True, compression="gzip")
        found = read(out)
        assert found.shape == shape
        assert (found == values).all()
        assert report.nbytes == values.nbytes


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(t) for t in ("u1", "<i2", ">f4", "f8")]),
        hnp.array_shapes(max_dims=4, max_side=12),
    ),
    st.data(),
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_round_trip(tmp_path, values, data) -> None:
    """Any array, any blocks, any chunks, any codec, little memory: the same bytes come back."""
    chunks = tuple(data.draw(st.integers(1, extent)) for extent in values.shape)
    blocks = tuple(data.draw(st.integers(1, extent)) for extent in values.shape)
    codec = data.draw(st.sampled_from(list(CODECS)[:12]))
    as_graph = data.draw(st.booleans())
    source = da.from_array(values, chunks=blocks).map_blocks(lambda b: b) if as_graph else values
    limit = data.draw(st.sampled_from(["1 GiB", "3 MB"]))
    path = tmp_path / "round.h5"
    lazyio.to_hdf5(source, path, mode="w", chunks=chunks, memory_limit=limit, **CODECS[codec])
    assert read(path).tobytes() == values.tobytes()


def test_each_block_of_a_graph_is_computed_once(out) -> None:
    """Also where its blocks cut across chunks and most parts go through scratch."""
    calls = []

    def count(block, block_id=None):
        if block.size:  # dask tries it on an empty block first.
            calls.append(block_id)
        return block

    x = da.ones((300, 200), chunks=(70, 33)).map_blocks(count, dtype=float)
    report = lazyio.to_hdf5(x, out, chunks=(50, 40), memory_limit="300 kB")
    assert len(calls) == len(set(calls)) == x.npartitions == report.n_blocks
    assert (read(out) == 1).all()


def test_each_chunk_is_committed_once(out, recording, monkeypatch) -> None:
    """Chunks that several blocks share are put together first."""
    counted: dict[tuple[int, ...], int] = {}
    whole = Hdf5Target.write_chunk

    def count(self, index, chunk, workspace):
        counted[tuple(index)] = counted.get(tuple(index), 0) + 1
        return whole(self, index, chunk, workspace)

    monkeypatch.setattr(Hdf5Target, "write_chunk", count)
    x = da.from_array(recording, chunks=(77, 13)).map_blocks(lambda b: b)
    report = lazyio.to_hdf5(x, out, chunks=(100, 10), memory_limit="200 kB")
    assert set(counted.values()) == {1}
    assert len(counted) == report.n_chunks


def test_a_straight_source_is_read_once_in_blocks_that_suit_the_target(out) -> None:
    """Whatever blocks the dask array has, nothing is read twice to fill chunks."""
    n_read = []
    values = np.arange(600 * 50, dtype="int32").reshape(600, 50)

    def fetch(region):
        n_read.append(values[region].size)
        return values[region]

    x = lazyio.from_function(fetch, values.shape, "int32", chunks=(7, 3))
    lazyio.to_hdf5(x, out, chunks=(100, 50))
    assert sum(n_read) == values.size
    assert (read(out) == values).all()


def test_channel_major_chunks_of_a_time_major_file(tmp_path, recording) -> None:
    """Each sample is read once, though no block of whole chunks would fit."""
    recording.tofile(tmp_path / "x.raw")
    x = lazyio.from_raw(tmp_path / "x.raw", (-1, 64), "int16")
    plan = lazyio.plan(x, chunks=(-1, 1), memory_limit="100 kB")
    assert plan.read_shape is not None
    assert plan.read_amplification == 1.0
    lazyio.to_hdf5(
        x, tmp_path / "out.h5", chunks=(-1, 1), memory_limit="100 kB", compression="zstd"
    )
    assert (read(tmp_path / "out.h5") == recording).all()
    assert sorted(os.listdir(tmp_path)) == ["out.h5", "x.raw"]


def test_dasks_order_of_arguments(out, recording) -> None:
    """``to_hdf5(path, key, array)`` works as da.to_hdf5 does."""
    lazyio.to_hdf5(out, "/x", da.from_array(recording))
    assert (read(out, "x") == recording).all()


def test_adding_to_a_file_keeps_what_is_there(out, recording) -> None:
    """Another dataset, its attributes and links are as they were."""
    with h5py.File(out, "w") as file:
        file["first"] = np.arange(10)
        file["first"].attrs["unit"] = "mV"
        file["soft"] = h5py.SoftLink("/first")
    lazyio.to_hdf5(recording, out, "group/second", compression="gzip")
    with h5py.File(out) as file:
        assert (file["soft"][:] == np.arange(10)).all()
        assert file["first"].attrs["unit"] == "mV"
        assert (file["group/second"][:] == recording).all()


def test_overwrite_replaces_one_dataset(out, recording) -> None:
    """``overwrite`` speaks of the dataset, ``mode="w"`` of the file."""
    lazyio.to_hdf5(np.arange(5), out, "a")
    lazyio.to_hdf5(np.arange(6), out, "b")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        lazyio.to_hdf5(recording, out, "a")
    lazyio.to_hdf5(recording, out, "a", overwrite=True)
    assert (read(out, "a") == recording).all()
    assert (read(out, "b") == np.arange(6)).all()
    lazyio.to_hdf5(recording, out, "c", mode="w")
    with h5py.File(out) as file:
        assert sorted(file) == ["_lazyio", "c"]


def test_another_key_of_the_file_that_is_read(out, recording) -> None:
    """A dataset may be made from another one in the same file."""
    lazyio.to_hdf5(recording, out, "raw")
    lazyio.to_hdf5(lazyio.open(out, "raw") * np.int16(2), out, "twice")
    assert (read(out, "twice") == recording * 2).all()


def test_settings_of_the_dataset(out, recording) -> None:
    """fillvalue, maxshape, attrs, dtype and libver land in the file."""
    lazyio.to_hdf5(
        recording,
        out,
        "x",
        dtype="float32",
        fillvalue=-1,
        maxshape=(None, 64),
        attrs={"unit": "uV", "gain": 2.5, "channels": np.arange(3)},
        libver=("v110", "v114"),
        chunks=(100, 64),
    )
    with h5py.File(out) as file:
        dataset = file["x"]
        assert dataset.dtype == "float32"
        assert dataset.fillvalue == -1
        assert dataset.maxshape == (None, 64)
        assert dataset.attrs["unit"] == "uV"
        assert dataset.attrs["gain"] == 2.5
        assert (dataset.attrs["channels"] == np.arange(3)).all()
        assert (dataset[:] == recording).all()
    with h5py.File(out, "r+") as file:
        file["x"].resize((1010, 64))
        assert (file["x"][1000:] == -1).all()


def test_dask_blocks_as_chunks(out) -> None:
    """``chunks=True`` takes the array's own blocks, a Plan its chunks and blocks."""
    x = da.ones((100, 90), chunks=(20, 30)) + 1
    assert lazyio.to_hdf5(x, out, mode="w", chunks=True).plan.chunk_shape == (20, 30)
    plan = lazyio.plan((100, 90), "f8", chunks=(10, 90), block_shape=(30, 90))
    assert lazyio.to_hdf5(np.ones((100, 90)), out, mode="w", chunks=plan).n_blocks == 4


def test_the_report_says_what_was_done(out, recording) -> None:
    """Numbers that agree with the file, and two lines to print."""
    report = lazyio.to_hdf5(recording, out, "x", compression="gzip", chunks=(100, 64))
    with h5py.File(out) as file:
        assert report.stored_nbytes == file["x"].id.get_storage_size()
    assert report.path == str(out)
    assert report.keys == ("x",)
    assert report.nbytes == recording.nbytes
    assert (report.n_chunks, report.n_resumed, report.engine) == (10, 0, "direct")
    assert len(str(report).splitlines()) == 2
    assert report.seconds > 0


def test_the_report_advises_on_gzip_9(out, recording) -> None:
    """What takes long for nothing is said, on a line of its own."""
    report = lazyio.to_hdf5(recording, out, compression="gzip", compression_opts=9)
    assert [code for code, _ in report.advice] == ["gzip-9"]
    assert "[gzip-9]" in str(report).splitlines()[2]


def test_progress_steps(out, recording) -> None:
    """A callable is told every block, in order, with totals that add up."""
    steps = []
    report = lazyio.to_hdf5(
        recording, out, "x", chunks=(10, 64), memory_limit="30 kB", progress=steps.append
    )
    assert [step.n_done for step in steps] == list(range(1, report.n_blocks + 1))
    assert {step.n_total for step in steps} == {report.n_blocks}
    assert steps[-1].nbytes == recording.nbytes
    assert {step.key for step in steps} == {"x"}
    assert all(len(step.region) == 2 for step in steps)
    assert steps[-1].seconds >= steps[0].seconds >= 0


def test_progress_bar(out, recording, capsys) -> None:
    """``True`` draws on stderr and nothing on stdout."""
    lazyio.to_hdf5(recording, out, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err


def test_a_progress_callback_that_raises_leaves_nothing(out, recording) -> None:
    """The callback's own error comes out, and the target is not there."""

    def fail(step):
        raise KeyError("callback")

    with pytest.raises(KeyError, match="callback"):
        lazyio.to_hdf5(recording, out, progress=fail)
    assert os.listdir(out.parent) == []


def test_a_failed_run_leaves_the_old_file(out, recording) -> None:
    """The bytes of the old file are untouched, and nothing is left beside it."""
    lazyio.to_hdf5(recording, out)
    before = out.read_bytes()

    def fail(block, block_id=None):
        if block_id == (3, 0):
            raise ValueError("bad block")
        return block

    x = da.from_array(recording, chunks=(100, 64)).map_blocks(fail, dtype="int16")
    with pytest.raises(BlockError, match=r"\[300:400, 0:64\].*bad block"):
        lazyio.to_hdf5(x, out, overwrite=True)
    assert out.read_bytes() == before
    assert os.listdir(out.parent) == ["out.h5"]


KILLED = """
import sys, time
import numpy as np
import lazyio

def read(region):
    time.sleep(0.02)
    return np.ones([part.stop - part.start for part in region], "int16")

x = lazyio.from_function(read, (4000, 64), "int16")
print("begin", flush=True)
lazyio.to_hdf5(x, sys.argv[1], "x", overwrite=True, chunks=(10, 64), memory_limit="40 kB",
               compression="gzip")
print("done", flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("exists", [False, True], ids=["new", "old"])
def test_a_killed_run_leaves_the_final_name_alone(out, delay, exists) -> None:
    """SIGKILL at any time: the old file, or none; the next run clears up and succeeds."""
    if exists:
        lazyio.to_hdf5(np.arange(5), out, "x")
    before = out.read_bytes() if exists else None
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.kill()
    assert process.stdout.read() == ""
    process.wait()
    process.stdout.close()
    assert (out.read_bytes() if out.exists() else None) == before
    lazyio.to_hdf5(np.arange(7), out, "x", overwrite=True)
    assert (read(out, "x") == np.arange(7)).all()
    assert os.listdir(out.parent) == ["out.h5"]


def test_ctrl_c_leaves_nothing_and_is_raised_again(tmp_path) -> None:
    """KeyboardInterrupt reaches the caller, and no block is written after it."""
    out = tmp_path / "out.h5"
    script = KILLED.replace(
        'print("begin", flush=True)',
        (
            "import signal, os\n"
            "signal.signal(signal.SIGALRM, lambda *a: os.kill(os.getpid(), signal.SIGINT))\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.4)"
        ),
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=False
    )
    assert "KeyboardInterrupt" in done.stderr
    assert done.stdout == ""
    assert os.listdir(tmp_path) == []


def test_symlinks_are_followed(tmp_path, recording) -> None:
    """What a link points to is replaced, and the link stays."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link.h5").symlink_to(tmp_path / "real" / "file.h5")
    lazyio.to_hdf5(recording, tmp_path / "link.h5")
    assert (tmp_path / "link.h5").is_symlink()
    assert (read(tmp_path / "real" / "file.h5") == recording).all()


def test_inside_a_synchronous_scheduler(out, recording) -> None:
    """A user who asked dask for one thread gets one."""
    threads = set()

    def note(block):
        import threading

        threads.add(threading.get_ident())
        return block

    x = da.from_array(recording, chunks=(100, 64)).map_blocks(note, dtype="int16")
    with dask.config.set(scheduler="synchronous"):
        report = lazyio.to_hdf5(x, out)
    assert len(threads) == 1
    assert report.plan.workers == 1


def test_incompressible_chunks_are_stored_as_they_are(out) -> None:
    """Noise costs no more than its own bytes, and reads back."""
    noise = np.random.default_rng(0).integers(0, 2**16, size=(400, 100), dtype="uint16")
    report = lazyio.to_hdf5(noise, out, compression="gzip", shuffle=True, chunks=(100, 100))
    assert report.stored_nbytes == noise.nbytes
    assert (read(out) == noise).all()


def test_a_masked_array_in_memory_is_not_copied_as_a_whole(out):
    """Its blocks are small, whatever dask would choose, so small limits do."""
    data = np.ma.masked_less(np.arange(4_000_000, dtype="f8"), 5)
    report = lazyio.to_hdf5(data, out, memory_limit="24 MiB", fillvalue=-1)
    assert report.n_blocks > 4
    assert (read(out)[:6] == [-1, -1, -1, -1, -1, 5]).all()


def test_a_variable_of_xarray_that_lies_in_a_file_is_read_in_parts(tmp_path, out):
    """It is not loaded to be written."""
    import xarray as xr

    xr.Dataset({"v": (("t", "x"), np.arange(40_000.0).reshape(200, 200))}).to_netcdf(
        tmp_path / "v.nc", engine="h5netcdf"
    )
    with xr.open_dataset(tmp_path / "v.nc", engine="h5netcdf") as dataset:
        lazyio.to_hdf5(dataset["v"].variable, out)
        assert not dataset["v"].variable._in_memory
    assert read(out)[3, 4] == 604


def test_what_a_cluster_holds_already_is_written(out):
    """A persisted array has nothing left to optimise."""
    from dask.distributed import Client

    with Client(n_workers=1, processes=False, dashboard_address=":0"):
        x = da.arange(400, chunks=100).reshape(20, 20).persist()
        lazyio.to_hdf5(x, out)
        lazyio.to_zarr(x, out.with_suffix(".zarr"))
    assert (read(out) == np.arange(400).reshape(20, 20)).all()


@pytest.mark.parametrize("options", [{"shuffle": True}, {"fletcher32": True}], ids=str)
def test_what_libhdf5_gets_wrong_is_refused(out, options):
    """nbit, followed by filters that take its bytes for elements."""
    with pytest.raises(OptionError, match="makes wrong values"):
        lazyio.to_hdf5(np.arange(9), out, compression="nbit", **options)
