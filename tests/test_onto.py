"""Streams, blocks and iterators that go into arrays which are there, ours and others'."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tables
import zarr
from formats import FORMATS, read, write
from hdmf.data_utils import DataChunkIterator
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.atomic.recovery import leftovers
from lazyio.errors import BlockError, OptionError, TargetError


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def made(path, values, **options):
    if path.suffix == ".h5":
        options["maxshape"] = options.pop("maxshape", (None,) * values.ndim)
    write(values, path, **options)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_stream_goes_on(tmp_path_factory, data):
    """As numpy's concatenate, whatever chunk the end lies in; verified before and after."""
    draw = data.draw
    suffix = draw(st.sampled_from(FORMATS))
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    axis = draw(st.integers(0, len(shape) - 1))
    old = np.arange(np.prod(shape), dtype="i4").reshape(shape)
    path = tmp_path_factory.mktemp("onto") / f"x.{suffix}"
    chunks = tuple(draw(st.integers(1, 9)) for _ in shape)
    codec = draw(st.sampled_from([None, "gzip", "szip"]))
    options = {"compression": codec} if suffix == "h5" else {}
    made(path, old, chunks=chunks, **options)
    whole = old
    for _ in range(draw(st.integers(1, 3))):
        n_more = draw(st.integers(0, 20))
        item = shape[:axis] + shape[axis + 1 :]
        items = [np.full(item, at - 1, "i4") for at in range(n_more)]
        holes = draw(st.sets(st.integers(0, 19)))
        items = [None if at in holes else one for at, one in enumerate(items)]
        stream = lazyio.Stream(items, axis=axis, dtype="i4")
        if not any(one is not None for one in items):
            continue
        report = write(stream, path, append_dim=axis)
        more = [np.zeros(item, "i4") if one is None else one for one in items]
        whole = np.concatenate([whole, np.stack(more, axis)], axis)
        assert report.plan.shape == whole.shape
        np.testing.assert_array_equal(read(path), whole)
        assert lazyio.verify(path).status == "ok"


def test_an_earray_as_in_the_blog(tmp_path):
    """10 000 rows that PyTables made, and 5 behind them; it reads all of them."""
    path = tmp_path / "x.h5"
    rows = np.arange(10000 * 4).reshape(10000, 4)
    with tables.open_file(path, "w") as file:
        filters = tables.Filters(complevel=4, complib="zlib", shuffle=True)
        array = file.create_earray(
            "/", "rows", atom=tables.Int64Atom(), shape=(0, 4), filters=filters
        )
        array.append(rows)
        chunks = array.chunkshape
    lazyio.to_hdf5(np.full((5, 4), 7), path, "rows", append_dim=0)
    lazyio.to_hdf5(lazyio.Stream(np.full(4, n) for n in range(5)), path, "rows", append_dim=0)
    more = np.repeat(np.arange(5), 4).reshape(5, 4)
    with tables.open_file(path) as file:
        assert isinstance(file.root.rows, tables.EArray)
        assert file.root.rows.chunkshape == chunks
        np.testing.assert_array_equal(
            file.root.rows[:], np.concatenate([rows, np.full((5, 4), 7), more])
        )
    with tables.open_file(path, "a") as file:
        file.root.rows.append(np.zeros((1, 4), int))
        assert file.root.rows.nrows == 10011


def test_user_defined_write_of_pynwb(tmp_path):
    """Empty, filled in parts and grown, with PyNWB's own numbers."""
    path = tmp_path / "x.h5"
    lazyio.allocate(
        path,
        "grid",
        shape=(0, 10),
        dtype="f8",
        maxshape=(None, 10),
        chunks=(131072, 2),
        fillvalue=np.nan,
    )
    lazyio.to_hdf5(np.ones((3, 10)), path, "grid", region=np.s_[0:3, :])
    lazyio.to_hdf5(np.full((3, 10), 2.0), path, "grid", region=np.s_[3:6, :])
    lazyio.to_hdf5(np.full((1, 10), np.nan), path, "grid", region=np.s_[7:8, :])
    with h5py.File(path) as file:
        assert (file["grid"].shape, file["grid"].maxshape) == ((8, 10), (None, 10))
        assert file["grid"].chunks == (131072, 2)
        found = file["grid"][...]
    wanted = np.repeat([1, 1, 1, 2, 2, 2, np.nan, np.nan], 10).reshape(8, 10)
    np.testing.assert_array_equal(found, wanted)


