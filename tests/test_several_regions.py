"""Parts of several arrays in one pass, published as one."""

import contextlib
import os
import warnings

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from kills import killed

import lazyio
from lazyio.atomic.recovery import leftovers, recover
from lazyio.errors import BlockError, OptionError, PlanError, TargetError
from lazyio.storage.hdf5 import file as hdf5_file

OLD = {"x": np.zeros((8, 6)), "g/y": np.zeros((4, 6)), "z": np.zeros(5)}


class Hdf5:
    """A file by its path."""

    name = "s.h5"
    write = staticmethod(lazyio.to_hdf5)

    def make(self, path, arrays):
        with h5py.File(path, "w") as file:
            for key, values in arrays.items():
                maxshape = (None,) * values.ndim
                file.create_dataset(key, data=values, chunks=(3,) * values.ndim, maxshape=maxshape)

    def read(self, path):
        with h5py.File(path, "r") as file:
            return {key: file[key][...] for key in OLD}

    @contextlib.contextmanager
    def target(self, path):
        yield path


class OpenHdf5(Hdf5):
    """A group that is open."""

    @contextlib.contextmanager
    def target(self, path):
        with h5py.File(path, "r+") as file:
            yield file["/"]


class Zarr:
    """A local store."""

    name = "s.zarr"
    write = staticmethod(lazyio.to_zarr)
    version = 3

    def make(self, path, arrays):
        group = zarr.create_group(path, zarr_format=self.version)
        for key, values in arrays.items():
            made = group.create_array(
                key, shape=values.shape, chunks=(3,) * values.ndim, dtype=values.dtype
            )
            made[...] = values

    def read(self, path):
        return {key: zarr.open_array(path, path=key, mode="r")[...] for key in OLD}

    @contextlib.contextmanager
    def target(self, path):
        yield path


class Zarr2(Zarr):
    """One of the older version."""

    version = 2


class OpenZarr(Zarr):
    """A group that is open."""

    @contextlib.contextmanager
    def target(self, path):
        yield zarr.open_group(path, mode="r+")


@pytest.fixture(params=[Hdf5, OpenHdf5, Zarr, Zarr2, OpenZarr], ids=lambda one: one.__name__)
def place(request):
    return request.param()


@pytest.fixture(params=[Hdf5, Zarr, Zarr2], ids=lambda one: one.__name__)
def closed(request):
    return request.param()


def written(place, tmp_path, data, *, key=None, **options):
    """Return what a call reports, and what is there afterwards."""
    path = tmp_path / place.name
    place.make(path, OLD)
    with place.target(path) as target:
        report = place.write(data, target, *([] if key is None else [key]), **options)
    return report, place.read(path)


def test_one_region_for_all(place, tmp_path):
    data = {"x": np.ones((2, 6)), "g/y": np.full((2, 6), 2.0)}
    report, found = written(place, tmp_path, data, region=np.s_[1:3])
    assert [key.strip("/") for key in report.keys] == ["x", "g/y"]
    for key, value in (("x", 1), ("g/y", 2)):
        wanted = OLD[key].copy()
        wanted[1:3] = value
        np.testing.assert_array_equal(found[key], wanted)
    np.testing.assert_array_equal(found["z"], OLD["z"])


def test_a_region_of_each(place, tmp_path):
    """By the arrays' keys; one of them grows by it."""
    data = {"x": np.ones((8, 2)), "/z": np.arange(3.0)}
    region = {"x": np.s_[:, 4:], "z": np.s_[4:7]}
    _, found = written(place, tmp_path, data, region=region)
    assert found["x"].sum() == found["x"][:, 4:].sum() == 16
    assert found["z"].tolist() == [0, 0, 0, 0, 0, 1, 2]


def test_appending_to_all(place, tmp_path):
    """Arrays of different lengths each grow at their own end; below one group."""
    data = {"x": np.ones((5, 6)), "z": np.ones(2)}
    _, found = written(place, tmp_path, data, append_dim=0)
    assert found["x"].shape == (13, 6)
    assert found["x"][8:].all()
    assert not found["x"][:8].any()
    assert found["z"].tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_an_axis_of_each_and_a_group(place, tmp_path):
    data = {"y": da.ones((4, 3), chunks=2)}
    _, found = written(place, tmp_path, data, key="g", append_dim={"y": 1})
    assert found["g/y"].shape == (4, 9)
    assert found["g/y"][:, 6:].all()


def test_one_is_appended_and_of_another_a_part_is_written(place, tmp_path):
    data = {"x": np.ones((1, 6)), "z": np.ones(2)}
    where = {"region": {"x": None, "z": 2}, "append_dim": {"x": 0, "z": None}}
    data["z"] = np.float64(7)
    _, found = written(place, tmp_path, data, **where)
    assert found["x"].shape == (9, 6)
    assert found["z"].tolist() == [0, 0, 7, 0, 0]


