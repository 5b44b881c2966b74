"""lazyio beside other programs: a few trials, and whether the oracle sees what is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.company import model
from benchmarks.company.model import DONE, REFUSED, UNKNOWN, Event

ROOT = Path(__file__).parents[2]
ROWS = np.arange(16, dtype="i4").reshape(2, 8)
START = {"target": {"x": (ROWS, ())}}


def longer(n: int):
    rows = np.concatenate([ROWS] * (n + 1))
    return {"target": {"x": (rows, ())}}


def event(step, begin=0.0, end=1.0, outcome=DONE) -> Event:
    return Event(who="lazyio", what="append", step=step, begin=begin, end=end, outcome=outcome)


APPEND = model.append("target", "x", ROWS)


@pytest.mark.parametrize(
    ("outcome", "n", "wrong"),
    [
        (DONE, 1, None),
        (DONE, 0, "lost"),
        (DONE, 2, "made twice"),
        (REFUSED, 0, None),
        (REFUSED, 1, "made though refused"),
        (UNKNOWN, 0, None),
        (UNKNOWN, 1, None),
        (UNKNOWN, 2, "made twice"),
        (DONE, 7, "wrong"),
    ],
)
def test_what_is_wrong(outcome, n, wrong):
    """By what was told, and by what is there."""

    def is_last(state):
        return model.fingerprint(state["target"]) == model.fingerprint(longer(n)["target"])

    found = model.explained(START, [event(APPEND, outcome=outcome)], is_last)
    assert found is None if wrong is None else found.startswith(wrong)


def test_the_order_is_that_of_the_clock():
    """What was over before the other began comes first; what met may have come in any order."""
    one = model.put("target", "x", 0, ROWS[:1] + 100)
    other = model.put("target", "x", 0, ROWS[:1] + 200)

    def is_the_first_last(state):
        return state["target"]["x"][0][0, 0] == 100

    met = [event(one, 0, 2), event(other, 1, 3)]
    apart = [event(one, 0, 1), event(other, 2, 3)]
    assert model.explained(START, met, is_the_first_last) is None
    assert model.explained(START, apart, is_the_first_last).startswith("lost")


def test_what_was_read_was_there():
    """A read must have seen one state."""
    read = event(model.look("target", "x", longer(1)["target"]["x"][0]), 2, 3)
    assert model.explained(START, [event(APPEND), read], lambda _: True) is None
    assert model.explained(START, [read], lambda _: True) is not None


def test_a_few_trials():
    """None of them loses anything; always the same, for others are tried by longer runs."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "company", "--short"]
    run = subprocess.run(
        [*command, "--formats", "zarr", "--seed", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "trials in" in run.stdout
