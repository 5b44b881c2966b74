"""Where chunks lie: in the limit's own files, or in an HDF5 file or Zarr store."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from benchmarks.cases import Job
from benchmarks.outputs import KEY

_ENTRY_NBYTES, _CRC_NBYTES = 16, 4

Region = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A chunk's payload in a file."""

    region: Region
    """What it holds of the array; shorter than the chunk at the end of an axis."""
    path: str
    position: int
    nbytes: int

    def read(self) -> bytes:
        """Return the payload."""
        file = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(file, self.nbytes, self.position)
        finally:
            os.close(file)


def tiles(within: Region, step: tuple[int, ...]) -> Iterator[Region]:
    """Yield regions of at most ``step`` that fill a region, in C order.

    Parameters
    ----------
    within : tuple of slice
        What is tiled.
    step : tuple of int
        Extents of a whole tile.
    """
    axes = [
        [slice(start, min(start + n, axis.stop)) for start in range(axis.start, axis.stop, n)]
        for axis, n in zip(within, step, strict=True)
    ]
    yield from itertools.product(*axes)


def stored_chunks(job: Job) -> list[Placed]:
    """Return where the chunks lie that stock h5py or zarr-python stored.

    Parameters
    ----------
    job : Job
        What is read.
    """
    if job.row.format == "hdf5":
        return _in_hdf5(job)
    whole = tuple(map(slice, (0,) * len(job.array.shape), job.array.shape))
    found = []
    for unit in tiles(whole, job.unit):
        numbers = [axis.start // n for axis, n in zip(unit, job.unit, strict=True)]
        path = Path(job.output, KEY, "c", *map(str, numbers))
        if job.row.is_sharded:
            found += _in_shard(job, path, unit)
        else:
            nbytes = path.stat().st_size
            found.append(Placed(region=unit, path=str(path), position=0, nbytes=nbytes))
    return found


def _in_hdf5(job: Job) -> list[Placed]:
    found = []
    array = job.array

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        region = tuple(
            slice(start, min(start + step, n))
            for start, step, n in zip(chunk.chunk_offset, array.chunks, array.shape, strict=True)
        )
        place = {"position": chunk.byte_offset, "nbytes": chunk.size}
        found.append(Placed(region=region, path=job.output, **place))

    with h5py.File(job.output, "r") as file:
        file[KEY].id.chunk_iter(note)
    return found


def _in_shard(job: Job, path: Path, unit: Region) -> Iterator[Placed]:
    """Yield the chunks that a shard's index, at its end, lists in C order."""
    grid = [whole // step for whole, step in zip(job.unit, job.array.chunks, strict=True)]
    n_chunks = int(np.prod(grid))
    payload = path.read_bytes()
    index = payload[len(payload) - n_chunks * _ENTRY_NBYTES - _CRC_NBYTES : -_CRC_NBYTES]
    entries = np.frombuffer(index, "<u8").reshape(*grid, 2)
    for region in tiles(unit, job.array.chunks):
        at = tuple(
            (axis.start - start.start) // step
            for axis, start, step in zip(region, unit, job.array.chunks, strict=True)
        )
        position, nbytes = map(int, entries[at])
        yield Placed(region=region, path=str(path), position=position, nbytes=nbytes)
