"""Short versions of the soaks; each has to fail where something is broken on purpose."""

import random

import pytest

from benchmarks.soak import flips, kills, states
from benchmarks.soak.cases import NAMES, cases
from lazyio.atomic import log as redo
from lazyio.atomic import publish_steps as names
from lazyio.atomic import workdir

pytestmark = pytest.mark.filterwarnings("ignore:Object at .*lazyio is not recognized")


@pytest.mark.parametrize("name", NAMES)
def test_kills(tmp_path, name):
    """Old or new after each, and gone on with."""
    seed = random.randrange(10**6)
    tally = kills.soak(cases(4000)[name], tmp_path / "soak", 2, random.Random(seed))
    assert (tally.n_violations, tally.n_kills >= 2) == (0, True), f"seed {seed}"


@pytest.mark.parametrize("name", NAMES)
def test_states(tmp_path, name):
    seed = random.randrange(10**6)
    found = states.enumerate_states(cases(400)[name], tmp_path, 60, random.Random(seed))
    assert set(found) <= {"old", "new"}, f"seed {seed}"


@pytest.mark.parametrize("kind", flips.KINDS, ids=lambda kind: kind.name)
def test_flips(tmp_path, kind):
    seed = random.randrange(10**6)
    kind.write(tmp_path / kind.name)
    found = flips.flip(tmp_path / kind.name, 10, random.Random(seed))
    assert flips.MISSED not in found, f"seed {seed}"


def test_a_name_that_is_given_too_soon_is_noticed(tmp_path, monkeypatch):
    """Without syncing first, a power cut leaves a file that is neither old nor new."""
    monkeypatch.setattr(workdir, "sync_file", lambda _: None)
    found = states.enumerate_states(cases(400)["hdf5"], tmp_path, 400, random.Random(0))
    assert found["violation"]


def test_a_change_without_its_log_is_noticed(tmp_path, monkeypatch):
    """If a log were believed before it is complete."""
    monkeypatch.setattr(redo, "is_committed", lambda _: False)
    found = states.enumerate_states(cases(400)["hdf5-in-place"], tmp_path, 400, random.Random(0))
    assert found["violation"]


def test_names_that_are_given_one_by_one_are_noticed(tmp_path, monkeypatch):
    """If what was begun were not finished."""
    monkeypatch.setattr(names.BegunSteps, "load", lambda _: None)
    found = states.enumerate_states(cases(400)["zarr-several"], tmp_path, 400, random.Random(0))
    assert found["violation"]


def test_a_flip_is_noticed(tmp_path, monkeypatch):
    """If nothing were verified."""
    kind = flips.KINDS[0]
    kind.write(tmp_path / kind.name)
    monkeypatch.setattr(flips, "lazyio", type("Blind", (), {"verify": staticmethod(_blind)}))
    assert flips.flip(tmp_path / kind.name, 20, random.Random(0))[flips.MISSED]


def _blind(_):
    return type("Report", (), {"status": "ok"})
