"""Any mapping of parts and appends, of any kind of input, against plain numpy arrays."""

import contextlib
import json

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio

KEYS = ("x", "g/y", "g/h/z")
CHUNKS = {"x": (3, 4), "g/y": (2, 5), "g/h/z": (4,)}
OLD = {"x": (5, 4), "g/y": (0, 6), "g/h/z": (7,)}


class Hdf5:
    """A file by its path, or a group of it."""

    write = staticmethod(lazyio.to_hdf5)
    suffix = ".h5"

    def make(self, path, arrays):
        with h5py.File(path, "w") as file:
            for key, values in arrays.items():
                maxshape = (None,) * values.ndim
                file.create_dataset(key, data=values, chunks=CHUNKS[key], maxshape=maxshape)

    def read(self, path):
        with h5py.File(path, "r") as file:
            return {key: file[key][...] for key in KEYS}

    @contextlib.contextmanager
    def target(self, path, way):
        if way == "path":
            yield path
            return
        with h5py.File(path, "r+") as file:
            yield file["/"] if way == "group" else {key: file[key] for key in KEYS}


class Zarr:
    """A local store, or its open group."""

    write = staticmethod(lazyio.to_zarr)
    suffix = ".zarr"

    def make(self, path, arrays):
        group = zarr.create_group(path)
        for key, values in arrays.items():
            made = group.create_array(
                key, shape=values.shape, chunks=CHUNKS[key], dtype=values.dtype
            )
            if values.size:
                made[...] = values

    def read(self, path):
        return {key: zarr.open_array(path, path=key, mode="r")[...] for key in KEYS}

    @contextlib.contextmanager
    def target(self, path, way):
        group = None if way == "path" else zarr.open_group(path, mode="r+")
        targets = {"path": path, "group": group}
        yield targets[way] if way in targets else {key: group[key] for key in KEYS}


@st.composite
def steps(draw):
    """Yield calls: of each array where its part begins, how large it is, and what it comes as."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        step = {}
        for key in draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True)):
            kind = draw(st.sampled_from(["numpy", "dask", "stream", "shared"]))
            start = draw(st.none() | st.integers(0, 9)) if kind != "stream" else None
            # A stream without elements does not say what they would be.
            step[key] = (start, draw(st.integers(kind == "stream", 6)), kind)
        found.append((draw(st.sampled_from(["path", "group", "datasets"])), step))
    return found


def as_kind(values, kind, base):
    """Return the same elements as another kind of input."""
    if kind == "dask":
        return da.from_array(values, chunks=2)
    if kind == "stream":
        return lazyio.Stream(iter(values), dtype=values.dtype)
    if kind == "shared":
        # All of a call are made of one array.
        return da.from_array(values - 1.0, chunks=3) + base
    return values


def call(model, step, number):
    """Return the data, regions and axes of a call, and what the arrays are afterwards."""
    base = da.ones((), chunks=())
    after = dict(model)
    data, region, append_dim = {}, {}, {}
    for key, (start, n, kind) in step.items():
        old = after[key]
        shape = (n, *old.shape[1:])
        values = 100.0 * number + np.arange(int(np.prod(shape)), dtype="f8").reshape(shape)
        begin = len(old) if start is None else start
        grown = np.zeros((max(len(old), begin + n), *old.shape[1:]))
        grown[: len(old)] = old
        grown[begin : begin + n] = values
        # Writing nothing beyond the end leaves the end where it is.
        after[key] = grown if n else old
        data[key] = as_kind(values, kind, base)
        if start is None:
            append_dim[key] = 0
        elif n:
            region[key] = np.s_[start : start + n]
        else:
            del data[key]
            after[key] = old
    return data, region or None, append_dim or None, after


@pytest.mark.parametrize("place", [Hdf5(), Zarr()], ids=["hdf5", "zarr"])
@settings(max_examples=30)
@given(todo=steps())
def test_any_parts_of_any_arrays(tmp_path_factory, place, todo):
    path = tmp_path_factory.mktemp("p") / f"a{place.suffix}"
    model = {key: np.full(OLD[key], -1.0) for key in KEYS}
    place.make(path, model)
    for number, (way, step) in enumerate(todo, start=1):
        data, region, append_dim, after = call(model, step, number)
        if not data:
            continue
        with place.target(path, way) as target:
            if way == "datasets":
                target = {key: target[key] for key in data}
            place.write(data, target, region=region, append_dim=append_dim, scheduler="threads")
        found = place.read(path)
        for key in KEYS:
            np.testing.assert_array_equal(found[key], after[key], err_msg=f"{key} {step}")
        model = after


@pytest.mark.parametrize("place", [Hdf5(), Zarr()], ids=["hdf5", "zarr"])
@settings(max_examples=25)
@given(
    pushed=st.lists(
        st.tuples(st.sampled_from(KEYS), st.integers(0, 9), st.booleans()), min_size=1, max_size=8
    ),
    fill=st.integers(-3, 3),
    digests=st.booleans(),
    dims=st.booleans(),
)
def test_any_batches_with_any_settings(tmp_path_factory, place, pushed, fill, digests, dims):
    """A writer whose arrays have settings, closed and opened again between batches."""
    path = tmp_path_factory.mktemp("p") / f"a{place.suffix}"
    model = {}
    names = {"x": ("t", "c"), "g/y": ("t", "row"), "g/h/z": ("u",)}
    for number, (key, n, _) in enumerate(pushed):
        with lazyio.writer(path) as w:
            item_shape = OLD[key][1:]
            array = w.create(
                key,
                dtype="f8",
                item_shape=item_shape,
                chunks=CHUNKS[key],
                fillvalue=fill,
                attrs={"key": key, "nested": {"a": [1, 2]}},
                dims=names[key] if dims else None,
                digests=digests,
            )
            batch = number + np.random.default_rng(number).random((n, *item_shape))
            array.append(batch)
        model[key] = np.concatenate([model.get(key, batch[:0]), batch])
    status = lazyio.verify(path).status
    assert status == ("ok" if digests else "unverifiable")
    for key, values in model.items():
        opened = lazyio.open(path, key)
        np.testing.assert_array_equal(opened.compute(), values)
        if place.suffix == ".h5":
            with h5py.File(path) as file:
                dataset = file[key]
                assert dataset.attrs["key"] == key
                assert json.loads(dataset.attrs["nested"]) == {"a": [1, 2]}
                assert dataset.fillvalue == fill
                assert not dims or len(dataset.dims[0][0]) >= len(values)
        else:
            array = zarr.open_array(path, path=key, mode="r")
            assert dict(array.attrs) == {"key": key, "nested": {"a": [1, 2]}}
            assert array.fill_value == fill
            assert array.metadata.dimension_names == (names[key] if dims else None)
