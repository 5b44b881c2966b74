"""Data that comes once, element by element or in batches, of which nobody knows how much."""

import itertools
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from formats import FORMATS, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.atomic.recovery import leftovers
from lazyio.errors import BlockError, OptionError, PlanError, TargetError


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


class TestPeeking:
    """dtype, shape and maxshape, before it is written."""

    def test_nothing_is_lost(self):
        stream = lazyio.Stream(np.full(10, float(n)) for n in range(3))
        assert (stream.dtype, stream.item_shape, stream.maxshape) == ("f8", (10,), (None, 10))
        assert [float(one[0, 0]) for one in stream.take()] == [0, 1, 2]

    def test_holes_before_the_first(self):
        stream = lazyio.Stream([None, None, np.int16(3), None])
        assert (stream.dtype, stream.maxshape) == ("i2", (None,))
        assert [one if one is None else one.tolist() for one in stream.take()] == [
            None,
            None,
            [3],
            None,
        ]

    @pytest.mark.parametrize(
        ("axis", "maxshape"), [(0, (None, 3, 4)), (1, (3, None, 4)), (-1, (3, 4, None))]
    )
    def test_axis(self, axis, maxshape):
        assert lazyio.Stream([np.ones((3, 4))], axis=axis).maxshape == maxshape

    def test_batches(self):
        stream = lazyio.Stream([np.ones((3, 7, 4))], axis=1, batched=True)
        assert (stream.item_shape, stream.maxshape) == ((3, 4), (3, None, 4))

    def test_it_is_taken_once(self):
        stream = lazyio.Stream([1, 2])
        list(stream.take())
        with pytest.raises(OptionError, match="used up"):
            list(stream.take())

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"iterable": 3}, "not iterable"),
            ({"iterable": "text"}, "not iterable"),
            ({"iterable": [1], "axis": 1.5}, "no integer"),
            ({"iterable": [1], "expected_length": -1}, "no number of elements"),
        ],
    )
    def test_what_it_is_not(self, options, match):
        with pytest.raises(OptionError, match=match):
            lazyio.Stream(**options)

    def test_an_axis_that_it_does_not_have(self):
        with pytest.raises(OptionError, match="axis=2 is none of"):
            _ = lazyio.Stream([np.ones(3)], axis=2).maxshape


@settings(max_examples=60)
@given(st.data())
def test_as_numpy_has_it(tmp_path_factory, data):
    """Any rank, axis, batching, chunks, holes, dtype: what comes out is what went in."""
    draw = data.draw
    suffix = draw(st.sampled_from(FORMATS))
    shape = draw(st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple))
    length = draw(st.integers(1, 40))
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    dtype = draw(st.sampled_from(["i2", "f8", ">u4", "?", "c8"]))
    chunks = draw(st.sampled_from(["auto", 3, 7]))
    items = [np.random.default_rng(n).integers(0, 2, shape).astype(dtype) for n in range(length)]
    whole = np.stack(items, axis=axis)
    batched = draw(st.booleans())
    given_items: list = list(items)
    if batched:
        cuts = sorted(draw(st.sets(st.integers(1, length), max_size=4)))
        given_items = np.split(whole, cuts, axis=axis)
    else:
        holes = draw(st.sets(st.integers(1, length), max_size=5)) - {length}
        for at in holes:
            given_items[at] = None
            np.moveaxis(whole, axis, 0)[at] = 0
    expected = draw(st.sampled_from([None, 1, length, 1000]))
    stream = lazyio.Stream(given_items, axis=axis, batched=batched, expected_length=expected)
    path = tmp_path_factory.mktemp("stream") / f"x.{suffix}"
    report = write(stream, path, chunks=chunks, memory_limit="1 MiB")
    np.testing.assert_array_equal(read(path), whole)
    assert report.plan.shape == whole.shape
    assert lazyio.verify(path).status == "ok"


CODECS = [{}, {"compression": "gzip"}, {"compression": "szip"}, {"fletcher32": True}]


