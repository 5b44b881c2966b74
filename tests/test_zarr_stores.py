"""Where Zarr arrays go: open groups, arrays and stores, zip files, URLs; which mode allows it."""

import os
import pickle
import warnings
import zipfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from dask.delayed import Delayed
from hdmf.backends.hdf5 import H5DataIO
from zarr.storage import LocalStore, MemoryStore, StorePath, ZipStore

import lazyio
from lazyio.errors import BlockError, OptionError, TargetError, TargetExistsError
from lazyio.storage.zarr.array import ZarrTarget

VALUES = np.arange(200, dtype="i4").reshape(20, 10)


def graph(values=VALUES, blocks=(7, 3)):
    return da.from_array(values, chunks=blocks) + np.zeros((), values.dtype)


def read(store, path=None):
    return zarr.open_array(store, path=path, mode="r")[...]


def contents(folder):
    """Return the bytes of every file by its path."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def codes(report):
    """Return what advice there is, but for that on how the chunks lie."""
    return [code for code, _ in report.advice if code != "chunks-across-blocks"]


@pytest.fixture(params=["memory", "local", "dict", "path", "zip", "url"])
def store(request, tmp_path):
    """Return an empty store of some kind, open or behind a URL."""
    if request.param == "url":
        fs = pytest.importorskip("fsspec").filesystem("memory")
        yield "memory://lazyio-stores/s.zarr"
        fs.rm("/lazyio-stores", recursive=True)
        return
    made = {
        "memory": MemoryStore,
        "local": lambda: LocalStore(tmp_path / "s.zarr"),
        "dict": dict,
        "path": lambda: StorePath(MemoryStore(), "inside"),
        "zip": lambda: ZipStore(tmp_path / "s.zip", mode="w"),
    }[request.param]()
    yield made
    if request.param == "zip":
        made.close()


@pytest.mark.parametrize("version", [2, 3])
def test_stores_of_any_kind(store, version):
    """One array as the store itself would be; here several in groups, from graphs that cut."""
    data = {"a": graph(), "g/b": VALUES * 2}
    report = lazyio.to_zarr(data, store, chunks=(6, 4), zarr_format=version)
    opened = store.store if isinstance(store, StorePath) else store
    at = "inside/" if isinstance(store, StorePath) else ""
    np.testing.assert_array_equal(read_open(opened, f"{at}a"), VALUES)
    np.testing.assert_array_equal(read_open(opened, f"{at}g/b"), VALUES * 2)
    assert codes(report) == ["open-handle"]
    assert "not undone" in str(report)
    assert len(report.path) < 200
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        lazyio.to_zarr({"new": VALUES, "a": VALUES}, store, zarr_format=version)
    other = 5 - version
    with pytest.raises(TargetError, match=f"v{version} group, to which no v{other} array"):
        lazyio.to_zarr({"new": VALUES}, store, zarr_format=other)
    with pytest.raises(TargetExistsError, match="is a group of arrays"):
        lazyio.to_zarr(VALUES, store, "g", overwrite=True, zarr_format=version)
    with pytest.raises(TargetError, match="an array holds no other"):
        lazyio.to_zarr(VALUES, store, "a/x", zarr_format=version)
    assert node(opened, f"{at}new") is None


def node(store, path):
    try:
        return zarr.open(store, path=path, mode="r+")
    except FileNotFoundError:
        return None


def read_open(store, path):
    """Return an array's elements; a zip file that is being written has no other mode."""
    return zarr.open_array(store, path=path, mode="r+")[...]


def test_the_store_is_the_array(store):
    """Without a path."""
    lazyio.to_zarr(VALUES, store)
    opened = store.store if isinstance(store, StorePath) else store
    path = "inside" if isinstance(store, StorePath) else None
    np.testing.assert_array_equal(read_open(opened, path), VALUES)


def test_a_dict_is_not_told_in_full():
    """The report names a store, and does not print what is in it."""
    held = {}
    lazyio.to_zarr(np.arange(10**5), held, "a")
    assert len(lazyio.to_zarr(VALUES, held, "b").path) < 100


