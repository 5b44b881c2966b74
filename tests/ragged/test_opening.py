"""Rows that other programs have stored: PyTables, h5py, NWB, and arrays with side columns."""

import json
from datetime import UTC, datetime

import h5py
import hdf5plugin  # noqa: F401 - so that stock h5py writes blosc
import numpy as np
import pynwb
import pytest
import tables
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from row_lists import ends, ragged, same

import lazyio
from lazyio.errors import (
    DamagedDataError,
    OptionError,
    SelectionError,
    SourceError,
    UnsafeFileError,
    UnsupportedDtypeError,
)
from lazyio.ragged import vlen


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.h5"


def vlarray(path, atom, rows, key="data", **options):
    """Write a VLArray by PyTables."""
    with tables.open_file(path, "a") as file:
        array = file.create_vlarray("/", key, atom, **options)
        for row in rows:
            array.append(row)


@pytest.mark.parametrize(
    ("atom", "dtype"),
    [
        (tables.Float32Atom(), "f4"),
        (tables.Int64Atom(), "i8"),
        (tables.UInt8Atom(), "u1"),
        (tables.BoolAtom(), "?"),
        (tables.ComplexAtom(16), "c16"),
        (tables.StringAtom(5), "S5"),
    ],
)
def test_vlarrays(path, atom, dtype) -> None:
    model = [np.arange(n).astype(dtype) for n in (3, 0, 5, 1)]
    vlarray(path, atom, model)
    rows = lazyio.open_ragged(path, "data")
    assert rows.dtype == dtype
    same(rows[:], model)
    same(rows[[-1, 0, 0]], [model[-1], model[0], model[0]])
    same(list(rows), model)
    assert rows.lengths().tolist() == [3, 0, 5, 1]
    with pytest.raises(SelectionError, match="no row 4"):
        rows[4]


@pytest.mark.parametrize("library", ["zlib", "blosc"])
def test_compressed_vlarrays(path, library) -> None:
    model = [np.arange(n, dtype="i4") for n in range(100)]
    vlarray(path, tables.Int32Atom(), model, filters=tables.Filters(5, library))
    same(lazyio.open_ragged(path, "data")[::3], model[::3])


def test_vlarrays_of_arrays(path) -> None:
    model = [np.arange(2 * n, dtype="i4").reshape(n, 2) for n in (2, 0, 1)]
    vlarray(path, tables.Int32Atom(shape=(2,)), model)
    rows = lazyio.open_ragged(path, "data")
    assert rows.item_shape == (2,)
    same(rows[:], model)
    lazyio.to_hdf5(rows, path.with_suffix(".2.h5"), "r")
    same(lazyio.open_ragged(path.with_suffix(".2.h5"), "r")[:], model)


def test_vlarrays_of_text(path) -> None:
    vlarray(path, tables.VLUnicodeAtom(), ["ab", "", "déf"], "u")
    vlarray(path, tables.VLStringAtom(), [b"ab", b"", "déf".encode()], "s")
    for key in "us":
        assert [row.tolist() for row in lazyio.open_ragged(path, key)] == [["ab"], [""], ["déf"]]
    vlarray(path, tables.VLStringAtom(), [b"\xff"], "b")
    with pytest.raises(DamagedDataError, match="row 0 of 'b' is no text in UTF-8"):
        lazyio.open_ragged(path, "b")[0]


def test_vlarrays_of_objects_are_pickles(path) -> None:
    """They are unpickled only where that is asked for."""
    vlarray(path, tables.ObjectAtom(), [np.arange(3), [4, 5], 6])
    with pytest.raises(UnsupportedDtypeError, match="give allow_pickle=True"):
        lazyio.open_ragged(path, "data")
    rows = lazyio.open_ragged(path, "data", allow_pickle=True)
    assert [row.tolist() for row in rows] == [[0, 1, 2], [4, 5], [6]]
    vlarray(path, tables.ObjectAtom(), [{"a": 1}, 2], "dict")
    with pytest.raises(UnsupportedDtypeError, match="no array of numbers or text"):
        lazyio.open_ragged(path, "dict", allow_pickle=True)
    vlarray(path, tables.ObjectAtom(), [1, "text"], "mixed")
    with pytest.raises(UnsupportedDtypeError, match="rows have one type"):
        lazyio.open_ragged(path, "mixed", allow_pickle=True)[:]
    vlarray(path, tables.ObjectAtom(), [np.ones((2, 2))], "square")
    with pytest.raises(UnsupportedDtypeError, match="objects with one axis"):
        lazyio.open_ragged(path, "square", allow_pickle=True)
    vlarray(path, tables.ObjectAtom(), [], "none")
    assert len(lazyio.open_ragged(path, "none", allow_pickle=True)) == 0
    with h5py.File(path, "a") as file:
        file["data"][0] = np.frombuffer(b"no pickle", "u1")
    with pytest.raises(DamagedDataError, match="cannot be unpickled"):
        lazyio.open_ragged(path, "data", allow_pickle=True)


