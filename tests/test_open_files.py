"""Writing into files that the caller has open: groups, datasets, in memory, PyNWB's."""

import io
import os

import dask.array as da
import h5py
import numpy as np
import pynwb
import pytest

import lazyio
from lazyio.errors import BlockError, OptionError, TargetError, TargetExistsError

VALUES = np.arange(200, dtype="i4").reshape(20, 10)


@pytest.fixture
def file(tmp_path):
    """Return a file that is open for writing."""
    with h5py.File(tmp_path / "x.h5", "w") as opened:
        yield opened


@pytest.mark.parametrize("graph", [False, True])
def test_a_group_gets_datasets(file, graph):
    """Keys count from the group, with or without a slash; the report says what it is."""
    data = da.from_array(VALUES, chunks=(7, 3)) + 0 if graph else VALUES
    group = file.create_group("group")
    for key in ("a", "/b", "deep/er"):
        report = lazyio.to_hdf5(data, group, key, compression="gzip")
        assert (group[key.strip("/")][:] == VALUES).all()
    assert sorted(file) == ["group"]
    assert report.keys == ("deep/er",)
    assert report.path == file.filename
    assert [code for code, _ in report.advice] == ["open-handle"]
    assert "not undone" in str(report)
    assert file.id.valid


def test_the_whole_file_is_a_group(file):
    lazyio.to_hdf5({"a": VALUES, "b": VALUES * 2}, file, "sub", attrs={"unit": "V"})
    assert (file["sub/b"][:] == VALUES * 2).all()
    assert file["sub/a"].attrs["unit"] == "V"


def test_a_dataset_is_filled_in_place(file):
    """All of it, a part, or grown; its settings stay."""
    options = {"chunks": (6, 4), "maxshape": (None, 10), "compression": "gzip"}
    dataset = file.create_dataset("x", (20, 10), "i4", **options)
    report = lazyio.to_hdf5(da.from_array(VALUES, chunks=(6, 4)), dataset)
    assert (dataset[:] == VALUES).all()
    assert [code for code, _ in report.advice] == ["open-handle"]
    assert report.keys == ("/x",)
    lazyio.to_hdf5(VALUES[:3], dataset, region=np.s_[5:8])
    lazyio.to_hdf5(VALUES[:2], dataset, append_dim=0)
    wanted = np.concatenate([VALUES, VALUES[:2]])
    wanted[5:8] = VALUES[:3]
    assert (dataset[:] == wanted).all()
    assert dataset.compression == "gzip"


def test_a_part_of_a_dataset_by_its_group(file):
    file["x"] = np.zeros((20, 10), "i4")
    lazyio.to_hdf5(VALUES[:2], file, "x", region=np.s_[3:5])
    assert (file["x"][3:5] == VALUES[:2]).all()
    with pytest.raises(TargetError, match="has no dataset 'y'"):
        lazyio.to_hdf5(VALUES[:2], file, "y", region=np.s_[3:5])


def test_what_does_not_fit_a_dataset(file):
    dataset = file.create_dataset("x", (20, 10), "i4")
    with pytest.raises(OptionError, match=r"has shape \(20, 10\), the data \(3, 10\)"):
        lazyio.to_hdf5(VALUES[:3], dataset)
    with pytest.raises(OptionError, match="its dtype is int32"):
        lazyio.to_hdf5(VALUES.astype("f8"), dataset)
    with pytest.raises(OptionError, match="its filters are none, not gzip"):
        lazyio.to_hdf5(VALUES, dataset, compression="gzip")


def test_dasks_order_of_arguments(file, tmp_path):
    """An open group is a place to write to, and not a mapping of arrays."""
    lazyio.to_hdf5(file, "a", VALUES)
    lazyio.to_hdf5(file, {"b": VALUES * 2})
    np.save(tmp_path / "source.npy", VALUES)
    lazyio.to_hdf5(tmp_path / "source.npy", file, "c")
    lazyio.to_hdf5({"d": VALUES}, file, "/")
    assert sorted(file) == ["a", "b", "c", "d"]
    assert (file["b"][:] == VALUES * 2).all()
    assert (file["c"][:] == VALUES).all()
    for arguments in ((VALUES, file, 5), ({"a": VALUES}, file, VALUES), (VALUES, file, None)):
        with pytest.raises(OptionError, match="does not name a dataset") as caught:
            lazyio.to_hdf5(*arguments)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("mode", ["w", "x"])
def test_modes_are_for_paths(file, mode):
    with pytest.raises(OptionError, match="already exists"):
        lazyio.to_hdf5(VALUES, file, "x", mode=mode)


