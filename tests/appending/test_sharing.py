"""Memory that arrays share: never more than the limit, whatever their chunks."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyio.appending.backend import OpenedArray
from lazyio.appending.writer import refuse_overfull, slab_lengths, workers_within
from lazyio.dtypes import nbytes_of, stored
from lazyio.errors import PlanError
from lazyio.planning.budget import ENCODE_COPIES


def growing(chunk_shape, width, dtype="i2"):
    dtype = np.dtype(dtype)
    target = SimpleNamespace(shape=(0, width), chunk_shape=chunk_shape, dtype=dtype)
    return OpenedArray(target=target, form=stored(dtype, "hdf5"), axis=0, length=0)


EXTENTS = st.integers(1, 3000)


@given(
    st.lists(st.builds(growing, st.tuples(EXTENTS, EXTENTS), EXTENTS), min_size=1, max_size=5),
    st.integers(10**4, 10**9),
    st.integers(1, 8),
)
def test_all_slabs_fit(several, limit, workers):
    """And are whole rows of chunks; where not one fits, that is an error."""
    lengths = slab_lengths(several, limit, workers)
    if not all(lengths):
        with pytest.raises(PlanError, match="give at least memory_limit="):
            refuse_overfull(several, limit, workers)
        return
    refuse_overfull(several, limit, workers)
    held = 0
    for one, length in zip(several, lengths, strict=True):
        assert length % one.unit == 0
        held += (workers + 1) * nbytes_of(one.with_length(length), one.target.dtype)
    chunk = max(nbytes_of(one.target.chunk_shape, one.target.dtype) for one in several)
    assert (held + workers * ENCODE_COPIES * chunk) * 9 <= limit * 8


def test_the_limit_that_an_error_names_will_do():
    several = [growing((100, 7), 40), growing((1000, 40), 40)]
    with pytest.raises(PlanError) as caught:
        refuse_overfull(several, 10_000, 2)
    named = int(str(caught.value).rpartition("memory_limit=")[2].partition(",")[0])
    refuse_overfull(several, named, 2)


def test_fewer_workers_where_memory_is_short():
    one = growing((1000, 64), 64)
    assert workers_within(one, 10**9, 8) == 8
    assert workers_within(one, 2_000_000, 8) == 2
    assert workers_within(one, 1000, 8) == 1
