"""Rows in files: written, appended, streamed, and read back, by lazyio and by others."""

import contextlib
import itertools
import json
import shutil

import dask
import dask.array as da
import h5py
import hdf5plugin  # noqa: F401 - so that stock h5py reads zstd
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from kills import killed
from row_lists import ragged, same

import lazyio
from lazyio.errors import (
    BlockError,
    DamagedDataError,
    OptionError,
    SourceError,
    TargetError,
    TargetExistsError,
)
from lazyio.info import info_of
from lazyio.ragged import feed as feed_module
from lazyio.storage.hdf5 import file as hdf5_file


@pytest.fixture(params=["h5", "zarr"])
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def write(data, path, key="r", **options):
    """Write to either format."""
    if path.suffix == ".h5":
        return lazyio.to_hdf5(data, path, key, **options)
    options.pop("compression", None)
    return lazyio.to_zarr(data, path, key, **options)


def by_others(path, key="r"):
    """Read rows by stock h5py or zarr-python, as the description of the offsets says."""
    with contextlib.ExitStack() as stack:
        if path.suffix == ".zarr":
            group = zarr.open_group(path, mode="r")[key]
        else:
            group = stack.enter_context(h5py.File(path, "r"))[key]
        values, offsets = group["values"][...], group["offsets"][...]
        rows = [values[start:stop] for start, stop in itertools.pairwise(offsets)]
        if "shapes" in group:
            shapes = group["shapes"][...]
            rows = [row.reshape(shape) for row, shape in zip(rows, shapes, strict=True)]
    return rows