def test_names_of_axes_are_no_keys(tmp_path):
    """A region may be given by axes, for all arrays; a coordinate has the name of its own."""
    path = tmp_path / "s.zarr"
    arrays = {"time": np.arange(4), "x": np.zeros((4, 2))}
    dims = {"time": ("time",), "x": ("time", "channel")}
    lazyio.to_zarr(arrays, path, dimension_names=dims)
    data = {"time": np.array([9]), "x": np.ones((1, 2))}
    lazyio.to_zarr(data, path, region={"time": slice(1, 2)})
    assert zarr.open_array(path, path="time")[...].tolist() == [0, 9, 2, 3]
    assert zarr.open_array(path, path="x")[1].tolist() == [1, 1]


def test_shared_blocks_are_computed_once(place, tmp_path):
    calls = []

    def count(block, block_id=None):
        if block.size:
            calls.append(block_id)
        return block

    shared = da.ones((4, 6), chunks=(2, 3)).map_blocks(count, dtype=float)
    data = {"x": shared + 1, "g/y": shared * 5}
    _, found = written(place, tmp_path, data, append_dim=0)
    assert len(calls) == len(set(calls)) == 4
    assert (found["x"][8:] == 2).all()
    assert (found["g/y"][4:] == 5).all()


def test_streams(place, tmp_path):
    """Each is taken in turn."""
    data = {
        "x": lazyio.Stream(iter(np.ones((5, 6)))),
        "z": lazyio.Stream(iter(np.ones(3))),
    }
    _, found = written(place, tmp_path, data, append_dim=0)
    assert found["x"].shape == (13, 6)
    assert found["z"].tolist() == [0] * 5 + [1] * 3


def test_later(closed, tmp_path):
    path = tmp_path / closed.name
    closed.make(path, OLD)
    data = {"x": np.ones((1, 6)), "z": np.ones(1)}
    later = closed.write(data, path, append_dim=0, compute=False)
    assert closed.read(path)["x"].shape == (8, 6)
    later.compute()
    assert closed.read(path)["x"].shape == (9, 6)
    assert closed.read(path)["z"].shape == (6,)


def test_one_that_fails_leaves_all_as_they_were(place, tmp_path):
    """In what is open, arrays are as long as before."""

    def fail(block):
        raise ValueError("bad block")

    path = tmp_path / place.name
    bad = da.ones((4, 6), chunks=(4, 6)).map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
    with pytest.raises(BlockError, match="bad block"):
        written(place, tmp_path, {"x": np.ones((4, 6)), "g/y": bad}, append_dim=0)
    if not isinstance(place, OpenZarr):
        found = place.read(path)
        assert {key: values.shape for key, values in found.items()} == {
            key: values.shape for key, values in OLD.items()
        }
    assert os.listdir(tmp_path) == [place.name]


@pytest.mark.parametrize(
    ("data", "options", "error", "match"),
    [
        ({"x": np.ones((1, 6)), "no": np.ones(3)}, {"append_dim": 0}, TargetError, "no"),
        ({"x": np.ones((8, 1)), "z": np.ones(3)}, {"append_dim": 1}, OptionError, "array '/?z': "),
        ({"x": np.ones((1, 6))}, {"append_dim": {"z": 0}}, OptionError, "one for each array"),
        ({"x": np.ones(1), "/x": np.ones(1)}, {"append_dim": 0}, OptionError, "two arrays"),
        ({"x": np.ones((1, 6))}, {"append_dim": 0, "overwrite": True}, OptionError, "for whole"),
        ({}, {"append_dim": 0}, OptionError, "at least one"),
    ],
)
def test_what_is_refused_changes_nothing(place, tmp_path, data, options, error, match):
    with pytest.raises(error, match=match):
        written(place, tmp_path, data, **options)
    for key, values in place.read(tmp_path / place.name).items():
        np.testing.assert_array_equal(values, OLD[key])


@pytest.mark.parametrize("place", [Hdf5(), OpenHdf5()], ids=["path", "open"])
def test_one_dataset_by_two_names(place, tmp_path):
    """Parts of it that meet in a chunk would lose each other."""
    path = tmp_path / place.name
    place.make(path, OLD)
    with h5py.File(path, "r+") as file:
        file["hard"] = file["x"]
        file["soft"] = h5py.SoftLink("/x")
    for name in ("hard", "soft"):
        with place.target(path) as target, pytest.raises(OptionError, match="are one dataset"):
            place.write({"x": np.ones(6), name: np.ones(6)}, target, region={"x": 0, name: 1})
    np.testing.assert_array_equal(place.read(path)["x"], OLD["x"])


