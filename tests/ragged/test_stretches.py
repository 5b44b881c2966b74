"""Elements of rows in files: read where they lie, or decoded and kept, against a list of arrays."""

import itertools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from row_lists import ends, same

import lazyio
from lazyio.errors import SourceChangedError, TruncatedSourceError
from lazyio.ragged import rows as rows_module
from lazyio.ragged import runs as runs_module
from lazyio.ragged import stretches as stretches_module

KINDS = ["plain", "gzip", "contiguous", "zarr"]


def stored(folder, model, kind, chunk):
    """Write rows in one of several ways; return them opened."""
    values = np.concatenate([np.empty(0, "i4"), *model]).astype("i4")
    if kind == "zarr":
        group = zarr.open_group(folder / "x.zarr").create_group("r")
        group.create_array("values", data=values, chunks=(chunk,))
        group.create_array("offsets", data=ends(model))
        return lazyio.open_ragged(folder / "x.zarr", "r")
    with h5py.File(folder / "x.h5", "w") as file:
        options = {} if kind == "contiguous" else {"chunks": (chunk,), "maxshape": (None,)}
        if kind == "gzip":
            options["compression"] = "gzip"
        file.create_dataset("r/values", data=values, **options)
        file["r/offsets"] = ends(model)
    return lazyio.open_ragged(folder / "x.h5", "r")


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    kind=st.sampled_from(KINDS),
    chunk=st.integers(1, 25),
    sizes=st.tuples(st.sampled_from([16, 64, 4096]), st.sampled_from([16, 200, 2**24])),
    data=st.data(),
)
def test_any_reads_one_after_the_other(tmp_path_factory, lengths, kind, chunk, sizes, data) -> None:
    """Whatever was read before, and is kept of that."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    model = [np.arange(a, b, dtype="i4") for a, b in itertools.pairwise(starts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "RUN_NBYTES", sizes[0])
        patch.setattr(runs_module, "GAP_NBYTES", data.draw(st.sampled_from([0, 40])))
        patch.setattr(stretches_module, "_RECENT_NBYTES", sizes[1])
        patch.setattr(stretches_module, "_PIECE_NBYTES", 32)
        patch.setattr(rows_module, "_THREAD_NBYTES", 64)
        rows = stored(tmp_path_factory.mktemp("rows"), model, kind, chunk)
        number = st.integers(-len(model), len(model) - 1)
        for _ in range(4):
            key = data.draw(number | st.lists(number, max_size=8) | st.builds(slice, number))
            found = rows[key]
            if isinstance(key, int):
                found, wanted = [found], [model[key]]
            else:
                wanted = model[key] if isinstance(key, slice) else [model[at] for at in key]
            same(found, wanted)
            for row in found:
                row[...] = -1  # Which is to change nothing else.


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_chunks_that_are_not_stored(tmp_path, kind) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        options = {"compression": "gzip"} if kind == "gzip" else {}
        made = file.create_dataset("r/values", (50,), "i4", chunks=(10,), fillvalue=7, **options)
        made[20:30] = np.arange(10)
        file["r/offsets"] = [0, 5, 25, 50]
    rows = lazyio.open_ragged(tmp_path / "x.h5", "r")
    whole = np.full(50, 7, "i4")
    whole[20:30] = np.arange(10)
    wanted = [whole[:5], whole[5:25], whole[25:]]
    same(rows[:], wanted)
    same([rows[2], rows[0], rows[1]], [wanted[2], wanted[0], wanted[1]])


@pytest.mark.parametrize("kind", ["plain", "gzip", "contiguous"])
def test_rows_that_are_kept_are_of_the_one_state(tmp_path, kind) -> None:
    model = [np.arange(n, dtype="i4") for n in range(20)]
    rows = stored(tmp_path, model, kind, 16)
    same([rows[7], rows[[6, 5]][1]], [model[7], model[5]])
    os.utime(tmp_path / "x.h5", ns=(1, 1))
    for read in (lambda: rows[7], lambda: rows[[6, 5]], lambda: rows[:]):
        with pytest.raises(SourceChangedError, match="open it again"):
            read()


def test_a_file_that_was_cut_short(tmp_path) -> None:
    """Also where its size and time say that it was not."""
    model = [np.arange(1000, dtype="i4")] * 20
    rows = stored(tmp_path, model, "plain", 500)
    facts = os.stat(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        dataset = file["r/values"].id
        places = [dataset.get_chunk_info(at).byte_offset for at in range(40)]
    last = max(places)
    os.truncate(tmp_path / "x.h5", last)
    os.utime(tmp_path / "x.h5", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises((SourceChangedError, TruncatedSourceError), match=r"x\.h5"):
        rows[:]


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_threads_and_other_processes(tmp_path, kind) -> None:
    model = [np.arange(n % 50, dtype="i4") for n in range(2000)]
    rows = stored(tmp_path, model, kind, 128)
    rows[3]
    again = pickle.loads(pickle.dumps(rows))
    numbers = np.random.default_rng(0).integers(0, 2000, 400).tolist()
    with ThreadPoolExecutor(4) as pool:
        for opened in (rows, again):
            found = list(pool.map(opened.__getitem__, numbers))
            same(found, [model[at] for at in numbers])
            several = list(pool.map(lambda at: rows[[at, 5, at]], numbers[:40]))
            same([one[0] for one in several], [model[at] for at in numbers[:40]])
