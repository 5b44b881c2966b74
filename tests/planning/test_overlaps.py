"""How windows overlap chunks: closed forms against every place that a window may lie at."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.planning.access import elements_sum, matched_sum, touched_sum

axis = st.integers(1, 40).flatmap(
    lambda extent: st.tuples(st.just(extent), st.integers(1, extent), st.integers(1, 45))
)


def touched(extent, window, chunk, start):
    """Return the chunks that a window at one place overlaps, as ranges cut at the axis."""
    pieces = [range(at, min(at + chunk, extent)) for at in range(0, extent, chunk)]
    return [p for p in pieces if p.start < start + window and start < p.stop]


def places(extent, window):
    """Return every place of a window."""
    return range(extent - window + 1)


@given(axis=axis)
@settings(max_examples=500, deadline=None)
def test_sums_over_all_places(axis):
    """Chunks touched, their elements and chunks matched are those of a listing."""
    extent, window, chunk = axis
    found = [touched(*axis, start) for start in places(extent, window)]
    assert touched_sum(*axis) == sum(map(len, found))
    assert elements_sum(*axis, touched_sum(*axis)) == sum(
        len(piece) for pieces in found for piece in pieces
    )
    assert matched_sum(*axis) == sum(
        len(piece) == chunk and piece == range(start, start + window)
        for start, pieces in zip(places(extent, window), found, strict=True)
        for piece in pieces
    )


@given(extent=st.integers(1, 10**15), share=st.floats(0, 1), chunk=st.integers(1, 10**9))
@settings(max_examples=300, deadline=None)
def test_sums_of_long_axes(extent, share, chunk):
    """Far beyond what can be listed, sums stay exact integers within their bounds."""
    window = max(1, int(share * extent))
    chunk = min(chunk, extent)
    n_places = extent - window + 1
    n_touched, n_matched = touched_sum(extent, window, chunk), matched_sum(extent, window, chunk)
    elements = elements_sum(extent, window, chunk, n_touched)
    assert {type(n_touched), type(n_matched), type(elements)} == {int}
    assert n_places * -(-window // chunk) <= n_touched <= n_places * (-(-window // chunk) + 1)
    assert n_places * window <= elements <= chunk * n_touched
    assert n_matched <= n_touched
