"""Extents that an axis may have, between two bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.planning.default_chunks import Choice

extents = st.integers(1, 10**6)


@given(extent=extents, step=extents, unit=extents, low=st.floats(0.1, 1e6), span=st.floats(1, 100))
@settings(max_examples=300, deadline=None)
def test_extents_keep_to_the_rule(extent, step, unit, low, span):
    """Extents divide the step, or are whole units or the whole axis; there is always one."""
    unit = min(unit, extent)
    for choice in (Choice(extent=extent, step=step), Choice(extent=extent, unit=unit)):
        found = choice.between(low, low * span, 9)
        assert found
        assert found == sorted(set(found))
        for edge in found:
            assert type(edge) is int
            assert 1 <= edge <= choice.most
            assert choice.step is None or step % edge == 0
            assert edge % choice.unit == 0 or edge == extent
        inside = [edge for edge in found if low <= edge <= low * span]
        assert inside == found or len(found) == 1


@given(extent=st.integers(1, 300), low=st.integers(1, 300), count=st.integers(2, 20))
@settings(max_examples=200, deadline=None)
def test_bounds_are_among_free_extents(extent, low, count):
    """Any extent will do where nothing forbids it, both bounds too, but those that pad much."""
    low = min(low, extent)
    found = Choice(extent=extent).between(low, extent, count)
    assert found[-1] == extent
    n_pieces = -(-extent // low)
    pads_much = low > -(-extent // n_pieces) and n_pieces * low > extent * 9 / 8
    assert (found[0] == low) != pads_much
    assert all(
        edge == -(-extent // -(-extent // edge)) or -(-extent // edge) * edge <= extent * 9 / 8
        for edge in found
    )


def test_a_fixed_extent_is_the_only_one():
    """Whatever the bounds, what the user fixed stands."""
    assert Choice(extent=100, fixed=7).between(20, 30, 5) == [7]
    assert Choice(extent=100, fixed=7).most == 7


@pytest.mark.parametrize(
    ("choice", "wish", "extent"),
    [
        (Choice(extent=100), 17.5, 17),
        (Choice(extent=100, step=60), 17.5, 15),
        (Choice(extent=100, unit=30), 70, 60),
        (Choice(extent=100, unit=30), 5, 30),
        (Choice(extent=100, fixed=40), 5, 40),
    ],
    ids=["any", "divisor", "unit", "below-unit", "fixed"],
)
def test_below(choice, wish, extent):
    """The largest extent up to a wish, or the least that there is."""
    assert choice.below(wish) == extent


def test_many_divisors_are_thinned():
    """A step with hundreds of divisors gives no more than are asked for, and its ends."""
    step = 2**8 * 3**4 * 5**2 * 7 * 11
    found = Choice(extent=step, step=step).between(1, step, 20)
    assert len(found) <= 48
    assert (found[0], found[-1]) == (1, step)
