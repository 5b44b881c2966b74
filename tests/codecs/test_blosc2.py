"""Blosc2 frames: read as the plugin, PyTables and python-blosc2 write them, and the reverse."""

import subprocess
import sys
import threading
from unittest import mock

import blosc2 as python_blosc2
import h5py
import hdf5plugin
import numpy as np
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.codecs import blosc2
from lazyio.codecs import hdf5_chunks as families
from lazyio.codecs.hdf5_filters import Filter
from lazyio.sources.hdf5 import Hdf5Source

CNAMES = ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
shapes = st.lists(st.sampled_from([1, 2, 3, 7, 30, 100]), min_size=1, max_size=4).map(tuple)
options = st.fixed_dictionaries(
    {
        "cname": st.sampled_from(CNAMES),
        "clevel": st.integers(0, 9),
        "filters": st.integers(0, 2),
    }
)
contents = st.sampled_from(["zeros", "nan", "alike", "rising", "noise"])


def filled(content, shape, dtype):
    """Return an array of a kind that frames store in a way of its own."""
    n = int(np.prod(shape))
    made = {
        "zeros": np.zeros(n),
        "nan": np.full(n, np.nan if np.dtype(dtype).kind == "f" else 1),
        "alike": np.full(n, 7),
        "rising": np.arange(n),
        "noise": np.random.default_rng(0).integers(0, 100, n),
    }[content]
    return made.astype(dtype).reshape(shape)


def by_the_plugin(array, **settings_):
    """Return the frame that hdf5plugin stores, and the options of its filter."""
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        keywords = hdf5plugin.Blosc2(**settings_)
        dataset = file.create_dataset("x", data=array, chunks=array.shape, **keywords)
        _, frame = dataset.id.read_direct_chunk((0,) * array.ndim)
        return frame, dataset.id.get_create_plist().get_filter(0)[2]


def decoded(frame, like):
    """Return what a frame decodes to, over memory that held something else."""
    out = np.full(like.nbytes, 77, np.uint8)
    blosc2.decompress(np.frombuffer(frame, np.uint8), out)
    return out.view(like.dtype).reshape(like.shape)


