"""What is read: an array in many chunk shapes, codecs and formats, and windows out of it."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import zarr
from zarr.codecs import GzipCodec, ZstdCodec

from benchmarks.recording import Recording
from lazyio.sources.lookup import source_for

SHAPE = (16_384, 512)
SHORT_SHAPE = (2_048, 128)
CHUNKS = (
    (32, 256),
    (2048, 4),
    (256, 64),
    (4096, 16),
    (128, 512),
    (1024, 64),
    (8192, 8),
    (512, 512),
    (8192, 64),
    (2048, 512),
    (16_384, 64),
)
WINDOWS = (
    (1, 512),
    (16_384, 1),
    (1000, 1),
    (10, 10),
    (100, 100),
    (1000, 64),
    (3000, 512),
    (8000, 4),
)
CODECS = ("none", "gzip", "zstd")
UNCACHED = "h5py uncached"
READERS = ("h5py", UNCACHED, "lazyio HDF5", "zarr-python", "lazyio Zarr")
# Only without filters is there anything to tell with and without libhdf5's chunk cache.
PAIRS = tuple(
    (reader, codec)
    for reader, codec in itertools.product(READERS, CODECS)
    if reader != UNCACHED or codec == "none"
)

Region = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One window at one place, read out of chunks of one shape, and what it took."""

    reader: str
    codec: str
    chunk: tuple[int, ...]
    window: tuple[int, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]
    seconds: float = math.inf

    @property
    def region(self) -> Region:
        """The window, at its place."""
        return tuple(slice(s, s + w) for s, w in zip(self.start, self.window, strict=True))

    @property
    def n_chunks(self) -> int:
        """Chunks that it touches."""
        return math.prod(len(range(*axis)) for axis in self._touched())

    @property
    def n_elements(self) -> int:
        """Elements of those chunks, cut at the end of the array."""
        return math.prod(
            min(end, axis[1] * chunk) - axis[0] * chunk
            for axis, chunk, end in zip(self._touched(), self.chunk, self.shape, strict=True)
        )

    @property
    def n_wanted(self) -> int:
        """Elements of the window."""
        return math.prod(self.window)

    @property
    def n_runs(self) -> int:
        """Runs that lie together both in a chunk and in memory."""
        total = 0
        for index in itertools.product(*(range(*axis) for axis in self._touched())):
            runs, is_one = 1, True
            for axis in reversed(range(len(self.chunk))):
                low = max(self.start[axis], index[axis] * self.chunk[axis])
                end = min(self.start[axis] + self.window[axis], self.shape[axis])
                rows = min(end, (index[axis] + 1) * self.chunk[axis]) - low
                runs *= 1 if is_one else rows
                is_one = is_one and rows == self.chunk[axis] == self.window[axis]
            total += runs
        return total

    def _touched(self) -> list[tuple[int, int]]:
        return [
            (start // chunk, -(-(start + window) // chunk))
            for start, window, chunk in zip(self.start, self.window, self.chunk, strict=True)
        ]


def readings(shape: tuple[int, ...], n_places: int) -> Iterator[Reading]:
    """Yield what is to be read, at a few places each, always the same.

    Parameters
    ----------
    shape : tuple of int
        Of the array; larger chunks and windows are cut to it.
    n_places : int
        How many for each window.
    """
    random = np.random.default_rng(5)
    chunks = dict.fromkeys(tuple(map(min, chunk, shape)) for chunk in CHUNKS)
    windows = dict.fromkeys(tuple(map(min, window, shape)) for window in WINDOWS)
    for chunk, window in itertools.product(chunks, windows):
        for _ in range(n_places):
            start = tuple(
                int(random.integers(0, end - part + 1))
                for end, part in zip(shape, window, strict=True)
            )
            for reader, codec in PAIRS:
                yield Reading(
                    reader=reader, codec=codec, chunk=chunk, window=window, start=start, shape=shape
                )


def write_all(folder: Path, shape: tuple[int, ...]) -> None:
    """Write the array once for each chunk shape and codec, as HDF5 and as Zarr."""
    values = Recording(shape[1]).slab(shape[0])
    filters: dict[str, dict[str, Any]] = {
        "none": {},
        "gzip": {"compression": "gzip", "compression_opts": 1},
        "zstd": dict(hdf5plugin.Zstd(clevel=1)),
    }
    compressors = {"none": None, "gzip": GzipCodec(level=1), "zstd": ZstdCodec(level=1)}
    for chunk in dict.fromkeys(tuple(map(min, chunk, shape)) for chunk in CHUNKS):
        for codec in CODECS:
            with h5py.File(_path(folder, "h5", codec, chunk), "w") as file:
                file.create_dataset("x", data=values, chunks=chunk, **filters[codec])
            zarr.create_array(
                _path(folder, "zarr", codec, chunk),
                data=values,
                chunks=chunk,
                compressors=compressors[codec],
            )


def opened(folder: Path, reading: Reading) -> Callable[[Region], Any]:
    """Return a function that reads a region, of an array opened anew, so that nothing is cached."""
    suffix = "zarr" if reading.reader in ("zarr-python", "lazyio Zarr") else "h5"
    path = _path(folder, suffix, reading.codec, reading.chunk)
    if reading.reader in ("h5py", UNCACHED):
        cache = {"rdcc_nbytes": 0} if reading.reader == UNCACHED else {}
        dataset = h5py.File(path, "r", **cache)["x"]
        return lambda region: dataset[region]
    if reading.reader == "zarr-python":
        array = zarr.open_array(path, mode="r")
        return lambda region: array[region]
    return source_for(path, "x" if suffix == "h5" else None).read


def _path(folder: Path, suffix: str, codec: str, chunk: tuple[int, ...]) -> str:
    return str(folder / f"{codec}-{'x'.join(map(str, chunk))}.{suffix}")