class TestGroups:
    """Groups that the caller has open."""

    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize("path", ["a", "/b/", "deep/er"])
    def test_paths_count_from_the_group(self, tmp_path, path, version):
        root = zarr.create_group(tmp_path / "s.zarr", zarr_format=version)
        group = root.create_group("group")
        report = lazyio.to_zarr(graph(), group, path, zarr_format=version)
        np.testing.assert_array_equal(group[path.strip("/")][:], VALUES)
        assert sorted(root.keys()) == ["group"]
        assert report.keys == (f"group/{path.strip('/')}",)
        assert report.path == str(tmp_path / "s.zarr/group")

    def test_a_group_is_no_array(self, tmp_path):
        group = zarr.create_group(tmp_path / "s.zarr")
        with pytest.raises(TargetExistsError, match="give path= for an array in it"):
            lazyio.to_zarr(VALUES, group)

    def test_a_part_of_an_array_in_it(self, tmp_path):
        group = zarr.create_group(tmp_path / "s.zarr")
        group["x"] = np.zeros((20, 10), "i4")
        lazyio.to_zarr(VALUES[:2], group, "x", region=np.s_[3:5])
        np.testing.assert_array_equal(group["x"][3:5], VALUES[:2])
        for path in ("missing", None):
            with pytest.raises(TargetError, match=r"does not exist|is a group"):
                lazyio.to_zarr(VALUES[:2], group, path, region=np.s_[3:5])

    @pytest.mark.parametrize("kind", ["group", "store", "array", "part"])
    def test_read_only(self, tmp_path, kind):
        """Refused by name before anything is computed."""
        zarr.create_group(tmp_path / "s.zarr")["x"] = VALUES
        before = contents(tmp_path)
        group = zarr.open_group(tmp_path / "s.zarr", mode="r")
        target, options = {
            "group": (group, {"path": "y"}),
            "store": (LocalStore(tmp_path / "s.zarr", read_only=True), {"path": "y"}),
            "array": (group["x"], {}),
            "part": (group, {"path": "x", "region": np.s_[:]}),
        }[kind]
        for compute in (True, False):
            with pytest.raises(TargetError, match=r"s\.zarr.* is open for reading only"):
                lazyio.to_zarr(VALUES, target, compute=compute, **options)
        assert contents(tmp_path) == before


class TestArrays:
    """Arrays that the caller has open are filled in place."""

    @pytest.mark.parametrize("shards", [None, (12, 8)])
    @pytest.mark.parametrize("where", ["local", "memory", "zip"])
    def test_all_of_it_a_part_and_growth(self, tmp_path, shards, where):
        """Its settings stay, and whoever has it open sees the values."""
        target = {
            "local": lambda: tmp_path / "s.zarr",
            "memory": MemoryStore,
            "zip": lambda: ZipStore(tmp_path / "s.zip", mode="w"),
        }[where]()
        options = {"chunks": (6, 4), "shards": shards, "dtype": "i4", "attributes": {"unit": "V"}}
        array = zarr.create_array(target, name="x", shape=(20, 10), **options)
        report = lazyio.to_zarr(graph(), array)
        np.testing.assert_array_equal(array[...], VALUES)
        assert codes(report) == ["open-handle"]
        assert array.attrs["unit"] == "V"
        if where == "zip":
            with pytest.raises(TargetError, match=r"nothing can be changed in a \.zip file"):
                lazyio.to_zarr(VALUES[:2], array, append_dim=0)
            target.close()
            return
        lazyio.to_zarr(VALUES[:3], array, region=np.s_[5:8])
        lazyio.to_zarr(VALUES[:2], array, append_dim=0)
        wanted = np.concatenate([VALUES, VALUES[:2]])
        wanted[5:8] = VALUES[:3]
        np.testing.assert_array_equal(array[...], wanted)
        assert (array.chunks, array.shards) == ((6, 4), shards)

    def test_what_does_not_fit(self, tmp_path):
        array = zarr.create_array(tmp_path / "s.zarr", shape=(20, 10), dtype="i4")
        with pytest.raises(OptionError, match=r"has shape \(20, 10\), the data \(3, 10\)"):
            lazyio.to_zarr(VALUES[:3], array)
        with pytest.raises(OptionError, match="its dtype is int32"):
            lazyio.to_zarr(VALUES.astype("f8"), array)
        with pytest.raises(OptionError, match="is for new arrays"):
            lazyio.to_zarr(VALUES, array, mode="w")

    @pytest.mark.parametrize("wanted", [True, False])
    def test_its_own_wish_for_empty_chunks_counts(self, tmp_path, wanted):
        options = {"shape": (8,), "chunks": (4,), "dtype": "i4"}
        array = zarr.create_array(
            tmp_path / "s.zarr", config={"write_empty_chunks": wanted}, **options
        )
        lazyio.to_zarr(np.zeros(8, "i4"), array)
        assert (tmp_path / "s.zarr/c/0").exists() == wanted
        lazyio.to_zarr(np.zeros(8, "i4"), array, write_empty_chunks=not wanted)
        assert (tmp_path / "s.zarr/c/0").exists() != wanted

    def test_a_failure_leaves_no_half_objects(self, tmp_path, monkeypatch):
        """A chunk that could not be written is as it was, and nothing lies beside it."""
        array = zarr.create_array(tmp_path / "s.zarr", data=VALUES, chunks=(6, 4))
        before = contents(tmp_path)

        def fail(path, pieces):
            with open(path, "wb") as file:
                file.write(next(iter(pieces))[:3])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("lazyio.storage.zarr.array._write_file", fail)
        with pytest.raises(TargetError, match="free space or choose another disk"):
            lazyio.to_zarr(VALUES + 1, array)
        assert contents(tmp_path) == before


