"""Reading back what was written, with stock h5py and zarr-python."""

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import zarr

from benchmarks.cases import Array, Job, Row
from benchmarks.contenders.opened import KEY, hdf5_filters, open_source
from benchmarks.contenders.zarr_codecs import zarr_compressors

_SLAB_NBYTES = 32 << 20
_SHUFFLE, _GZIP = 2, 1


def read_back(job: Job) -> None:
    """Compare the whole output, its chunks and its codec with what was asked for.

    Parameters
    ----------
    job : Job
        What was written.

    Raises
    ------
    ValueError
        When anything differs.
    """
    if job.row.format == "zarr":
        stored = zarr.open_array(job.output, mode="r")
        asked = zarr_compressors(job.row)
        blosc = (
            {"typesize": np.dtype(job.array.dtype).itemsize} if job.row.family == "blosc" else {}
        )
        wanted = [] if asked is None else [_with(asked.to_dict(), blosc)]
        _same("compressors", [one.to_dict() for one in stored.compressors], wanted)
        _compare(stored, job.array)
        return
    with h5py.File(job.output, "r") as file:
        _same("filters", _filters(file[KEY]), _wanted_filters(job.row))
        _compare(file[KEY], job.array)


def size_of(path: str) -> int:
    """Return the bytes of a file, or of all files of a folder.

    Parameters
    ----------
    path : str
        The file or folder.
    """
    if Path(path).is_file():
        return Path(path).stat().st_size
    return sum(one.stat().st_size for one in Path(path).rglob("*") if one.is_file())


def _compare(stored: Any, array: Array) -> None:
    _same("shape", tuple(stored.shape), array.shape)
    _same("dtype", np.dtype(stored.dtype), np.dtype(array.dtype))
    _same("chunks", tuple(stored.chunks), array.chunks)
    source = open_source(array)
    row_nbytes = array.nbytes // array.shape[0]
    # Whole chunks, so that none is decoded twice.
    step = max(1, _SLAB_NBYTES // (row_nbytes * array.chunks[0])) * array.chunks[0]
    bits = f"u{np.dtype(array.dtype).itemsize}"
    for start in range(0, array.shape[0], step):
        rows = slice(start, min(start + step, array.shape[0]))
        # As bits, so that every nan equals itself.
        if not np.array_equal(stored[rows].view(bits), source[rows].view(bits)):
            msg = f"rows {rows.start} to {rows.stop} are not those of the source"
            raise ValueError(msg)


def _filters(dataset: Any) -> list[tuple[int, tuple[int, ...]]]:
    """Return id and settings of each filter, without what the library itself fills in."""
    created = dataset.id.get_create_plist()
    found = []
    for number in range(created.get_nfilters()):
        name, _, values, _ = created.get_filter(number)
        # Blosc's first four values are versions and sizes.
        skipped = 4 if name == hdf5plugin.Blosc.filter_id else 0
        found.append((name, () if name == _SHUFFLE else tuple(values[skipped:])))
    return found


def _wanted_filters(row: Row) -> list[tuple[int, tuple[int, ...]]]:
    asked = hdf5_filters(row)
    if not asked:
        return []
    if row.family == "gzip":
        codec = (_GZIP, (row.level,))
    else:
        skipped = 4 if row.family == "blosc" else 0
        codec = (asked["compression"], tuple(asked["compression_opts"][skipped:]))
    return [(_SHUFFLE, ()), codec] if row.shuffle else [codec]


def _with(codec: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return codec | {"configuration": codec["configuration"] | changes}


def _same(what: str, given: Any, wanted: Any) -> None:
    if given != wanted:
        msg = f"{what}: {given} was written, {wanted} was asked for"
        raise ValueError(msg)
