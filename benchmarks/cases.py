"""What is written: arrays, rows of the table, and one run of one contender."""

import json
import math
from dataclasses import asdict, dataclass

import numpy as np

LIMIT = "limit"
OURS = "lazyio"


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

    @property
    def nbytes(self) -> int:
        """Bytes before encoding."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, kw_only=True)
class Row:
    """A format and a codec, the same for every contender."""

    format: str
    label: str
    family: str = "none"
    """Codec: none, gzip, zstd or blosc (zstd inside)."""
    level: int = 0
    shuffle: bool = False
    """Whether HDF5's byte shuffle comes first; blosc brings its own."""

    @property
    def name(self) -> str:
        """What ``--rows`` calls it."""
        return f"{self.format}:{self.label}"


ROWS = {
    row.name: row
    for row in (
        Row(format="hdf5", label="none"),
        Row(format="hdf5", label="gzip-1", family="gzip", level=1, shuffle=True),
        Row(format="hdf5", label="gzip-4", family="gzip", level=4, shuffle=True),
        Row(format="hdf5", label="zstd-1", family="zstd", level=1, shuffle=True),
        Row(format="hdf5", label="blosc-zstd-1", family="blosc", level=1),
        Row(format="zarr", label="none"),
        Row(format="zarr", label="zstd", family="zstd", level=1),
        Row(format="zarr", label="blosc", family="blosc", level=1),
    )
}

CONTENDERS = {
    "hdf5": (LIMIT, OURS, "h5py", "hdmf", "dask"),
    "zarr": (LIMIT, OURS, "dask", "tensorstore"),
}

NAMES = tuple(dict.fromkeys(name for names in CONTENDERS.values() for name in names))


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of one contender, as it travels to a child process."""

    contender: str
    array: Array
    row: Row
    output: str
    threads: int
    is_checked: bool

    def to_json(self) -> str:
        """Return the job as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return the job that :meth:`to_json` wrote."""
        fields = json.loads(text)
        array = fields.pop("array")
        for name in ("shape", "chunks"):
            array[name] = tuple(array[name])
        return cls(array=Array(**array), row=Row(**fields.pop("row")), **fields)
