"""Cases in which every two values of different axes meet; all of them would be millions."""

import itertools
import os
import random

import pytest
from amount import amount

N_MORE = amount(0, 2000)


def cases(**axes):
    """Return parameters with a dict each, named by its values; to explore, many more at random.

    An axis is a dict from names to values, or a list of names.
    """
    names = {axis: list(values) for axis, values in axes.items()}
    chance = random.Random(0)
    found = dict.fromkeys(_pairwise(names, chance))
    if N_MORE:
        # Of the run: every process of pytest-xdist has the same.
        chance.seed(os.environ.get("PYTEST_XDIST_TESTRUNUID"))
        found |= dict.fromkeys(
            tuple(chance.choice(values) for values in names.values()) for _ in range(N_MORE)
        )
    return [
        pytest.param(
            {
                axis: values[name] if isinstance(values, dict) else name
                for (axis, values), name in zip(axes.items(), case, strict=True)
            },
            id="-".join(map(str, case)),
        )
        for case in found
    ]


def _pairwise(names, chance):
    """Yield cases until no pair is left, each with as many new pairs as are easily found."""
    axes = list(names)
    left = {
        ((one, a), (other, b))
        for one, other in itertools.combinations(axes, 2)
        for a in names[one]
        for b in names[other]
    }
    order = {pair: chance.random() for pair in sorted(left)}

    def n_new(case, axis, value):
        at = axes.index(axis)
        return sum(
            (((axis, value), (other, b)) if at < axes.index(other) else ((other, b), (axis, value)))
            in left
            for other, b in case.items()
        )

    while left:
        case = dict(min(left, key=order.__getitem__))
        for axis in axes:
            if axis not in case:
                values = chance.sample(names[axis], len(names[axis]))
                case[axis] = max(values, key=lambda value: n_new(case, axis, value))
        left -= set(itertools.combinations([(axis, case[axis]) for axis in axes], 2))
        yield tuple(case[axis] for axis in axes)
