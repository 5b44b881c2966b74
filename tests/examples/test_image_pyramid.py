"""The pyramid of the examples: what OME-Zarr's own libraries read is what numpy computes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

import lazyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "image_pyramid.py"
PIXEL = {"z": 2.0, "y": 0.25, "x": 0.5}
STORED = {"chunks": (2, 16, 16), "shards": (2, 32, 64)}


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("image_pyramid", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def voxels(shape=(5, 83, 150)):
    return np.random.default_rng(0).integers(0, 2**16, shape).astype("u2")


def halved(image):
    """Return the mean of two by two pixels, as a person would write it; odd ones are left out."""
    even = image[:, : image.shape[1] // 2 * 2, : image.shape[2] // 2 * 2].astype("f8")
    mean = (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
    return mean.round().astype(image.dtype)


@pytest.fixture(scope="module")
def store(example, tmp_path_factory):
    """Return a pyramid, and how the image was read for it."""
    path, image, regions = tmp_path_factory.mktemp("ome") / "a.ome.zarr", voxels(), []

    def read(region):
        regions.append(region)
        return image[region]

    source = lazyio.from_function(read, image.shape, image.dtype, source_chunks=(1, 83, 150))
    example.write_image(source, path, scale=PIXEL, n_levels=3, memory_limit="4 MiB", **STORED)
    return path, regions


def test_levels_are_means(store):
    path, _ = store
    image = voxels()
    for level in range(3):
        array = zarr.open_array(path, path=str(level), mode="r")
        np.testing.assert_array_equal(array[...], image)
        assert (array.chunks, array.shards) == (STORED["chunks"], STORED["shards"])
        assert array.metadata.dimension_names == ("z", "y", "x")
        image = halved(image)
    assert lazyio.verify(path).status == "ok"


def test_the_image_is_read_once(store):
    _, regions = store
    n_read = sum(np.prod([part.stop - part.start for part in region]) for region in regions)
    assert n_read == voxels().size
    assert len(regions) > 1


def test_yaozarrs_validates_it(store):
    yaozarrs = pytest.importorskip("yaozarrs")
    path, _ = store
    yaozarrs.validate_zarr_store(str(path))
    (image,) = yaozarrs.open_group(str(path)).ome_metadata().multiscales
    assert [axis.name for axis in image.axes] == ["z", "y", "x"]


def test_yaozarrs_refuses_what_is_wrong(example, store, tmp_path):
    """Metadata that name a level which is not there: the check above checks something."""
    yaozarrs = pytest.importorskip("yaozarrs")
    path, _ = store
    ome = example.multiscales(dict.fromkeys("0127"), PIXEL, name="a")
    levels = {key: zarr.open_array(path, path=key, mode="r") for key in "012"}
    lazyio.to_zarr(
        levels, tmp_path / "b.zarr", attributes={"/": {"ome": ome}}, dimension_names=tuple(PIXEL)
    )
    with pytest.raises(yaozarrs._storage.StorageValidationError, match="7"):
        yaozarrs.validate_zarr_store(str(tmp_path / "b.zarr"))


def test_yaozarrs_validates_other_kinds(example, tmp_path):
    """Version 0.4, which is Zarr v2, and labels below an image, as the how-to says it."""
    yaozarrs = pytest.importorskip("yaozarrs")
    levels = example.pyramid(lazyio.from_array(voxels((2, 64, 64))), 2)
    (image,) = example.multiscales(levels, PIXEL, name="a")["multiscales"]
    lazyio.to_zarr(
        levels,
        tmp_path / "old.zarr",
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        attributes={"/": {"multiscales": [{**image, "version": "0.4"}]}},
    )
    yaozarrs.validate_zarr_store(str(tmp_path / "old.zarr"))
    ome = example.multiscales("0", PIXEL, name="a")
    cells = {**ome, "image-label": {}}
    lazyio.to_zarr(
        {"0": levels["0"], "labels/cells/0": levels["0"] // 1000},
        tmp_path / "new.zarr",
        dimension_names=tuple(PIXEL),
        attributes={
            "/": {"ome": ome},
            "labels": {"ome": {"version": "0.5", "labels": ["cells"]}},
            "labels/cells": {"ome": cells},
        },
    )
    for group in ("", "labels", "labels/cells"):
        yaozarrs.validate_zarr_store(str(tmp_path / "new.zarr" / group))


def test_ome_zarr_py_reads_it(store):
    """In an environment of its own: it asks for another pydantic than others here."""
    reader = pytest.importorskip("ome_zarr.reader")
    from ome_zarr.io import parse_url

    path, _ = store
    (node, *_) = reader.Reader(parse_url(str(path)))()
    assert [level.shape for level in node.data] == [(5, 83, 150), (5, 41, 75), (5, 20, 37)]
    assert (node.data[0].compute() == voxels()).all()
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]
    assert node.metadata["coordinateTransformations"][1][0]["scale"] == [2.0, 0.5, 1.0]


def test_ome_zarr_models_validate_it(store):
    models = pytest.importorskip("ome_zarr_models.v05")
    path, _ = store
    image = models.Image.from_zarr(zarr.open_group(path, mode="r"))
    assert image.ome_attributes.version == "0.5"


def test_pixels_lie_where_they_are(example):
    """The first pixel of a level is the middle of those that it is the mean of."""
    levels = dict.fromkeys("012")
    ome = example.multiscales(levels, PIXEL, name="a")
    scales = [
        [one[kind] for one in level["coordinateTransformations"] for kind in one if kind != "type"]
        for level in ome["multiscales"][0]["datasets"]
    ]
    assert scales == [
        [[2.0, 0.25, 0.5], [0.0, 0.0, 0.0]],
        [[2.0, 0.5, 1.0], [0.0, 0.125, 0.25]],
        [[2.0, 1.0, 2.0], [0.0, 0.375, 0.75]],
    ]


def test_another_image_in_the_same_store(example, tmp_path):
    """Its groups are described as the first ones were, and both stay."""
    for name in ("a", "b/c"):
        example.write_image(
            voxels((2, 64, 64)),
            tmp_path / "many.zarr",
            path_in_store=name,
            scale=PIXEL,
            n_levels=2,
            name=name,
            **STORED,
        )
    root = zarr.open_group(tmp_path / "many.zarr", mode="r")
    assert not dict(root.attrs)
    for name in ("a", "b/c"):
        assert root[name].attrs["ome"]["multiscales"][0]["name"] == name
        assert sorted(root[name].array_keys()) == ["0", "1"]


def test_a_killed_run_goes_on(example, tmp_path, monkeypatch):
    """Levels that were being made are not there, and are when the same call has been made again."""
    image, path = voxels(), tmp_path / "a.ome.zarr"
    np.save(tmp_path / "a.npy", image)
    calls = []

    def stop(step):
        calls.append(step)
        if len(calls) == 4:
            raise KeyboardInterrupt

    own = {"scale": PIXEL, "n_levels": 3, "resume": True, "scheduler": "synchronous", **STORED}
    source = tmp_path / "a.npy"
    blocks = lazyio.open(source, chunks=(2, 83, 150))
    with pytest.raises(KeyboardInterrupt):
        example.write_image(blocks, path, progress=stop, **own)
    assert not path.exists()
    report = example.write_image(blocks, path, **own)
    assert report.n_resumed > 0
    level = zarr.open_array(path, path="2", mode="r")
    np.testing.assert_array_equal(level[...], halved(halved(image)))
    assert "multiscales" in zarr.open_group(path, mode="r").attrs["ome"]


MEASURE = """
import importlib.util, json, sys
import numpy as np
import lazyio