def test_a_file_url_is_a_path(tmp_path):
    """It is locked and built under a hidden name as any other path is."""
    path = tmp_path / "with a space.zarr"
    report = lazyio.to_zarr(VALUES, path.as_uri())
    assert report.path == str(path)
    assert not report.advice
    np.testing.assert_array_equal(zarr.open_array(path)[...], VALUES)
    with pytest.raises(TargetExistsError):
        lazyio.to_zarr(VALUES, path.as_uri())


class TestOwnSource:
    """What is read is never what is written, however either was opened."""

    @pytest.mark.parametrize("how", ["lazyio", "dask", "array"])
    @pytest.mark.parametrize("where", ["memory", "local", "url"])
    def test_whole_arrays(self, tmp_path, how, where):
        """A store in memory has no path, and an array in it is lost all the same."""
        if where == "url":
            pytest.importorskip("fsspec")
        url = "memory://lazyio-own/s.zarr"
        store = {"memory": MemoryStore(), "local": LocalStore(tmp_path), "url": url}[where]
        lazyio.to_zarr(VALUES, store, "a", mode="w")
        opened = zarr.open_array(store, path="a", mode="r")
        x = {
            "lazyio": lambda: lazyio.from_zarr(store, "a"),
            "dask": lambda: da.from_array(opened, chunks=(5, 5)),
            "array": lambda: opened,
        }[how]()
        with pytest.raises(TargetError, match="is the source of this array"):
            lazyio.to_zarr(x, store, "a", overwrite=True)
        lazyio.to_zarr(da.asarray(x) + 1, store, "b", mode="w")
        np.testing.assert_array_equal(read(store, "b"), VALUES + 1)
        np.testing.assert_array_equal(read(store, "a"), VALUES)

    def test_open_arrays(self):
        array = zarr.create_array({}, data=VALUES, chunks=(5, 5))
        with pytest.raises(TargetError, match="is the source of this array"):
            lazyio.to_zarr(da.from_array(array, chunks=(5, 5))[::-1] + 1, array)
        other = zarr.create_array({}, shape=(20, 10), dtype="i4")
        lazyio.to_zarr(array, other)
        np.testing.assert_array_equal(other[...], VALUES)

    def test_zip_files(self, tmp_path):
        lazyio.to_zarr({"a": VALUES}, tmp_path / "s.zip")
        with pytest.raises(TargetError, match="is the source of this array"):
            lazyio.to_zarr(lazyio.open(tmp_path / "s.zip"), tmp_path / "s.zip", "b", mode="w")


