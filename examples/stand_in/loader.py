"""What torch's ``DataLoader`` asks of a dataset, for where torch is not installed.

It needs ``len(dataset)``, ``dataset[index]`` and, where there is one,
``dataset.__getitems__(indices)`` for all rows of a batch; with ``num_workers``
the dataset is sent to other processes, each of which gets every so many batches.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


class DataLoader:
    """Batches of a dataset, in order or shuffled, read here or by other processes."""

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        num_workers: int = 0,
        multiprocessing_context: str = "spawn",
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.num_workers = num_workers
        self.multiprocessing_context = multiprocessing_context

    def __len__(self) -> int:
        return (len(self.dataset) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Any]:
        order = list(range(len(self.dataset)))
        if self.shuffle:
            np.random.default_rng(0).shuffle(order)
        batches = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        if not self.num_workers:
            yield from (fetch(self.dataset, indices) for indices in batches)
            return
        context = multiprocessing.get_context(self.multiprocessing_context)
        with context.Pool(self.num_workers, receive, (self.dataset,)) as pool:
            yield from pool.imap(fetch_there, batches)


def fetch(dataset: Any, indices: Sequence[int]) -> Any:
    """Return the rows of a batch as one array, as torch fetches and collates them."""
    if hasattr(dataset, "__getitems__"):
        rows = dataset.__getitems__(indices)
    else:
        rows = [dataset[index] for index in indices]
    return np.stack(rows)


_RECEIVED: list[Any] = []


def receive(dataset: Any) -> None:
    """Keep the dataset that was sent to this process."""
    _RECEIVED[:] = [dataset]


def fetch_there(indices: Sequence[int]) -> Any:
    """Return the rows of a batch of the dataset that was sent."""
    return fetch(_RECEIVED[0], indices)