path, source, out = sys.argv[1:]
spec = importlib.util.spec_from_file_location("image_pyramid", path)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

def write(source, shape, out):
    image = lazyio.from_raw(source, shape, "uint16", memory_limit="32 MiB")
    return example.write_image(
        image, out, scale={"z": 1.0, "y": 1.0, "x": 1.0}, n_levels=4, mode="w",
        chunks=(4, 128, 128), shards=(4, 512, 512), memory_limit="32 MiB", workers=2)

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

np.ones((8, 256, 256), "uint16").tofile(out + ".raw")
write(out + ".raw", (8, 256, 256), out + ".warm")
open("/proc/self/clear_refs", "w").write("5")
before = resident()
report = write(source, (32, 1000, 1100), out)
print(json.dumps({"growth": resident() - before, "peak": report.peak_nbytes}))
"""


def test_memory_stays_within_the_limit(warm, tmp_path):
    """An image of 70 MB and its levels, measured as the growth of a child process."""
    rows = np.random.default_rng(0).integers(0, 2**12, (32, 1000, 1100)).astype("u2")
    rows.tofile(tmp_path / "a.raw")
    done = warm.run(MEASURE, EXAMPLE, tmp_path / "a.raw", tmp_path / "a.zarr", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak"] <= 32 * 2**20
    # Beside it each of two workers holds the mean of a block of 2 MiB, and that rounded.
    assert found["growth"] <= (32 + 2 * 2 * 2) * 2**20
    array = zarr.open_array(tmp_path / "a.zarr", path="1", mode="r")
    np.testing.assert_array_equal(array[:4], halved(rows[:4]))
