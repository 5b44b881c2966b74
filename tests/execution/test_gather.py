"""Gathering: whatever the blocks, each chunk is committed whole, once, with its values."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.codecs.workspace import Workspace
from lazyio.errors import BlockError
from lazyio.execution.assembler import Assembler, Scratch
from lazyio.execution.threads import pull
from lazyio.regions import boxes, cuts, grid_shape


class RecordingTarget:
    """A target that remembers what it was given, and by how many."""

    engine = "memory"
    fill_value = 0

    def __init__(self, shape, chunk_shape, dtype="int32") -> None:
        self.shape, self.chunk_shape, self.dtype = shape, chunk_shape, np.dtype(dtype)
        self.array = np.zeros(shape, dtype)
        self.n_writes: dict[tuple[int, ...], int] = {}
        self._lock = threading.Lock()

    def write_chunk(self, index, chunk, workspace) -> None:
        region = tuple(
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(index, self.chunk_shape, self.shape, strict=True)
        )
        assert chunk.shape == tuple(part.stop - part.start for part in region)
        with self._lock:
            self.n_writes[tuple(index)] = self.n_writes.get(tuple(index), 0) + 1
        self.array[region] = chunk


@st.composite
def cut_arrays(draw):
    """Draw a shape, a chunk shape and blocks of any sizes."""
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=3)))
    chunk = tuple(draw(st.integers(1, extent + 2)) for extent in shape)
    chunk = tuple(min(c, n) for c, n in zip(chunk, shape, strict=True))
    edges = []
    for extent in shape:
        sizes = []
        while sum(sizes) < extent:
            sizes.append(draw(st.integers(1, extent - sum(sizes))))
        edges.append(tuple(sizes))
    return shape, chunk, tuple(edges)


@given(cut_arrays(), st.sampled_from([0, 30, 200, 10**6]), st.integers(1, 3), st.randoms())
@settings(max_examples=200, deadline=None)
def test_each_chunk_is_written_whole_and_once(tmp_path_factory, cut, memory, threads, random):
    """Blocks of any sizes in any order, from any number of threads, in any memory."""
    shape, chunk, edges = cut
    expected = np.arange(np.prod(shape), dtype="int32").reshape(shape)
    target = RecordingTarget(shape, chunk)
    folder = tmp_path_factory.mktemp("gather") / "work"
    folder.mkdir()
    regions = list(cuts(edges))
    random.shuffle(regions)
    with Scratch(folder / "scratch") as scratch:
        gatherer = Assembler(target, memory_nbytes=memory, scratch=scratch)
        pull(
            regions,
            lambda region, workspace: gatherer.accept(region, expected[region], workspace),
            n_threads=threads,
            on_done=lambda region: None,
        )
        pull(
            gatherer.spilled(),
            gatherer.commit_spilled,
            n_threads=threads,
            on_done=lambda waiting: None,
        )
    assert (target.array == expected).all()
    assert target.n_writes == dict.fromkeys(np.ndindex(*grid_shape(shape, chunk)), 1)


def test_scratch_is_used_only_past_the_memory(tmp_path: Path) -> None:
    """Parts wait in memory while there is any, and only the rest is written out."""
    expected = np.arange(64, dtype="int32").reshape(8, 8)
    used = {}
    for memory in (0, 2 * (32 + 640), 10**6):
        target = RecordingTarget((8, 8), (8, 1))
        with Scratch(tmp_path / "scratch") as scratch:
            gatherer = Assembler(target, memory_nbytes=memory, scratch=scratch)
            for region in boxes((8, 8), (2, 8)):
                gatherer.accept(region, expected[region], Workspace())
            for waiting in gatherer.spilled():
                gatherer.commit_spilled(waiting, Workspace())
            used[memory] = scratch.nbytes
        assert (target.array == expected).all()
    assert list(used.values()) == [256, 192, 0]


def test_aligned_blocks_leave_no_scratch_file(tmp_path: Path) -> None:
    """Where blocks hold whole chunks, nothing waits and no file is made."""
    target = RecordingTarget((8, 8), (4, 4))
    with Scratch(tmp_path / "scratch") as scratch:
        gatherer = Assembler(target, memory_nbytes=0, scratch=scratch)
        gatherer.accept((slice(0, 8), slice(0, 8)), np.ones((8, 8), "int32"), Workspace())
    assert not (tmp_path / "scratch").exists()
    assert len(target.n_writes) == 4


def test_blocks_that_do_not_cover_the_array_are_noticed(tmp_path: Path) -> None:
    """A chunk with elements missing is an error that names it, not a chunk of zeros."""
    target = RecordingTarget((8,), (8,))
    with Scratch(tmp_path / "scratch") as scratch:
        gatherer = Assembler(target, memory_nbytes=100, scratch=scratch)
        gatherer.accept((slice(0, 5),), np.ones(5, "int32"), Workspace())
        with pytest.raises(BlockError, match=r"chunk \[0:8\] incomplete"):
            list(gatherer.spilled())