class TestZip:
    """Files that are stores: made whole, replaced whole, never changed."""

    @pytest.mark.parametrize("version", [2, 3])
    def test_new_and_replaced(self, tmp_path, version):
        path = tmp_path / "s.zarr.zip"
        report = lazyio.to_zarr(graph(), path, chunks=(6, 4), zarr_format=version)
        assert report.path == str(path)
        assert report.n_chunks == 12
        assert codes(report) == []
        np.testing.assert_array_equal(lazyio.open(path), VALUES)
        names = zipfile.ZipFile(path).namelist()
        assert len(names) == len(set(names))
        for options in ({}, {"path": "x"}, {"mode": "r+"}):
            with pytest.raises(TargetExistsError, match=r"\.zip file is replaced as a whole"):
                lazyio.to_zarr(VALUES, path, **options)
        with pytest.raises(TargetExistsError, match="makes only new ones"):
            lazyio.to_zarr(VALUES, path, mode="x")
        lazyio.to_zarr(VALUES * 2, path, mode="w")
        np.testing.assert_array_equal(lazyio.open(path), VALUES * 2)
        lazyio.to_zarr(VALUES * 3, path, "in/side", mode="w")
        np.testing.assert_array_equal(lazyio.open(path, "in/side"), VALUES * 3)
        assert os.listdir(tmp_path) == ["s.zarr.zip"]

    @pytest.mark.parametrize("part", [{"region": np.s_[:2]}, {"append_dim": 0}])
    def test_no_part_of_it_is_written(self, tmp_path, part):
        lazyio.to_zarr(VALUES, tmp_path / "s.zip")
        before = contents(tmp_path)
        with pytest.raises(TargetError, match=r"s\.zip is a \.zip file, in which nothing can be"):
            lazyio.to_zarr(VALUES[:2], tmp_path / "s.zip", **part)
        assert contents(tmp_path) == before

    def test_a_failure_leaves_the_old_file(self, tmp_path):
        lazyio.to_zarr(VALUES, tmp_path / "s.zip")
        before = contents(tmp_path)
        bad = graph().map_blocks(lambda block: block[:1], dtype="i4")
        with pytest.raises(BlockError, match="the array says"):
            lazyio.to_zarr(bad, tmp_path / "s.zip", mode="w")
        assert contents(tmp_path) == before
        assert os.listdir(tmp_path) == ["s.zip"]

    def test_a_folder_is_no_zip_file(self, tmp_path):
        (tmp_path / "s.zip").mkdir()
        with pytest.raises(TargetError, match="is a directory"):
            lazyio.to_zarr(VALUES, tmp_path / "s.zip")


class TestUrls:
    """Stores behind fsspec; of all protocols only that in memory can be tested here."""

    @pytest.fixture
    def url(self):
        fs = pytest.importorskip("fsspec").filesystem("memory")
        yield "memory://lazyio-urls/s.zarr"
        if fs.exists("/lazyio-urls"):
            fs.rm("/lazyio-urls", recursive=True)

    def test_there_and_back(self, url):
        options = {"storage_options": {"skip_instance_cache": True}}
        report = lazyio.to_zarr(graph(), url, "g/a", chunks=(6, 4), **options)
        assert report.path == url
        assert report.engine == "zarr-python"
        np.testing.assert_array_equal(lazyio.open(url, "g/a"), VALUES)
        lazyio.to_zarr(VALUES[:2], url, "g/a", append_dim=0, **options)
        lazyio.to_zarr(VALUES[:2] * 0, url, "g/a", region=np.s_[:2], **options)
        found = lazyio.open(url, "g/a").compute()
        assert found.shape == (22, 10)
        assert not found[:2].any()
        np.testing.assert_array_equal(found[20:], VALUES[:2])

    def test_protocols_that_are_none(self):
        with pytest.raises(OptionError, match="cannot be opened"):
            lazyio.to_zarr(VALUES, "nonsense://x/y")

    def test_options_are_for_urls(self, tmp_path):
        for store in (tmp_path / "s.zarr", tmp_path / "s.zip", MemoryStore()):
            with pytest.raises(OptionError, match="storage_options are for stores behind a URL"):
                lazyio.to_zarr(VALUES, store, storage_options={"anon": True})


@pytest.mark.parametrize("store", [None, 5, [], b"x.zarr", object()])
def test_what_is_no_store(store):
    with pytest.raises(OptionError, match="is no store; give"):
        lazyio.to_zarr(VALUES, store)


