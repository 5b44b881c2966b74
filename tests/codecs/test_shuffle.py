"""Byte planes, against numcodecs and against plain numpy."""

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.codecs.shuffle import room_for_planes, shuffle, unshuffle
from lazyio.codecs.workspace import Workspace

DTYPES = [
    "u1",
    "i2",
    ">u2",
    "S3",
    "f4",
    ">i4",
    "V4",
    "S5",
    "S7",
    "f8",
    ">f8",
    "M8[us]",
    "c16",
    "S17",
    "S255",
    "S256",
]


def noise(shape, dtype, seed=0):
    """Return random bytes as an array."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    return rng.integers(0, 256, nbytes, np.uint8).view(dtype).reshape(shape)


def planes_of(chunk):
    """Return the planes that numcodecs makes of a chunk."""
    packed = np.frombuffer(chunk.tobytes(), np.uint8)
    return np.frombuffer(numcodecs.Shuffle(chunk.dtype.itemsize).encode(packed), np.uint8)


VIEWS = {
    "packed": lambda a: a,
    "rows-cut": lambda a: a[2:7],
    "columns-cut": lambda a: a[:, 3:9],
    "box": lambda a: a[1:8, 2:11, 1:],
    "steps": lambda a: a[::2, ::3],
    "last-axis-steps": lambda a: a[..., ::2],
    "backwards": lambda a: a[::-1],
    "last-axis-backwards": lambda a: a[..., ::-1],
    "transposed": lambda a: a.T,
    "swapped": lambda a: a.transpose(1, 0, 2),
    "one": lambda a: a[3, 4, 1],
    "broadcast": lambda a: np.broadcast_to(a[0, 0], (4, 5, 3)),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shuffle_is_numcodecs(dtype, view):
    """Chunks of any item size, byte order and strides give numcodecs' planes."""
    chunk = np.asarray(view(noise((10, 12, 3), dtype)))
    np.testing.assert_array_equal(shuffle(chunk, Workspace()), planes_of(chunk))


@pytest.mark.parametrize("dtype", DTYPES)
def test_unshuffle_is_numcodecs(dtype):
    """Planes that numcodecs made come back as the elements."""
    chunk = noise((10, 12, 3), dtype)
    out = np.empty(chunk.nbytes, np.uint8)
    unshuffle(planes_of(chunk), chunk.dtype.itemsize, out, Workspace())
    np.testing.assert_array_equal(out, chunk.reshape(-1).view(np.uint8))


@pytest.mark.parametrize("dtype", DTYPES)
def test_unshuffle_without_blosc(dtype, monkeypatch):
    """Plain numpy gives the same elements."""
    monkeypatch.setattr("lazyio.codecs.shuffle.optional", lambda _: None)
    chunk = noise((10, 12, 3), dtype)
    out = np.empty(chunk.nbytes, np.uint8)
    unshuffle(planes_of(chunk), chunk.dtype.itemsize, out, Workspace())
    np.testing.assert_array_equal(out, chunk.reshape(-1).view(np.uint8))


def test_planes_that_lie_where_they_are_best():
    """Planes decoded into the room for them are undone where they are, without a copy."""
    chunk, workspace = noise((100, 9), "f8"), Workspace()
    room = room_for_planes(chunk.nbytes, workspace)
    room[:] = planes_of(chunk)
    out = np.empty(chunk.nbytes, np.uint8)
    unshuffle(room, 8, out, workspace)
    np.testing.assert_array_equal(out, chunk.reshape(-1).view(np.uint8))
    np.testing.assert_array_equal(room, planes_of(chunk))


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_round_trip(shape, dtype, seed, order):
    """Planes of a chunk in any axis order are undone to the chunk."""
    axes = list(range(len(shape)))
    order.shuffle(axes)
    chunk = noise(shape, dtype, seed).transpose(axes)
    planes = shuffle(chunk, Workspace())
    np.testing.assert_array_equal(planes, planes_of(chunk))
    out = np.full(chunk.nbytes, 7, np.uint8)
    unshuffle(planes, chunk.dtype.itemsize, out, Workspace())
    assert out.tobytes() == chunk.tobytes()


@given(nbytes=st.integers(0, 70), itemsize=st.integers(1, 17), seed=st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_bytes_beyond_whole_elements_follow_unchanged(nbytes, itemsize, seed):
    """A remainder below one element stays at the end, as in libhdf5."""
    planes = noise((nbytes,), "u1", seed)
    out = np.empty(nbytes, np.uint8)
    unshuffle(planes, itemsize, out, Workspace())
    whole = nbytes // itemsize * itemsize
    expected = planes[:whole].reshape(itemsize, -1).T.ravel()
    np.testing.assert_array_equal(out[:whole], expected)
    np.testing.assert_array_equal(out[whole:], planes[whole:])


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8", "S3"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (1, 1, 1)], ids=str)
def test_corner_shapes(shape, dtype):
    """No axis, no elements and one element are shuffled, too."""
    chunk = noise(shape, dtype)
    assert shuffle(chunk, Workspace()).tobytes() == chunk.tobytes()


def test_workspace_is_used_again():
    """A smaller chunk after a larger one is right, in the same memory."""
    workspace = Workspace()
    for n_elements in (1000, 10, 500, 1000):
        for dtype in ("f8", "i2", "S3"):
            chunk = noise((n_elements,), dtype, n_elements)
            np.testing.assert_array_equal(shuffle(chunk, workspace), planes_of(chunk))


def test_the_chunk_is_left_alone():
    """Shuffling reads a chunk that may not be written."""
    chunk = noise((100, 10), "f4")
    chunk.flags.writeable = False
    before = chunk.tobytes()
    shuffle(chunk[:, 2:], Workspace())
    assert chunk.tobytes() == before
