"""Parts of existing arrays, for the tests of any format: cases, and numpy's answer."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def cases(draw):
    """Return a shape, its chunks, a window inside it or beyond, and how it is spelled."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(0, 9)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, 5)) for _ in range(ndim))
    window, region = [], []
    for extent in shape:
        start = draw(st.integers(0, extent))
        stop = draw(st.integers(start, extent + 4))
        part = slice(start, stop)
        form = draw(st.sampled_from(["slice", "negative", "integer"]))
        if form == "integer" and extent:
            start = draw(st.integers(-extent, extent + 1))
            at = start + extent if start < 0 else start
            part, spelled = slice(at, at + 1), start
        elif form == "negative" and 0 < stop < extent:
            spelled = slice(start - extent, stop - extent)
        else:
            spelled = part
        window.append(part)
        region.append(spelled)
    return shape, chunks, tuple(window), tuple(region)


def expected(before, window, data, fill):
    """Return what numpy says is in the array afterwards."""
    grown = tuple(max(part.stop, n) for part, n in zip(window, before.shape, strict=True))
    after = np.full(grown, fill, before.dtype)
    after[tuple(map(slice, before.shape))] = before
    after[window] = data
    return after
