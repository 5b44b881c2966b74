"""Train on minibatches of a compressed file, with torch's DataLoader over a window.

A window is a dataset as it is: it has a length, rows, and all rows of a batch in
one read. Each worker gets the path, and opens a window of its own.
"""

import sys
from pathlib import Path

import numpy as np

import lazyio

try:
    from torch.utils.data import DataLoader
except ImportError:  # The same protocol, in a few lines.
    sys.path.insert(0, str(Path(__file__).parent / "stand_in"))
    from loader import DataLoader

rng = np.random.default_rng(0)
true_weights = rng.normal(size=32).astype("f4")


def make(path: str) -> None:
    """Write rows of 32 numbers, and behind them what is to be predicted of each."""
    x = rng.normal(size=(20_000, 32)).astype("f4")
    rows = np.column_stack([x, x @ true_weights])
    print(lazyio.plan(rows, chunks=(1000, 33)), end="\n\n")
    print(lazyio.to_hdf5(rows, path, "rows", chunks=(1000, 33), compression="gzip", mode="w"))


def train(batches: DataLoader, weights: np.ndarray) -> np.ndarray:
    """Take one step of gradient descent for each batch."""
    for batch in batches:
        rows = np.asarray(batch)
        x, y = rows[:, :-1], rows[:, -1]
        weights = weights - 0.05 * x.T @ (x @ weights - y) / len(y)
    return weights


if __name__ == "__main__":
    make("training.h5")
    weights = np.zeros(32, "f4")
    with lazyio.window("training.h5", "rows", memory_limit="64 MiB") as rows:
        for epoch in range(2):
            weights = train(DataLoader(rows, batch_size=64, shuffle=True), weights)
            error = np.abs(weights - true_weights).max()
            n_reads = rows.hits + rows.misses
            print(f"epoch {epoch}: largest error {error:.4f}, {rows.hits} of {n_reads} in memory")
        # The limit holds for each process: two workers take twice as much.
        apart = DataLoader(rows, batch_size=64, num_workers=2, multiprocessing_context="spawn")
        weights = train(apart, weights)
    print(f"two workers: largest error {np.abs(weights - true_weights).max():.4f}")
