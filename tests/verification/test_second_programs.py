"""What other programs do to files and stores of lazyio, and what is then said of them."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5netcdf
import h5py
import netCDF4
import numpy as np
import pytest
import tables
import xarray as xr
import zarr

import lazyio
from lazyio.atomic import hdf5_digests
from lazyio.atomic.digests import Hash, NotedDigests, digest_of_elements
from lazyio.errors import BlockError
from lazyio.regions import box

pytestmark = pytest.mark.usefixtures("in_this_process")

ROWS = np.arange(60 * 20, dtype="i4").reshape(60, 20) % 251
MORE = ROWS[:10] + 1
CHUNKS = (16, 7)
DIMS = ("time", "channel")
KINDS = {
    "plain": {},
    "gzip": {"compression": "gzip", "shuffle": True},
    "checksum": {"fletcher32": True, "fillvalue": 3},
    "zstd": {"compression": "zstd"},
    "libhdf5": {"compression": "szip"},
}


def hdf5(path, kind="gzip", rows=ROWS):
    options = {"chunks": CHUNKS, "maxshape": (None, 20), "attrs": {"gain": 2.5}}
    lazyio.to_hdf5({"x": rows, "g/y": rows}, path, **options, **KINDS[kind])
    assert lazyio.verify(path).status == "ok"


# --- HDF5 ---


def h5py_appends(path):
    with h5py.File(path, "a") as file:
        file["x"].resize(70, axis=0)
        file["x"][60:] = MORE


def h5py_makes_longer(path):
    with h5py.File(path, "a") as file:
        file["x"].resize(70, axis=0)


def h5py_appends_far_away(path):
    with h5py.File(path, "a") as file:
        file["x"].resize(200, axis=0)
        file["x"][190:] = MORE


def pytables_appends(path):
    with tables.open_file(path, "a") as file:
        file.root.x.append(MORE)


def h5py_describes(path):
    with h5py.File(path, "a") as file:
        file["x"].attrs["unit"] = "uV"
        file["x"].attrs["gain"] = 3.5


def h5py_attaches_scales(path):
    with h5py.File(path, "a") as file:
        file["t"] = np.arange(60.0)
        file["t"].make_scale("time")
        file["x"].dims[0].attach_scale(file["t"])
        file["g/y"].dims[0].label = "time"


def h5py_appends_and_describes(path):
    h5py_appends(path)
    h5py_describes(path)


def h5py_adds(path):
    with h5py.File(path, "a") as file:
        file["g/new"] = np.arange(3)


def h5py_deletes(path):
    with h5py.File(path, "a") as file:
        del file["g/y"]


def h5py_moves(path):
    with h5py.File(path, "a") as file:
        file.move("x", "g/x")


def h5py_edits(path):
    with h5py.File(path, "a") as file:
        file["x"][3, 3] = 999


def h5py_edits_and_appends(path):
    """Into the chunk that is then made longer."""
    with h5py.File(path, "a") as file:
        file["x"][55, 3] = 999
    h5py_appends(path)


def h5py_cuts(path):
    with h5py.File(path, "a") as file:
        file["x"].resize(30, axis=0)


def h5py_cuts_and_appends(path):
    """Lose the elements between."""
    h5py_cuts(path)
    h5py_appends(path)


def h5py_changes_another_type(path):
    with h5py.File(path, "a") as file:
        del file["x"]
        file["x"] = ROWS.astype("f4")


def nobody(path):
    with h5py.File(path, "a"):
        pass
    with tables.open_file(path, "a") as file:
        assert file.root.x.shape == (60, 20)


ON_HDF5 = [
    (nobody, "ok"),
    (h5py_appends, "modified"),
    (h5py_makes_longer, "modified"),
    (h5py_appends_far_away, "modified"),
    (pytables_appends, "modified"),
    (h5py_describes, "modified"),
    (h5py_attaches_scales, "modified"),
    (h5py_appends_and_describes, "modified"),
    (h5py_adds, "unverifiable"),
    (h5py_deletes, "damaged"),
    (h5py_moves, "damaged"),
    (h5py_edits, "damaged"),
    (h5py_edits_and_appends, "damaged"),
    (h5py_cuts, "damaged"),
    (h5py_cuts_and_appends, "damaged"),
    (h5py_changes_another_type, "damaged"),
]


@pytest.mark.parametrize(("act", "status"), ON_HDF5, ids=lambda one: getattr(one, "__name__", ""))
def test_hdf5(tmp_path, act, status):
    path = tmp_path / "x.h5"
    hdf5(path)
    act(path)
    found = lazyio.verify(path)
    assert found.status == status, str(found)
    assert bool(found.modified) >= (status == "modified")
    assert lazyio.verify(path, "g/y" if act is not h5py_deletes else "x").status != "damaged"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", [h5py_appends, h5py_edits_and_appends])
def test_filters(tmp_path, kind, act):
    """Other programs encode a chunk otherwise, and what it holds is the same."""
    hdf5(tmp_path / "x.h5", kind)
    act(tmp_path / "x.h5")
    found = lazyio.verify(tmp_path / "x.h5")
    expected = "damaged" if act is h5py_edits_and_appends else "modified"
    assert found.status == expected, str(found)
    if expected == "damaged":
        assert [one[:2] for one in found.damaged] == [("/x", np.s_[48:60, 0:7])]
    else:
        what = "it has grown from shape (60, 20) to (70, 20) since it was written"
        assert found.modified == (("/x", None, what),)


def test_an_aligned_end(tmp_path):
    hdf5(tmp_path / "x.h5", rows=ROWS[:48])
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["x"].resize(70, axis=0)
        file["x"][48:] = ROWS[:22]
    assert lazyio.verify(tmp_path / "x.h5").status == "modified"


@pytest.mark.parametrize("data", ["text", "records", "fill"])
def test_other_elements(tmp_path, data):
    """Text has digests of elements; a chunk of fill value may not be stored."""
    values = {
        "text": np.array([f"row {n}" for n in range(30)], np.dtypes.StringDType()),
        "records": np.zeros(30, [("a", "i2"), ("b", "f8")]),
        "fill": np.zeros(30),
    }[data]
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(values, path, "x", chunks=(7,), maxshape=(None,))
    with h5py.File(path, "a") as file:
        file["x"].resize((40,))
        file["x"][30:] = file["x"][:10]
    found = lazyio.verify(path)
    assert (found.status, found.damaged) == ("modified", ()), str(found)
    with h5py.File(path, "a") as file:
        file["x"][29] = {"text": "other", "records": (1, 2), "fill": 1}[data]
    assert [one[:2] for one in lazyio.verify(path).damaged] == [("/x", np.s_[28:30,])]


@pytest.mark.parametrize("act", ["writer", "append", "resume"])
def test_digests_that_were_renewed(tmp_path, act):
    """Of an array that lazyio itself has made longer, or went on with."""
    path = tmp_path / "x.h5"
    hdf5(path)
    if act == "writer":
        with lazyio.writer(path) as w:
            w.create("x", dtype="i4", item_shape=(20,)).append(MORE)
    else:
        lazyio.to_hdf5(MORE, path, "x", append_dim=0, resume=act == "resume")
    assert lazyio.verify(path).status == "ok"
    with h5py.File(path, "a") as file:
        file["x"].resize(75, axis=0)
        file["x"][70:] = MORE[:5]
    found = lazyio.verify(path)
    assert found.status == "modified", str(found)
    with h5py.File(path, "a") as file:
        file["x"][69, 0] += 1
    assert [one[:2] for one in lazyio.verify(path).damaged] == [("/x", np.s_[64:70, 0:7])]


@pytest.fixture
def netcdf(tmp_path):
    """Return a file that netCDF-C extends, with digests as lazyio would have stored them."""
    path = tmp_path / "x.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("channel", 20)
        variable = file.createVariable("x", "i4", DIMS, chunksizes=CHUNKS, zlib=True)
        variable.units = "uV"
        variable[:] = ROWS
    with h5py.File(path, "a", track_order=True) as file:
        dataset, noted = file["x"], NotedDigests()
        for number in range(12):
            region = box(ROWS.shape, CHUNKS, divmod(number, 3))
            rim = digest_of_elements(dataset[region])
            noted.note(number, hdf5_digests.digest_of_piece(dataset, number), rim)
        hdf5_digests.store(file, "x", hdf5_digests.table_of(dataset, noted.rows(), noted.rims()))
    assert lazyio.verify(path, "x").status == "ok"
    return path


def netcdf_appends(path):
    with netCDF4.Dataset(path, "a") as file:
        file["x"][60:70] = MORE


def netcdf_describes(path):
    with netCDF4.Dataset(path, "a") as file:
        file["x"].units = "mV"
        file.renameDimension("channel", "probe")


def xarray_adds_to_it(path):
    other = xr.Dataset({"y": ("probe", np.arange(3))}, coords={"channel": np.arange(20)})
    other.to_netcdf(path, mode="a", engine="netcdf4")


def h5netcdf_appends(path):
    with h5netcdf.File(path, "a") as file:
        file.resize_dimension("time", 70)
        file["x"][60:] = MORE


def netcdf_edits(path):
    with netCDF4.Dataset(path, "a") as file:
        file["x"][59, 3] = 999


def netcdf_edits_and_appends(path):
    netcdf_edits(path)
    netcdf_appends(path)


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (netcdf_appends, "modified"),
        (netcdf_describes, "modified"),
        (xarray_adds_to_it, "modified"),
        (h5netcdf_appends, "modified"),
        (netcdf_edits, "damaged"),
        (netcdf_edits_and_appends, "damaged"),
    ],
)
def test_netcdf(netcdf, act, status):
    """Programs that go by dimensions; netCDF-C takes no group that keeps no order."""
    with h5py.File(netcdf, "a") as file:
        held = file["_lazyio"]
        del file["_lazyio"]
        before = {name: held["%2Fx"][name][...] for name in ("head", "rows")}
    act(netcdf)
    with h5py.File(netcdf, "a") as file:
        for name, data in before.items():
            file.create_dataset(f"_lazyio/%2Fx/{name}", data=data)
    found = lazyio.verify(netcdf, "x")
    assert found.status == status, str(found)


@pytest.mark.parametrize("format", ["hdf5", "zarr"])
def test_a_job_that_was_resumed(tmp_path, format):
    """Chunks of the run that failed have digests of their elements, too."""
    path = tmp_path / f"x.{format}"
    repaired = tmp_path / "repaired"

    def rows(region):
        if not repaired.exists() and region[0].stop > 40:
            raise RuntimeError("no signal")
        return ROWS[region]

    def write():
        data = lazyio.from_function(rows, ROWS.shape, "i4", source_chunks=CHUNKS)
        options = {"chunks": CHUNKS, "resume": True, "memory_limit": 6000, "workers": 1}
        if format == "hdf5":
            return lazyio.to_hdf5(data, path, "x", maxshape=(None, None), **options)
        return lazyio.to_zarr(data, path, **options)

    with pytest.raises(BlockError, match="no signal"):
        write()
    repaired.touch()
    assert write().n_resumed > 0
    assert lazyio.verify(path).status == "ok"
    with h5py.File(path, "a") if format == "hdf5" else contextlib.nullcontext() as file:
        array = zarr.open_array(path, mode="r+") if file is None else file["x"]
        array.resize((60, 25))
        array[:, 20:] = 7
    found = lazyio.verify(path)
    assert (found.status, len(found.modified)) == ("modified", 1), str(found)


# --- Zarr ---


def store(path, version=3, **options):
    lazyio.to_zarr(
        {"x": ROWS, "g/y": ROWS},
        path,
        chunks=CHUNKS,
        attributes={"gain": 2.5},
        zarr_format=version,
        dimension_names=DIMS,
        **options,
    )
    assert lazyio.verify(path).status == "ok"


def zarr_appends(path):
    zarr.open_array(path / "x", mode="r+").append(MORE)


def zarr_makes_longer(path):
    zarr.open_array(path / "x", mode="r+").resize((70, 20))


def zarr_makes_wider(path):
    array = zarr.open_array(path / "x", mode="r+")
    array.resize((70, 25))
    array[:, 20:] = 7


def zarr_appends_nothing_but_fill(path):
    zarr.open_array(path / "x", mode="r+").append(np.zeros_like(MORE))


def zarr_describes(path):
    array = zarr.open_array(path / "x", mode="r+")
    array.attrs["unit"] = "uV"
    array.attrs["gain"] = 3.5


def zarr_describes_the_group(path):
    zarr.open_group(path, mode="r+").attrs["session"] = 3


def zarr_consolidates(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)


def xarray_appends(path):
    more = xr.Dataset({"x": (DIMS, MORE)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more.to_zarr(path, append_dim="time", consolidated=False)


def zarr_adds(path):
    version = zarr.open_group(path, mode="r").metadata.zarr_format
    zarr.create_array(path, name="g/new", data=np.arange(3), zarr_format=version)


def zarr_overwrites(path):
    version = zarr.open_group(path, mode="r").metadata.zarr_format
    zarr.create_array(
        path, name="x", data=ROWS + 1, chunks=CHUNKS, overwrite=True, zarr_format=version
    )


def zarr_edits(path):
    zarr.open_array(path / "x", mode="r+")[3, 3] = 999


def zarr_edits_and_appends(path):
    zarr.open_array(path / "x", mode="r+")[55, 3] = 999
    zarr_appends(path)


def zarr_cuts(path):
    zarr.open_array(path / "x", mode="r+").resize((30, 20))


def zarr_cuts_and_appends(path):
    zarr_cuts(path)
    zarr.open_array(path / "x", mode="r+").append(np.concatenate([ROWS[30:] * 2, MORE]))


def zarr_deletes(path):
    group = zarr.open_group(path, mode="r+")
    del group["g/y"]


def rm_deletes_the_group(path):
    shutil.rmtree(path / "g")


def mv_renames(path):
    (path / "x").rename(path / "z")


def mv_moves(path):
    (path / "x").rename(path / "g/x")


def mv_moves_the_group(path):
    (path / "g").rename(path / "h")


def mv_moves_all(path):
    path.rename(path.with_name("moved"))
    path.mkdir()
    path.with_name("moved").rename(path / "inner")
    version = zarr.open_group(path / "inner", mode="r").metadata.zarr_format
    zarr.create_group(path, zarr_format=version)


def mv_exchanges(path):
    (path / "x").rename(path / "z")
    (path / "g/y").rename(path / "x")
    (path / "z").rename(path / "g/y")


def cp_copies(path):
    shutil.copytree(path / "x", path / "z")


def nobody_in_zarr(path):
    zarr.open_array(path / "x", mode="r+")
    group = zarr.open_group(path, mode="r+")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(group) == ["g", "x"]
        assert len(list(group.members(max_depth=None))) == 3
        xr.open_dataset(path, engine="zarr", consolidated=False).close()


ON_ZARR = [
    (nobody_in_zarr, "ok"),
    (zarr_appends, "modified"),
    (zarr_makes_longer, "modified"),
    (zarr_makes_wider, "modified"),
    (zarr_appends_nothing_but_fill, "modified"),
    (zarr_describes, "modified"),
    (zarr_describes_the_group, "ok"),
    (zarr_consolidates, "ok"),
    (xarray_appends, "modified"),
    (zarr_adds, "unverifiable"),
    (zarr_overwrites, "unverifiable"),
    (zarr_edits, "damaged"),
    (zarr_edits_and_appends, "damaged"),
    (zarr_cuts, "damaged"),
    (zarr_cuts_and_appends, "damaged"),
    (zarr_deletes, "damaged"),
    (rm_deletes_the_group, "damaged"),
    (mv_renames, "modified"),
    (mv_moves, "modified"),
    (mv_moves_the_group, "modified"),
    (mv_moves_all, "ok"),
    (mv_exchanges, "damaged"),
    (cp_copies, "modified"),
]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("act", "status"), ON_ZARR, ids=lambda one: getattr(one, "__name__", ""))
def test_zarr(tmp_path, act, status, version):
    path = tmp_path / "x.zarr"
    store(path, version)
    if version == 2 and act is not zarr_consolidates:
        # Where there are none, nobody leaves them behind.
        (path / ".zmetadata").unlink()
    act(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lazyio.verify(path)
    assert found.status == status, str(found)


def bitround(version):
    numcodecs = pytest.importorskip("numcodecs")
    if version == 2:
        return {"filters": [numcodecs.BitRound(5)]}
    return {"filters": [zarr.codecs.numcodecs.BitRound(keepbits=5)]}


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@pytest.mark.parametrize("kind", ["plain", "shards", "text", "lossy", "lossy-v2", "keeps-empty"])
def test_codecs_of_zarr(tmp_path, kind):
    path = tmp_path / "x.zarr"
    values, options = ROWS, {"chunks": CHUNKS}
    if kind == "shards":
        options = {"chunks": (8, 7), "shards": (16, 14)}
    elif kind == "plain":
        options["compressors"] = None
    elif kind == "text":
        values = np.array([f"row {n}" for n in range(60)], np.dtypes.StringDType())
        options = {"chunks": (7,)}
    elif kind == "keeps-empty":
        values, options["write_empty_chunks"] = np.zeros_like(ROWS), True
    elif kind.startswith("lossy"):
        version = 2 if kind.endswith("v2") else 3
        values = ROWS / np.float32(3)
        options |= {"zarr_format": version, **bitround(version)}
    lazyio.to_zarr(values, path, **options)
    assert lazyio.verify(path).status == "ok"
    array = zarr.open_array(path, mode="r+")
    array.append(np.asarray(array[:10]))
    found = lazyio.verify(path)
    assert (found.status, found.damaged) == ("modified", ()), str(found)
    array[59] = array[0]
    if kind != "keeps-empty":
        found = lazyio.verify(path)
        assert found.status == "damaged"
        assert {one[1][0].stop for one in found.damaged} == {60}


class TestArraysOfAStore:
    """Which arrays a store holds is known to the arrays."""

    @pytest.fixture
    def root(self, tmp_path):
        root = tmp_path / "x.zarr"
        lazyio.to_zarr({"a": ROWS, "b": ROWS}, root, chunks=CHUNKS)
        for at in range(4):
            lazyio.to_zarr(ROWS[at:], root, f"deep/{at % 2}/n{at}", chunks=CHUNKS)
        with lazyio.writer(root) as w:
            w.create("w", dtype="i4", item_shape=(3,)).append(np.zeros((5, 3), "i4"))
        lazyio.to_zarr(ROWS, root, "a", chunks=CHUNKS, overwrite=True)
        lazyio.to_zarr(ROWS[:5], root, "b", region=np.s_[:5])
        assert lazyio.verify(root).status == "ok"
        return root

    def arrays(self, root):
        return sorted(os.path.relpath(one.parent, root) for one in root.rglob("lazyio.digests"))

    def test_any_that_is_lost(self, root):
        paths = self.arrays(root)
        assert len(paths) == 7
        for path in paths:
            (root / path).rename(root.parent / "aside")
            found = lazyio.verify(root)
            assert found.damaged == ((f"/{path}", None, "it is lost, or was removed since"),)
            (root.parent / "aside").rename(root / path)
        assert lazyio.verify(root).status == "ok"

    def test_any_two_that_are_lost(self, root):
        paths = self.arrays(root)
        for one, other in zip(paths, paths[2:], strict=False):
            (root / one).rename(root.parent / "one")
            (root / other).rename(root.parent / "other")
            assert lazyio.verify(root).status == "damaged"
            (root.parent / "one").rename(root / one)
            (root.parent / "other").rename(root / other)

    def test_any_that_is_moved(self, root):
        for path in self.arrays(root):
            (root / path).rename(root / "deep/moved")
            found = lazyio.verify(root)
            what = f"it was written as /{path}, and moved since"
            assert found.modified == (("/deep/moved", None, what),)
            assert found.damaged == ()
            (root / "deep/moved").rename(root / path)

    def test_one_array_or_group_by_itself(self, root):
        """Opened there, what lies outside is not missed."""
        for path in (*self.arrays(root), "deep", "deep/0"):
            assert lazyio.verify(root / path).status == "ok"
        shutil.copytree(root / "deep", root.parent / "copy.zarr")
        assert lazyio.verify(root.parent / "copy.zarr").status == "ok"
        shutil.rmtree(root.parent / "copy.zarr/0")
        assert lazyio.verify(root.parent / "copy.zarr").status == "damaged"

    def test_a_group_that_is_opened_as_a_store(self, root):
        lazyio.to_zarr(ROWS, root / "deep", "1/more", chunks=CHUNKS)
        assert lazyio.verify(root).status == "ok"
        assert lazyio.verify(root / "deep").status == "ok"
        shutil.rmtree(root / "deep/1/more")
        for store in (root, root / "deep"):
            assert [one[2] for one in lazyio.verify(store).damaged] == [
                "it is lost, or was removed since"
            ]

    def test_what_it_was_told_is_damaged(self, root):
        (told, *_) = root.rglob("lazyio.neighbours/*")
        told.write_bytes(b"deep/1/n9")
        found = lazyio.verify(root)
        assert found.status == "damaged"
        assert "lazyio.neighbours" in found.damaged[0][2]

    def test_adding_costs_the_same_in_a_large_store(self, root, monkeypatch):
        looked = []
        scan = os.scandir
        monkeypatch.setattr(os, "scandir", lambda *path: looked.append(path) or scan(*path))
        counts = []
        for at in range(3):
            looked.clear()
            lazyio.to_zarr(ROWS[:2], root, f"many/m{at}", chunks=CHUNKS)
            counts.append(len(looked))
            for extra in range(10):
                lazyio.to_zarr(ROWS[:2], root, f"many/e{at}-{extra}", chunks=CHUNKS)
        assert counts[2] <= counts[1] + 5


class TestZip:
    """Zarr in a zip file has digests, too."""

    @pytest.fixture(params=[2, 3])
    def path(self, tmp_path, request):
        store(tmp_path / "x.zip", request.param)
        return tmp_path / "x.zip"

    def rewrite(self, path, change):
        with zipfile.ZipFile(path) as file:
            entries = [(one.filename, file.read(one)) for one in file.infolist()]
        with zipfile.ZipFile(path, "w") as file:
            for name, data in change(entries):
                file.writestr(name, data)

    def chunk(self, path, at):
        with zipfile.ZipFile(path) as file:
            (name,) = (name for name in file.namelist() if name.endswith(at))
        return name

    def test_any_entry_that_is_lost(self, path):
        with zipfile.ZipFile(path) as file:
            entries = {name: file.read(name) for name in file.namelist()}
        for lost in entries:
            with zipfile.ZipFile(path, "w") as file:
                for name in entries.keys() - {lost}:
                    file.writestr(name, entries[name])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    status = lazyio.verify(path).status
                except lazyio.LazyioError:
                    status = "no Zarr"
            # Groups need not say that they are some.
            assert status != "ok" or lost.endswith((".zattrs", ".zgroup", ".zmetadata")), lost

    def test_entries_that_are_exchanged(self, path):
        one = self.chunk(path, ("x/c/1/1", "x/1.1"))
        other = self.chunk(path, ("x/c/1/2", "x/1.2"))
        names = {one: other, other: one}
        self.rewrite(
            path, lambda entries: [(names.get(name, name), data) for name, data in entries]
        )
        assert {what for _, _, what in lazyio.verify(path).damaged} == {
            "it is damaged, or was modified since"
        }

    def test_an_array_that_is_lost(self, path):
        self.rewrite(
            path, lambda entries: [one for one in entries if not one[0].startswith("g/y/")]
        )
        found = lazyio.verify(path)
        assert ("/g/y", None, "it is lost, or was removed since") in found.damaged

    def test_a_chunk_that_is_lost(self, path):
        lost = self.chunk(path, ("x/c/1/1", "x/1.1"))
        self.rewrite(path, lambda entries: [one for one in entries if one[0] != lost])
        assert lazyio.verify(path).damaged == (
            ("/x", np.s_[16:32, 7:14], "it is lost: its object is not there"),
        )

    def test_zarr_python_reads_it_without_a_word(self, path):
        with warnings.catch_warnings(), zarr.storage.ZipStore(path, mode="r") as opened:
            warnings.simplefilter("error")
            group = zarr.open_group(opened, mode="r")
            assert len(list(group.members(max_depth=None))) == 3
            np.testing.assert_array_equal(group["x"][...], ROWS)

    def test_the_ways_to_and_from_a_folder(self, path, tmp_path):
        """An unpacked zip file is a store with digests, and the reverse."""
        with zipfile.ZipFile(path) as file:
            file.extractall(tmp_path / "out.zarr")
        assert lazyio.verify(tmp_path / "out.zarr").status == "ok"
        lazyio.to_zarr(ROWS, tmp_path / "out.zarr", "later", zarr_format=self.version(path))
        shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "out.zarr")
        assert lazyio.verify(tmp_path / "in.zip").status == "ok"
        shutil.rmtree(tmp_path / "out.zarr/later")
        shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "out.zarr")
        assert lazyio.verify(tmp_path / "in.zip").status == "damaged"

    def version(self, path):
        with zarr.storage.ZipStore(path, mode="r") as opened:
            return zarr.open_group(opened, mode="r").metadata.zarr_format


READER = """
import json, os, sys
import lazyio
from lazyio.verification.verify import verify_here
# Everything is imported while the interpreter's own files can still be read; and no other
# process does it, which would have been started by the one who may.
paths = sys.argv[1:]
for path in paths:
    verify_here(path, None, deep=True)