class TestModes:
    """h5py's modes; ``w`` replaces what is named, and nothing beside it."""

    @pytest.fixture(params=["path", "memory"])
    def make(self, request, tmp_path):
        """Return a function that gives the same store each time, as a path or open."""
        held = tmp_path / "s.zarr" if request.param == "path" else MemoryStore()
        return lambda: held

    def test_w_replaces_the_named_array_only(self, make):
        lazyio.to_zarr({"a": VALUES, "g/b": VALUES}, make(), mode="w")
        lazyio.to_zarr(VALUES[:3], make(), "a", mode="w")
        assert read(make(), "a").shape == (3, 10)
        assert read(make(), "g/b").shape == (20, 10)
        with pytest.raises(TargetExistsError, match="is a group of arrays"):
            lazyio.to_zarr(VALUES, make(), "g", mode="w")
        with pytest.raises(TargetExistsError, match="is a group of arrays"):
            lazyio.to_zarr(VALUES, make(), mode="w")

    @pytest.mark.parametrize("mode", ["w-", "x"])
    def test_x_makes_only_new_stores(self, make, mode):
        lazyio.to_zarr(VALUES, make(), "a", mode=mode)
        for path in ("a", "b"):
            with pytest.raises(TargetExistsError, match="makes only new ones"):
                lazyio.to_zarr(VALUES, make(), path, mode=mode, overwrite=True)

    def test_r_plus_adds_to_existing_ones(self, make):
        with pytest.raises(TargetError, match=r"mode='r\+' adds to existing ones only"):
            lazyio.to_zarr(VALUES, make(), "a", mode="r+")
        lazyio.to_zarr(VALUES, make(), "a")
        lazyio.to_zarr(VALUES, make(), "b", mode="r+")
        with pytest.raises(TargetExistsError, match="overwrite=True"):
            lazyio.to_zarr(VALUES, make(), "b", mode="r+")
        lazyio.to_zarr(VALUES[:2], make(), "b", mode="r+", append_dim=0)
        assert read(make(), "b").shape == (22, 10)

    @pytest.mark.parametrize("mode", ["r", "rw", None, 1])
    def test_modes_that_are_none(self, make, mode):
        with pytest.raises(OptionError, match="is not a mode"):
            lazyio.to_zarr(VALUES, make(), mode=mode)


class TestLater:
    """With ``compute=False`` nothing is there before it is computed."""

    @pytest.mark.parametrize("kind", [Path, LocalStore])
    def test_nothing_happens_before(self, tmp_path, kind):
        later = lazyio.to_zarr(graph(), kind(tmp_path / "s.zarr"), "a", compute=False)
        assert isinstance(later, Delayed)
        assert os.listdir(tmp_path) == []
        assert later.compute().n_blocks == 12
        np.testing.assert_array_equal(read(tmp_path / "s.zarr", "a"), VALUES)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"compressors": "nonsense"}, "cannot be created"),
            ({"dimension_names": ("x",)}, "dimension_names="),
            ({"shards": (5, 5), "zarr_format": 2}, "cannot be created"),
            ({"attributes": {"a": b"x"}}, "JSON has no form"),
            ({"fill_value": 1.5}, "is no value of dtype"),
        ],
    )
    def test_what_is_refused_is_refused_at_once(self, tmp_path, options, match):
        for store in (tmp_path / "s.zarr", tmp_path / "s.zip", MemoryStore()):
            with pytest.raises(OptionError, match=match):
                lazyio.to_zarr(VALUES, store, "a", compute=False, **options)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("kind", ["path", "memory", "zip"])
    def test_what_changes_meanwhile_is_looked_at_again(self, tmp_path, kind):
        store = {"path": tmp_path / "s", "memory": MemoryStore(), "zip": tmp_path / "s.zip"}[kind]
        later = lazyio.to_zarr(VALUES, store, "a", compute=False)
        lazyio.to_zarr(VALUES * 2, store, "a")
        with pytest.raises(TargetExistsError, match="already exists"):
            later.compute()
        np.testing.assert_array_equal(lazyio.from_zarr(store, "a"), VALUES * 2)

    def test_several_parts_of_one_array(self, tmp_path):
        """Each finds its place by itself; both of one array are never at work at once."""
        lazyio.to_zarr(np.zeros((20, 10), "i4"), tmp_path / "s.zarr", chunks=(5, 10))
        parts = [
            lazyio.to_zarr(
                VALUES[at : at + 5], tmp_path / "s.zarr", region=np.s_[at : at + 5], compute=False
            )
            for at in (0, 10)
        ]
        dask.compute(*parts, scheduler="sync")
        np.testing.assert_array_equal(read(tmp_path / "s.zarr")[10:15], VALUES[10:15])
        np.testing.assert_array_equal(read(tmp_path / "s.zarr")[:5], VALUES[:5])

    def test_it_travels(self, tmp_path):
        np.save(tmp_path / "x.npy", VALUES)
        x = lazyio.open(tmp_path / "x.npy")
        later = lazyio.to_zarr({"x": x, "y": x + 1}, tmp_path / "s.zarr", compute=False)
        assert pickle.loads(pickle.dumps(later)).compute(scheduler="sync").n_blocks == 2
        np.testing.assert_array_equal(read(tmp_path / "s.zarr", "y"), VALUES + 1)


