"""A window gives what numpy gives, whatever it reads and in whatever order it is asked."""

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio

Array = npt.NDArray[Any]

SHAPES = [(300, 40), (1000,), (30, 17, 11), (64, 64), (3, 500), (0, 5), (5, 0)]


def elements(shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape))
    return np.arange(count, dtype="int32").reshape(shape)


def gzip(path: Path, array: Array) -> Any:
    chunks = tuple(min(extent, 64) for extent in array.shape) if array.size else None
    with h5py.File(path / "gzip.h5", "w") as file:
        coded = {"compression": "gzip", "shuffle": True} if array.size else {}
        file.create_dataset("x", data=array, chunks=chunks, **coded)
    return path / "gzip.h5"


def tiny_chunks(path: Path, array: Array) -> Any:
    with h5py.File(path / "tiny.h5", "w") as file:
        chunks = tuple(max(1, n // 7) for n in array.shape) if array.size else None
        file.create_dataset("x", data=array, chunks=chunks)
    return path / "tiny.h5"


def plain_chunks(path: Path, array: Array) -> Any:
    """Make chunks of whole rows without a filter, of which those of zeros are not stored."""
    array[len(array) // 3 : len(array) // 2] = 0
    n_rows = max(1, len(array) // 9)
    with h5py.File(path / "plain.h5", "w") as file:
        chunks = (n_rows, *array.shape[1:]) if array.size else None
        made = file.create_dataset("x", array.shape, array.dtype, chunks=chunks)
        for at in range(0, len(array), n_rows):
            if array[at : at + n_rows].any():
                made[at : at + n_rows] = array[at : at + n_rows]
    return path / "plain.h5"


def contiguous(path: Path, array: Array) -> Any:
    with h5py.File(path / "contiguous.h5", "w") as file:
        file["x"] = array
    return path / "contiguous.h5"


def npy(path: Path, array: Array) -> Any:
    np.save(path / "x.npy", array)
    return path / "x.npy"


def fortran(path: Path, array: Array) -> Any:
    np.save(path / "f.npy", np.asfortranarray(array))
    return path / "f.npy"


def big_endian(path: Path, array: Array) -> Any:
    np.save(path / "b.npy", array.astype(">i4"))
    return path / "b.npy"


def zarr_array(path: Path, array: Array) -> Any:
    chunks = tuple(max(1, n // 5) for n in array.shape)
    zarr.create_array(path / "x.zarr", data=array, chunks=chunks, overwrite=True)
    return path / "x.zarr"


def computed(_: Path, array: Array) -> Any:
    chunks = tuple((n // 3, n - n // 3) if n else (0,) for n in array.shape)
    return da.from_array(array, chunks=chunks) + 0


def opened(path: Path, array: Array) -> Any:
    return lazyio.open(gzip(path, array))


def in_memory(_: Path, array: Array) -> Any:
    return array


def function(_: Path, array: Array) -> Any:
    return lazyio.from_function(lambda region: array[region], array.shape, array.dtype)


def halves(path: Path, array: Array) -> Any:
    middle = len(array) // 2
    return lazyio.concatenate([npy(path, array[:middle]), array[middle:]])


MAKERS: list[Callable[[Path, Array], Any]] = [
    gzip,
    tiny_chunks,
    plain_chunks,
    contiguous,
    npy,
    fortran,
    big_endian,
    zarr_array,
    computed,
    opened,
    in_memory,
    function,
    halves,
]


def sparse_gzip(path: Path, array: Array) -> Any:
    """Make compressed chunks, of which some are not stored."""
    array[len(array) // 3 : len(array) // 2] = 0
    n_rows = max(1, len(array) // 9)
    with h5py.File(path / "sparse.h5", "w") as file:
        chunks = tuple(max(1, n // 9) for n in array.shape) if array.size else None
        coded = {"compression": "gzip", "fletcher32": True} if array.size else {}
        made = file.create_dataset("x", array.shape, array.dtype, chunks=chunks, **coded)
        for at in range(0, len(array), n_rows):
            if array[at : at + n_rows].any():
                made[at : at + n_rows] = array[at : at + n_rows]
    return path / "sparse.h5"


@st.composite
def parts(draw: Any, extent: int, *, with_list: bool) -> Any:
    bound = st.none() | st.integers(-extent - 3, extent + 3)
    step = st.sampled_from([None, 1, 1, 2, 3, 7, -1, -2, -5, 40])
    kinds = [st.builds(slice, bound, bound, step)]
    if extent:
        kinds.append(st.integers(-extent, extent - 1))
    if with_list and extent:
        position = st.integers(-extent, extent - 1)
        listed = st.lists(position, max_size=30)
        kinds += [listed, listed.map(lambda one: np.array(one, np.int64))]
        kinds.append(st.lists(st.booleans(), min_size=extent, max_size=extent).map(np.array))
        kinds.append(
            st.lists(position, min_size=6, max_size=6).map(lambda a: np.reshape(a, (2, 3)))
        )
    return draw(st.one_of(kinds))


@st.composite
def keys(draw: Any, shape: tuple[int, ...]) -> Any:
    listed = draw(st.integers(0, 2 * len(shape)))
    count = draw(st.integers(0, len(shape)))
    found = [draw(parts(n, with_list=at == listed)) for at, n in enumerate(shape[:count])]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(found)))
        back = shape[len(shape) - (len(found) - at) :] if at < len(found) else ()
        tail = [draw(parts(n, with_list=False)) for n in back]
        found = [*found[:at], ..., *tail]
    return found[0] if len(found) == 1 and draw(st.booleans()) else tuple(found)


@st.composite
def walks(draw: Any, shape: tuple[int, ...]) -> list[Any]:
    """Draw reads as a training loop makes them: batches forward, backward, in steps."""
    length = shape[0]
    size = draw(st.integers(1, max(1, length // 3)))
    step = draw(st.sampled_from([size, -size, 2 * size, size + 1, 1]))
    start = draw(st.integers(0, max(0, length - 1)))
    return [slice(at, at + size) for at in (start + step * n for n in range(8)) if at >= 0]


def same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    assert found.shape == wanted.shape
    assert np.array_equal(found, wanted)


@cache
def kept(
    folder: Path, make: Callable[[Path, Array], Any], shape: tuple[int, ...]
) -> tuple[Any, Array]:
    place = folder / f"{make.__name__}-{'-'.join(map(str, shape))}"
    place.mkdir()
    array = elements(shape)
    return make(place, array), array


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("windows")


def check(make: Callable[[Path, Array], Any], folder: Path, data: st.DataObject) -> None:
    """Read anything in any order, and compare it with what numpy gives."""
    shape = data.draw(st.sampled_from(SHAPES))
    given_array, wanted = kept(folder, make, shape)
    limit = data.draw(st.sampled_from(["200 kB", "1 MiB", "256 MiB"]))
    several = st.lists(keys(shape), min_size=1, max_size=8)
    asked = data.draw(several) + data.draw(walks(shape)) + data.draw(several)
    with lazyio.window(given_array, memory_limit=limit, prefetch=data.draw(st.booleans())) as view:
        assert (view.shape, view.ndim, view.size, len(view)) == (
            wanted.shape,
            wanted.ndim,
            wanted.size,
            len(wanted),
        )
        for key in asked:
            found, expected = view[key], wanted[key]
            if isinstance(expected, np.ndarray):
                assert found.flags.writeable
                assert found.flags.owndata or found.base is not None
                same(found, expected.astype(view.dtype))
                found[...] = -1  # Writing into a result changes nothing that is read later.
            else:
                assert found == expected
                assert np.ndim(found) == 0
        assert view.hits + view.misses == len(asked)
        low = [part.start for part in view.limits]
        high = [part.stop for part in view.limits]
        assert all(0 <= a <= b <= n for a, b, n in zip(low, high, shape, strict=True))


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_gives_what_numpy_gives(
    make: Callable[[Path, Array], Any], folder: Path, data: st.DataObject
) -> None:
    check(make, folder, data)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_gives_what_numpy_gives_of_chunks_too_many_to_list(
    folder: Path, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lazyio.sources.hdf5._MANY_CHUNKS", 0)
        patch.setattr("lazyio.sources.hdf5._SMALL_NBYTES", 0)
        check(sparse_gzip, folder, data)


@pytest.mark.parametrize("dtype", ["float64", "bool", "complex64", "S5", "M8[s]", "i2,f4"])
def test_keeps_the_type_of_elements(tmp_path: Path, dtype: str) -> None:
    array = np.zeros((50, 3), dtype)
    array[::2] = np.ones((), dtype)
    np.save(tmp_path / "x.npy", array)
    with lazyio.window(tmp_path / "x.npy") as view:
        for key in (slice(3, 9), 4, [1, 5, 2], (slice(None, None, -3), 1), (7, 2)):
            assert view[key].dtype == array[key].dtype
            assert np.all(view[key] == array[key])


def test_reads_text_of_any_length(tmp_path: Path) -> None:
    words = np.array([f"word {n}" * (n % 5) for n in range(200)], np.dtypes.StringDType())
    lazyio.to_hdf5(words, tmp_path / "text.h5", "x", chunks=(16,))
    with lazyio.window(tmp_path / "text.h5") as view:
        assert (view[3:150:7] == words[3:150:7]).all()
        assert view[[4, 180, 4]].tolist() == words[[4, 180, 4]].tolist()
        assert view[199] == words[199]


def test_reads_one_element_without_axes() -> None:
    view = lazyio.window(np.array(7))
    assert view[()] == 7
    assert view[...].shape == ()
    with pytest.raises(TypeError, match="has no length"):
        len(view)


def test_travels_as_its_paths(tmp_path: Path) -> None:
    array = elements((300, 40))
    view = lazyio.window(gzip(tmp_path, array), memory_limit="1 MiB")
    assert (view[5:20] == array[5:20]).all()
    sent = pickle.dumps(view)
    assert len(sent) < 2000
    with pickle.loads(sent) as copy:
        assert (copy.hits, copy.misses, copy.nbytes_read) == (0, 0, 0)
        assert (copy[250:] == array[250:]).all()


def test_is_an_array_to_numpy_and_an_iterable_of_rows(tmp_path: Path) -> None:
    array = elements((30, 4))
    with lazyio.window(npy(tmp_path, array)) as view:
        assert np.array_equal(np.asarray(view), array)
        assert np.asarray(view, "float32").dtype == "float32"
        assert [row.tolist() for row in view] == array.tolist()
        assert np.array_equal(da.from_array(view, chunks=(7, 2)).compute(), array)
        with pytest.raises(ValueError, match=r"numpy\.asarray\(window\) makes a copy"):
            np.array(view, copy=False)