@pytest.mark.parametrize("options", CODECS)
@pytest.mark.parametrize("axis", [0, 1])
def test_codecs_of_hdf5(tmp_path, options, axis):
    items = [np.arange(6, dtype="i4") + n for n in range(50)]
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(lazyio.Stream(items, axis=axis), path, chunks=(4, 4), **options)
    np.testing.assert_array_equal(read(path), np.stack(items, axis=axis))
    assert lazyio.verify(path).status == "ok"


@pytest.mark.parametrize(
    "options",
    [{"zarr_format": 2}, {"shards": (8, 6), "chunks": (4, 3)}, {"write_empty_chunks": True}],
)
def test_kinds_of_zarr(tmp_path, options):
    items = [np.arange(6, dtype="i4") + n for n in range(50)]
    for target in (tmp_path / "x.zarr", tmp_path / "x.zip", zarr.storage.MemoryStore(), {}):
        lazyio.to_zarr(lazyio.Stream(items), target, **{"chunks": (4, 6), **options})
        opened = zarr.storage.ZipStore(target) if str(target).endswith("zip") else target
        np.testing.assert_array_equal(zarr.open_array(opened, mode="r")[...], np.stack(items))


def test_text_and_times(tmp_path):
    words = np.array([f"word {n}" for n in range(20)], np.dtypes.StringDType())
    days = np.array(["2001-02-03", "2020-01-01"], "M8[D]")
    lazyio.to_hdf5({"w": lazyio.Stream(words), "d": lazyio.Stream(days)}, tmp_path / "x.h5")
    assert (lazyio.open(tmp_path / "x.h5", "w").compute() == words).all()
    assert (lazyio.open(tmp_path / "x.h5", "d").compute() == days).all()


def test_holes_take_no_room(tmp_path):
    """Chunks of which nothing came are not stored, and read as fill value."""
    items = [np.ones(10) if n % 1000 == 0 else None for n in range(5000)]
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(lazyio.Stream(items), path, chunks=(100, 10), fillvalue=7)
    with h5py.File(path) as file:
        assert file["data"].id.get_num_chunks() == 5
        assert file["data"].shape == (5000, 10)
        assert (file["data"][1000] == 1).all()
        assert (file["data"][1001] == 7).all()
    assert lazyio.verify(path).status == "ok"


def test_pynwb_iter_sin(tmp_path):
    """The example of PyNWB's tutorial on iterative write, up to its generator."""

    def iter_sin(chunk_length=10, max_chunks=100):
        rng, num_chunks = np.random.default_rng(0), 0
        while num_chunks < max_chunks:
            yield np.asarray([np.sin(rng.random()) for _ in range(chunk_length)])
            num_chunks += 1

    lazyio.to_hdf5(lazyio.Stream(iter_sin()), tmp_path / "x.h5", "sine")
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["sine"].maxshape == (None, 10)
        assert file["sine"].dtype == np.float64
        np.testing.assert_array_equal(file["sine"][...], list(iter_sin()))


def test_several_in_turn(tmp_path):
    """Slab by slab from each, as HDMF's queue takes them."""
    taken = []

    def source(name, n):
        for at in range(n):
            taken.append(name)
            yield np.full(100, at, "i4")

    streams = {"a": lazyio.Stream(source("a", 500)), "b": lazyio.Stream(source("b", 300), axis=1)}
    lazyio.to_hdf5(streams, tmp_path / "x.h5", chunks=(100, 100), memory_limit="300 kB", workers=1)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["a"].shape == (500, 100)
        assert file["b"].shape == (100, 300)
        assert (file["a"][:, 3] == np.arange(500)).all()
    runs = [name for name, _ in itertools.groupby(taken[2:])]
    assert len(runs) >= 3


