"""What a call says of each of several arrays by its key, and where each of them goes."""

import contextlib

import dask.array as da
import h5py
import hdf5plugin
import numpy as np
import pytest
import xarray as xr
import zarr

import lazyio
from lazyio.errors import OptionError, TargetError, TargetExistsError, UnsupportedDtypeError


def test_settings_of_datasets(tmp_path):
    data = {"x": np.ones((20, 6)), "g/y": np.ones((20, 6, 2)), "z": np.ones(3)}
    lazyio.to_hdf5(
        data,
        tmp_path / "x.h5",
        chunks={"x": (5, 5), "/g/y": (5, -1, 1)},
        compression={"x": "gzip", "g/y": hdf5plugin.Zstd(clevel=2)},
        compression_opts={"x": 7},
        maxshape={"x": (None, 6)},
        fillvalue={"z": 9},
        dtype={"z": "i2"},
        shuffle={"x": True},
        dims={"z": ["row"]},
    )
    with h5py.File(tmp_path / "x.h5") as file:
        x, y, z = (file[key] for key in data)
        assert (x.chunks, x.compression, x.compression_opts, x.shuffle) == ((5, 5), "gzip", 7, True)
        assert x.maxshape == (None, 6)
        assert y.chunks == (5, 6, 1)
        assert y._filters.keys() == {"32015"}
        assert (y.maxshape, y.fillvalue) == ((20, 6, 2), 0)
        assert (z.dtype, z.fillvalue, z.compression) == (np.int16, 9, None)
        assert z.dims[0][0].name == "/row"


def test_settings_of_arrays(tmp_path):
    data = {"x": np.ones((20, 6)), "g/y": np.ones((20, 6))}
    zstd = zarr.codecs.ZstdCodec(level=2)
    lazyio.to_zarr(
        data,
        tmp_path / "x.zarr",
        chunks={"x": (5, 3), "g/y": 2},
        shards={"x": (10, 6)},
        compressors={"g/y": zstd, "x": None},
        fill_value={"x": -1},
    )
    x, y = (zarr.open_array(tmp_path / "x.zarr", path=key, mode="r") for key in data)
    assert (x.chunks, x.shards, x.compressors, x.fill_value) == ((5, 3), (10, 6), (), -1)
    assert (y.chunks, y.shards, y.compressors, y.fill_value) == ((2, 2), None, (zstd,), 0)


def test_chunks_by_axis_are_no_keys(tmp_path):
    """Coordinates have the names of axes: their extents are for every array."""
    data = {"time": np.arange(40.0), "x": np.ones((40, 8))}
    dims = {"time": ("time",), "x": ("time", "channel")}
    lazyio.to_zarr(data, tmp_path / "x.zarr", dimension_names=dims, chunks={"time": 10})
    for key in data:
        assert zarr.open_array(tmp_path / "x.zarr", path=key, mode="r").chunks[0] == 10


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"compression": {"x": "gzip", "no": None}}, r"compression has the keys \['no'\]"),
        ({"dims": {"no": ("a",)}}, r"dims has the keys \['no'\]; the arrays have \['x', 'g/y'\]"),
        ({"attrs": {"x": {"a": 1}, "b": 2}}, "either a mapping for each of them"),
        ({"attrs": {"x": {"a": 1}, "/h": {}}}, r"keys \['h'\]; .* lie in the groups \['/', '/g'\]"),
        ({"attrs": {"/": 3}}, "either a mapping for each of them"),
        ({"attrs": {"/": {1: 2}}}, "attrs of the group '/' has the name 1"),
    ],
)
def test_keys_of_no_array_are_refused(tmp_path, options, match):
    data = {"x": np.ones(3), "g/y": np.ones(3)}
    with pytest.raises(OptionError, match=match):
        lazyio.to_hdf5(data, tmp_path / "x.h5", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "options", "match"),
    [
        ("x.zarr", {"zarr_format": {"x": 2, "y": 3}}, "give 3 or 2"),
        ({"x": 3, "y": 4}, {}, "is no store; give"),
    ],
)
def test_what_is_no_setting_of_one_array(tmp_path, target, options, match):
    """A store has one version; a mapping that holds no arrays is no target."""
    target = tmp_path / target if isinstance(target, str) else target
    with pytest.raises(OptionError, match=match):
        lazyio.to_zarr({"x": np.ones(3), "y": np.ones(3)}, target, **options)


