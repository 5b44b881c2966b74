"""The figures of "Using PyTables for Larger-Than-RAM Data Processing" (Kyle Kastner, 2015)."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import hdf5plugin  # noqa: F401 - so that stock PyTables reads blosc
import numpy as np
import pytest
import tables
from row_lists import same

import lazyio

ROOT = Path(__file__).parents[2]
EXAMPLE = runpy.run_path(str(ROOT / "examples" / "ragged_rows.py"))


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_rows_of_two_axes(tmp_path, suffix) -> None:
    path = tmp_path / f"x.{suffix}"
    write = lazyio.to_hdf5 if suffix == "h5" else lazyio.to_zarr
    write(lazyio.Ragged.from_rows(EXAMPLE["rows_of_two_axes"]()), path, "data")
    rows = lazyio.open_ragged(path, "data")
    assert len(rows) == 1000
    assert rows[-1].shape == (84, 7)
    assert [row.shape for row in rows[-5:-1]] == [(11, 8), (71, 2), (29, 5), (97, 2)]
    same(rows[:], list(EXAMPLE["rows_of_two_axes"]()))


CODECS = [
    {"compression": "gzip", "shuffle": True},
    {"compression": "gzip", "compression_opts": 5, "shuffle": True},
    {"compression": "zstd", "shuffle": True},
    {"compression": "blosc"},
    {"compression": "blosc", "compression_opts": ("blosclz", 5, "byte")},
    {"compression": "bitshuffle"},
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: "-".join(map(str, codec.values())))
@pytest.mark.parametrize("way", ["generator", "list", "arrays"])
def test_images_take_less_than_with_side_columns(tmp_path, codec, way) -> None:
    """All of 29,960 int32 in at most 47 kB, with digests and all else that is in the file."""
    model, path = list(EXAMPLE["pseudo_images"]()), tmp_path / "images.h5"
    rows = lazyio.Ragged.from_rows(iter(model) if way == "generator" else model)
    if way == "arrays":
        lengths = [row.size for row in model]
        rows = lazyio.Ragged(
            np.concatenate([row.ravel() for row in model]),
            np.concatenate([[0], np.cumsum(lengths)]),
            np.array([row.shape for row in model]),
        )
    lazyio.to_hdf5(rows, path, "images", mode="w", **codec)
    assert path.stat().st_size <= 47_000
    assert lazyio.verify(path).status == "ok"
    found = lazyio.open_ragged(path, "images")
    assert found.lengths().sum() == 29_960
    same(found[:], model)


def test_the_files_of_the_post(tmp_path) -> None:
    """What PyTables writes there is read, row for row."""
    path = tmp_path / "post.h5"
    filters = tables.Filters(complevel=5, complib="blosc")
    model, images = list(EXAMPLE["rows_of_two_axes"]()), list(EXAMPLE["pseudo_images"]())
    with tables.open_file(path, "w") as file:
        data = file.create_vlarray("/", "data", tables.Float32Atom(shape=()))
        shapes = file.create_earray("/", "data_shape", tables.Int32Atom(), (0, 2))
        for row in model:
            data.append(row.ravel())
            shapes.append(np.array(row.shape)[None])
        group = file.create_group("/", "images")
        kinds = {"data": (0,), "data_start_and_stop": (0, 2), "data_shape": (0, 2)}
        made = {
            name: file.create_earray(group, name, tables.Int32Atom(), shape, filters=filters)
            for name, shape in kinds.items()
        }
        start = 0
        for image in images:
            made["data"].append(image.ravel())
            made["data_start_and_stop"].append([[start, start + image.size]])
            made["data_shape"].append([image.shape])
            start += image.size
    rows = lazyio.open_ragged(path, "data")
    assert rows[-1].shape == (84, 7)
    assert [row.shape for row in rows[-5:-1]] == [(11, 8), (71, 2), (29, 5), (97, 2)]
    same(rows[:], model)
    found = lazyio.open_ragged(path, "images/data")
    assert (found[-1].shape, found[-2].shape, len(found[-20:-1])) == ((5, 2), (9, 5), 19)
    same(found[:], images)


def test_the_example_runs(tmp_path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "ragged_rows.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "last row (84, 7)" in done.stdout
    assert "[(11, 8), (71, 2), (29, 5), (97, 2)]" in done.stdout
    assert "1000 images of 29960 pixels in 44." in done.stdout
    pytest.importorskip("matplotlib")
    names = ["clusters", "length_by_class", "lengths", "some_points"]
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == names
    assert all(path.stat().st_size > 5000 for path in tmp_path.glob("*.png"))
