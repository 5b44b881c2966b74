"""Rows that a writer appends: whole or not at all, whenever it is flushed or killed."""

import re
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_lists import ragged, same

import lazyio
from lazyio.errors import BlockError, OptionError, PlanError, TargetError


@pytest.fixture(params=["h5", "zarr"])
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def some_rows(n_rows=40, *, n_axes=1, seed=0):
    random = np.random.default_rng(seed)
    return [
        random.integers(0, 99, random.integers(0, 5, n_axes)).astype("i4") for _ in range(n_rows)
    ]


@settings(max_examples=25)
@given(
    batches=st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=6),
    ways=st.lists(st.sampled_from(["append", "extend", "ragged", "flush", "again"]), min_size=6),
    suffix=st.sampled_from(["h5", "zarr"]),
)
def test_what_was_appended_is_what_is_read(tmp_path_factory, batches, ways, suffix) -> None:
    path = tmp_path_factory.mktemp("rows") / f"x.{suffix}"
    model, w = [], lazyio.writer(path)
    try:
        rows = w.create("g/r", dtype="i4", ragged=True, chunks=4)
        times = w.create("times", dtype="f8", item_shape=())
        for lengths, way in zip(batches, ways, strict=False):
            more = [np.arange(n, dtype="i4") + len(model) for n in lengths]
            if way == "extend":
                rows.extend(iter(more))
            elif way == "ragged":
                rows.extend(ragged(more))
            else:
                for row in more:
                    rows.append(row)
            times.append(np.zeros(len(more)))
            model += more
            assert len(rows) == len(model)
            if way == "flush":
                w.flush()
                same(lazyio.open_ragged(path, "g/r")[:], model)
            if way == "again":
                w.close()
                w = lazyio.writer(path)
                rows = w.create("g/r", ragged=True)
                times = w.create("times")
    finally:
        w.close()
    same(lazyio.open_ragged(path, "g/r")[:], model)
    assert lazyio.open(path, "times").shape == (len(model),)


def test_rows_of_other_kinds(path) -> None:
    squares = some_rows(n_axes=2)
    texts = [["a" * n] * (n % 3) for n in range(10)]
    vectors = [np.ones((n, 3), "f4") for n in (2, 0, 4)]
    for _ in range(2):
        with lazyio.writer(path) as w:
            s = w.create("s", dtype="i4", item_shape=(None, None), ragged=True)
            t = w.create("t", dtype=str, ragged=True)
            v = w.create("v", dtype="f4", item_shape=(3,), ragged=True, compression="gzip")
            for one, rows in ((s, squares), (t, texts), (v, vectors)):
                one.extend(rows)
    same(lazyio.open_ragged(path, "s")[:], squares * 2)
    same(lazyio.open_ragged(path, "v")[:], vectors * 2)
    assert [row.tolist() for row in lazyio.open_ragged(path, "t")] == texts * 2
    assert lazyio.verify(path).status == "ok"
    write = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    write(lazyio.Ragged.from_rows(squares), path, "s", append_dim=0)
    same(lazyio.open_ragged(path, "s")[:], squares * 3)


def test_rows_that_to_hdf5_or_to_zarr_wrote(path) -> None:
    model = some_rows(n_axes=2)
    write = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    write(lazyio.Ragged.from_rows(model), path, "r")
    with lazyio.writer(path) as w:
        w.create("r", ragged=True).extend(model)
    same(lazyio.open_ragged(path, "r")[:], model * 2)
    assert lazyio.verify(path).status == "ok"


def test_a_new_kind_of_rows_is_refused(path) -> None:
    with lazyio.writer(path) as w:
        w.create("r", dtype="i4", ragged=True).append([1])
    for options, what in (
        ({"item_shape": (None, None)}, "have no shapes; leave it out"),
        ({"item_shape": (2,)}, r"have shape \(\), not \(2,\)"),
        ({"dtype": "u1"}, "its dtype is int32, not uint8"),
        ({"item_shape": (None, 2)}, "None for every axis"),
        ({"axis": 1}, "lie along the first axis"),
        ({"ragged": 5}, "ragged=5; give True or False"),
    ):
        with lazyio.writer(path) as w, pytest.raises(OptionError, match=what):
            w.create("r", **{"ragged": True, **options})
    with lazyio.writer(path) as w:
        w.create("r", ragged=True).append([2])
        with pytest.raises(OptionError, match="was created by this writer before"):
            w.create("r", ragged=True)
        with pytest.raises(OptionError, match="give dtype="):
            w.create("s", ragged=True)
        w.create("s", dtype="i4", ragged=True)
    assert [row.tolist() for row in lazyio.open_ragged(path, "r")] == [[1], [2]]


