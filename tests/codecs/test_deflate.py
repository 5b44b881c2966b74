"""gzip: as small as zlib at the same level, on data that were made to be difficult."""

import zlib

import deflate as libdeflate
import numpy as np
import pytest

from lazyio.codecs import deflate
from lazyio.codecs.shuffle import shuffle
from lazyio.codecs.workspace import Workspace

N = 2**17


def difficult():
    """Yield names and arrays: noise of few bits, counts, walks, sparse data, images."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, N)
    for scale in (1, 3, 5, 10, 30, 300):
        yield f"noise {scale}", (scale * noise).astype("i2")
    for part in (0.001, 0.1):
        values = np.where(rng.random(N) < part, rng.integers(-500, 500, N), 0)
        yield f"sparse {part}", values.astype("i2")
    yield "counts", rng.poisson(1, N).astype("u2")
    yield "walk", np.cumsum(rng.integers(-3, 4, N)).astype("i2")
    yield "rounded", np.round(noise * 100).astype("f4") / np.float32(100)
    yield "few", rng.random(N) < 0.3


def as_stored(values, *, is_shuffled):
    found = shuffle(values, Workspace()) if is_shuffled else values.view("u1")
    return np.ascontiguousarray(found).reshape(-1)


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("level", range(2, 10))
def test_sizes_are_those_of_zlib(level, is_shuffled):
    """Smaller on average, and seldom larger by more than one per cent."""
    compress = deflate.compressor(level)
    ratios = {}
    for name, values in difficult():
        data = as_stored(values, is_shuffled=is_shuffled and values.itemsize > 1)
        stream = compress(data)
        assert zlib.decompress(stream) == data.tobytes()
        ratios[name] = len(stream) / len(zlib.compress(data, level))
    larger = {name: round(ratio, 3) for name, ratio in ratios.items() if ratio > 1.01}
    assert np.mean(list(ratios.values())) < 1
    assert len(larger) <= 2, larger
    assert max(ratios.values()) < 1.12


def test_a_chunk_comes_out_the_same_every_time():
    """Whatever was compressed before: a job that goes on compares."""
    chunks = [as_stored(values, is_shuffled=False) for _, values in difficult()]
    compress = deflate.compressor(4)
    first = [compress(chunk) for chunk in chunks]
    assert [compress(chunk) for chunk in reversed(chunks)] == first[::-1]


def test_without_libdeflate_it_is_zlib(monkeypatch):
    monkeypatch.setattr(deflate, "optional", lambda _: None)
    data = as_stored(np.arange(1000), is_shuffled=False)
    assert deflate.compressor(4)(data) == zlib.compress(data, 4)
    assert libdeflate.zlib_decompress(zlib.compress(data, 4), data.size) == data.tobytes()