@pytest.mark.parametrize("store", ["path", "memory"])
def test_other_processes(tmp_path, store):
    """They compute, and this one writes; each shard once."""
    counted = []
    whole = ZarrTarget.write_chunk

    def count(self, index, chunk, workspace):
        counted.append(tuple(index))
        whole(self, index, chunk, workspace)

    target = tmp_path / "s.zarr" if store == "path" else MemoryStore()
    options = {"chunks": (3, 4), "shards": (6, 8), "scheduler": "processes", "workers": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZarrTarget, "write_chunk", count)
        lazyio.to_zarr(graph(), target, **options)
    np.testing.assert_array_equal(read(target), VALUES)
    assert len(counted) == len(set(counted)) == 8


def test_a_cluster(tmp_path):
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
        with distributed.Client(dashboard_address=":0", **options) as client:
            report = lazyio.to_zarr(
                {"a": graph(), "b": graph() * 2}, tmp_path / "s.zarr", scheduler=client
            )
    assert report.n_blocks == 24
    np.testing.assert_array_equal(read(tmp_path / "s.zarr", "b"), VALUES * 2)


class TestH5DataIO:
    """Of what it asks for, chunks and fill value mean something to Zarr."""

    def test_what_is_taken(self, tmp_path):
        data = H5DataIO(VALUES, chunks=(6, 4), fillvalue=7, compression="gzip", shuffle=True)
        report = lazyio.to_zarr(data, tmp_path / "s.zarr")
        array = zarr.open_array(tmp_path / "s.zarr")
        assert array.chunks == (6, 4)
        assert array.fill_value == 7
        np.testing.assert_array_equal(array[...], VALUES)
        assert codes(report) == ["hdf5-settings"]
        assert "compression, shuffle of the H5DataIO are for HDF5" in str(report)

    def test_what_is_said_wins(self, tmp_path):
        data = H5DataIO(VALUES, chunks=(6, 4), fillvalue=7)
        report = lazyio.to_zarr(data, tmp_path / "s.zarr", chunks=(5, 5), fill_value=1)
        array = zarr.open_array(tmp_path / "s.zarr")
        assert (array.chunks, array.fill_value) == ((5, 5), 1)
        assert report.advice == ()

    def test_chunks_that_are_left_to_h5py(self, tmp_path):
        """``True`` is h5py's word for chunks of its own choice."""
        lazyio.to_zarr(H5DataIO(VALUES, chunks=True), tmp_path / "s.zarr")
        assert zarr.open_array(tmp_path / "s.zarr").chunks == (20, 10)


def test_a_block_that_fails_in_an_open_zip(tmp_path):
    """Nothing can be removed from it, and the error is that of the block."""

    def fails(region):
        raise RuntimeError("no signal")

    x = lazyio.from_function(fails, (20, 10), "i4")
    store = ZipStore(tmp_path / "x.zip", mode="w")
    with pytest.raises(BlockError, match="no signal"):
        lazyio.to_zarr(x, store, "a")
    store.close()


@pytest.mark.parametrize("kind", ["source", "graph", "cut", "stream", "blocks"])
@pytest.mark.parametrize(
    "options", [{"compressors": None}, {"compressors": None, "shards": (40, 8)}, {}]
)
def test_a_store_that_keeps_what_it_is_given(tmp_path, kind, options):
    """Memory of blocks is used again while a store in memory still holds a view of it."""
    values = np.repeat(np.arange(2000, dtype="i4"), 8).reshape(2000, 8)
    values.tofile(tmp_path / "x.raw")
    opened = lazyio.from_raw(tmp_path / "x.raw", (-1, 8), "i4")
    data = {
        "source": lambda: opened,
        "graph": lambda: opened.rechunk((40, 8)).map_blocks(lambda block: block),
        "cut": lambda: opened.rechunk((70, 8)).map_blocks(lambda block: block),
        "stream": lambda: lazyio.Stream(iter(values)),
        "blocks": lambda: lazyio.Blocks(
            ((np.s_[at : at + 10], values[at : at + 10]) for at in range(0, 2000, 10)),
            (2000, 8),
            "i4",
        ),
    }[kind]()
    store = zarr.storage.MemoryStore()
    lazyio.to_zarr(data, store, chunks=(20, 8), memory_limit="64 KiB", workers=1, **options)
    np.testing.assert_array_equal(zarr.open_array(store, mode="r")[...], values)
