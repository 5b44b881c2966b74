"""The limit: the same codec on as many threads, and bare files. Nothing of lazyio.

A thread takes a row of chunks, reads it into its own buffer, encodes its
chunks and appends them to one file (HDF5 rows) or to a file each (Zarr rows).
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.bare.codecs import decoder, encoder
from benchmarks.bare.files import Folder, Sink, SoleFile
from benchmarks.bare.rows import open_rows
from benchmarks.cases import Job
from benchmarks.contenders.opened import open_source

_N_CHECKED = 7


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a chunk's payload went."""

    region: tuple[slice, ...]
    position: int
    nbytes: int


class Turns:
    """Numbers that several threads pull from one iterator.

    Parameters
    ----------
    stop : int
        How many.
    """

    def __init__(self, stop: int) -> None:
        self._numbers = iter(range(stop))
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[int]:
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            yield number


def prepare(job: Job) -> Callable[[], list[Placed]]:
    """Return what writes, and then says where each chunk is.

    Parameters
    ----------
    job : Job
        What to write.
    """

    def write() -> list[Placed]:
        # Freed once, a large block stops glibc from unmapping every payload.
        np.empty(30 << 20, "u1")
        turns = Turns(-(-job.array.shape[0] // job.array.chunks[0]))
        with _sink(job, "w") as sink, ThreadPoolExecutor(job.threads) as pool:
            runs = [pool.submit(_run, job, turns, sink) for _ in range(job.threads)]
            return [placed for run in runs for placed in run.result()]

    return write


def check(job: Job, placed: list[Placed]) -> None:
    """Decode some chunks and compare them with the source.

    Parameters
    ----------
    job : Job
        What was written.
    placed : list of Placed
        What :func:`prepare`'s function returned.

    Raises
    ------
    ValueError
        When a chunk is not what it should be.
    """
    source = open_source(job.array)
    decode = decoder(job.row, np.dtype(job.array.dtype), job.array.chunks)
    inner = sorted(placed, key=lambda one: [axis.start for axis in one.region])
    some = [*inner[:: max(1, len(inner) // _N_CHECKED)], inner[-1]]
    with _sink(job, "r") as sink:
        for one in some:
            chunk = decode(sink.get(one.position, one.nbytes))
            expected = source[one.region]
            if not np.array_equal(chunk[tuple(map(slice, expected.shape))], expected):
                msg = f"limit {job.row.name}: the chunk at {one.region} does not decode to its data"
                raise ValueError(msg)


def _run(job: Job, turns: Turns, sink: Sink) -> list[Placed]:
    """Encode rows of chunks until there are none left."""
    array = job.array
    read = open_rows(array)
    encode = encoder(job.row, np.dtype(array.dtype), array.chunks)
    starts = [range(0, n, step) for n, step in zip(array.shape[1:], array.chunks[1:], strict=True)]
    grid = list(itertools.product(*starts))
    done = []
    for row in turns:
        rows = slice(row * array.chunks[0], min((row + 1) * array.chunks[0], array.shape[0]))
        block = read(rows)
        for column, corner in enumerate(grid):
            inside = tuple(
                slice(start, min(start + step, n))
                for start, step, n in zip(corner, array.chunks[1:], array.shape[1:], strict=True)
            )
            payload = encode(block[(slice(None), *inside)])
            position = sink.put(row * len(grid) + column, payload)
            done.append(Placed(region=(rows, *inside), position=position, nbytes=len(payload)))
    return done


def _sink(job: Job, mode: str) -> Sink:
    return Folder(job.output, mode) if job.row.format == "zarr" else SoleFile(job.output, mode)