def test_a_row_that_does_not_fit_is_not_appended(path) -> None:
    with lazyio.writer(path) as w:
        rows = w.create("r", dtype="i4", ragged=True)
        rows.append([1, 2])
        for row, what in (
            ([[1]], r"has shape \(1, 1\)"),
            (["a"], "cannot hold"),
            (None, "no data"),
        ):
            with pytest.raises(BlockError, match=what):
                rows.append(row)
        with pytest.raises(BlockError, match=r"row 1 for .*cannot hold"):
            rows.extend([[3], [0.5]])
    assert lazyio.open_ragged(path, "r")[0].tolist() == [1, 2]


def test_what_has_no_room_leaves_nothing(path) -> None:
    with lazyio.writer(path, memory_limit="1 MB") as w:
        with pytest.raises(PlanError, match="too small"):
            w.create("r", dtype="i8", ragged=True, chunks=50_000)
        rows = w.create("r", dtype="i8", ragged=True, chunks=500)
        rows.append([5])
    assert lazyio.open_ragged(path, "r")[0].tolist() == [5]


def test_dropped_rows(path) -> None:
    model = some_rows()
    with lazyio.writer(path) as w:
        w.create("r", dtype="i4", ragged=True).extend(model)
    with pytest.raises(KeyError), lazyio.writer(path, on_error="drop") as w:  # noqa: PT012
        w.create("r", ragged=True).extend(model)
        w.flush()
        raise KeyError
    same(lazyio.open_ragged(path, "r")[:], model)


def test_several_threads(path) -> None:
    """Each row is whole, whoever appends it, and whenever it is flushed."""
    with lazyio.writer(path) as w:
        rows = w.create("r", dtype="i4", ragged=True, chunks=50)

        def push(number):
            for n in range(150):
                rows.append(np.full(n % 7, number, "i4"))

        threads = [threading.Thread(target=push, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            w.flush()
            found = lazyio.open_ragged(path, "r")
            assert len(found.values) == found.offsets[-1].compute()
        for thread in threads:
            thread.join()
    found = lazyio.open_ragged(path, "r")
    assert len(found) == 600
    assert all(len(set(row.tolist())) <= 1 for row in found)


PUSH = """
import sys, numpy as np, lazyio
from lazyio.appending import writer as flusher

flusher.INTERVAL = 0.02
with lazyio.writer(sys.argv[1], swmr=sys.argv[2] == "1") as w:
    rows = w.create("r", dtype="i8", ragged=True, chunks=64)
    w.flush()
    print("begun", flush=True)
    at = len(rows)
    while True:
        rows.append(np.full(at % 13, at))
        at += 1
        if at % 50 == 0:
            w.flush()
            print("flushed", at, flush=True)
"""


@pytest.mark.parametrize(("suffix", "swmr"), [("h5", 0), ("h5", 1), ("zarr", 0)])
def test_killed_writers(tmp_path, warm, suffix, swmr) -> None:
    """No reader ever sees an offset beyond the values; and a writer goes on behind the last row."""
    path, n_told = tmp_path / f"x.{suffix}", 0
    for at in range(4):
        child = warm.start(PUSH, path, swmr)
        assert child.stdout.readline().startswith("begun")
        time.sleep(0.15 + at / 20)
        child.send_signal(signal.SIGKILL)
        told = re.findall(r"flushed (\d+)\n", child.stdout.read())
        child.stdout.close()
        child.wait()
        lazyio.recover(path)
        n_told = max([n_told, *map(int, told)])
        rows = lazyio.open_ragged(path, "r")
        assert len(rows) >= n_told
        for number, row in enumerate(rows):
            assert row.tolist() == [number] * (number % 13)
    assert n_told > 0


def test_values_of_a_row_that_was_cut_off(path) -> None:
    """Values without a row, as a kill between two arrays may leave them, are written over."""
    write = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    options = {"maxshape": (None,)} if path.suffix == ".h5" else {}
    write({"values": np.arange(20), "offsets": np.array([0, 4, 7])}, path, "r", chunks=5, **options)
    model = [np.arange(4), np.arange(4, 7)]
    for _ in range(3):
        with lazyio.writer(path) as w:
            w.create("r", ragged=True).append([1, 2])
        model.append(np.array([1, 2]))
        same(lazyio.open_ragged(path, "r")[:], model)
    with lazyio.writer(path) as w:
        w.create("r", ragged=True).append(np.arange(50))
    same(lazyio.open_ragged(path, "r")[:], [*model, np.arange(50)])


def test_offsets_beyond_the_values(path) -> None:
    write = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    options = {"maxshape": (None,)} if path.suffix == ".h5" else {}
    write({"values": np.arange(2), "offsets": np.array([0, 4])}, path, "r", chunks=5, **options)
    with lazyio.writer(path) as w, pytest.raises(TargetError, match="it is damaged"):
        w.create("r", ragged=True)