def test_no_attributes_of_one(tmp_path):
    """Explicit ``None`` is none; an array that is not named keeps what its data have."""
    units = xr.Variable("t", np.ones(3), attrs={"units": "V"})
    attrs = {"x": {"gain": 2}, "y": None}
    lazyio.to_hdf5({"x": units, "y": units, "z": units}, tmp_path / "x.h5", attrs=attrs)
    with h5py.File(tmp_path / "x.h5") as file:
        found = [{name for name in file[key].attrs if name.islower()} for key in "xyz"]
    assert found == [{"gain"}, set(), {"units"}]


class Hdf5:
    """Datasets of two files that are open."""

    write = staticmethod(lazyio.to_hdf5)
    kind = "dataset"

    @contextlib.contextmanager
    def arrays(self, folder):
        names = (folder / "a.h5", folder / "b.h5")
        with contextlib.ExitStack() as stack:
            one, two = (stack.enter_context(h5py.File(name, "w")) for name in names)
            shape = {"chunks": (3, 3), "maxshape": (None, 6)}
            yield {
                "x": one.create_dataset("data", data=np.zeros((8, 6)), **shape),
                "y": two.create_dataset("data", data=np.zeros((4, 6)), **shape),
            }


class Zarr:
    """Arrays of two stores."""

    write = staticmethod(lazyio.to_zarr)
    kind = "array"

    @contextlib.contextmanager
    def arrays(self, folder):
        stores = (folder / "a.zarr", zarr.storage.MemoryStore())
        yield {
            key: zarr.create_array(store, name="data", data=np.zeros((n, 6)), chunks=(3, 3))
            for key, store, n in zip("xy", stores, (8, 4), strict=True)
        }


@pytest.fixture(params=[Hdf5, Zarr], ids=lambda one: one.__name__)
def place(request):
    return request.param()


def test_open_arrays_by_key(place, tmp_path):
    """As dask's ``store([x, y], [target, other])``, in one pass."""
    n_read = []

    def count(block, block_id=None):
        if block.size:
            n_read.append(block_id)
        return block

    shared = da.ones((4, 6), chunks=(2, 3)).map_blocks(count, dtype=float)
    with place.arrays(tmp_path) as arrays:
        data = {"x": da.concatenate([shared, shared + 1]), "/y": shared * 5}
        report = place.write(data, arrays)
        assert (arrays["x"][:4] == 1).all()
        assert (arrays["x"][4:] == 2).all()
        assert (arrays["y"][...] == 5).all()
    assert len(report.plans) == 2
    assert len(n_read) == len(set(n_read)) == 4


def test_parts_of_open_arrays_by_key(place, tmp_path):
    with place.arrays(tmp_path) as arrays:
        stream = lazyio.Stream(iter(np.full((3, 6), 2.0)))
        data = {"x": stream, "y": np.ones((2, 6))}
        place.write(data, arrays, append_dim={"x": 0}, region={"y": np.s_[1:3]})
        assert arrays["x"].shape == (11, 6)
        assert (arrays["x"][8:] == 2).all()
        assert arrays["y"][:, 0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"x": np.ones((8, 6))}, r"have the keys \['x', 'y'\], and the data \['x'\]"),
        (np.ones((8, 6)), "for several arrays; give those by the same keys"),
        ({"x": np.ones((8, 5)), "y": np.ones((4, 5))}, "2 of 2 arrays are refused:"),
    ],
)
def test_open_arrays_that_do_not_fit(place, tmp_path, data, match):
    with place.arrays(tmp_path) as arrays, pytest.raises(OptionError, match=match):
        place.write(data, arrays)