def test_an_iterator_fills_an_open_dataset(tmp_path):
    """How one fills what PyNWB has allocated, from an iterator."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", (2, 5), "f8", maxshape=(None, 5), chunks=(3, 5))
        values = np.arange(50.0).reshape(10, 5)
        iterator = DataChunkIterator(data=iter(values), maxshape=(None, 5), buffer_size=4)
        report = lazyio.to_hdf5(iterator, dataset)
        np.testing.assert_array_equal(dataset[...], values)
        assert any(code == "open-handle" for code, _ in report.advice)
        lazyio.to_hdf5(lazyio.Stream([np.zeros(5)] * 4), dataset, append_dim=0)
        assert dataset.shape == (14, 5)


def test_blocks_over_what_is_there(path):
    made(path, np.ones((20, 20)), chunks=(6, 6))
    blocks = lazyio.Blocks([(np.s_[2:9, 3], np.full(7, 5.0)), ((19, 19), 6)], (20, 20), "f8")
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            lazyio.to_hdf5(blocks, file["data"])
    else:
        lazyio.to_zarr(blocks, zarr.open_array(path, mode="r+"))
    wanted = np.ones((20, 20))
    wanted[2:9, 3], wanted[19, 19] = 5, 6
    np.testing.assert_array_equal(read(path), wanted)


def test_pieces_go_on_too(path):
    """An iterator, and blocks, behind what is there."""
    made(path, np.ones((4, 3)), chunks=(3, 3))
    write(DataChunkIterator(data=iter(np.full((5, 3), 2.0)), buffer_size=2), path, append_dim=0)
    write(lazyio.Blocks([(np.s_[1, :], np.full(3, 3.0))], (3, 3), "f8"), path, append_dim=0)
    assert read(path)[:, 0].tolist() == [1] * 4 + [2] * 5 + [0, 3, 0]
    assert lazyio.verify(path).status == "ok"


def test_all_of_what_is_there_by_its_path(path):
    made(path, np.ones((4, 3)), chunks=(3, 3))
    write(lazyio.Blocks([((3, 2), 7)], (4, 3), "f8"), path, region=...)
    assert read(path)[3].tolist() == [1, 1, 7]
    assert read(path).sum() == 18


@pytest.mark.parametrize("codec", ["zstd", "blosc", "lz4", "lzf", "gzip", "bitshuffle"])
def test_a_chunk_is_read_without_the_plugin(tmp_path, codec):
    """In a process of its own, in which nobody has it, where lazyio can do without."""
    hidden = "" if codec == "bitshuffle" else "sys.modules['hdf5plugin'] = None\n"
    code = (
        f"import sys\n{hidden}"
        "import numpy as np, lazyio\n"
        f"x = np.arange(500.0).reshape(-1, 5)\n"
        f"lazyio.to_hdf5(x, 'x.h5', chunks=(64, 5), maxshape=(None, 5), compression={codec!r})\n"
        "lazyio.to_hdf5(x[:3], 'x.h5', append_dim=0)\n"
        "lazyio.to_hdf5(lazyio.Stream(iter(x[:3])), 'x.h5', append_dim=0)\n"
        "lazyio.to_hdf5(x[:3], 'x.h5', append_dim=0, resume=True)\n"
        "with lazyio.writer('x.h5') as w:\n"
        "    w.create('data').append(x[:3])\n"
        "found = lazyio.open('x.h5').compute()\n"
        "assert (found == np.concatenate([x, x[:3], x[:3], x[:3], x[:3]])).all()\n"
        "assert lazyio.verify('x.h5').status == 'ok'\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    # Where netCDF4 was imported, this leads to plugins of another libhdf5.
    env = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)


@pytest.mark.parametrize("way", ["append", "stream", "region", "writer", "resume"])
def test_a_chunk_of_as_many_bytes_with_another_mask(tmp_path, way):
    """libhdf5 keeps the old chunk's mask; found by trying sizes until the two agree."""
    path = tmp_path / "x.h5"
    for seed in range(60):
        rng = np.random.default_rng(seed)
        old = rng.integers(0, 99, 8).astype("f2")
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=old, chunks=(13,), maxshape=(None,), compression="gzip")
        more = rng.integers(0, 99, 3).astype("f2")
        if way == "stream":
            lazyio.to_hdf5(lazyio.Stream(list(more)), path, "x", append_dim=0)
        elif way == "region":
            lazyio.to_hdf5(more, path, "x", region=np.s_[8:11])
        elif way == "writer":
            with lazyio.writer(path) as writer:
                writer.create("x").append(more)
        else:
            lazyio.to_hdf5(more, path, "x", append_dim=0, resume=way == "resume")
        np.testing.assert_array_equal(read(path, "x"), [*old, *more])


