"""Values that came out wrong once, or an error that said too little: one test a kind."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import h5py
import netCDF4
import numpy as np
import pytest
import tables
import xarray as xr
import zarr
from hdmf.data_utils import DataChunk, DataChunkIterator, GenericDataChunkIterator

import lazyio
from lazyio.errors import BlockError, OptionError, SourceError, TargetError, UnsupportedDtypeError
from lazyio.info import info_of
from lazyio.sources.hdf5_layout import each_stored_chunk, visit_chunks

VALUES = np.arange(5 * 6 * 7, dtype="i4").reshape(5, 6, 7)


@pytest.mark.parametrize("grown", [(0,), (1,), (2,), (0, 1), (1, 2)])
@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
def test_positions_of_chunks(tmp_path, grown, libver) -> None:
    """Each is where libhdf5 looks it up, whatever its list says."""
    maxshape = tuple(
        None if axis in grown else extent + axis for axis, extent in enumerate(VALUES.shape)
    )
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        dataset = file.create_dataset("x", VALUES.shape, "i4", chunks=(2, 3, 2), maxshape=maxshape)
        dataset[:3, 2:] = VALUES[:3, 2:]
        file.flush()
        found = []
        assert each_stored_chunk(dataset, lambda *rows: found.extend(zip(*rows, strict=True)))
        for index, (_, nbytes, _) in found:
            _, payload = dataset.id.read_direct_chunk(tuple(index * dataset.chunks))
            assert len(payload) == nbytes
        expected = dataset[...]
        n_chunks = dataset.id.get_num_chunks()
    assert len({tuple(index.tolist()) for index, _ in found}) == n_chunks
    assert (lazyio.open(tmp_path / "x.h5").compute() == expected).all()


def test_chunks_of_an_older_libhdf5(tmp_path) -> None:
    """One that cannot go through them tells the same."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=VALUES, chunks=(2, 3, 2), compression="gzip")
        file.flush()
        told, looked_up = [], []
        visit_chunks(dataset.id, told.append)
        older = SimpleNamespace(
            get_num_chunks=dataset.id.get_num_chunks, get_chunk_info=dataset.id.get_chunk_info
        )
        visit_chunks(older, looked_up.append)
    assert len(told) == 24
    assert [tuple(one) for one in told] == [tuple(one) for one in looked_up]


class Seeking(GenericDataChunkIterator):
    """One that fills the same memory again, and must not be called twice at a time."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self._memory = np.empty((640, 8), "i4")
        self._is_busy = False
        super().__init__(buffer_shape=(64, 8), chunk_shape=(32, 8))  # Of lazyio's own blocks.

    def _get_data(self, selection):
        assert not self._is_busy
        self._is_busy = True
        self.threads.add(threading.current_thread().name)
        rows = np.arange(selection[0].start, selection[0].stop, dtype="i4")
        memory = self._memory[: len(rows)]
        memory[...] = rows[:, None]
        self._is_busy = False
        return memory[:, selection[1]]

    def _get_maxshape(self):
        return (640, 8)

    def _get_dtype(self):
        return np.dtype("i4")


@pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
def test_an_iterator_is_called_on_one_thread(tmp_path, to) -> None:
    iterator = Seeking()
    to(iterator, tmp_path / "x", memory_limit="64 KiB")
    assert iterator.threads == {threading.current_thread().name}
    found = lazyio.open(tmp_path / "x").compute()
    assert (found == np.arange(640)[:, None]).all()


def test_a_function_under_a_lock() -> None:
    """It is not called while it is at work."""
    inside = threading.Lock()

    def read(region):
        assert inside.acquire(blocking=False)
        try:
            return np.ones([part.stop - part.start for part in region])
        finally:
            inside.release()

    array = lazyio.from_function(read, (400, 40), "f8", chunks=(10, 40), lock=True)
    assert array.sum().compute(scheduler="threads") == 16000
    with pytest.raises(OptionError, match="give True, False or a lock"):
        lazyio.from_function(read, (4,), "f8", lock="yes")


def test_types_that_numpy_lacks(tmp_path) -> None:
    """They keep nobody from the other datasets and attributes of a file."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("volts", data=np.arange(4.0), maxshape=(None,), chunks=(2,))
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"when", h5py.h5t.UNIX_D32LE, space)
        scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(file["volts"].id, b"made", h5py.h5t.UNIX_D32LE, scalar)
    with pytest.raises(UnsupportedDtypeError, match="numpy lacks"):
        lazyio.open(path, "when")
    assert [one.key for one in info_of(path)] == ["/volts", "/when"]
    assert lazyio.verify(path).status == "unverifiable"
    lazyio.to_hdf5(np.ones(3), path, "volts", append_dim=0)
    assert lazyio.open(path, "volts").compute().tolist() == [0, 1, 2, 3, 1, 1, 1]