def test_one_open_array_by_two_keys(place, tmp_path):
    with place.arrays(tmp_path) as arrays:
        twice = {"x": arrays["x"], "y": arrays["x"]}
        data = {"x": np.ones((1, 6)), "y": np.ones((1, 6))}
        with pytest.raises(OptionError, match=r"'/?x' and '/?y' are one"):
            place.write(data, twice, region={"x": np.s_[:1], "y": np.s_[1:2]})
        with pytest.raises(OptionError, match=f"several arrays do not go into one {place.kind}"):
            place.write(data, arrays["x"])


@pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
def test_all_that_is_wrong_is_one_error(tmp_path, to):
    """Of arrays that are missing, that do not fit and that cannot be stored; nothing changes."""
    path = tmp_path / "x"
    lazyio_of = {"maxshape": True} if to is lazyio.to_hdf5 else {}
    to({"x": np.zeros((8, 6)), "y": np.zeros(4), "z": np.zeros(3)}, path, **lazyio_of)
    data = {"x": np.ones((2, 5)), "no": np.ones(3), "z": np.ones(1), "y": np.ones((1, 1, 1))}
    with pytest.raises(TargetError, match="3 of 4 arrays are refused:") as raised:
        to(data, path, append_dim=0)
    lines = str(raised.value).splitlines()[1:]
    assert len(lines) == 3
    for name in ("no", "x", "y"):
        assert any(f"{name}'" in line or f"/{name} " in line for line in lines)
    objects = {"a": np.array([object()]), "b": np.array([None]), "c": np.ones(3)}
    with pytest.raises(UnsupportedDtypeError, match="2 of 3 arrays"):
        to(objects, path)
    with pytest.raises(TargetExistsError, match="2 of 3 arrays"):
        to({"x": np.ones(3), "y": np.ones(3), "new": np.ones(3)}, path)
    assert not lazyio.open(path, "x").compute().any()


@pytest.mark.parametrize(
    ("region", "append_dim", "match"),
    [
        ({"x": ...}, {"x": 0}, r"neither region nor append_dim says where \['y'\] go"),
        (None, {"x": 0, "z": 0}, r"append_dim has the keys \['z'\]"),
        ({"x": ..., "y": ...}, {"x": 0}, "give one of them"),
    ],
)
def test_places_that_say_too_much_or_too_little(place, tmp_path, region, append_dim, match):
    data = {"x": np.ones((8, 6)), "y": np.ones((4, 6))}
    with place.arrays(tmp_path) as arrays, pytest.raises(OptionError, match=match):
        place.write(data, arrays, region=region, append_dim=append_dim)


def test_one_is_placed_and_the_rest_is_appended(place, tmp_path):
    with place.arrays(tmp_path) as arrays:
        data = {"x": np.ones((1, 6)), "y": np.ones((1, 6))}
        place.write(data, arrays, region={"x": np.s_[2:3]}, append_dim=0)
        assert arrays["x"][:, 0].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
        assert arrays["y"][:, 0].tolist() == [0, 0, 0, 0, 1]
        place.write(data, arrays, region=np.s_[:1], append_dim={"y": 0})
        assert arrays["x"][0, 0] == 1
        assert arrays["y"].shape == (6, 6)


def test_a_bar_of_what_is_appended_has_no_wrong_end(tmp_path, capfd, monkeypatch):
    """How long a stream is that is appended with others is not known before."""
    monkeypatch.setattr("lazyio.execution.progress.optional", lambda _: None)
    lazyio.to_hdf5({"x": np.zeros((1, 8)), "y": np.zeros(3)}, tmp_path / "x.h5", maxshape=True)
    data = {"x": lazyio.Stream(iter(np.ones((100, 8)))), "y": np.ones(4)}
    lazyio.to_hdf5(data, tmp_path / "x.h5", append_dim=0, progress=True)
    drawn = capfd.readouterr().err.split("\r")
    assert not any("MiB" in line for line in drawn)
    assert "100%" in drawn[-1]