class TestErrors:
    """Named by the number of the item; nothing is published, and what was there stays."""

    @pytest.mark.parametrize(
        ("items", "match"),
        [
            ([np.ones(3), np.ones(3), np.ones(4)], r"item 2 of the stream has shape \(4,\)"),
            ([np.ones(3, "i4"), np.ones(3, "f8")], "item 1 of the stream .* its dtype is float64"),
            ([np.ones(3, "i4"), [1, 2, 2**40]], "item 1 of the stream .* its dtype is int64"),
            ([1, None, "text"], "item 2 of the stream"),
            ([1, 2.5], "item 1 of the stream .* dtype is float64, of which int64 cannot"),
        ],
    )
    def test_items(self, path, items, match):
        write(np.arange(3), path)
        with pytest.raises(BlockError, match=match):
            write(lazyio.Stream(items), path, overwrite=True)
        np.testing.assert_array_equal(read(path), np.arange(3))
        assert leftovers(path) == []

    def test_what_numpy_would_store_otherwise(self, path):
        """Fields in another order, times out of reach, masked elements, numbers that wrap."""
        one, other = np.dtype([("a", "i4"), ("b", "i4")]), np.dtype([("b", "i4"), ("a", "i4")])
        far = np.datetime64("9999-01-01", "D")
        for stream in (
            lazyio.Stream([np.array((1, 2), one), np.array((5, 6), other)]),
            lazyio.Stream([far], dtype="M8[ns]"),
            lazyio.Stream([np.datetime64("2020-01-01", "ns"), far]),
            lazyio.Stream([np.timedelta64(10**6, "D")], dtype="m8[ns]"),
            lazyio.Stream([np.ma.array([1, 2], mask=[0, 1])]),
            lazyio.Stream([np.ones(2), np.ma.array([1.0, 2], mask=[0, 1])]),
            lazyio.Stream([300], dtype="u1"),
            lazyio.Stream([-1], dtype="u1"),
            lazyio.Stream([1j], dtype="f8"),
        ):
            with pytest.raises(BlockError, match=r"item [01] of the stream"):
                write(stream, path)
        for dtype in ("u1", "u2", "?", "f4", "c8"):
            write(lazyio.Stream([1, 0], dtype=dtype), path, overwrite=True)
            assert read(path).tolist() == [1, 0]

    def test_a_first_item_that_fails(self, path):
        """The rest of it is not what was meant."""

        class Late:
            n = 0

            def __iter__(self):
                return self

            def __next__(self):
                self.n += 1
                if self.n == 1:
                    raise OSError("not yet")
                if self.n == 4:
                    raise StopIteration
                return self.n

        for stream in (lazyio.Stream([[1, [2]], 3, 4]), lazyio.Stream(Late())):
            for _ in range(2):
                with pytest.raises(BlockError, match="item 0 of the stream"):
                    write(stream, path)
        assert not path.exists()

    def test_batches(self, path):
        with pytest.raises(BlockError, match=r"item 1 of the stream has shape \(2, 4\)"):
            write(lazyio.Stream([np.ones((2, 3)), np.ones((2, 4))], batched=True), path)
        with pytest.raises(BlockError, match=r"item 1 of the stream has shape \(3,\)"):
            write(lazyio.Stream([np.ones((2, 3)), np.ones(3)], batched=True), path)
        with pytest.raises(OptionError, match="a single element, no batch"):
            write(lazyio.Stream([1, 2], batched=True), path)
        assert not path.exists()

    def test_the_generator_raises(self, path):
        def source():
            yield np.ones(3)
            raise RuntimeError("the camera is gone")

        with pytest.raises(BlockError, match=r"item 1 .* RuntimeError: the camera is gone"):
            write(lazyio.Stream(source()), path)
        assert not path.exists()
        assert leftovers(path) == []

    def test_used_up(self, path):
        stream = lazyio.Stream(iter([1, 2]))
        write(stream, path)
        with pytest.raises(OptionError, match="used up"):
            write(stream, path, overwrite=True)
        np.testing.assert_array_equal(read(path), [1, 2])

    def test_empty(self, path):
        with pytest.raises(OptionError, match="no item to take a dtype from; give dtype="):
            write(lazyio.Stream([]), path)
        write(lazyio.Stream([], dtype="f4"), path)
        assert (read(path).shape, read(path).dtype) == ((0,), "f4")
        write(lazyio.Stream([None, None, None], dtype="f4"), path, overwrite=True)
        assert read(path).shape == (3,)

    def test_what_does_not_go_with_it(self, path):
        with pytest.raises(OptionError, match="resume=True: a stream or iterator is one-pass"):
            write(lazyio.Stream([1]), path, resume=True)
        write(np.arange(3), path)
        with pytest.raises(OptionError, match="says itself where it goes"):
            write(lazyio.Stream([1]), path, region=slice(0, 1))
        if path.suffix == ".h5":
            with pytest.raises(OptionError, match="stored in chunks"):
                write(lazyio.Stream([1]), path, "y", chunks=None)
            write(lazyio.Stream([1], expected_length=10**12), path, "long")
            with pytest.raises(TargetError, match="maxshape"):
                write(lazyio.Stream([1, 2, 3]), path, "y", maxshape=(2,))

    @pytest.mark.parametrize("limit", ["1 MiB", "2 MiB", "16 MiB", "32 MiB", "64 MiB"])
    @pytest.mark.parametrize("workers", [1, 2, 8])
    def test_small_limits(self, path, limit, workers):
        """Chunks are made short, or narrow, enough."""
        row = np.arange(65536, dtype="u1")
        options = {"memory_limit": limit, "workers": workers}
        if limit in ("1 MiB", "2 MiB") and workers == 8:
            with pytest.raises(PlanError, match="too small"):
                write(lazyio.Stream([row] * 10), path, **options)
            return
        report = write(lazyio.Stream([row] * 10), path, **options)
        assert report.plan.peak_nbytes <= report.plan.memory_limit
        assert (read(path) == row).all()

    def test_an_element_that_does_not_fit(self, path):
        with pytest.raises(PlanError, match="too small"):
            write(lazyio.Stream([np.ones(10**6)]), path, memory_limit="1 MiB", chunks=(1, 100))