print("ready", flush=True)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chdir("/")
sys.stdin.readline()  # When they have been closed.
said = {}
for path in paths:
    try:
        found = verify_here(path, None, deep=True)
        said[path] = [found.status, str(found)]
    except lazyio.LazyioError as error:
        said[path] = [type(error).__name__, str(error)]
sys.stdout.write(json.dumps(said))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are others there")
def test_what_may_not_be_read_is_not_damaged():
    """Neither a folder of chunks, nor a chunk, an array, a store or a file."""
    closed = {"chunks.zarr": "x/c", "chunk.zarr": "x/c/1/1", "array.zarr": "g/y", "store.zarr": ""}
    # Not below tmp_path, which nobody but its owner may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for one in closed:
            store(folder / one)
        shutil.copytree(folder / "chunks.zarr", folder / "unknown.zarr")
        (folder / "unknown.zarr/x/lazyio.digests").unlink()
        closed["unknown.zarr"] = "x/c"
        hdf5(folder / "x.h5")
        closed["x.h5"] = ""
        command = [sys.executable, "-c", READER, *(str(folder / one) for one in closed)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            for one, inside in closed.items():
                (folder / one / inside).chmod(0)
            said = json.loads(process.communicate("\n")[0])
        for one, inside in closed.items():
            (folder / one / inside).chmod(0o755)
    for path, (status, text) in said.items():
        expected = "SourceError" if path.endswith(("store.zarr", "x.h5")) else "unverifiable"
        assert status == expected, text
        assert "ermission denied" in text


@pytest.mark.parametrize("version", [2, 3])
def test_any_byte_of_a_store(tmp_path, version):
    """A byte that is another one is found, or a reader gets the same."""
    root = tmp_path / "x.zarr"
    small = ROWS[:20, :9]
    lazyio.to_zarr(
        {"x": small, "g/y": small + 1},
        root,
        chunks=(16, 7),
        attributes={"gain": 2.5},
        zarr_format=version,
    )
    lazyio.to_zarr(small + 2, root, "g/z", chunks=(16, 7), zarr_format=version)
    random = np.random.default_rng(0)
    n_found = 0
    for file in sorted(one for one in root.rglob("*") if one.is_file()):
        whole = file.read_bytes()
        for at in random.integers(0, len(whole), 6):
            raw = bytearray(whole)
            raw[at] ^= 1 << int(random.integers(0, 8))
            file.write_bytes(raw)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    is_found = lazyio.verify(root).status != "ok"
            except lazyio.LazyioError:
                is_found = True
            n_found += is_found
            if not is_found:
                for more, path in enumerate(("x", "g/y", "g/z")):
                    array = zarr.open_array(root, path=path, mode="r")
                    np.testing.assert_array_equal(array[...], small + more)
                    assert dict(array.attrs) == ({"gain": 2.5} if more < 2 else {})
        file.write_bytes(whole)
    assert n_found > 100


def test_digests_of_a_later_version(tmp_path):
    """They are not known how to be read, and say nothing against the file."""
    store(tmp_path / "x.zarr")
    path = tmp_path / "x.zarr/x/lazyio.digests"
    head, _, rows = path.read_bytes().partition(b"\n")
    path.write_bytes(head.replace(b'"format": 2', b'"format": 9') + b"\n" + rows)
    found = lazyio.verify(tmp_path / "x.zarr")
    assert (found.status, found.damaged) == ("unverifiable", ())
    assert "this lazyio reads 2" in str(found)


def test_digests_of_the_first_version(tmp_path):
    """They are read; of growth into a cut chunk they cannot tell."""
    hdf5(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        for key in ("x", "g/y"):
            table = hdf5_digests.load(file, key)
            held = {"format": 1, "of": table.of, "facts": dict(table.facts), "job": {}}
            digest = Hash()
            digest.update(json.dumps(held, sort_keys=True).encode())
            digest.update(np.ascontiguousarray(table.rows, "<u8"))
            head = json.dumps(held | {"digest": f"{digest.value:032x}"}, sort_keys=True)
            group = file["_lazyio"]["%2F" + key.replace("/", "%2F")]
            del group["head"], group["rows"]
            group["head"] = np.frombuffer(head.encode(), np.uint8)
            group["rows"] = table.rows
    assert lazyio.verify(tmp_path / "x.h5").status == "ok"
    h5py_edits(tmp_path / "x.h5")
    assert lazyio.verify(tmp_path / "x.h5").damaged[0][:2] == ("/x", np.s_[0:16, 0:7])


class TestTypesOfOthers:
    """What numpy or a text codec has no word for is healthy all the same."""

    def test_it_is_not_damaged(self, tmp_path):
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            text = h5py.string_dtype()
            file.create_dataset("text", (2,), text)[0] = b"\xfcber"
            file.create_dataset("chunked-text", (2,), text, chunks=(1,))[0] = b"\xfcber"
            file.create_dataset("rows", (3,), h5py.vlen_dtype("i4"))[0] = [1, 2]
            file.create_dataset("references", data=[file.ref], dtype=h5py.ref_dtype)
            file["empty"] = h5py.Empty("f4")
            file.create_dataset("arrays", (2,), np.dtype(("i4", (2,))))
            wide = h5py.h5t.STD_I64LE.copy()
            wide.set_size(15)
            wide.set_precision(120)
            space = h5py.h5s.create_simple((3,))
            h5py.h5d.create(file.id, b"wide", wide, space)
            h5py.h5d.create(file.id, b"time", h5py.h5t.UNIX_D32LE, space)
        found = lazyio.verify(path)
        assert (found.status, found.damaged) == ("unverifiable", ())
        assert len(found.unverifiable) == 8

    def test_attributes_that_others_add(self, tmp_path):
        """Each of them is seen, and so is a change of it."""
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("g")
            group.attrs["a"] = 1
        lazyio.to_hdf5(ROWS, path, "x")
        scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        with h5py.File(path, "a") as file:
            dataset = file["x"]
            dataset.attrs.create("text", b"\xfcber", dtype=h5py.string_dtype())
            dataset.attrs["reference"] = file["g"].ref
            h5py.h5a.create(dataset.id, b"time", h5py.h5t.UNIX_D32LE, scalar)
        found = lazyio.verify(path)
        assert (found.status, len(found.modified)) == ("modified", 3)
        with h5py.File(path, "a") as file:
            del file["g"]
        assert lazyio.verify(path).damaged == ()


def test_new_chunks_that_lie_elsewhere(tmp_path):
    """What was made longer by links that lead outside is not read."""
    root = tmp_path / "in/x.zarr"
    root.parent.mkdir()
    store(root)
    zarr_appends(root)
    zarr.open_array(root / "x", mode="r+").append(ROWS)
    (root / "x/c/6/0").rename(tmp_path / "outside")
    (root / "x/c/6/0").symlink_to(tmp_path / "outside")
    found = lazyio.verify(root)
    assert found.status == "unverifiable"
    assert "outside" in found.damaged[0][2]
