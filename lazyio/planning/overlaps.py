"""How a window overlaps chunks along one axis, summed over all places that it may lie at.

A window of ``w`` elements lies anywhere along an axis of ``S``, each of its
``S - w + 1`` places as likely as another. How many chunks it touches, how many
elements they hold and whether it is exactly one of them are sums over all
places, and have closed forms in integers, whatever the number of chunks. Over
several axes the expectations multiply.
"""

from typing import Any

Number = Any
"""An integer, or an array of integers, to each of which the formula is applied."""


def touched_sum(extent: int, window: Number, chunk: Number) -> Number:
    """Return the chunks that a window touches, summed over all its places.

    Examples
    --------
    >>> touched_sum(10, 3, 4)  # places 0 to 7 touch 1, 1, 2, 2, 1, 1, 2 and 2
    12
    """
    places = extent - window + 1
    return (
        places
        + _floor_sum(extent, chunk)
        - _floor_sum(window - 1, chunk)
        - _floor_sum(places, chunk)
    )


def elements_sum(extent: int, window: Number, chunk: Number, touched: Number) -> Number:
    """Return the elements of the chunks that a window touches, summed over all its places.

    Examples
    --------
    >>> elements_sum(10, 3, 4, touched_sum(10, 3, 4))  # twice each 4, 8, 4 and 6
    44
    """
    last_start = (extent - 1) // chunk * chunk
    clear = last_start - window + 1
    # Places that do not reach the last chunk: none where it begins within every window.
    clear = clear * (clear > 0)
    reach_last = extent - window + 1 - clear
    return chunk * touched - (last_start + chunk - extent) * reach_last


def matched_sum(extent: int, window: Number, chunk: Number) -> Number:
    """Return the chunks that a window is exactly, summed over all its places.

    Examples
    --------
    >>> matched_sum(10, 4, 4), matched_sum(10, 5, 4)  # at places 0 and 4
    (2, 0)
    """
    return extent // chunk * (window == chunk)


def _floor_sum(stop: Number, chunk: Number) -> Number:
    """Return the sum of ``x // chunk`` for ``0 <= x < stop``."""
    whole = stop // chunk
    return chunk * (whole * (whole - 1) // 2) + whole * (stop - whole * chunk)
