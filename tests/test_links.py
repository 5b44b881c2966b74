"""Links instead of copies: to other files, inside one file, and what is copied all the same."""

import io
import shutil

import dask.array as da
import h5py
import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO

import lazyio
from lazyio.errors import OptionError, TargetExistsError

VALUES = np.arange(200, dtype="i4").reshape(20, 10)


@pytest.fixture
def raw(tmp_path):
    """Return a file with one dataset, in a folder of its own."""
    (tmp_path / "session" / "raw").mkdir(parents=True)
    path = tmp_path / "session" / "raw" / "raw.h5"
    lazyio.to_hdf5(VALUES, path, "deep/x")
    return path


@pytest.mark.parametrize("kind", ["lazyio", "h5py"])
def test_links_survive_moving_both_files(tmp_path, raw, kind):
    """They are relative to where the file lies that has them."""
    out = tmp_path / "session" / "out.h5"
    if kind == "lazyio":
        report = lazyio.to_hdf5(lazyio.open(raw, "deep/x"), out, "x", links="link")
    else:
        with h5py.File(raw) as file:
            report = lazyio.to_hdf5(file["deep/x"], out, "x", links="link")
    assert (report.engine, report.nbytes, report.n_blocks, report.n_chunks) == ("link", 0, 0, 0)
    with h5py.File(out) as file:
        link = file.get("x", getlink=True)
        assert isinstance(link, h5py.ExternalLink)
        assert (link.filename, link.path) == ("raw/raw.h5", "/deep/x")
    shutil.move(tmp_path / "session", tmp_path / "moved")
    with h5py.File(tmp_path / "moved" / "out.h5") as file:
        assert (file["x"][:] == VALUES).all()
    assert (
        lazyio.open(
            tmp_path / "moved" / "out.h5", "x", allow_external=[tmp_path / "moved"]
        ).compute()
        == VALUES
    ).all()


def test_links_are_relative_to_what_a_link_to_the_folder_leads_to(tmp_path, raw):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away")
    out = tmp_path / "near" / "out.h5"
    lazyio.to_hdf5(lazyio.open(raw, "deep/x"), out, "x", links="link")
    with h5py.File(out.resolve()) as file:
        assert (file["x"][:] == VALUES).all()


def test_inside_one_file_links_are_soft(raw):
    lazyio.to_hdf5(lazyio.open(raw, "deep/x"), raw, "again", links="link")
    with h5py.File(raw, "r+") as file:
        assert file.get("again", getlink=True).path == "/deep/x"
        lazyio.to_hdf5(file["deep/x"], file, "third", links="link")
        assert isinstance(file.get("third", getlink=True), h5py.SoftLink)
        assert (file["third"][:] == VALUES).all()


def test_an_open_file_by_another_name_is_the_same_file(raw, tmp_path):
    (tmp_path / "name.h5").symlink_to(raw)
    with h5py.File(tmp_path / "name.h5", "r+") as file:
        lazyio.to_hdf5(file["deep/x"], file, "again", links="link")
        assert isinstance(file.get("again", getlink=True), h5py.SoftLink)


def test_what_is_computed_is_copied(raw, tmp_path):
    """Graphs, arrays in memory, and datasets of files that lie in memory."""
    out = tmp_path / "out.h5"
    x = lazyio.open(raw, "deep/x")
    with h5py.File(io.BytesIO(), "w") as buffer:
        buffer["x"] = VALUES
        data = {"linked": x, "graph": x + 0, "memory": VALUES, "buffer": buffer["x"]}
        report = lazyio.to_hdf5(data, out, links="link")
    with h5py.File(out) as file:
        kinds = {key: type(file.get(key, getlink=True)).__name__ for key in file}
        assert kinds.pop("linked") == "ExternalLink"
        assert set(kinds.values()) == {"HardLink"}
        for key in data:
            assert (file[key][:] == VALUES).all()
    assert report.nbytes == 3 * VALUES.nbytes
    with pytest.raises(OptionError, match='give "copy", or "link"'):
        lazyio.to_hdf5(x, out, links="soft")


def test_a_linked_array_that_others_are_made_of_is_linked_too(raw, tmp_path):
    x = da.from_array(VALUES, chunks=5)
    y = lazyio.open(raw, "deep/x")
    lazyio.to_hdf5({"y": y, "twice": y * 2, "x": x}, tmp_path / "out.h5", links="link")
    with h5py.File(tmp_path / "out.h5") as file:
        assert isinstance(file.get("y", getlink=True), h5py.ExternalLink)
        assert (file["twice"][:] == VALUES * 2).all()


def test_names_of_any_text(tmp_path):
    """Files and keys with unicode, spaces and newlines."""
    source, key = tmp_path / "ro h\nµ日.h5", "a b\n/日本"
    lazyio.to_hdf5(VALUES, source, key)
    lazyio.to_hdf5(lazyio.open(source, key), tmp_path / "out.h5", "ü\n", links="link")
    with h5py.File(tmp_path / "out.h5") as file:
        assert (file["ü\n"][:] == VALUES).all()


def test_links_take_a_name_like_datasets(raw, tmp_path):
    out = tmp_path / "out.h5"
    x = lazyio.open(raw, "deep/x")
    lazyio.to_hdf5(np.ones(3), out, "x")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        lazyio.to_hdf5(x, out, "x", links="link")
    lazyio.to_hdf5(x, out, "x", links="link", overwrite=True)
    with h5py.File(out) as file:
        assert (file["x"][:] == VALUES).all()
    lazyio.to_hdf5(np.ones(3), out, "x", overwrite=True)
    with h5py.File(out) as file:
        assert (file["x"][:] == 1).all()
    with h5py.File(raw) as file:
        assert (file["deep/x"][:] == VALUES).all()


def test_h5dataio_with_link_data(raw, tmp_path):
    """HDMF's way to ask for the same; an explicit argument wins."""
    with h5py.File(raw) as file:
        wrapped = H5DataIO(file["deep/x"], link_data=True)
        lazyio.to_hdf5(wrapped, tmp_path / "out.h5", "x")
    with h5py.File(tmp_path / "out.h5") as file:
        assert isinstance(file.get("x", getlink=True), h5py.ExternalLink)
        assert (file["x"][:] == VALUES).all()
