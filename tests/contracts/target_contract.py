"""What every target promises, whatever its format; a subclass per adapter."""

import itertools
import threading

import numpy as np
import pytest

from lazyio.codecs.workspace import Workspace
from lazyio.regions import box, grid_shape

SHAPE = (23, 17)
CHUNK_SHAPE = (5, 6)


class TargetContract:
    """Tests of the Target protocol.

    Subclasses give ``make(folder, dtype, fill)``, an open target for an array
    of ``SHAPE`` in chunks of ``CHUNK_SHAPE``, and ``read(folder)``, what a
    stock library reads of it.
    """

    def make(self, folder, dtype="int32", fill=None):
        """Return a target that is open for chunks."""
        raise NotImplementedError

    def read(self, folder):
        """Return the array as a library that is not ours reads it."""
        raise NotImplementedError

    def chunks(self):
        """Yield index and region of every chunk."""
        for index in itertools.product(*map(range, grid_shape(SHAPE, CHUNK_SHAPE))):
            yield index, box(SHAPE, CHUNK_SHAPE, index)

    @pytest.fixture
    def expected(self):
        """Return values that differ everywhere."""
        return np.arange(1, SHAPE[0] * SHAPE[1] + 1, dtype="int32").reshape(SHAPE)

    @pytest.fixture
    def folder(self, tmp_path):
        """Return the hidden folder that a target is built in."""
        (tmp_path / "work").mkdir()
        return tmp_path / "work"

    def test_facts(self, folder):
        """Shape, chunk shape, dtype and fill value are those it was made with."""
        target = self.make(folder, fill=7)
        assert (target.shape, target.chunk_shape) == (SHAPE, CHUNK_SHAPE)
        assert target.dtype == np.dtype("int32")
        assert target.fill_value == 7
        assert target.engine

    @pytest.mark.parametrize("order", ["C", "reversed"])
    def test_chunks_in_any_order(self, folder, expected, order):
        """Chunks may come in any order; those at the end are cut there."""
        target = self.make(folder)
        chunks = list(self.chunks())
        for index, region in chunks if order == "C" else reversed(chunks):
            target.write_chunk(index, expected[region], Workspace())
        assert target.finish() > 0
        assert (self.read(folder) == expected).all()

    def test_chunks_of_any_strides(self, folder, expected):
        """Views of a block need no copy by the caller, whatever their order."""
        target = self.make(folder)
        turned = np.asfortranarray(expected)
        for index, region in self.chunks():
            target.write_chunk(index, turned[region], Workspace())
        target.finish()
        assert (self.read(folder) == expected).all()

    def test_chunks_from_several_threads(self, folder, expected):
        """Each thread with a workspace of its own."""
        target = self.make(folder)
        chunks = list(self.chunks())

        def work(part):
            workspace = Workspace()
            for index, region in part:
                target.write_chunk(index, expected[region], workspace)

        threads = [threading.Thread(target=work, args=(chunks[at::3],)) for at in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        target.finish()
        assert (self.read(folder) == expected).all()

    def test_chunks_that_were_not_written_are_fill(self, folder, expected):
        """A reader gets the fill value there, and values in the rest."""
        target = self.make(folder, fill=7)
        first, *_ = self.chunks()
        target.write_chunk(first[0], expected[first[1]], Workspace())
        target.finish()
        found = self.read(folder)
        assert (found[first[1]] == expected[first[1]]).all()
        assert (found[CHUNK_SHAPE[0] :] == 7).all()
