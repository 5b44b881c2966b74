"""Fit a model that takes minibatches, as scikit-learn's with partial_fit do, over a window.

Blocks come in random order, and each is read in minibatches one after another:
nearly as good as a full shuffle, and every chunk is decoded once.
"""

import numpy as np

import lazyio

try:
    from sklearn.linear_model import Perceptron
except ImportError:

    class Perceptron:
        """One that has scikit-learn's ``partial_fit`` and ``score``, where that is missing."""

        def partial_fit(self, x: np.ndarray, y: np.ndarray, classes: list[int]) -> "Perceptron":
            """Correct the weights by each row that they get wrong."""
            self.coef_ = getattr(self, "coef_", np.zeros(x.shape[1]))
            for row, label in zip(x, np.where(y == classes[1], 1, -1), strict=True):
                if label * (row @ self.coef_) <= 0:
                    self.coef_ = self.coef_ + label * row
            return self

        def score(self, x: np.ndarray, y: np.ndarray) -> float:
            """Return the part of rows that are told right."""
            return float(np.mean((x @ self.coef_ > 0) == y))


rng = np.random.default_rng(0)
x = rng.normal(size=(50_000, 16)).astype("f4")
y = (x @ rng.normal(size=16) > 0).astype("i1")
print(lazyio.plan(x, chunks=2000), end="\n\n")
print(lazyio.to_hdf5({"x": x, "y": y}, "labelled.h5", chunks=2000, compression="gzip", mode="w"))

model = Perceptron()
with (
    lazyio.window("labelled.h5", "x", memory_limit="16 MiB") as features,
    lazyio.window("labelled.h5", "y", memory_limit="16 MiB") as labels,
):
    for block in rng.permutation(len(features) // 2000):
        for start in range(block * 2000, (block + 1) * 2000, 64):
            batch = slice(start, min(start + 64, (block + 1) * 2000))
            model.partial_fit(features[batch], labels[batch], classes=[0, 1])
    print(f"right for {model.score(features[:5000], labels[:5000]):.0%}")
    print(f"{features.hits} of {features.hits + features.misses} batches came from memory")