def test_shapes_beside_a_vlarray(path) -> None:
    """As rows of two axes are kept in a VLArray, with a side column of their shapes."""
    model = [np.arange(n * 2.0).reshape(n, 2) for n in (3, 0, 5)]
    vlarray(path, tables.Float64Atom(), [row.ravel() for row in model])
    with tables.open_file(path, "a") as file:
        shapes = file.create_earray("/", "data_shape", tables.Int32Atom(), (0, 2))
        shapes.append(np.array([row.shape for row in model]))
    rows = lazyio.open_ragged(path, "data")
    assert rows.ndim == 2
    same(rows[:], model)
    lazyio.to_zarr(rows, path.with_suffix(".zarr"), "r")
    same(lazyio.open_ragged(path.with_suffix(".zarr"), "r")[:], model)
    with h5py.File(path, "a") as file:
        file["data_shape"][2] = (4, 2)
    with pytest.raises(DamagedDataError, match="row 2 of 'data' has 10 elements, and the"):
        lazyio.open_ragged(path, "data")[2]
    with h5py.File(path, "a") as file:
        file["data_shape"].resize((2, 2))
    with pytest.raises(DamagedDataError, match=r"of shape \(2, 2\), and 'data' has 3 rows"):
        lazyio.open_ragged(path, "data")


def test_start_and_stop_beside_an_array(path) -> None:
    """Rows by pairs may leave gaps, and lie in any order."""
    random = np.random.default_rng(0)
    model = [random.integers(0, 99, shape).astype("i4") for shape in ((2, 3), (0, 4), (5, 1))]
    with h5py.File(path, "w") as file:
        values = np.concatenate([model[2].ravel(), [7, 7], model[0].ravel()]).astype("i4")
        file["data"] = values
        file["data_start_and_stop"] = np.array([(7, 13), (0, 0), (0, 5)], "i4")
        file["data_shape"] = np.array([row.shape for row in model], "i4")
    rows = lazyio.open_ragged(path, "data")
    same(rows[:], model)
    assert rows.lengths().tolist() == [6, 0, 5]
    with pytest.raises(OptionError, match="do not lie end to end"):
        _ = rows.offsets
    lazyio.to_hdf5(rows, path.with_suffix(".2.h5"), "r")
    same(lazyio.open_ragged(path.with_suffix(".2.h5"), "r")[:], model)
    with h5py.File(path, "a") as file:
        file["data_start_and_stop"][1] = (9, 99)
    with pytest.raises(DamagedDataError, match="row 1 goes from element 9 to 99 of 13"):
        lazyio.open_ragged(path, "data")[1]


@pytest.mark.parametrize("dtype", ["f4", ">i2", ">f8", "u8", "c8"])
def test_variable_length_datasets(path, dtype) -> None:
    model = [np.arange(n).astype(dtype) for n in (3, 0, 5)]
    with h5py.File(path, "w") as file:
        for key, chunks in (("g/x", None), ("g/y", (2,))):
            kind = h5py.vlen_dtype(np.dtype(dtype))
            made = file.create_dataset(key, (4,), kind, chunks=chunks)
            for at, row in enumerate(model):
                made[at] = row
    for key in ("g/x", "g/y"):
        rows = lazyio.open_ragged(path, key)
        # Nothing was ever written to the last one.
        same(rows[:], [*model, np.empty(0, dtype)])
        lazyio.to_hdf5(rows, path.with_suffix(".2.h5"), key)
        again = lazyio.open_ragged(path.with_suffix(".2.h5"), key)
        assert [row.tolist() for row in again] == [row.tolist() for row in [*model, model[1]]]