def as_bytes(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


@given(shapes, st.sampled_from(["u1", "i2", "f4", "f8"]), contents, options)
@settings(max_examples=150, deadline=None)
def test_frames_of_the_plugin_and_ours(shape, dtype, content, given_options):
    """Each reads the other's; of one axis they are the same to the byte."""
    if np.prod(shape) > 10**6:
        shape = shape[:2]
    array = filled(content, shape, dtype)
    frame, found = by_the_plugin(array, **given_options)
    assert decoded(frame, array).tobytes() == array.tobytes()
    own = blosc2.compressor(found)(as_bytes(array)).tobytes()
    assert decoded(own, array).tobytes() == array.tobytes()
    if array.ndim == 1:
        assert own == frame
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        keywords = hdf5plugin.Blosc2(**given_options)
        dataset = file.create_dataset("x", shape, dtype, chunks=shape, **keywords)
        dataset.id.write_direct_chunk((0,) * array.ndim, own)
        assert dataset[...].tobytes() == array.tobytes()
    if array.ndim == 1:
        schunk = python_blosc2.schunk_from_cframe(own)
        assert schunk[:] == array.tobytes()
    else:
        theirs = python_blosc2.ndarray_from_cframe(own)
        assert theirs.shape == shape
        assert theirs[...].tobytes() == array.tobytes()


@given(st.data(), shapes, contents)
@settings(max_examples=100, deadline=None)
def test_blocks_of_any_shape(data, shape, content):
    """Elements lie in the order of blocks, with room for what no block has."""
    shape = shape[:3]
    blocks = tuple(data.draw(st.integers(1, n)) for n in shape)
    array = filled(content, shape, "i4")
    frame = python_blosc2.asarray(array, chunks=shape, blocks=blocks).to_cframe()
    assert (decoded(frame, array) == array).all()


def test_a_frame_of_several_chunks_is_refused():
    """A filter's has one; what lies in a second is not left out."""
    array = np.arange(100, dtype="i4")
    frame = python_blosc2.asarray(array, chunks=(30,), blocks=(10,)).to_cframe()
    with pytest.raises(ValueError, match="only one is read here"):
        decoded(frame, array)


@given(
    st.lists(st.integers(1, 5000), min_size=2, max_size=4).map(tuple),
    st.integers(1, 16),
    st.integers(1, 10**6),
)
def test_blocks_of_rows(shape, typesize, most_nbytes):
    """One after another they are the elements in order, with little room behind them."""
    blocks = blosc2._rows_of(shape, typesize, most_nbytes)
    extended = blosc2._extended(shape, blocks)
    assert all(1 <= step <= n for step, n in zip(blocks, shape, strict=True))
    assert extended[1:] == shape[1:]
    assert blosc2._lie_in_order(extended, blocks)
    assert extended[0] - shape[0] < -(-shape[0] // blocks[0])


@pytest.mark.parametrize("shape", [(4000,), (300, 40), (7, 30, 50)])
def test_files_are_read_by_others(tmp_path, shape):
    """By h5py with hdf5plugin, and by PyTables, whose Blosc2 is another build."""
    array = filled("rising", shape, "f4")
    chunks = tuple(-(-n // 2) for n in shape)
    codec = {"compression": "blosc2", "compression_opts": ("zstd", 3, "byte")}
    report = lazyio.to_hdf5(array, tmp_path / "x.h5", "x", chunks=chunks, **codec)
    assert report.engine == "direct"
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["x"][...] == array).all()
    with tables.open_file(tmp_path / "x.h5") as file:
        assert (file.root.x[...] == array).all()
        part = tuple(slice(1, n - 1) for n in shape)
        assert (file.root.x[part] == array[part]).all()
    lazyio.to_hdf5(array[:3] + 1, tmp_path / "x.h5", "x", region=tuple(map(slice, (3, *shape[1:]))))
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["x"][:3] == array[:3] + 1).all()
        assert (file["x"][3:] == array[3:]).all()


@pytest.mark.parametrize("shape", [(4000,), (300, 40)])
def test_files_of_pytables(tmp_path, shape, monkeypatch):
    """Read without libhdf5."""
    array = filled("rising", shape, "f4")
    filters = tables.Filters(complevel=5, complib="blosc2:lz4", shuffle=True)
    with tables.open_file(tmp_path / "x.h5", "w") as file:
        chunks = tuple(-(-n // 3) for n in shape)
        file.create_carray("/", "x", obj=array, filters=filters, chunkshape=chunks)
    monkeypatch.setattr(Hdf5Source, "_read_with_libhdf5", None)
    assert (lazyio.open(tmp_path / "x.h5", "x").compute() == array).all()


def test_threads_have_contexts_of_their_own():
    """And arrays of several kinds at the same time."""
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(60):
            array = rng.integers(0, 50, int(rng.integers(1, 5000))).astype("i4")
            code = int(rng.choice((0, 1, 2, 4, 5)))
            frame = blosc2.compressor((1, 0, 4, array.nbytes, 5, 1, code))(as_bytes(array))
            if (decoded(frame.tobytes(), array) != array).any():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


DAMAGE = """
import numpy as np
from lazyio.codecs import blosc2

rng = np.random.default_rng(0)
n_refused = 0
for shape in ((), (2, 60, 40)):
    for content in (np.arange(2400), np.zeros(2400), rng.integers(0, 9, 2400)):
        data = content.astype("i2").view("u1")
        frame = blosc2.compressor((1, 0, 2, 4800, 5, 1, 5, *shape))(data).copy()
        for _ in range(1500):
            bad = frame.copy()
            for at in rng.integers(0, len(bad), rng.integers(1, 4)):
                bad[at] ^= 1 << rng.integers(8)
            if rng.random() < 0.2:
                bad = bad[: rng.integers(len(bad))]
            try:
                blosc2.decompress(bad, np.empty(4800, "u1"))
            except ValueError:
                n_refused += 1
print(n_refused)
"""


def test_damage_ends_in_an_error():
    """Never in a crash: the library is given nothing that it has not room for."""
    command = [sys.executable, "-X", "faulthandler", "-c", DAMAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


def test_another_library_is_left_alone():
    """Where its parameters do not lie where they are looked for libhdf5 has to do it."""
    step = Filter(filter_id=32026, options=(1, 0, 2, 2000, 5, 1, 1))
    with mock.patch.object(blosc2, "_library", return_value=None):
        assert families.compressor(step, 2) is None
        assert families.decompressor(step, 2) is None
    assert families.compressor(step, 2) is not None
    snappy = Filter(filter_id=32026, options=(1, 0, 2, 2000, 5, 1, 3))
    assert families.compressor(snappy, 2) is None
