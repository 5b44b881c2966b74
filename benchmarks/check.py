"""Reading back what was written, with stock h5py and zarr-python."""

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import zarr

from benchmarks.cases import Array, Job, Row
from benchmarks.contenders.opened import hdf5_filters, open_source
from benchmarks.contenders.zarr_arrays import zarr_compressors
from benchmarks.outputs import OUTPUTS

_SLAB_NBYTES = 32 << 20

# Values that say what was asked for; the others are versions and sizes that a library fills in.
_TOLD = {
    h5py.h5z.FILTER_SHUFFLE: slice(0),
    hdf5plugin.Blosc.filter_id: slice(4, 7),
    hdf5plugin.Blosc2.filter_id: slice(4, 7),
}


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
        for name in job.array.outputs:
            stored = zarr.open_array(job.output, path=name if job.is_grouped else None, mode="r")
            _same("compressors", _told_by_zarr(stored.compressors), _asked_of_zarr(job))
            _same("shards", stored.shards, job.array.shards if job.row.is_sharded else None)
            _compare(stored, job.array, name)
        return
    with h5py.File(job.output, "r") as file:
        for name in job.array.outputs:
            _same("filters", _filters(file[name]), _asked_of_hdf5(job.array, job.row))
            _compare(file[name], job.array, name)


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


def _compare(stored: Any, array: Array, name: str) -> None:
    make = OUTPUTS[name]
    source = open_source(array)
    _same("shape", tuple(stored.shape), (array.shape[0], *make(source[:1]).shape[1:]))
    _same("dtype", np.dtype(stored.dtype), np.dtype(array.dtype))
    _same("chunks", tuple(stored.chunks), array.chunks)
    row_nbytes = array.nbytes // array.shape[0]
    unit = getattr(stored, "shards", None) or stored.chunks
    # Whole chunks, so that none is decoded twice.
    step = max(1, _SLAB_NBYTES // (row_nbytes * unit[0])) * unit[0]
    bits = f"u{np.dtype(array.dtype).itemsize}"
    for start in range(0, array.shape[0], step):
        rows = slice(start, min(start + step, array.shape[0]))
        expected = np.ascontiguousarray(make(source[rows]))
        # As bits, so that every nan equals itself.
        if not np.array_equal(stored[rows].view(bits), expected.view(bits)):
            msg = f"{name}: rows {rows.start} to {rows.stop} are not those of the source"
            raise ValueError(msg)


def _filters(dataset: Any) -> list[tuple[int, tuple[int, ...]]]:
    """Return id and settings of each filter, without what the library itself fills in."""
    created = dataset.id.get_create_plist()
    found = []
    for number in range(created.get_nfilters()):
        name, _, values, _ = created.get_filter(number)
        found.append((name, tuple(values[_TOLD.get(name, slice(None))])))
    return found


def _asked_of_hdf5(array: Array, row: Row) -> list[tuple[int, tuple[int, ...]]]:
    """Return the filters of a dataset that h5py makes with the same options."""
    with h5py.File("asked", "w", driver="core", backing_store=False) as file:
        asked = hdf5_filters(row)
        dataset = file.create_dataset("x", array.shape, array.dtype, chunks=array.chunks, **asked)
        return _filters(dataset)


def _asked_of_zarr(job: Job) -> list[dict[str, Any]]:
    asked = zarr_compressors(job.row)
    told = [] if asked is None else _told_by_zarr([asked])
    if job.row.family == "blosc":
        # Left to zarr, which takes the size of an element.
        told[0]["configuration"]["typesize"] = np.dtype(job.array.dtype).itemsize
    return told


def _told_by_zarr(compressors: Any) -> list[dict[str, Any]]:
    """Return codecs as JSON has them; of version 2 only what was asked for."""
    return [
        one.to_dict() if hasattr(one, "to_dict") else {"id": one.codec_id, "level": one.level}
        for one in compressors
    ]


def _same(what: str, given: Any, wanted: Any) -> None:
    if given != wanted:
        msg = f"{what}: {given} was written, {wanted} was asked for"
        raise ValueError(msg)