def test_lengths_of_rows_are_known_before_they_are_read(path) -> None:
    """So that no more of them are read at once than there is room for."""
    model = [np.arange(n, dtype="i4") for n in (3, 0, 500, 7, 1) * 20]
    vlarray(path, tables.Int32Atom(), model, "plain", chunkshape=7)
    filters = tables.Filters(5, "zlib", shuffle=True)
    vlarray(path, tables.Int32Atom(), model, "packed", chunkshape=7, filters=filters)
    with h5py.File(path, "a") as file:
        made = file.create_dataset("run", (len(model),), h5py.vlen_dtype("i4"))
        for at, row in enumerate(model):
            made[at] = row
    with h5py.File(path) as file:
        for key in ("plain", "packed", "run"):
            found = vlen.lengths_as_stored(file[key], str(path), 5, 93)
            assert found.tolist() == [len(row) for row in model[5:93]]
    reader = lazyio.open_ragged(path, "packed").rows
    assert list(reader.spans(2000))[:4] == [(0, 2), (2, 3), (3, 7), (7, 8)]
    same(list(lazyio.open_ragged(path, "run")), model)


CONVERTED = """
import json, sys
import dask, h5py, lazyio
dask.config.set(num_workers=2)

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

for path in sys.argv[1:3]:
    open("/proc/self/clear_refs", "w").write("5")
    before = resident()
    rows = lazyio.open_ragged(path, "x")
    lazyio.to_hdf5(rows, path + ".out", "x", memory_limit=24 * 2**20, compression="gzip")
    grown = resident() - before
print(json.dumps(grown))
"""


def test_memory_of_a_conversion(tmp_path, warm) -> None:
    """Rows of variable length do not pile up, however many short ones come before long ones."""
    for name, n_long in (("warm.h5", 2), ("x.h5", 80)):
        with h5py.File(tmp_path / name, "w") as file:
            shape = (20_000 + n_long,)
            made = file.create_dataset("x", shape, h5py.vlen_dtype("f8"), chunks=(1000,))
            held = np.empty(20_000, object)
            held[:] = [np.ones(2), *[np.ones(3)] * 19_999]
            made[:20_000] = held
            for at in range(n_long):
                made[20_000 + at] = np.ones(2**17)
    done = warm.run(CONVERTED, tmp_path / "warm.h5", tmp_path / "x.h5")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) <= 24 * 2**20
    rows = lazyio.open_ragged(tmp_path / "x.h5.out", "x")
    assert rows.lengths().tolist() == [2, *[3] * 19_999, *[2**17] * 80]


