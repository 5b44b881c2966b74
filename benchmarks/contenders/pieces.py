"""The floor of ``chunks``: the same pieces written by bare ``pwrite`` calls."""

import os
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.bare.turns import Turns, run_threads
from benchmarks.cases import Job

_READ_NBYTES = 1 << 20


def prepare(job: Job) -> Callable[[], None]:
    """Return what copies a raw file, a chunk per call.

    Parameters
    ----------
    job : Job
        What to write: one axis, uncompressed.
    """
    piece = job.array.chunks[0] * np.dtype(job.array.dtype).itemsize
    stride = max(1, _READ_NBYTES // piece) * piece

    def write() -> None:
        turns = Turns(range(-(-job.array.nbytes // stride)))
        source = os.open(job.array.path, os.O_RDONLY)
        target = os.open(job.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        run_threads(job.threads, partial(_copy, source, target, turns, stride, piece))
        os.close(source)
        os.close(target)

    return write


def check(job: Job, _: None) -> None:
    """Compare the copy with the source.

    Parameters
    ----------
    job : Job
        What was written.

    Raises
    ------
    ValueError
        When they differ.
    """
    copy = np.memmap(job.output, dtype=job.array.dtype, mode="r")
    source = np.memmap(job.array.path, dtype=job.array.dtype, mode="r")
    if not np.array_equal(copy, source):
        msg = "the pieces are not the source"
        raise ValueError(msg)


def _copy(source: int, target: int, turns: Turns, stride: int, piece: int) -> None:
    buffer = memoryview(bytearray(stride))
    for turn in turns:
        n = os.preadv(source, [buffer], turn * stride)
        for start in range(0, n, piece):
            os.pwrite(target, buffer[start : min(start + piece, n)], turn * stride + start)
