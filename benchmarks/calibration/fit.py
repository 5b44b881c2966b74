"""Costs that explain measured times: none negative, with the least relative error."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.calibration.cases import Reading

ITEMSIZE = 2

_TERMS: dict[str, dict[str, Callable[[Reading], float]]] = {
    "whole chunks": {
        "call": lambda _: 1.0,
        "chunk": lambda one: one.n_chunks,
        "byte": lambda one: one.n_elements * ITEMSIZE,
    },
    "wanted part": {
        "call": lambda _: 1.0,
        "chunk": lambda one: one.n_chunks,
        "run": lambda one: one.n_runs,
        "byte": lambda one: one.n_wanted * ITEMSIZE,
    },
}
MODELS = tuple(_TERMS)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What one reader takes for one codec, by one model."""

    reader: str
    codec: str
    model: str
    seconds: dict[str, float]
    """For each call, chunk, run and byte."""
    errors: tuple[float, ...]
    """Factor, above 1, by which each reading was misjudged."""
    regrets: tuple[float, ...]
    """For each window: how much longer than the fastest chunk the model's choice took."""

    @property
    def median_error(self) -> float:
        """Half of all readings are judged better than by this factor."""
        return float(np.median(self.errors))

    @property
    def p90_error(self) -> float:
        """Nine of ten readings are judged better than by this factor."""
        return float(np.percentile(self.errors, 90))

    def overhead_nbytes(self, term: str) -> float:
        """Return a term's cost in bytes that could have been read instead."""
        return self.seconds.get(term, 0.0) / max(self.seconds["byte"], 1e-15)

    def predicted(self, reading: Reading) -> float:
        """Return the seconds that the model expects."""
        terms = _TERMS[self.model]
        return sum(seconds * terms[name](reading) for name, seconds in self.seconds.items())


def fitted(readings: Sequence[Reading], model: str) -> Fit:
    """Return the fit of a model to what one reader took for one codec.

    Parameters
    ----------
    readings : sequence of Reading
        All of one reader and codec.
    model : str
        One of ``MODELS``.
    """
    terms = _TERMS[model]
    facts = np.array([[term(one) for term in terms.values()] for one in readings])
    seconds = np.array([one.seconds for one in readings])
    costs = _nonnegative(facts / seconds[:, None], np.ones(len(seconds)))
    expected = facts @ costs
    errors = np.exp(np.abs(np.log(np.maximum(expected, 1e-12) / seconds)))
    return Fit(
        reader=readings[0].reader,
        codec=readings[0].codec,
        model=model,
        seconds=dict(zip(terms, map(float, costs), strict=True)),
        errors=tuple(map(float, errors)),
        regrets=_regrets(readings, expected),
    )


def _nonnegative(facts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the least squares solution without negative parts: the best of all supports."""
    n_terms = facts.shape[1]
    best, lowest = np.zeros(n_terms), math.inf
    for size in range(1, n_terms + 1):
        for support in map(list, itertools.combinations(range(n_terms), size)):
            scale = facts[:, support].max(axis=0)
            part = np.linalg.lstsq(facts[:, support] / scale, wanted)[0] / scale
            error = float(((facts[:, support] @ part - wanted) ** 2).sum())
            if (part >= 0).all() and error < lowest:
                lowest, best = error, np.zeros(n_terms)
                best[support] = part
    return best


def _regrets(readings: Sequence[Reading], expected: np.ndarray) -> tuple[float, ...]:
    totals: dict[tuple[int, ...], dict[tuple[int, ...], list[float]]] = {}
    for one, guess in zip(readings, expected, strict=True):
        sums = totals.setdefault(one.window, {}).setdefault(one.chunk, [0.0, 0.0])
        sums[0] += guess
        sums[1] += one.seconds
    return tuple(
        min(chunks.values())[1] / min(taken for _, taken in chunks.values())
        for chunks in totals.values()
    )