def test_open_files_and_links(path, tmp_path) -> None:
    model = [np.arange(n, dtype="i4") for n in (3, 0, 5)]
    vlarray(path, tables.Int32Atom(), model)
    with h5py.File(path, "r+") as file:
        same(lazyio.open_ragged(file, "data")[1:], model[1:])
        rows = lazyio.open_ragged(file, "data")
    with pytest.raises(SourceError, match="has been closed"):
        rows[0]
    (tmp_path / "sub").mkdir()
    with h5py.File(tmp_path / "sub" / "y.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(path), "data")
    with pytest.raises(UnsafeFileError, match="allow_external"):
        lazyio.open_ragged(tmp_path / "sub" / "y.h5", "x")
    rows = lazyio.open_ragged(tmp_path / "sub" / "y.h5", "x", allow_external=[tmp_path])
    same(rows[:], model)


def test_columns_of_nwb(tmp_path) -> None:
    model = [np.arange(n) / 7 for n in (3, 0, 5)]
    file = pynwb.NWBFile(
        session_description="a", identifier="b", session_start_time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    file.add_unit_column("tags", "text", index=True)
    for row in model:
        file.add_unit(spike_times=row, tags=["a"] * len(row))
    with pynwb.NWBHDF5IO(tmp_path / "x.nwb", "w") as io:
        io.write(file)
    for key in ("units/spike_times", "units/spike_times_index", "/units/spike_times"):
        rows = lazyio.open_ragged(tmp_path / "x.nwb", key)
        same(rows[:], model)
        same(rows[::-1], model[::-1])
    assert rows.offsets.compute().tolist() == [0, 3, 3, 8]
    tags = lazyio.open_ragged(tmp_path / "x.nwb", "units/tags")
    assert tags[2].tolist() == ["a"] * 5
    lazyio.to_hdf5(rows, tmp_path / "x.h5", "r")
    same(lazyio.open_ragged(tmp_path / "x.h5", "r")[:], model)


def test_an_index_of_an_index(path) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = np.arange(12).reshape(6, 2)
        file["w_index"] = np.array([2, 3, 6], "u1")
        file["w_index_index"] = np.array([1, 3], "u1")
    rows = lazyio.open_ragged(path, "w")
    assert [row.shape for row in rows] == [(2, 2), (1, 2), (3, 2)]
    same(lazyio.open_ragged(path, "w_index")[:], rows[:])
    with pytest.raises(SourceError, match=r"is the index of an index.*open 'w_index'"):
        lazyio.open_ragged(path, "w_index_index")


def test_waveforms_of_nwb(tmp_path) -> None:
    """The rows are those of the inner index, which the outer one counts."""
    file = pynwb.NWBFile(
        session_description="a", identifier="b", session_start_time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    units = [
        [np.full((2, 4), 1.0), np.full((1, 4), 2.0)],
        [np.full((3, 4), 3.0)],
    ]
    for waveforms in units:
        file.add_unit(waveforms=waveforms)
    with pynwb.NWBHDF5IO(tmp_path / "x.nwb", "w") as io:
        io.write(file)
    rows = lazyio.open_ragged(tmp_path / "x.nwb", "units/waveforms")
    same(rows[:], [row for waveforms in units for row in waveforms])
    with pytest.raises(SourceError, match="lists of rows") as told:
        lazyio.open_ragged(tmp_path / "x.nwb", "units/waveforms_index_index")
    assert "rows[ends[i - 1]:ends[i]]" in str(told.value)
    ends = lazyio.open(tmp_path / "x.nwb", "units/waveforms_index_index").compute()
    same(rows[ends[0] : ends[1]], units[1])


def test_files_of_strangers(path, tmp_path) -> None:
    """Child processes read them: rows with an index the same, those of variable length not."""
    model = [np.arange(n, dtype="i4") for n in (3, 0, 5)]
    text = [["a", "\N{GRINNING FACE}"], [], [""]]
    lazyio.to_hdf5(lazyio.Ragged.from_rows(model), path, "ours", compression="gzip")
    lazyio.to_zarr(lazyio.Ragged.from_rows(text), tmp_path / "x.zarr", "text")
    vlarray(path, tables.Int32Atom(), model, "theirs")
    with h5py.File(path, "a") as file:
        file["t"], file["t_index"] = np.arange(8, dtype="i4") % 5, np.array([3, 3, 8])
    same(lazyio.open_ragged(path, "ours", trusted=False)[:], model)
    rows = lazyio.open_ragged(path, "t", trusted=False)
    same([rows[0], *rows[1:]], [model[0], model[1], np.array([3, 4, 0, 1, 2], "i4")])
    found = lazyio.open_ragged(tmp_path / "x.zarr", "text", trusted=False)
    assert [row.tolist() for row in found] == text
    with pytest.raises(UnsupportedDtypeError, match="takes rows with an index only"):
        lazyio.open_ragged(path, "theirs", trusted=False)
    with pytest.raises(SourceError, match="has no ragged rows at 'nothing'"):
        lazyio.open_ragged(path, "nothing", trusted=False)
    with pytest.raises(OptionError, match="has been opened already"), h5py.File(path) as file:
        lazyio.open_ragged(file, "ours", trusted=False)
    with pytest.raises(OptionError, match="trusted=0; give True or False"):
        lazyio.open_ragged(path, "ours", trusted=0)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises((SourceError, DamagedDataError), match=r"x\.h5"):
        lazyio.open_ragged(path, "ours", trusted=False)


def test_links_to_strangers(tmp_path) -> None:
    """They are refused before they are followed, those of what lies beside, too."""
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    path = own / "x.h5"
    lazyio.to_hdf5(ragged([np.arange(3), np.arange(2)]), other / "y.h5", "r")
    with h5py.File(path, "w") as file:
        file["r"] = h5py.ExternalLink(str(other / "y.h5"), "r")
        file["x"] = np.arange(5)
        file["x_index"] = h5py.ExternalLink(str(other / "y.h5"), "r/offsets")
    for trusted in (True, False):
        for key in ("r", "x"):
            with pytest.raises(UnsafeFileError, match="allow_external"):
                lazyio.open_ragged(path, key, trusted=trusted)
        rows = lazyio.open_ragged(path, "r", allow_external=[other], trusted=trusted)
        same(rows[:], [np.arange(3, dtype="i4"), np.arange(2, dtype="i4")])


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 6), max_size=12),
    kind=st.sampled_from(["ours", "ends", "pairs", "vlen", "zarr"]),
    data=st.data(),
)
def test_every_layout_gives_the_same_rows(tmp_path_factory, lengths, kind, data) -> None:
    path = tmp_path_factory.mktemp("rows") / ("x.zarr" if kind == "zarr" else "x.h5")
    model = [np.arange(n, dtype="i4") * at for at, n in enumerate(lengths)]
    offsets = ends(model)
    if kind == "zarr":
        lazyio.to_zarr(ragged(model), path, "x", chunks=(4,))
    else:
        with h5py.File(path, "w") as file:
            values = np.concatenate([np.empty(0, "i4"), *model]).astype("i4")
            if kind == "ours":
                file["x/values"], file["x/offsets"] = values, offsets
            elif kind == "vlen":
                made = file.create_dataset("x", (len(model),), h5py.vlen_dtype("i4"))
                for at, row in enumerate(model):
                    made[at] = row
            else:
                file["x"] = values
                if kind == "ends":
                    file["x_index"] = offsets[1:]
                else:
                    file["x_start_and_stop"] = np.column_stack([offsets[:-1], offsets[1:]])
    rows = lazyio.open_ragged(path, "x")
    bound = st.none() | st.integers(-15, 15)
    key = slice(data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, -3, 2])))
    same(rows[key], model[key])
    same(list(rows), model)
    if model:
        numbers = data.draw(st.lists(st.integers(-len(model), len(model) - 1), max_size=9))
        same(rows[numbers], [model[at] for at in numbers])


