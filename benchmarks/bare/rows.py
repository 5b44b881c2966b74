"""Rows of a source, read into one buffer per thread."""

import os
from collections.abc import Callable

import deflate
import h5py
import numpy as np

from benchmarks.bare.shuffle import unshuffle
from benchmarks.cases import Array

Read = Callable[[slice], np.ndarray]
"""Rows to their data, which stand until the next call."""


def open_rows(array: Array, n_rows: int) -> Read:
    """Return what reads rows, for one thread.

    Parameters
    ----------
    array : Array
        Which one.
    n_rows : int
        As many at once at most.
    """
    buffer = np.empty((n_rows, *array.shape[1:]), array.dtype)
    if array.key is None:
        return _raw_rows(array, buffer)
    return _deflated_rows(array, buffer)


def _raw_rows(array: Array, buffer: np.ndarray) -> Read:
    file = os.open(array.path, os.O_RDONLY)
    row_nbytes = buffer.nbytes // len(buffer)

    def read(rows: slice) -> np.ndarray:
        out = buffer[: rows.stop - rows.start]
        if os.preadv(file, [out.reshape(-1).view("u1")], rows.start * row_nbytes) != out.nbytes:
            msg = f"{array.name}: the raw file is too short"
            raise ValueError(msg)
        return out

    return read


def _deflated_rows(array: Array, buffer: np.ndarray) -> Read:
    """Return what decodes a dataset of one-row chunks, each shuffled and deflated."""
    dataset = h5py.File(array.path, "r")[array.key]
    if dataset.chunks != (1, *dataset.shape[1:]) or set(dataset._filters) != {"shuffle", "gzip"}:
        msg = f"{array.name}: the limit reads one-row chunks, shuffled and deflated"
        raise ValueError(msg)
    corner = (0,) * (dataset.ndim - 1)

    def read(rows: slice) -> np.ndarray:
        out = buffer[: rows.stop - rows.start]
        for number, one in enumerate(out, rows.start):
            _, payload = dataset.id.read_direct_chunk((number, *corner))
            unshuffle(deflate.zlib_decompress(payload, one.nbytes), one)
        return out

    return read
