"""Names that are refused, and targets whose permissions forbid to change them."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.errors import OptionError, TargetError

VALUES = np.arange(60, dtype="i4").reshape(12, 5)
ODD = ["", "/", ".", "..", "a/../b", "./a", "a/..", "_lazyio", "/_lazyio", "_lazyio/x"]


def put_new(path, key):
    lazyio.to_hdf5(VALUES, path, key)


def put_several(path, key):
    lazyio.to_hdf5({key: VALUES, "other": VALUES}, path)


def put_empty(path, key):
    lazyio.allocate(path, key, shape=(3,), dtype="i4")


def put_region(path, key):
    lazyio.to_hdf5(VALUES[:1], path, key, region=np.s_[:1])


def put_by_writer(path, key):
    with lazyio.writer(path) as w:
        w.create(key, dtype="i4", item_shape=())


@pytest.mark.parametrize("put", [put_new, put_several, put_empty, put_region, put_by_writer])
def test_odd_keys_of_hdf5(tmp_path, put):
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(VALUES, path, "there")
    before = path.read_bytes()
    for key in ODD:
        with pytest.raises(OptionError, match="key="):
            put(path, key)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.h5"]


def test_the_group_of_digests_that_is_open(tmp_path):
    lazyio.to_hdf5(VALUES, tmp_path / "x.h5", "there")
    with (
        h5py.File(tmp_path / "x.h5", "a") as file,
        pytest.raises(OptionError, match="which is for digests"),
    ):
        lazyio.to_hdf5(VALUES, file["_lazyio"], "x")
    assert lazyio.verify(tmp_path / "x.h5").status == "ok"


@pytest.mark.parametrize("key", ["", ".", "..", "a/../b", "a/./b", "_lazyio", "_lazyio/x"])
def test_odd_paths_of_zarr(tmp_path, key):
    root = tmp_path / "x.zarr"
    lazyio.to_zarr(VALUES, root, "there")
    for write in (
        lambda: lazyio.to_zarr(VALUES, root, key),
        lambda: lazyio.to_zarr({key: VALUES}, root),
        lambda: lazyio.allocate(root, key, shape=(3,), dtype="i4"),
    ):
        with pytest.raises(OptionError, match=r"path=|a mapping with the keys"):
            write()
    with pytest.raises(OptionError, match=r"key=|path="):
        put_by_writer(root, key)
    assert sorted(os.listdir(root)) == ["there", "zarr.json"]


def test_names_with_dots_of_others(tmp_path):
    """To HDF5 '..' is a name: what is under it has nothing to do with what is beside it."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(VALUES, path, "b")
    with h5py.File(path, "a") as file:
        file.create_group("a").create_group("..")["b"] = VALUES + 1
    found = lazyio.verify(path)
    assert (found.damaged, dict(found.unverifiable).keys()) == ((), {"/a/../b"})


@pytest.mark.parametrize("key", ["x/", "/x", "/x/", "x//"])
def test_slashes_around_a_key_that_is_read(tmp_path, key):
    lazyio.to_hdf5(VALUES, tmp_path / "x.h5", "x")
    lazyio.to_zarr(VALUES, tmp_path / "x.zarr", "x")
    for name in ("x.h5", "x.zarr"):
        np.testing.assert_array_equal(lazyio.open(tmp_path / name, key).compute(), VALUES)
        assert lazyio.verify(tmp_path / name, key).status == "ok"


@pytest.mark.parametrize("store", ["", ".", "..", os.curdir + os.sep])
def test_the_working_directory_is_not_replaced(tmp_path, monkeypatch, store):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(TargetError, match=r"working directory|is a directory"):
        lazyio.to_zarr(VALUES, store)
    with pytest.raises(TargetError, match=r"working directory|is a directory"):
        lazyio.to_hdf5(VALUES, store)
    assert Path.cwd() == tmp_path / "empty"


def test_an_array_in_the_working_directory(tmp_path, monkeypatch):
    """That replaces nothing."""
    monkeypatch.chdir(tmp_path)
    zarr.create_group(tmp_path)
    lazyio.to_zarr(VALUES, ".", "x")
    np.testing.assert_array_equal(zarr.open_array("x")[...], VALUES)


READ_ONLY = """
import json, os, sys
import numpy as np
import lazyio
folder = sys.argv[1]
h5, store = f"{folder}/x.h5", f"{folder}/x.zarr"
ROW = np.zeros((1, 5), "i4")
asked = []

def rows(region):
    asked.append(region)
    return np.zeros((1, 5), "i4")

def appended(path):
    with lazyio.writer(path) as w:
        w.create("x", dtype="i4", item_shape=(5,)).append(ROW)

lazy = lambda: lazyio.from_function(rows, (1, 5), "i4")
# Everything is imported while the interpreter's own files can still be read.
for path, to in (("new.h5", lazyio.to_hdf5), ("new.zarr", lazyio.to_zarr)):
    appended(f"{folder}/{path}")
    to(ROW, f"{folder}/{path}", "x", region=np.s_[:1])
    appended(f"{folder}/{path}")
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
calls = {
    "h5 a": lambda: lazyio.to_hdf5(lazy(), h5, "y"),
    "h5 w": lambda: lazyio.to_hdf5(lazy(), h5, "y", mode="w"),
    "h5 overwrite": lambda: lazyio.to_hdf5(lazy(), h5, "x", overwrite=True),
    "h5 region": lambda: lazyio.to_hdf5(lazy(), h5, "x", region=np.s_[:1]),
    "h5 append": lambda: lazyio.to_hdf5(lazy(), h5, "x", append_dim=0),
    "h5 writer": lambda: appended(h5),
    "zarr a": lambda: lazyio.to_zarr(lazy(), store, "y"),
    "zarr w": lambda: lazyio.to_zarr(lazy(), store, "x", mode="w"),
    "zarr region": lambda: lazyio.to_zarr(lazy(), store, "x", region=np.s_[:1]),
    "zarr append": lambda: lazyio.to_zarr(lazy(), store, "x", append_dim=0),
    "zarr writer": lambda: appended(store),
    "zip w": lambda: lazyio.to_zarr(lazy(), f"{folder}/x.zip", "x", mode="w"),
}
said = {}
for name, call in calls.items():
    try:
        call()
        said[name] = "written"
    except Exception as error:
        said[name] = [type(error).__name__, getattr(error, "errno", 0), str(error)]
sys.stdout.write(json.dumps([said, len(asked)]))
"""


def test_targets_that_are_read_only():
    """As h5py refuses them: before anything is computed, though the folder may be written."""
    # Not below tmp_path, which nobody but its owner may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lazyio.to_hdf5(VALUES, folder / "x.h5", "x", maxshape=(None, 5), chunks=(3, 5))
        lazyio.to_zarr(VALUES, folder / "x.zarr", "x", chunks=(3, 5))
        lazyio.to_zarr(VALUES, folder / "x.zip", "x")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path == folder else 0o555 if path.is_dir() else 0o444)
            if os.geteuid() == 0:
                os.chown(path, 65534, 65534)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, name], capture_output=True, text=True, check=True
        )
        after = {path: path.read_bytes() for path in before}
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o777)
    said, n_asked = json.loads(done.stdout)
    assert after == before
    assert n_asked == 0
    for name, what in said.items():
        assert what[:2] == ["TargetError", errno.EACCES], (name, what)
        assert "permissions forbid it" in what[2]