def test_zarr_columns_with_an_index(tmp_path) -> None:
    group = zarr.open_group(tmp_path / "x.zarr")
    group.create_array("t", data=np.arange(8.0))
    group.create_array("t_index", data=np.array([3, 3, 8], "u2"))
    same(lazyio.open_ragged(tmp_path / "x.zarr", "t")[1:], [np.empty(0), np.arange(3.0, 8.0)])


def test_what_is_no_rows(path, tmp_path) -> None:
    with h5py.File(path, "w") as file:
        file["plain"] = np.arange(5)
        file["text"] = ["a", "b"]
        file["g/values"] = np.arange(5)
        kind = h5py.vlen_dtype(np.dtype("i4"))
        file.create_dataset("square", (2, 2), kind)
        file.create_dataset("refs", (2,), h5py.vlen_dtype(h5py.ref_dtype))
        file["one"], file["one_index"] = 5, np.array([0])
        file["bad"], file["bad_index"] = np.arange(5), np.array([1.5])
    for key in ("plain", "text", "g", "nothing", "g/values", "plain/x"):
        with pytest.raises(SourceError, match="has no ragged rows at"):
            lazyio.open_ragged(path, key)
    with pytest.raises(UnsupportedDtypeError, match=r"has shape \(2, 2\); rows are read of"):
        lazyio.open_ragged(path, "square")
    with pytest.raises(UnsupportedDtypeError, match="have no fixed size"):
        lazyio.open_ragged(path, "refs")
    with pytest.raises(SourceError, match="a single element"):
        lazyio.open_ragged(path, "one")
    with pytest.raises(DamagedDataError, match="float64, give whole numbers"):
        lazyio.open_ragged(path, "bad")
    zarr.create_array(tmp_path / "x.zarr", shape=(3,), dtype="i4")
    with pytest.raises(SourceError, match="has no ragged rows at"):
        lazyio.open_ragged(tmp_path / "x.zarr", "x")


def test_one_state_of_a_vlarray(path) -> None:
    vlarray(path, tables.Int32Atom(), [[1], [2, 3]])
    rows = lazyio.open_ragged(path, "data")
    rows[0]
    with tables.open_file(path, "a") as file:
        file.root.data.append([4])
    with pytest.raises(OSError, match="open it again"):
        rows[0]
    assert len(lazyio.open_ragged(path, "data")) == 3