def test_closed_and_read_only_files_are_refused(tmp_path):
    """Before anything is computed."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = VALUES
        dataset, group = file["x"], file.create_group("g")
    for handle in (dataset, group, file):
        with pytest.raises(TargetError, match="has been closed"):
            lazyio.to_hdf5(VALUES, handle)
    with h5py.File(path, "r") as file:
        for handle in (file["x"], file["g"], file):
            with pytest.raises(TargetError, match="open for reading only"):
                lazyio.to_hdf5(VALUES, handle)


def test_what_is_there_is_not_replaced_unasked(file):
    """A dataset only with overwrite, a group never, a key below a dataset is none."""
    file["x"] = np.zeros(3)
    file["g/kept"] = np.ones(3)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        lazyio.to_hdf5(VALUES, file, "x")
    lazyio.to_hdf5(VALUES, file, "x", overwrite=True)
    assert (file["x"][:] == VALUES).all()
    with pytest.raises(TargetExistsError, match="is a group, which is never replaced"):
        lazyio.to_hdf5(VALUES, file, "g", overwrite=True)
    with pytest.raises(TargetError, match="below a dataset"):
        lazyio.to_hdf5(VALUES, file, "x/y")
    assert (file["g/kept"][:] == 1).all()


def test_a_link_that_leads_nowhere_is_replaced_on_request(file):
    file["soft"] = h5py.SoftLink("/nowhere")
    file["far"] = h5py.ExternalLink("nowhere.h5", "x")
    for key in ("soft", "far"):
        with pytest.raises(TargetExistsError, match="overwrite=True"):
            lazyio.to_hdf5(VALUES, file, key)
        lazyio.to_hdf5(VALUES, file, key, overwrite=True)
        assert isinstance(file.get(key, getlink=True), h5py.HardLink)
    file["out"] = h5py.ExternalLink("nowhere.h5", "/")
    with pytest.raises(TargetError, match="an external link on the way"):
        lazyio.to_hdf5(VALUES, file, "out/x")


def test_reading_from_what_is_written_is_refused(file, monkeypatch):
    """Also where the file was opened by another name, as by way of a link."""
    file["x"] = VALUES
    x = da.from_array(file["x"], chunks=5)
    with pytest.raises(TargetError, match="is the source of this array"):
        lazyio.to_hdf5(x + 1, file["x"])
    lazyio.to_hdf5(x + 1, file, "y")
    assert (file["y"][:] == VALUES + 1).all()
    file.flush()
    os.symlink(file.filename, file.filename + ".link")
    with (
        h5py.File(file.filename + ".link", "r+") as linked,
        pytest.raises(TargetError, match="is the source of this array"),
    ):
        lazyio.to_hdf5(x, linked["x"])


@pytest.mark.parametrize("kind", ["core", "bytes"])
def test_files_in_memory(tmp_path, monkeypatch, kind):
    """Nothing reaches the disk, also where parts of chunks do not fit in memory."""
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    options = {"driver": "core", "backing_store": False} if kind == "core" else {}
    with h5py.File("core.h5" if kind == "core" else buffer, "w", **options) as file:
        x = da.from_array(VALUES, chunks=(7, 3)) + 0
        report = lazyio.to_hdf5(x, file, "x", chunks=(6, 4), memory_limit="4 kB")
        assert (file["x"][:] == VALUES).all()
        assert report.path == file.filename
    assert os.listdir(tmp_path) == []
    if kind == "bytes":
        with h5py.File(buffer) as file:
            assert (file["x"][:] == VALUES).all()


def test_scratch_beside_an_open_file_is_removed(file, tmp_path):
    def fail(block, block_id=None):
        if block_id == (2, 3):
            raise ValueError("bad block")
        return block

    x = da.from_array(VALUES, chunks=(7, 3)).map_blocks(fail, dtype="i4")
    with pytest.raises(BlockError, match=r"\[14:20, 9:10\].*bad block"):
        lazyio.to_hdf5(x, file, "x", chunks=(6, 4), memory_limit="4 kB")
    assert os.listdir(tmp_path) == ["x.h5"]
    assert file.id.valid


def test_filling_a_series_of_a_pynwb_file(nwb_file):
    """Through PyNWB's own handle, in r+; what it wrote beside stays."""
    path = nwb_file(np.zeros((20, 10), "i4"), chunks=(6, 4), compression="gzip")
    with pynwb.NWBHDF5IO(path, "r+") as handle:
        data = handle.read().acquisition["x"].data
        lazyio.to_hdf5(da.from_array(VALUES, chunks=(7, 10)) + 0, data)
        assert (data[:] == VALUES).all()
    with pynwb.NWBHDF5IO(path, "r") as handle:
        series = handle.read().acquisition["x"]
        assert (series.data[:] == VALUES).all()
        assert series.unit == "uV"
    assert pynwb.validate(path=path) in ([], ([], 0))


def test_a_dataset_that_has_changed_since_is_refused(file):
    """A delayed write goes where it was checked, or nowhere."""
    dataset = file.create_dataset("x", (20, 10), "i4", maxshape=(None, 10), chunks=(6, 4))
    later = lazyio.to_hdf5(VALUES[:2], dataset, append_dim=0, compute=False)
    dataset.resize((21, 10))
    with pytest.raises(TargetError, match=r"has shape \(21, 10\) now and had \(20, 10\)"):
        later.compute(scheduler="sync")


@pytest.mark.parametrize("libver", [None, ("earliest", "v114")])
@pytest.mark.parametrize("compression", ["lzf", "gzip", "zstd", "blosc2"])
def test_what_does_not_shrink_is_read_through_the_open_dataset(tmp_path, compression, libver):
    """libhdf5 forgets, until it is closed, that no filter has gone over the chunk written last."""
    rng = np.random.default_rng(0)
    path, parts = tmp_path / "x.h5", []
    lazyio.allocate(
        path, "x", shape=(0, 64), maxshape=(None, 64), chunks=(100, 64), dtype="u4", libver=libver,
        compression=compression,
    )  # fmt: skip
    with h5py.File(path, "r+") as file:
        for number in range(5):
            parts.append(rng.integers(0, 2**32, (30 + number, 64), dtype="u4"))
            lazyio.to_hdf5(parts[-1], file["x"], append_dim=0)
            assert (file["x"][...] == np.concatenate(parts)).all()
        file.create_dataset("y", (100, 64), "u4", chunks=(100, 64), compression="lzf")
        whole = rng.integers(0, 2**32, (100, 64), dtype="u4")
        lazyio.to_hdf5(whole, file["y"])
        assert (file["y"][...] == whole).all()
        lazyio.to_hdf5(whole + 1, file, "z", compression=compression)
        assert (file["z"][...] == whole + 1).all()
    assert (lazyio.open(path, "x").compute() == np.concatenate(parts)).all()