def test_all_share_the_memory_limit(closed, tmp_path):
    """Each alone fits, and both do not where they have blocks in common."""
    shared = da.ones((400, 600), chunks=(400, 600))
    path = tmp_path / closed.name
    closed.make(path, {key: np.zeros((2, 600)) for key in OLD})
    one = closed.write({"x": shared}, path, append_dim=0, memory_limit="8 MiB", workers=1)
    assert one.peak_nbytes <= 8 << 20
    both = {"x": shared, "g/y": shared + 1}
    with contextlib.suppress(PlanError):
        report = closed.write(both, path, append_dim=0, memory_limit="8 MiB", workers=1)
        assert report.peak_nbytes <= 8 << 20


def test_the_same_call_again_is_done(closed, tmp_path):
    """Both have been appended, and are once."""
    path = tmp_path / closed.name
    closed.make(path, {})
    closed.write(dict(OLD), path, **_open_ended(closed))
    data = {"x": np.ones((3, 6)), "z": np.ones(3)}
    first = closed.write(data, path, append_dim=0, resume=True)
    again = closed.write(data, path, append_dim=0, resume=True)
    assert first.n_resumed == 0
    assert again.n_resumed == again.n_blocks == 2
    assert again.engine == "kept"
    assert closed.read(path)["x"].shape == (11, 6)
    # Once anything else is written to one of them, the call is made as a whole.
    closed.write(np.zeros(1), path, "z", region=np.s_[:1])
    closed.write(data, path, append_dim=0, resume=True)
    assert closed.read(path)["x"].shape == (14, 6)
    assert closed.read(path)["z"].shape == (11,)


def _open_ended(place):
    if isinstance(place, Hdf5):
        return {"maxshape": True}
    return {"zarr_format": place.version}


def _killed(path, place, last, data, options):
    """Write in a child that ends after so many calls that change files; return whether it did."""
    return killed(last, lambda: place.write(data, path, scheduler="synchronous", **options))


@pytest.mark.parametrize("is_consolidated", [False, True])
@pytest.mark.parametrize("where", ["region", "append"])
@pytest.mark.parametrize("way", ["copy", "log", "zarr", "zarr2"])
def test_a_kill_at_any_step_leaves_all_old_or_all_new(
    tmp_path, way, where, is_consolidated, monkeypatch
):
    """After recovery; in a store other programs see all arrays that are written, or none."""
    if is_consolidated and "zarr" not in way:
        pytest.skip("HDF5 has nothing of that kind")
    place = {"zarr": Zarr(), "zarr2": Zarr2()}.get(way, Hdf5())
    if way == "log":
        monkeypatch.setattr(hdf5_file, "COPIED_NBYTES", 0)
        monkeypatch.setattr(hdf5_file, "_cloned", lambda *_: False)
    data = {"x": np.ones((4, 6)), "g/y": np.full((4, 6), 2.0)}
    options = {"append_dim": 0} if where == "append" else {"region": np.s_[:4]}
    seen = set()
    for last in range(400):
        path = tmp_path / f"{last}-{place.name}"
        place.make(path, OLD)
        if is_consolidated:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                zarr.consolidate_metadata(path)
        is_killed = _killed(path, place, last, data, options)
        if way.startswith("zarr"):
            _look_at(path)
        recover(path)
        found = place.read(path)
        states = {
            key: bool((found[key][-4:] if where == "append" else found[key][:4]).any())
            for key in data
        }
        assert len(set(states.values())) == 1, (last, states)
        is_new = states["x"]
        for key, values in data.items():
            shape = list(OLD[key].shape)
            shape[0] += values.shape[0] if is_new and where == "append" else 0
            assert found[key].shape == tuple(shape)
            part = found[key][-4:] if where == "append" else found[key][:4]
            assert (part == (values if is_new else 0)).all()
        assert leftovers(path) == []
        seen.add(is_new)
        if not is_killed:
            break
    assert seen == {False, True}


def _look_at(path):
    """Read with zarr-python alone what a kill has left: all of it old, all new, or not there."""
    states = set()
    for key in ("x", "g/y"):
        with contextlib.suppress(FileNotFoundError, KeyError, ValueError):
            array = zarr.open_array(path, path=key, mode="r")
            states.add((array.shape[0] not in (4, 8) or bool(array[:4].any())) or array[...].any())
    assert len({bool(one) for one in states}) <= 1, states


def test_an_array_behind_a_link(tmp_path):
    """What lies in another store cannot be published with the rest."""
    lazyio.to_zarr(np.zeros(5), tmp_path / "other.zarr")
    Zarr().make(tmp_path / "s.zarr", OLD)
    (tmp_path / "s.zarr" / "link").symlink_to(tmp_path / "other.zarr")
    data = {"z": np.ones(1), "link": np.ones(1)}
    with pytest.raises(OptionError, match="behind a link"):
        lazyio.to_zarr(data, tmp_path / "s.zarr", append_dim=0)
    assert Zarr().read(tmp_path / "s.zarr")["z"].shape == (5,)