def some_rows(n_rows=50, *, seed=0, n_axes=1, dtype="i4"):
    random = np.random.default_rng(seed)
    shapes = random.integers(0, 9 // n_axes, (n_rows, n_axes))
    return [random.integers(0, 99, shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize("way", ["arrays", "list", "generator"])
def test_rows_come_back(path, way, n_axes) -> None:
    model = some_rows(n_axes=n_axes)
    rows = {
        "arrays": lambda: ragged(model, shapes=n_axes > 1),
        "list": lambda: lazyio.Ragged.from_rows(model),
        "generator": lambda: lazyio.Ragged.from_rows(row for row in model),
    }[way]()
    report = write(rows, path, "g/r", compression="gzip")
    names = ["values", *(["shapes"] if n_axes > 1 else []), "offsets"]
    assert report.keys == tuple(f"g/r/{name}" for name in names)
    same(by_others(path, "g/r"), model)
    found = lazyio.open_ragged(path, "g/r")
    same(found[:], model)
    same(found[[-1, 3, 3]], [model[-1], model[3], model[3]])
    assert lazyio.verify(path).status == "ok"


def test_what_is_stored_says_how_to_read_it(path) -> None:
    write(ragged(some_rows()), path)
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            about = file["r/offsets"].attrs["description"].decode()
            assert file["r/offsets"].dtype == "i8"
            assert file["r/values"].maxshape == (None,)
    else:
        array = zarr.open_array(path, path="r/offsets", mode="r")
        about, dtype = array.attrs["description"], array.dtype
        assert dtype == "i8"
    assert about == "row i is values[offsets[i]:offsets[i + 1]]"


def test_info_tells_rows_from_other_arrays(path) -> None:
    write(ragged(some_rows(20)), path, "g/r")
    write(np.arange(5), path, "offsets")
    notes = {one.key: one.note for one in info_of(path)}
    assert notes == {"/g/r/offsets": "of 20 ragged rows in /g/r", "/g/r/values": "", "/offsets": ""}
    assert "of 20 ragged rows in /g/r" in str(info_of(path)[0])


def test_no_rows_at_all(path) -> None:
    write(ragged([]), path)
    assert lazyio.open_ragged(path, "r")[:] == []
    write(lazyio.Ragged.from_rows(iter([]), dtype="f4"), path, "s")
    assert lazyio.open_ragged(path, "s").dtype == np.float32
    write(ragged([np.arange(3, dtype="i4")]), path, append_dim=0)
    same(lazyio.open_ragged(path, "r")[:], [np.arange(3, dtype="i4")])


def test_rows_without_elements(path) -> None:
    model = [np.zeros((0, 3)), np.zeros((2, 0)), np.zeros((0, 0))]
    write(lazyio.Ragged.from_rows(iter(model)), path)
    same(lazyio.open_ragged(path, "r")[:], model)


def test_text(path) -> None:
    model = [["a", "bc"], [], ["déf", "", "g" * 100]]
    write(lazyio.Ragged.from_rows(iter(model)), path)
    write(lazyio.Ragged.from_rows(model), path, append_dim=0)
    assert [row.tolist() for row in lazyio.open_ragged(path, "r")] == model * 2


def test_rows_of_which_the_first_axis_alone_differs(path) -> None:
    model = [np.full((n, 3), n, "f4") for n in (2, 0, 5)]
    write(lazyio.Ragged.from_rows(iter(model), item_shape=3), path)
    same(lazyio.open_ragged(path, "r")[:], model)
    same(by_others(path), model)
    values = np.concatenate(model)
    write(lazyio.Ragged(values, [0, 2, 2, 7]), path, append_dim=0)
    same(lazyio.open_ragged(path, "r")[:], model * 2)


@settings(max_examples=25)
@given(
    parts=st.lists(st.lists(st.integers(0, 7), max_size=8), min_size=1, max_size=5),
    ways=st.lists(st.sampled_from(["arrays", "list", "generator"]), min_size=5, max_size=5),
    suffix=st.sampled_from(["h5", "zarr"]),
    batch=st.integers(1, 4),
)
def test_appended_rows_are_those_of_a_list(tmp_path_factory, parts, ways, suffix, batch) -> None:
    """However rows come, and however many at a time, they are those of a list that grows."""
    path = tmp_path_factory.mktemp("rows") / f"x.{suffix}"
    model = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "BATCH_ROWS", batch)
        patch.setattr("lazyio.verification.verify.is_available", lambda: False)
        for at, (lengths, way) in enumerate(zip(parts, ways, strict=False)):
            more = [np.arange(n, dtype="i4") + at for n in lengths]
            rows = ragged(more)
            if way != "arrays":
                given_rows = more if way == "list" else iter(more)
                rows = lazyio.Ragged.from_rows(given_rows, dtype="i4")
            options = {"append_dim": 0} if at else {"chunks": (5,)}
            write(rows, path, **options)
            model += more
            found = lazyio.open_ragged(path, "r")
            same(found[:], model)
        assert lazyio.verify(path).status == "ok"


def test_part_of_rows_is_written_without_the_others(path) -> None:
    model = some_rows(20)
    whole = ragged(model)
    offsets = whole.offsets.compute()
    values = whole.values.compute()
    for given_values in (values, da.from_array(values, chunks=9)):
        write(lazyio.Ragged(given_values, offsets[5:11]), path, "part", overwrite=True)
        same(lazyio.open_ragged(path, "part")[:], model[5:10])
        assert by_others(path, "part")[0].size == model[5].size
    write(lazyio.Ragged(values, offsets[15:]), path, "part", append_dim=0)
    same(lazyio.open_ragged(path, "part")[:], model[5:10] + model[15:])


def test_from_one_file_to_another(path, tmp_path) -> None:
    """A source in a file is read straight, and the index counted anew."""
    model = some_rows(200, n_axes=2)
    write(lazyio.Ragged.from_rows(model), path)
    other = tmp_path / ("y.zarr" if path.suffix == ".h5" else "y.h5")
    write(lazyio.open_ragged(path, "r"), other, "s")
    write(lazyio.open_ragged(path, "r"), other, "s", append_dim=0)
    same(lazyio.open_ragged(other, "s")[:], model * 2)


def test_rows_among_other_arrays(path) -> None:
    model = some_rows()
    attrs = "attrs" if path.suffix == ".h5" else "attributes"
    data = {"x": np.arange(5), "r": ragged(model), "s": lazyio.Ragged.from_rows(iter(model))}
    options = {attrs: {"x": {"unit": "s"}, "r": {"unit": "mV"}}}
    if path.suffix == ".h5":
        options["maxshape"] = (None,)
        lazyio.to_hdf5(data, path, "g", **options)
    else:
        lazyio.to_zarr(data, path, "g", **options)
    same(lazyio.open_ragged(path, "g/r")[:], model)
    same(lazyio.open_ragged(path, "g/s")[:], model)
    opened = h5py.File(path) if path.suffix == ".h5" else zarr.open_group(path, mode="r")
    assert dict(opened["g/r/values"].attrs) == {"unit": "mV"}
    assert dict(opened["g/x"].attrs) == {"unit": "s"}
    if path.suffix == ".h5":
        opened.close()
    data = {"x": np.arange(5), "r": ragged(model)}
    write(data, path, "g", append_dim={"x": 0, "r": 0})
    same(lazyio.open_ragged(path, "g/r")[:], model * 2)
    assert lazyio.open(path, "g/x").shape == (10,)


def test_the_codec_and_the_chunks_are_those_of_the_values(tmp_path) -> None:
    path = tmp_path / "x.h5"
    rows = ragged(some_rows())
    lazyio.to_hdf5(rows, path, "r", compression="zstd", shuffle=True, chunks=(16,), dtype="f8")
    with h5py.File(path) as file:
        assert (file["r/values"].chunks, file["r/values"].dtype) == ((16,), "f8")
        assert file["r/offsets"].chunks[0] > 16
        assert file["r/offsets"].shuffle
        assert file["r/offsets"].dtype == "i8"
    assert lazyio.open_ragged(path, "r").dtype == float


def test_open_groups(tmp_path) -> None:
    model = some_rows()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        lazyio.to_hdf5(ragged(model), file.create_group("g"), "r")
        lazyio.to_hdf5(ragged(model), file["g"], "r", append_dim=0)
        lazyio.to_hdf5(lazyio.Ragged.from_rows(iter(model)), file, "g/r", append_dim=0)
        same(lazyio.open_ragged(file, "g/r")[:], model * 3)
    group = zarr.open_group(tmp_path / "x.zarr")
    lazyio.to_zarr(ragged(model), group, "r")
    lazyio.to_zarr(ragged(model), group, "r", append_dim=0)
    same(lazyio.open_ragged(group, "r")[:], model * 2)


def test_stores_of_other_kinds(tmp_path) -> None:
    model = some_rows()
    for store in (zarr.storage.MemoryStore(), tmp_path / "x.zip"):
        lazyio.to_zarr(ragged(model), store, "r")
        same(lazyio.open_ragged(store, "r")[:], model)
    for at, options in enumerate(({"zarr_format": 2}, {"shards": (16,), "chunks": (8,)})):
        path = tmp_path / f"{at}.zarr"
        lazyio.to_zarr(ragged(model), path, "r", **options)
        lazyio.to_zarr(lazyio.Ragged.from_rows(iter(model)), path, "r", append_dim=0)
        same(lazyio.open_ragged(path, "r")[:], model * 2)


def test_later(path) -> None:
    model = some_rows()
    delayed = write(ragged(model), path, compute=False)
    assert not path.exists()
    dask.compute(delayed)
    later = write(ragged(model), path, append_dim=0, compute=False)
    other = write(ragged(model), path, append_dim=0, compute=False)
    dask.compute(later)
    same(lazyio.open_ragged(path, "r")[:], model * 2)
    with pytest.raises(TargetError, match="make the call again"):
        dask.compute(other)
    same(lazyio.open_ragged(path, "r")[:], model * 2)


def test_a_job_that_is_done_is_not_done_again(path) -> None:
    model = some_rows()
    rows = ragged(model)
    for _ in range(2):
        report = write(rows, path, resume=True)
    assert report.n_resumed == report.n_blocks > 0
    for _ in range(3):
        report = write(rows, path, append_dim=0, resume=True)
    assert report.n_resumed == report.n_blocks > 0
    same(lazyio.open_ragged(path, "r")[:], model * 2)
    other = ragged([row + 1 for row in model])
    write(other, path, append_dim=0, resume=True)
    same(lazyio.open_ragged(path, "r")[:], model * 2 + [row + 1 for row in model])


def test_rows_that_come_once_cannot_be_resumed(path) -> None:
    with pytest.raises(OptionError, match="one-pass"):
        write(lazyio.Ragged.from_rows(iter([[1]])), path, resume=True)


def test_a_failed_append_leaves_what_was_there(path) -> None:
    model = some_rows()
    write(ragged(model), path)

    def broken():
        yield from model
        msg = "no more"
        raise ValueError(msg)

    def misfit():
        yield from model
        yield np.zeros((2, 2), "i4")

    for rows, what in (
        (broken(), "row 50 did not come: ValueError: no more"),
        (misfit(), "row 50"),
    ):
        with pytest.raises(BlockError, match=what):
            write(lazyio.Ragged.from_rows(rows), path, append_dim=0)
        same(lazyio.open_ragged(path, "r")[:], model)
        assert lazyio.verify(path).status == "ok"


def test_an_index_that_falls_is_found_while_it_is_written(path) -> None:
    offsets = np.arange(100_001)
    offsets[70_000] = 3
    rows = lazyio.Ragged(np.zeros(100_000, "u1"), da.from_array(offsets, chunks=100_001))
    with pytest.raises(OptionError, match="row 69999 goes from element 69999 to 3"):
        write(rows, path)
    assert not path.exists()
    shapes = np.ones((100_000, 2), int)
    shapes[5] = 2
    shapes = da.from_array(shapes, chunks=-1)
    rows = lazyio.Ragged(np.zeros(100_000, "u1"), da.arange(100_001, chunks=-1), shapes)
    with pytest.raises(OptionError, match=r"row 5 has shape \(2, 2\) and 1 elements"):
        write(rows, path)


@pytest.mark.parametrize(
    ("rows", "options", "error", "what"),
    [
        (ragged([]), {"append_dim": 1}, OptionError, "give append_dim=0"),
        (ragged([]), {"region": slice(3)}, OptionError, "overwrite=True"),
        (ragged([]), {"append_dim": 0, "overwrite": True}, OptionError, "leave it out"),
        (
            lazyio.Ragged.from_rows([np.zeros((2, 2))]),
            {"append_dim": 0},
            OptionError,
            "rows of 2 axes, and those of 'r' have 1",
        ),
        (
            lazyio.Ragged.from_rows([[0.5]]),
            {"append_dim": 0},
            OptionError,
            "dtype is int32, which not every float64",
        ),
        (ragged([]), {}, TargetExistsError, "r/values|exists"),
    ],
)
def test_what_cannot_be_appended(path, rows, options, error, what) -> None:
    model = some_rows()
    write(ragged(model), path)
    with pytest.raises(error, match=what):
        write(rows, path, **options)
    same(lazyio.open_ragged(path, "r")[:], model)


def test_nothing_to_append_to(path) -> None:
    with pytest.raises(TargetError, match="leave append_dim out"):
        write(ragged([]), path, append_dim=0)
    write(np.arange(5), path, "r")
    with pytest.raises(TargetError, match="leave append_dim out"):
        write(ragged([]), path, append_dim=0)


def test_values_behind_the_last_row(path) -> None:
    write({"values": np.arange(9), "offsets": np.array([0, 4])}, path, "r")
    same(lazyio.open_ragged(path, "r")[:], [np.arange(4)])
    with pytest.raises(TargetError, match="has 9 values, and its last row ends at 4"):
        write(lazyio.Ragged([1], [0, 1]), path, append_dim=0)
    write(lazyio.open_ragged(path, "r"), path, "s")
    same(by_others(path, "s"), [np.arange(4)])


def test_rows_of_other_axes_take_the_place_of_those_with_shapes(path) -> None:
    """A group that has shapes keeps them, of one axis then, also when it grows."""
    write(lazyio.Ragged.from_rows(some_rows(n_axes=2)), path)
    model = some_rows(n_axes=1)
    write(lazyio.Ragged.from_rows(iter(model)), path, overwrite=True)
    same(lazyio.open_ragged(path, "r")[:], model)
    same(by_others(path, "r"), model)
    write(ragged(model), path, overwrite=True)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        write(ragged(model), path)
    write(ragged(model[:3]), path, append_dim=0)
    write(lazyio.Ragged.from_rows(iter(model[3:5])), path, append_dim=0)
    for item_shape in (None, ()):
        with lazyio.writer(path) as w:
            rows = w.create("r", dtype="i4", item_shape=item_shape, ragged=True)
            rows.append(model[5])
            rows.extend(model[6:8])
    found = lazyio.open_ragged(path, "r")
    assert (found.ndim, found.shapes.shape) == (1, (len(found), 1))
    same(found[:], [*model, *model[:8], *model[5:8]])
    assert lazyio.verify(path).status == "ok"
    model = some_rows(n_axes=3)
    write(lazyio.Ragged.from_rows(model), path, overwrite=True)
    same(lazyio.open_ragged(path, "r")[:], model)
    pairs = [np.ones((n, 2), "i4") for n in (2, 0, 1)]
    with pytest.raises(TargetExistsError, match="leave item_shape out"):
        write(lazyio.Ragged.from_rows(pairs, item_shape=2), path, overwrite=True)
    write(lazyio.Ragged.from_rows(pairs), path, overwrite=True)
    same(lazyio.open_ragged(path, "r")[:], pairs)


def test_rows_are_no_array(tmp_path) -> None:
    rows = ragged(some_rows())
    for use in (lazyio.plan, lazyio.open, lambda one: lazyio.concatenate([one, one])):
        with pytest.raises(SourceError, match=r"are no array.*rows\.values"):
            use(rows)
    with pytest.raises(OptionError, match=r"lazyio\.Ragged\.from_rows"):
        lazyio.to_hdf5([[1], [2, 3]], tmp_path / "x.h5")


def test_keys_that_clash(path) -> None:
    rows = ragged(some_rows())
    for data in ({"a": rows, "a/values": np.arange(3)}, {"a": rows, "a/": rows}):
        with pytest.raises(OptionError, match="two arrays have the key 'a/values'"):
            write(data, path, None if path.suffix == ".zarr" else "/data")
    assert not path.exists()


def test_values_in_one_run(tmp_path) -> None:
    model = some_rows()
    lazyio.to_hdf5(ragged(model), tmp_path / "x.h5", "r", chunks=None)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["r/values"].chunks is None
    same(lazyio.open_ragged(tmp_path / "x.h5", "r")[:], model)


def test_a_dataset_is_no_place_for_rows(tmp_path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", (3,), "i4")
        with pytest.raises(OptionError, match="give the file or a group"):
            lazyio.to_hdf5(ragged([]), dataset)
    array = zarr.create_array(tmp_path / "x.zarr", shape=(3,), dtype="i4")
    with pytest.raises(OptionError, match="give the store or a group"):
        lazyio.to_zarr(ragged([]), array)


def test_the_store_itself_is_the_group(tmp_path) -> None:
    model = some_rows()
    lazyio.to_zarr(ragged(model), tmp_path / "x.zarr")
    found = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert sorted(found) == ["offsets", "values"]
    lazyio.to_hdf5(ragged(model), tmp_path / "x.h5")
    same(lazyio.open_ragged(tmp_path / "x.h5", "data")[:], model)


def test_a_damaged_index_is_told(tmp_path) -> None:
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(ragged(some_rows()), path, "r", digests=False)
    with h5py.File(path, "a") as file:
        file["r/offsets"][20] = 10**9
    rows = lazyio.open_ragged(path, "r")
    with pytest.raises(DamagedDataError, match=r"x.h5: 'r/offsets' .*row 19 goes from"):
        rows[19]
    with h5py.File(path, "a") as file:
        file["r/offsets"][-1] = 10**9
    with pytest.raises(DamagedDataError, match="row 49 goes from"):
        lazyio.open_ragged(path, "r")


def test_a_file_that_changes_is_told(path) -> None:
    write(ragged(some_rows()), path)
    rows = lazyio.open_ragged(path, "r")
    rows[0]
    write(ragged(some_rows(seed=1)), path, overwrite=True)
    with pytest.raises(OSError, match=r"changed|removed|again"):
        rows[:]


KILLED = """
import os, sys, time
import numpy as np, lazyio

class Slow:
    shape, dtype, chunk_shape = (40_000,), np.dtype("i4"), None
    def __dask_tokenize__(self):
        return "slow"
    def read(self, region):
        with open(sys.argv[2], "a") as file:
            file.write(f"{region[0].start}\\n")
        if region[0].start >= 20_000 and sys.argv[3] == "kill":
            os._exit(9)
        return np.arange(region[0].start, region[0].stop, dtype="i4")

path = sys.argv[1]
to = lazyio.to_hdf5 if path.endswith("h5") else lazyio.to_zarr
rows = lazyio.Ragged(lazyio.from_source(Slow()), np.arange(0, 40_001, 40))
options = {} if sys.argv[4] == "new" else {"append_dim": 0}
if sys.argv[4] == "new":
    options["chunks"] = (1000,)
report = to(rows, path, "r", resume=True, workers=1, memory_limit="80 kB", **options)
print(report.n_resumed, report.n_blocks)
"""


@pytest.mark.parametrize(("way", "log"), [("new", False), ("append", False), ("append", True)])
def test_a_killed_write_is_resumed(path, tmp_path, warm, way, log) -> None:
    """The old rows are there until all new ones are, and what was done is not done again."""
    if way == "append":
        first = lazyio.Ragged(np.arange(2000, dtype="i4"), [0, 500, 2000])
        write(first, path, chunks=(1000,))
    script = KILLED
    if log:
        script = (
            "from lazyio.atomic import workdir\n"
            "from lazyio.storage.hdf5 import file as hdf5_file\n"
            "workdir.COPIED_NBYTES = hdf5_file.COPIED_NBYTES = 0\n"
            "hdf5_file._cloned = lambda *_: False\n" + KILLED
        )
    asked = tmp_path / "asked"
    done = warm.run(script, path, asked, "kill", way)
    assert done.returncode == 9
    n_read = len(asked.read_text().splitlines())
    if way == "append":
        same(lazyio.open_ragged(path, "r")[:], first[:])
    else:
        assert not path.exists() or path.suffix == ".zarr"
    done = warm.run(script, path, asked, "go", way)
    assert done.returncode == 0, done.stderr
    n_resumed, n_blocks = map(int, done.stdout.split())
    assert 0 < n_resumed < n_blocks
    rows = lazyio.open_ragged(path, "r")
    assert len(rows) == 1000 + 2 * (way == "append")
    new = rows[-1000:]
    np.testing.assert_array_equal(np.concatenate(new), np.arange(40_000))
    assert lazyio.verify(path).status == "ok"
    assert n_read > 0


def killed_append(path, rows, last):
    """Append in a child that ends after so many calls that change files; return whether it did."""
    return killed(last, lambda: write(rows, path, append_dim=0, scheduler="synchronous"))


@pytest.mark.parametrize("way", ["copy", "log", "zarr"])
def test_rows_are_all_old_or_all_new(tmp_path, way, monkeypatch) -> None:
    """At whatever step an append is killed; and meanwhile no offset lies beyond the values."""
    if way == "log":
        monkeypatch.setattr(hdf5_file, "COPIED_NBYTES", 0)
        monkeypatch.setattr(hdf5_file, "_cloned", lambda *_: False)
    monkeypatch.setattr("lazyio.verification.verify.is_available", lambda: False)
    old, new = some_rows(7, n_axes=2), some_rows(5, n_axes=2, seed=1)
    first = tmp_path / ("first.zarr" if way == "zarr" else "first.h5")
    write(lazyio.Ragged.from_rows(old), first)
    seen = set()
    for last in range(0, 400, 4):
        path = tmp_path / f"{last}{first.suffix}"
        (shutil.copytree if way == "zarr" else shutil.copy)(first, path)
        is_killed = killed_append(path, ragged(new, shapes=True), last)
        if way == "zarr":
            folders = [path / "r" / name for name in ("values", "shapes", "offsets")]
            found = {
                folder.name: zarr.open_array(folder, mode="r")
                for folder in folders
                if (folder / "zarr.json").exists()
            }
            # For a moment an array may be gone; that no reader takes for another.
            if len(found) == 3:
                assert found["offsets"][-1] <= found["values"].shape[0]
                assert found["offsets"].shape[0] <= found["shapes"].shape[0] + 1
        lazyio.recover(path)
        found = lazyio.open_ragged(path, "r")
        is_new = len(found) == len(old) + len(new)
        same(found[:], old + new if is_new else old)
        assert lazyio.verify(path).status in ("ok", "incomplete")
        seen.add(is_new)
        if not is_killed:
            break
    assert seen == {False, True}


MEASURE = """
import json, sys
import dask, numpy as np, lazyio
dask.config.set(num_workers=2)
path, way, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
to = lazyio.to_hdf5 if path.endswith("h5") else lazyio.to_zarr

class Count:
    # Offsets or values of any number of rows, which lie nowhere.
    chunk_shape = None
    def __init__(self, shape, step, dtype):
        self.shape, self.step, self.dtype = shape, step, np.dtype(dtype)
    def __dask_tokenize__(self):
        return "count", self.shape, self.step
    def read(self, region):
        # At once: what else a source holds while it reads would be its own.
        first, last = region[0].start * self.step, region[0].stop * self.step
        return np.arange(first, last, self.step, dtype=self.dtype)

def rows(n, length):
    if way == "arrays":
        return lazyio.Ragged(Count((n * length,), 1, "i8"), Count((n + 1,), length, "i8"))
    if way == "short":
        return lazyio.Ragged.from_rows(np.zeros(length, "i8") for _ in range(n))
    return lazyio.Ragged.from_rows(
        np.zeros((at % 3 + 1, length), "i8") for at in range(n // 2))

def write(n, length, **options):
    to(rows(n, length), path, "r", memory_limit=limit, workers=2, **options)

chunks = {"chunk_nbytes": "1 MiB"}

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

n, length = {"arrays": (4_000_000, 3), "short": (400_000, 30), "long": (160, 40_000)}[way]
write(n // 50, length, **chunks)
write(n // 50, length, append_dim=0)
open("/proc/self/clear_refs", "w").write("5")
before = resident()
write(n, length, append_dim=0)
grown = resident() - before
open("/proc/self/clear_refs", "w").write("5")
before, total = resident(), 0
for row in lazyio.open_ragged(path, "r") if way != "arrays" else ():
    total += row.size
print(json.dumps([grown, resident() - before, total]))
"""


@pytest.mark.parametrize("way", ["arrays", "short", "long"])
def test_memory(path, warm, way) -> None:
    """Many rows and long rows, with an index of more than the limit, stay within it."""
    # The index of the arrays alone takes 32 MB.
    limit = 2**20 * (24 if way == "arrays" else 48)
    done = warm.run(MEASURE, path, way, limit)
    assert done.returncode == 0, done.stderr
    grown, read, total = json.loads(done.stdout)
    assert grown <= limit, grown / 2**20
    assert read <= 40 * 2**20, read / 2**20
    assert total or way == "arrays"
