"""What is measured: arrays, rows of a table, and one run of one contender."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LIMIT = "limit"
OURS = "lazyio"

WRITE, READ = "write", "read"

STOCK = {"hdf5": "h5py", "zarr": "zarr"}
"""By format, who writes what is read, and whose size counts."""

_BLOCK_NBYTES = 8 << 20
_CHUNKS_PER_SHARD = 8


@dataclass(frozen=True, kw_only=True)
class Array:
    """An array in a file, and the chunks that it is to be written with."""

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    key: str | None = None
    """Dataset of an HDF5 file; None for raw binary files."""
    graph_blocks: tuple[int, ...] | None = None
    """Blocks of the dask graph that is given; None where contenders take what suits them."""
    outputs: tuple[str, ...] = ("data",)
    """What is written, by names of :data:`benchmarks.outputs.OUTPUTS`."""

    @property
    def nbytes(self) -> int:
        """Bytes of the source before encoding."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def shards(self) -> tuple[int, ...]:
        """Eight chunks, of the last axes first, so that a shard is few rows."""
        left = _CHUNKS_PER_SHARD
        factors = []
        for n, step in zip(self.shape[:0:-1], self.chunks[:0:-1], strict=True):
            there = -(-n // step)
            # As many as there are, in twos, so that what is left stays a whole number.
            factor = min(left, 1 << (there.bit_length() - 1))
            left //= factor
            factors.append(factor)
        factors.append(left)
        return tuple(
            step * factor for step, factor in zip(self.chunks, reversed(factors), strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """A format and a codec, the same for every contender."""

    format: str
    label: str
    family: str = "none"
    """Codec: none, gzip, zstd, blosc, blosc2, lz4, lzf, bitshuffle or szip."""
    level: int = 0
    cname: str = "zstd"
    """What blosc and blosc2 have inside."""
    shuffle: bool = False
    """Whether HDF5's byte shuffle comes first; blosc brings its own."""
    is_sharded: bool = False
    is_checksummed: bool = False
    """Whether crc32c comes last."""
    zarr_format: int = 3
    action: str = WRITE
    """Whether the array is written, or read and added up."""

    @property
    def name(self) -> str:
        """What ``--rows`` calls it."""
        return f"{'read-' if self.action == READ else ''}{self.format}:{self.label}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of one contender, as it travels to a child process."""

    contender: str
    array: Array
    row: Row
    output: str
    """File or folder that is written, or read."""
    threads: int
    is_checked: bool
    is_synced: bool = False
    """Whether the clock stops only when everything is on the disk."""
    action: str = WRITE
    """What this run does; what a row reads has to be written first."""

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of what is stored in one piece: a chunk, or a shard."""
        return self.array.shards if self.row.is_sharded else self.array.chunks

    @property
    def is_grouped(self) -> bool:
        """Whether a Zarr array lies in a group: several do, and what xarray is to read."""
        return len(self.array.outputs) > 1 or self.row.action == READ

    @property
    def block_rows(self) -> int:
        """Rows that are read at once: whole rows of units, and some MiB."""
        row_nbytes = self.array.nbytes // self.array.shape[0]
        units = max(1, _BLOCK_NBYTES // (row_nbytes * self.unit[0]))
        return min(units * self.unit[0], self.array.shape[0])

    def blocks(self) -> list[slice]:
        """Return the rows of each block."""
        n = self.array.shape[0]
        return [
            slice(start, min(start + self.block_rows, n)) for start in range(0, n, self.block_rows)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Job":
        """Return the job that :meth:`to_dict` gave, tuples become lists and all."""
        array = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields["array"].items()
        }
        return cls(**{**fields, "array": Array(**array), "row": Row(**fields["row"])})


def to_json(jobs: Sequence[Job]) -> str:
    """Return jobs as one line."""
    return json.dumps([job.to_dict() for job in jobs])


def from_json(text: str) -> list[Job]:
    """Return the jobs that :func:`to_json` wrote."""
    return [Job.from_dict(fields) for fields in json.loads(text)]