def test_a_sparse_matrix_is_whole(path):
    sparse = pytest.importorskip("scipy.sparse")
    made(path, np.ones((3, 3)), chunks=(2, 2))
    with pytest.raises(OptionError, match="a sparse matrix is zero where nothing is stored"):
        write(sparse.csr_array(np.eye(3)), path, region=...)


def test_a_failing_stream_changes_nothing(path):
    made(path, np.arange(10.0), chunks=4)
    before = read(path)

    def items():
        yield 1.0
        msg = "unplugged"
        raise OSError(msg)

    with pytest.raises(BlockError, match="unplugged"):
        write(lazyio.Stream(items()), path, append_dim=0)
    np.testing.assert_array_equal(read(path), before)
    assert lazyio.verify(path).status == "ok"
    assert not leftovers(path)


def test_into_a_large_file(tmp_path, monkeypatch):
    """What is there is read from the file that is being changed."""
    monkeypatch.setattr("lazyio.atomic.workdir.COPIED_NBYTES", 1000)
    monkeypatch.setattr("lazyio.storage.hdf5.file.COPIED_NBYTES", 1000)
    path = tmp_path / "x.h5"
    for codec in (None, "gzip"):
        made(path, np.arange(10000), chunks=3000, mode="w", compression=codec)
        write(lazyio.Stream(range(5)), path, append_dim=0)
        np.testing.assert_array_equal(read(path), [*range(10000), *range(5)])
        assert lazyio.verify(path).status == "ok"


class TestErrors:
    """What does not go there."""

    def test_what_does_not_go_on(self, path):
        made(path, np.ones((4, 3)), chunks=(2, 3))
        with pytest.raises(OptionError, match="does not continue"):
            write(lazyio.Stream([np.ones(4)]), path, append_dim=0)
        with pytest.raises(OptionError, match="the stream grows along axis 1"):
            write(lazyio.Stream([np.ones(3)], axis=1), path, append_dim=0)
        with pytest.raises(OptionError, match="is no axis of"):
            write(lazyio.Stream([np.ones(3)]), path, append_dim="time")
        with pytest.raises(OptionError, match="dtype"):
            write(lazyio.Stream([np.ones(3, "c16")]), path, append_dim=0)

    def test_an_axis_that_cannot_grow(self, tmp_path):
        path = tmp_path / "x.h5"
        lazyio.to_hdf5(np.ones((4, 3)), path, chunks=(2, 3))
        with pytest.raises(OptionError, match="cannot grow to 5 along axis 0"):
            lazyio.to_hdf5(lazyio.Stream([np.ones(3)]), path, append_dim=0)
        lazyio.to_hdf5(np.ones((4, 3)), path, "y", chunks=(2, 3), maxshape=(6, 3))
        with pytest.raises(TargetError, match="maxshape"):
            lazyio.to_hdf5(lazyio.Stream([np.ones(3)] * 3), path, "y", append_dim=0)
        assert read(path, "y").shape == (4, 3)

    def test_blocks_of_another_array(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            dataset = file.create_dataset("x", (4, 4), "f8", chunks=(2, 2))
            with pytest.raises(OptionError, match=r"does not take pieces of an array of \(5, 4\)"):
                lazyio.to_hdf5(lazyio.Blocks([], (5, 4), "f8"), dataset)
            with pytest.raises(OptionError, match="give append_dim=0 to append a stream"):
                lazyio.to_hdf5(lazyio.Stream([np.ones(4)]), dataset)