def test_variables_of_netcdf(tmp_path) -> None:
    """Masked arrays without a mask are arrays; what is scaled says what to do."""
    with netCDF4.Dataset(tmp_path / "n.nc", "w") as file:
        file.createDimension("t", 3)
        file.createVariable("v", "f4", ("t",))[:] = [1, 2, 3]
        scaled = file.createVariable("w", "i2", ("t",), fill_value=-1)
        scaled.scale_factor = 0.5
        scaled[:] = np.ma.array([5.0, 5.5, 6.0], mask=[0, 0, 1])
        lazyio.to_hdf5(file["v"], tmp_path / "o.h5", "v")
        with pytest.raises(BlockError, match="set_auto_maskandscale"):
            lazyio.to_hdf5(scaled, tmp_path / "o.h5", "w")
        scaled.set_auto_maskandscale(False)
        lazyio.to_hdf5(scaled, tmp_path / "o.h5", "w")
    assert lazyio.open(tmp_path / "o.h5", "w").compute().tolist() == [10, 11, -1]


def test_other_libraries_dtypes_are_refused_early(tmp_path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.arange(4).astype(ml_dtypes.bfloat16)
    for to in (lazyio.to_hdf5, lazyio.to_zarr):
        with pytest.raises(UnsupportedDtypeError, match="another library"):
            to(values, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_text_that_comes_longer_later(tmp_path) -> None:
    path = tmp_path / "x.h5"
    words = ["a", "bbbbbbbb", "c"]
    lazyio.to_hdf5(DataChunkIterator(data=iter(words), buffer_size=1), path, "x")
    assert lazyio.open(path, "x").compute().tolist() == words
    lazyio.to_hdf5(np.array(["a", "b"]), path, "y", maxshape=(None,))
    lazyio.to_hdf5(np.array(["longer"]), path, "y", append_dim=0)
    assert lazyio.open(path, "y").compute().tolist() == ["a", "b", "longer"]
    assert lazyio.verify(path).status == "ok"


def test_longer_text_of_another_program_is_not_cut(tmp_path) -> None:
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.array(["a", "b"]), path, "x")
    with h5py.File(path, "r+") as file:
        file["x"][1] = "longer"
    with pytest.raises(SourceError, match="longer than the 1 characters"):
        lazyio.open(path, "x").compute()


def test_text_tagged_ascii(tmp_path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        kind = h5py.string_dtype("ascii")
        file.create_dataset("x", data=[b"a"], dtype=kind, maxshape=(None,), chunks=(4,))
    text = np.array(["yy"], np.dtypes.StringDType())
    lazyio.to_hdf5(text, path, "x", append_dim=0)
    with h5py.File(path, "r+") as file:
        lazyio.to_hdf5(text, file["x"], append_dim=0)
    assert lazyio.open(path, "x").compute().tolist() == ["a", "yy", "yy"]


def test_an_open_dataset_is_not_left_grown(tmp_path) -> None:
    """An append that fails takes back the room that it made."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=np.arange(4), maxshape=(None,), chunks=(3,))

        def fails(_):
            raise RuntimeError

        array = lazyio.from_function(fails, (5,), "i8")
        with pytest.raises(BlockError):
            lazyio.to_hdf5(array, dataset, append_dim=0)
        assert dataset[...].tolist() == [0, 1, 2, 3]


def test_masks_that_nothing_marks(tmp_path) -> None:
    masked = np.ma.array([5.0, 6.0], mask=[1, 0])
    lazyio.to_hdf5(np.arange(3.0), tmp_path / "x.h5", "x", maxshape=(None,))
    report = lazyio.to_hdf5(masked, tmp_path / "x.h5", "x", append_dim=0)
    assert "mask-lost" in dict(report.advice)
    report = lazyio.to_hdf5(masked, tmp_path / "y.h5", "x")
    assert "mask-lost" not in dict(report.advice)


def test_attributes_of_what_is_replaced(tmp_path) -> None:
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.arange(3), path, "x", attrs={"unit": "V", "gain": 2})
    report = lazyio.to_hdf5(np.arange(4), path, "x", overwrite=True, attrs={"unit": "V"})
    assert "gain" in dict(report.advice)["attributes-dropped"]
    assert "unit" not in dict(report.advice)["attributes-dropped"]


def test_times_are_no_bare_numbers(tmp_path) -> None:
    times = np.array(["2000-01-01", "2000-01-02"], "M8[ns]")
    xr.Dataset(coords={"time": times}).to_zarr(tmp_path / "x.zarr", consolidated=False)
    for options in ({}, {"dtype": "int64"}):
        with pytest.raises(OptionError, match="days since 2000-01-01"):
            lazyio.to_zarr(times[:1], tmp_path / "x.zarr", "time", append_dim=0, **options)


def test_tables(tmp_path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1, 2], "b": [3, 4]})
    with pytest.raises(lazyio.LazyioError, match="give its columns"):
        lazyio.to_hdf5(table, tmp_path / "x.h5")
    with pytest.raises(OptionError, match="give its columns"):
        lazyio.Stream(table)
    with pytest.raises(OptionError, match="yields its keys"):
        lazyio.Stream({"a": 1})


def test_names_of_zarr_objects(tmp_path) -> None:
    keys = {"name": "v2", "separator": "/"}
    store = tmp_path / "x.zarr"
    lazyio.to_zarr(np.ones((4, 4)), store, "0", zarr_format=2, chunk_key_encoding=keys, chunks=2)
    lazyio.to_zarr(np.ones((4, 4)) * 2, store, "0", zarr_format=2, overwrite=True, chunks=2)
    assert (store / "0" / "1" / "1").is_file()
    assert (zarr.open_array(store, path="0")[...] == 2).all()
    with pytest.raises(OptionError, match="chunk_key_encoding"):
        lazyio.to_zarr(np.ones(4), store, "1", chunk_key_encoding={"name": "other"})


def test_text_that_is_none(tmp_path) -> None:
    with pytest.raises(OptionError, match="no text"):
        lazyio.to_zarr(np.ones(2), tmp_path / "x.zarr", attributes={"k": "\ud800"})
    with pytest.raises(OptionError, match="dimension_names"):
        lazyio.to_zarr(np.ones(2), tmp_path / "x.zarr", dimension_names=("\ud800",))


def test_the_mark_of_gaps_in_version_2(tmp_path) -> None:
    xr.Dataset({"w": ("x", np.array([1.0, np.nan], "f4"))}).to_zarr(
        tmp_path / "s.zarr", zarr_format=2, consolidated=False
    )
    found = xr.open_zarr(tmp_path / "s.zarr", consolidated=False, mask_and_scale=False)
    lazyio.to_zarr(found.w.variable, tmp_path / "t.zarr", "w", zarr_format=2)
    assert np.isnan(zarr.open_array(tmp_path / "t.zarr", path="w").fill_value)


def test_the_netcdf_library_adds_to_a_file(tmp_path) -> None:
    path = tmp_path / "a.nc"
    lazyio.to_hdf5(np.arange(6.0).reshape(3, 2), path, "v", dims=("t", "x"), maxshape=(None, 2))
    lazyio.to_hdf5(np.arange(2.0), path, "g/w", dims=("x",))
    with netCDF4.Dataset(path, "a") as file:
        file["v"][3:4] = 7.0
        file["g"].createVariable("z", "f4", ("x",))[:] = 1
        assert list(file["g"].dimensions) == []
    assert lazyio.open(path, "v").compute()[3].tolist() == [7, 7]
    lazyio.to_hdf5(np.ones((1, 2)), path, "v", append_dim="t")
    with netCDF4.Dataset(path) as file:
        assert file["v"].shape == (5, 2)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_zarr_array_that_was_shorter_shows_fill_values(tmp_path, is_open) -> None:
    """What another program has cut off does not come back where nothing is written."""
    array = zarr.create_array(tmp_path / "x.zarr", shape=(10, 4), chunks=(10, 2), dtype="i4")
    array[...] = 7
    array.resize((5, 4))
    target = array if is_open else tmp_path / "x.zarr"
    lazyio.to_zarr(np.ones((2, 2), "i4"), target, region=np.s_[8:10, 0:2])
    expected = np.zeros((10, 4), "i4")
    expected[:5] = 7
    expected[8:, :2] = 1
    assert (zarr.open_array(tmp_path / "x.zarr")[...] == expected).all()


def test_integers_of_fewer_bits_than_their_bytes(tmp_path) -> None:
    """What has no room is refused, and not cut; in records, too."""
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    record = h5py.h5t.create(h5py.h5t.COMPOUND, 2)
    record.insert(b"volts", 0, kind)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name, one in ((b"x", kind), (b"y", record)):
            h5py.h5d.create(file.id, name, one, h5py.h5s.create_simple((4,)))
    rows = np.array([2047, -2048], "i2")
    lazyio.to_hdf5(rows, path, "x", region=np.s_[1:3])
    assert lazyio.open(path, "x").compute().tolist() == [0, 2047, -2048, 0]
    with pytest.raises(BlockError, match="holds 2048, and its integers are from -2048 to 2047"):
        lazyio.to_hdf5(rows + np.int16(1), path, "x", region=np.s_[1:3])
    records = (rows - np.int16(1)).view([("volts", "<i2")])
    with pytest.raises(BlockError, match="holds -2049"):
        lazyio.to_hdf5(records, path, "y", region=np.s_[1:3])
    assert lazyio.open(path, "x").compute().tolist() == [0, 2047, -2048, 0]


def test_an_iterator_without_elements(tmp_path) -> None:
    """Its dtype is known; one that was used up is told from it."""
    empty = DataChunkIterator(data=iter([]), dtype=np.dtype("f4"))
    lazyio.to_hdf5(empty, tmp_path / "x.h5", "x")
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["x"].shape, file["x"].dtype) == ((0,), np.dtype("f4"))
    used = DataChunkIterator(data=iter(np.ones((3, 2))))
    list(used)
    with pytest.raises(OptionError, match="used up"):
        lazyio.to_hdf5(used, tmp_path / "y.h5", "x")


def test_blocks_as_hdmf_has_them(tmp_path) -> None:
    chunks = [DataChunk(data=np.full((2, 3), at), selection=np.s_[at : at + 2]) for at in (0, 2)]
    lazyio.to_hdf5(lazyio.Blocks(chunks, shape=(4, 3), dtype="i8"), tmp_path / "x.h5", "x")
    assert lazyio.open(tmp_path / "x.h5").compute()[:, 0].tolist() == [0, 0, 2, 2]


def test_what_an_iterator_recommends_is_no_wish(tmp_path) -> None:
    """It fills a dataset of other chunks, and fits a small limit."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", (640, 8), "i4", chunks=(100, 8))
        lazyio.to_hdf5(Seeking(), dataset)
        assert (dataset[...] == np.arange(640)[:, None]).all()
    report = lazyio.to_hdf5(Seeking(), tmp_path / "y.h5", "x")
    assert report.plan.chunk_shape == (32, 8)
    report = lazyio.to_zarr(Seeking(), tmp_path / "y.zarr", memory_limit="3 KiB")
    assert report.plan.chunk_shape != (32, 8)


def test_a_long_iterator_under_a_small_limit(tmp_path) -> None:
    """Chunks that are complete go at once, however small they are."""

    class Rows:
        dtype, maxshape = np.dtype("i4"), (None,)
        recommended_chunk_shape = recommended_data_shape = None

        def __init__(self) -> None:
            self._rest = iter(range(0, 35_000, 7))

        def __iter__(self):
            return self

        def __next__(self):
            at = next(self._rest)
            return DataChunk(data=np.full(7, at, "i4"), selection=np.s_[at : at + 7])

    lazyio.to_hdf5(Rows(), tmp_path / "x.h5", "x", memory_limit="1 MiB", chunks=(10,))
    found = lazyio.open(tmp_path / "x.h5").compute()
    assert (found == np.arange(35_000) // 7 * 7).all()


@pytest.mark.parametrize("dtype", ["f2", "longdouble", "V2"])
def test_types_that_netcdf_lacks_are_told(tmp_path, dtype) -> None:
    values = np.zeros(2, dtype)
    report = lazyio.to_hdf5(values, tmp_path / "x.nc", "v", dims=("x",))
    assert "not-netcdf" in dict(report.advice)
    assert "not-netcdf" not in dict(lazyio.to_hdf5(values, tmp_path / "y.h5", "v").advice)


@pytest.mark.parametrize("key", ["x/", "g/x//"])
def test_keys_that_end_in_a_slash(tmp_path, key) -> None:
    """As HDF5 takes them: written and read alike."""
    path, values = tmp_path / "x.h5", np.arange(6)
    lazyio.to_hdf5(values, path, key)
    lazyio.to_hdf5({key: values}, tmp_path / "y.h5")
    with lazyio.writer(tmp_path / "z.h5") as writer:
        writer.create(key, dtype="i8", item_shape=()).append(values)
    lazyio.allocate(tmp_path / "a.h5", key, shape=6, dtype="i8")
    lazyio.to_hdf5(values, tmp_path / "a.h5", key, region=slice(0, 6))
    for name in "xyza":
        assert lazyio.open(tmp_path / f"{name}.h5", key).compute().tolist() == values.tolist()
        with h5py.File(tmp_path / f"{name}.h5") as file:
            assert file[key.rstrip("/")].shape == (6,)


def test_rows_of_pytables_are_refused_at_once(tmp_path) -> None:
    with tables.open_file(tmp_path / "x.h5", "w") as file:
        rows = file.create_vlarray("/", "rows", tables.Int32Atom())
        rows.append([1, 2, 3])
        for take in (lazyio.open, lambda one: lazyio.to_hdf5(one, tmp_path / "y.h5")):
            with pytest.raises(UnsupportedDtypeError, match="differing length"):
                take(rows)


@pytest.mark.parametrize("library", ["netCDF4", "tables"])
def test_objects_of_libraries_that_stand_no_threads(tmp_path, library) -> None:
    """Two threads in the netCDF library end the process, also in different variables."""
    program = f"""
import dask, netCDF4, numpy as np, tables, lazyio
values = np.arange(200_000, dtype="i4").reshape(1000, 200)
if {library == "netCDF4"}:
    file = netCDF4.Dataset("x.nc", "w")
    file.createDimension("t", 1000)
    file.createDimension("c", 200)
    arrays = [
        file.createVariable(name, "i4", ("t", "c"), zlib=True, chunksizes=(50, 20)) for name in "ab"
    ]
else:
    file = tables.open_file("x.h5", "w")
    arrays = [
        file.create_carray("/", name, obj=values, chunkshape=(50, 20), filters=tables.Filters(5))
        for name in "ab"
    ]
for array in arrays:
    array[:] = values
for _ in range(8):
    x, y = (lazyio.open(array, chunks=(50, 20)) for array in arrays)
    assert (dask.compute(x + y, num_workers=8)[0] == 2 * values).all()
file.close()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_filters_that_do_not_undo_what_they_did(tmp_path) -> None:
    """Where szip is skipped libhdf5 forgets it of a chunk that stays as long: nothing is lost."""
    path = tmp_path / "x.h5"
    # Of these; others are read.
    values = np.array(
        [
            [30508789, -943853050],
            [960513677, -1227589557],
            [849351163, -1341102321],
            [1990251758, -1264730861],
        ],
        "i4",
    )
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3, 2))
    properties.set_szip(h5py.h5z.SZIP_NN_OPTION_MASK, 2)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    space = h5py.h5s.create_simple((7, 2))
    with h5py.File(path, "w", libver="latest") as file:
        h5py.h5d.create(file.id, b"x", h5py.h5t.STD_I32LE, space, properties)
    before = path.read_bytes()
    with pytest.raises(
        TargetError, match=r"\[3:6, 0:2\] cannot be read back .*another compression"
    ):
        lazyio.to_hdf5(values, path, "x", region=slice(3, 7))
    assert path.read_bytes() == before


def _append(path, rows, by) -> None:
    if by == "append_dim":
        lazyio.to_hdf5(rows, path, "x", append_dim=0)
        return
    with lazyio.writer(path) as writer:
        writer.create("x", axis=0).append(rows)


@pytest.mark.parametrize("by", ["append_dim", "writer"])
def test_the_only_chunk_whose_filter_was_skipped(tmp_path, by) -> None:
    """libhdf5 gives back the mask that the last chunk had in memory, and stores another."""
    path = tmp_path / "x.h5"
    first = np.array([[-2217290083731461461, 6073799251550665231]], ">i8")
    rows = [
        [7869496564730156389, -4829819167071762034],
        [-745960225194988993, -2992016365818634899],
    ]
    rows = np.array(rows, ">i8")
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4, 2))
    properties.set_szip(h5py.h5z.SZIP_NN_OPTION_MASK, 8)
    properties.set_fill_value(np.array([-7597783430467472184], ">i8"))
    space = h5py.h5s.create_simple((1, 2), (h5py.h5s.UNLIMITED, 2))
    with h5py.File(path, "w", libver=("earliest", "latest")) as file:
        dataset = h5py.Dataset(
            h5py.h5d.create(file.id, b"x", h5py.h5t.STD_I64BE, space, properties)
        )
        dataset[...] = first
    with pytest.raises(TargetError, match=r"\[0:3, 0:2\] cannot be read back"):
        _append(path, rows, by)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["x"][...], first)


def test_records_of_text_in_utf8(tmp_path) -> None:
    """By libhdf5, which has no way from ASCII to UTF-8 inside a record."""
    text = h5py.h5t.C_S1.copy()
    text.set_size(5)
    text.set_strpad(h5py.h5t.STR_SPACEPAD)
    text.set_cset(h5py.h5t.CSET_UTF8)
    record = h5py.h5t.create(h5py.h5t.COMPOUND, 5)
    record.insert(b"name", 0, text)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    space = h5py.h5s.create_simple((0,), (h5py.h5s.UNLIMITED,))
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        h5py.h5d.create(file.id, b"x", record, space, properties)
    values = np.array([(b"ab",), (b"c",), (b"",)], [("name", "S5")])
    lazyio.to_hdf5(values, tmp_path / "x.h5", "x", append_dim=0)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"]["name"].tolist() == [b"ab", b"c", b""]
    assert lazyio.open(tmp_path / "x.h5", "x").compute()["name"].tolist() == [b"ab", b"c", b""]