def test_dtype_that_was_asked_for(path):
    """Is converted to, unless that changes integers."""
    write(lazyio.Stream([1.5, 2, np.float64(3)], dtype="f4"), path)
    assert read(path).dtype == "f4"
    for items, dtype in (([1, 2**20], "i2"), ([1.0, 1e300], "f4"), ([1.0, 2.5], "i2")):
        with pytest.raises(BlockError, match="item"):
            write(lazyio.Stream(items, dtype=dtype), path, overwrite=True)


MEASURE = """
import json, sys
import numpy as np, lazyio
out = sys.argv[1]
to = lazyio.to_hdf5 if out.endswith("h5") else lazyio.to_zarr

def write(n, path):
    rows = [np.arange(10.0) + n for n in range(100)]
    stream = lazyio.Stream(rows[at % 100] for at in range(n))
    to(stream, path, memory_limit="32 MiB", workers=2)

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

write(1000, out + ".warm." + out.rpartition(".")[2])
open("/proc/self/clear_refs", "w").write("5")
before = resident()
write(1_000_000, out)
print(json.dumps({"growth": resident() - before}))
"""


def test_memory_of_a_million_items(path):
    """Within the limit, which is less than half of the data."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["growth"] <= 32 * 2**20
    assert read(path).shape == (1_000_000, 10)


@pytest.mark.parametrize("has_tqdm", [True, False])
@pytest.mark.parametrize("expected", [None, 1000])
def test_a_bar_of_a_stream_ends_at_its_own_length(tmp_path, capfd, monkeypatch, has_tqdm, expected):
    """A short stream is no failure; where nobody knows the length the bar only counts."""
    if not has_tqdm:
        monkeypatch.setattr("lazyio.execution.progress.optional", lambda name: None)
    rows = (np.zeros(100, "i4") for _ in range(20))
    lazyio.to_hdf5(lazyio.Stream(rows, expected_length=expected), tmp_path / "x.h5", progress=True)
    first, *_, last = capfd.readouterr().err.strip("\r\n").split("\r")
    assert "100%" in last
    assert "7.81" in last
    assert ("%" in first) == (expected is not None)
