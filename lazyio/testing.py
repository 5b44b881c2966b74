"""Tests for authors of sources: what every adapter promises, as classes to inherit from.

It needs pytest and hypothesis. A subclass brings a source and what it holds::

    class TestCamera(SourceContract, TravelsContract, StoredContract):
        @pytest.fixture
        def path(self, tmp_path): ...  # writes a file

        @pytest.fixture
        def expected(self): ...  # an ndarray of its elements

        @pytest.fixture
        def source(self, path): ...  # what the plugin opens
"""

import os
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from dask.base import tokenize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.dtypes import Shape
from lazyio.errors import SourceChangedError, SourceError
from lazyio.regions import Region
from lazyio.sources.base import Array, LaidOut, ReadsInto, Stored, leaves_of

# What dask sends with; older ones turn numpy's big-endian arrays into native ones.
PROTOCOL = pickle.HIGHEST_PROTOCOL
PICKLERS = [
    pytest.param(pickle, id="pickle"),
    pytest.param(cloudpickle, id="cloudpickle"),
]

few = settings(
    max_examples=15,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def regions(shape: Shape) -> st.SearchStrategy[Region]:
    """Return a strategy of regions of an array: any box in it, empty ones too."""
    axes = (st.tuples(st.integers(0, extent), st.integers(0, extent)) for extent in shape)
    return st.tuples(*(axis.map(lambda ends: slice(min(ends), max(ends))) for axis in axes))


def whole(shape: Shape) -> Region:
    """Return the region that is the whole array."""
    return tuple(slice(0, extent) for extent in shape)


def assert_same(got: Any, wanted: Array) -> None:
    """Compare shape, dtype (byte order and field names included) and every element."""
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, wanted, strict=True)
    assert got.dtype == wanted.dtype


class SourceContract:
    """Subclasses provide the fixtures ``source`` and ``expected``, an ndarray."""

    def test_is_a_source(self, source: Any) -> None:
        """An adapter is a Source, to isinstance as well."""
        assert isinstance(source, lazyio.Source)

    def test_facts_are_python_integers(self, source: Any, expected: Array) -> None:
        """Shape and chunk shape are tuples of Python ints, one per axis; dtype is numpy's."""
        chunk_shape = () if source.chunk_shape is None else source.chunk_shape
        assert source.shape == expected.shape
        assert source.dtype == expected.dtype
        assert isinstance(source.dtype, np.dtype)
        assert source.chunk_shape is None or len(source.chunk_shape) == expected.ndim
        assert all(type(extent) is int for extent in (*source.shape, *chunk_shape))
        assert all(extent > 0 for extent in chunk_shape)

    def test_reads_the_whole(self, source: Any, expected: Array) -> None:
        """The region of the whole shape is the array."""
        assert_same(source.read(whole(expected.shape)), expected)

    @few
    @given(data=st.data())
    def test_reads_any_region(self, source: Any, expected: Array, data: st.DataObject) -> None:
        """Any region reads as numpy slices it, empty ones too."""
        region = data.draw(regions(expected.shape))
        assert_same(source.read(region), np.asarray(expected[region]))

    def test_reads_empty_regions(self, source: Any, expected: Array) -> None:
        """A region without elements is an empty array of its shape."""
        for axis in range(expected.ndim):
            for at in (0, expected.shape[axis]):
                region = [slice(0, extent) for extent in expected.shape]
                region[axis] = slice(at, at)
                assert_same(source.read(tuple(region)), expected[tuple(region)])

    def test_read_gives_new_memory(self, source: Any, expected: Array) -> None:
        """A part is the caller's own, or cannot be written to: the source never changes."""
        region = whole(expected.shape)
        part = source.read(region)
        if not part.flags.writeable:
            with pytest.raises(ValueError, match="read-only"):
                part[...] = part
            return
        assert part.flags.c_contiguous
        part.reshape(-1).view(np.uint8)[...] ^= 0xFF
        assert_same(source.read(region), expected)

    def test_reads_from_two_threads(self, source: Any, expected: Array) -> None:
        """Two threads read at once, each its own part."""
        middle = (expected.shape or (0,))[0] // 2
        rows = [slice(0, middle), slice(middle, None)] * 8 if expected.ndim else [None] * 4
        parts = [
            ()
            if row is None
            else (slice(*row.indices(expected.shape[0])), *whole(expected.shape[1:]))
            for row in rows
        ]
        with ThreadPoolExecutor(2) as pool:
            for part, got in zip(parts, pool.map(source.read, parts), strict=True):
                assert_same(got, np.asarray(expected[part]))

    def test_opens_as_a_dask_array(self, source: Any, expected: Array) -> None:
        """from_source gives a dask array of the same facts and elements."""
        array = lazyio.from_source(source)
        assert array.shape == expected.shape
        assert array.dtype == expected.dtype
        got = np.asarray(array.compute(scheduler="synchronous"))
        assert_same(got, expected)


