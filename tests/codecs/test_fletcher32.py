"""Fletcher's checksum, against a plain loop and against what libhdf5 stores."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.codecs.shuffle import fletcher32


def plain(data):
    """Return the checksum as libhdf5's loop computes it."""
    first = second = 0
    if len(data) % 2:
        words = [*zip(data[:-1:2], data[1::2], strict=True), (data[-1], 0)]
    else:
        words = zip(data[::2], data[1::2], strict=True)
    for high, low in words:
        first += high << 8 | low
        second += first
        first = (first & 0xFFFF) + (first >> 16)
        second = (second & 0xFFFF) + (second >> 16)
    first = (first & 0xFFFF) + (first >> 16)
    second = (second & 0xFFFF) + (second >> 16)
    return second << 16 | first


def stored(data):
    """Return the checksum that libhdf5 puts behind a chunk."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset(
            "data", data=data, chunks=data.shape, fletcher32=True, dtype="u1"
        )
        _, payload = dataset.id.read_direct_chunk((0,))
    assert payload[:-4] == data.tobytes()
    return int.from_bytes(payload[-4:], "little")


def noise(nbytes, seed=0):
    """Return random bytes."""
    return np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)


@given(data=st.binary(max_size=300))
@settings(max_examples=400, deadline=None)
def test_is_the_plain_loop(data):
    """Any bytes have the checksum of the loop."""
    assert fletcher32(np.frombuffer(data, np.uint8)) == plain(data)


@given(data=st.lists(st.sampled_from([0, 1, 254, 255]), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_is_what_libhdf5_stores(data):
    """Bytes whose sums wrap have the checksum that libhdf5 stores."""
    data = np.array(data, np.uint8)
    assert fletcher32(data) == stored(data)


SIZES = [1, 2, 3, 719, 720, 721, 16_383, 16_384, 16_385, 32_768, 100_003, 131_072]


@pytest.mark.parametrize("nbytes", SIZES)
@pytest.mark.parametrize(
    "make",
    [noise, lambda n: np.zeros(n, np.uint8), lambda n: np.full(n, 255, np.uint8)],
    ids=["noise", "zeros", "ones"],
)
def test_sizes(nbytes, make):
    """Odd and even sizes around every row of words agree with libhdf5 and the loop."""
    data = make(nbytes)
    assert fletcher32(data) == stored(data) == plain(data.tolist())


def test_no_bytes():
    """No data has the checksum 0."""
    assert fletcher32(np.empty(0, np.uint8)) == 0


def test_large():
    """Sums of many megabytes do not overflow."""
    data = np.full(2**25 + 1, 255, np.uint8)
    assert fletcher32(data) == stored(data)


def test_unaligned():
    """Bytes that begin at an odd address are summed, too."""
    data = noise(10_001)
    assert fletcher32(data[1:]) == fletcher32(data[1:].copy())


@given(at=st.integers(0, 999), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit_is_seen(at, bit):
    """No flipped bit leaves the checksum as it was."""
    data = noise(1000, 4)
    damaged = data.copy()
    damaged[at] ^= 1 << bit
    assert fletcher32(damaged) != fletcher32(data)