class TravelsContract:
    """For adapters that go to other processes."""

    @pytest.mark.parametrize("pickler", PICKLERS)
    def test_pickles(self, source: Any, expected: Array, pickler: Any) -> None:
        """A source travels and reads the same where it arrives."""
        copy = pickle.loads(pickler.dumps(source, PROTOCOL))
        assert copy.shape == source.shape
        assert copy.dtype == source.dtype
        assert copy.chunk_shape == source.chunk_shape
        assert_same(copy.read(whole(expected.shape)), expected)

    def test_pickles_after_use(self, source: Any, expected: Array) -> None:
        """Having been read from leaves nothing in a source that cannot travel."""
        source.read(whole(expected.shape))
        copy = pickle.loads(pickle.dumps(source, PROTOCOL))
        assert_same(copy.read(whole(expected.shape)), expected)

    def test_token_is_that_of_its_equal(self, source: Any) -> None:
        """Equal sources have one token, here and where they were sent."""
        assert tokenize(source) == tokenize(source)
        assert tokenize(source) == tokenize(pickle.loads(pickle.dumps(source, PROTOCOL)))


class ReadsIntoContract:
    """For adapters that fill memory which they are given."""

    def test_reads_into(self, source: Any) -> None:
        """The adapter says that it fills memory."""
        assert isinstance(source, ReadsInto)

    @few
    @given(data=st.data())
    def test_fills_what_it_is_given(
        self, source: Any, expected: Array, data: st.DataObject
    ) -> None:
        """Every element is overwritten, whatever was there before."""
        region = data.draw(regions(expected.shape))
        out = np.empty(np.shape(expected[region]), expected.dtype)
        out.reshape(-1).view(np.uint8)[...] = 0xA5
        source.read_into(region, out)
        assert_same(out, np.asarray(expected[region]))


class StoredContract:
    """For adapters of files and stores: ``path`` is a fixture, ``change`` rewrites it."""

    def change(self, path: Path) -> None:
        """Give the file at a path another content of the same length."""
        content = bytearray(path.read_bytes())
        content[-1] ^= 0xFF
        path.write_bytes(content)
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))

    def test_says_where_it_lies(self, source: Any, path: Path) -> None:
        """The location is an absolute path and a key, both plain strings."""
        assert isinstance(source, Stored)
        assert source.location[0] == str(path)
        assert all(type(part) is str for part in source.location)
        assert isinstance(source, LaidOut)
        assert type(source.in_rows) is bool

    def test_reads_one_state_of_the_file(self, source: Any, expected: Array, path: Path) -> None:
        """A file that was rewritten is not read, here or where the source was sent."""
        before, sent = tokenize(source), pickle.dumps(source, PROTOCOL)
        self.change(path)
        assert tokenize(source) == before
        for one in (source, pickle.loads(sent)):
            with pytest.raises(SourceChangedError, match=re.escape(path.name)):
                one.read(whole(expected.shape))
            for leaf in leaves_of(one):
                with pytest.raises(SourceChangedError, match=re.escape(path.name)):
                    leaf.require_unchanged()

    def test_holds_no_open_file(self, source: Any, expected: Array, path: Path) -> None:
        """No descriptor of the file stays open after a read."""
        if not Path("/proc/self/fd").is_dir():
            pytest.skip("this system does not list open files")
        source.read(whole(expected.shape))
        held = (os.readlink(f"/proc/self/fd/{number}") for number in _descriptors())
        assert str(path) not in held

    def test_says_that_the_file_is_gone(self, source: Any, expected: Array, path: Path) -> None:
        """Reading a file that was removed since is a SourceError naming it."""
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not expected.size:
            return
        with pytest.raises(SourceError, match=path.name):
            source.read(whole(expected.shape))


def _descriptors() -> list[str]:
    """Return the numbers of this process' open files that are still open."""
    numbers = [entry.name for entry in Path("/proc/self/fd").iterdir()]
    return [number for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")]
