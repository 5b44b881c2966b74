"""What is left to libhdf5: whatever lazyio does not decode itself, under h5py's lock."""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from lazyio.atomic.hdf5_digests import read_opaque
from lazyio.atomic.recovery import interruption_of
from lazyio.codecs.hdf5_chunks import labelled_filters, libhdf5_has, remedy_for
from lazyio.dtypes import is_text
from lazyio.errors import DamagedDataError, SourceError
from lazyio.os_errors import errno_of
from lazyio.regions import Region, format_region, touched
from lazyio.sources.base import Array
from lazyio.sources.files import require_regular
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.identity import Identity, identity_at, identity_of, require_same

_PATIENCE, _PAUSE = 5.0, 0.02
"""Seconds for which a file is waited for that another program has locked, and between looks."""
_LOCKED = (errno.EAGAIN, errno.EACCES)
_METADATA_NBYTES = 1 << 19
"""What libhdf5 keeps of a file's metadata: its own 32 MiB would be as much as a memory limit.

Chunks come about in order, so that no more is needed.
"""


def bound_metadata(file: h5py.File) -> h5py.File:
    """Have libhdf5 keep little of a file's metadata in memory, and return the file."""
    cache = file.id.get_mdc_config()
    cache.max_size = _METADATA_NBYTES
    cache.min_size = min(cache.min_size, _METADATA_NBYTES)
    cache.initial_size = min(cache.initial_size, _METADATA_NBYTES)
    file.id.set_mdc_config(cache)
    return file


@contextmanager
def held_open(path: str, identity: Identity) -> Iterator[h5py.File]:
    """Open a file for reading while another is written: what goes wrong is not its fault."""
    require_regular(path)
    with foreign_errors(path):
        file = _opened(path)
    with file:
        # libhdf5 hands out the file that is open already, whatever the mode asked for.
        if file.mode != "r":
            msg = f"{path} is open for writing in this process; close it, and call again"
            raise SourceError(errno.EBUSY, msg)
        require_same(path, identity, identity_in(file))
        yield file


@contextmanager
def open_hdf5(path: str, identity: Identity | None = None) -> Iterator[h5py.File]:
    """Open a file for reading, and say what is wrong where that fails.

    A file that another program has locked to change it is waited for, for a moment.
    """
    require_regular(path)
    with foreign_errors(path), _opened(path) as file:
        if identity is not None:
            require_same(path, identity, identity_in(file))
        yield file


def identity_in(file: h5py.File) -> Identity:
    """Return the identity of a file that libhdf5 has open."""
    path = os.fsdecode(file.filename)
    if file.driver == "sec2":
        return identity_of(path, file.id.get_vfd_handle())
    # Other drivers have no descriptor to ask.
    found = identity_at(path)
    if found is None:
        msg = f"{path} is not there any more, or never was a file on disk"
        raise SourceError(errno.ENOENT, msg)
    return found


def _opened(path: str) -> h5py.File:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return bound_metadata(h5py.File(path, "r"))
        except OSError as error:
            is_locked = error.errno in _LOCKED and "unable to lock" in str(error)
            if is_locked and time.monotonic() < until:
                time.sleep(_PAUSE)
                continue
            reason = str(error).partition("(")[2].rstrip(")") or str(error)
            if is_locked:
                reason += "; another program is writing it, wait until that has closed it"
            reason = interruption_of(Path(os.path.realpath(path))) or reason
            msg = f"{path} cannot be opened as HDF5: {reason}"
            raise SourceError(error.errno or errno.EIO, msg) from error


def read_dataset(dataset: h5py.Dataset, region: Region, out: Array, name: str) -> None:
    """Fill ``out`` with a part of an open dataset, by libhdf5."""
    require_filters(dataset, name)
    try:
        if not out.size:
            return
        if out.ndim > len(dataset.shape):
            # Elements that are arrays: libhdf5 has those whole.
            n_axes = len(dataset.shape)
            found = dataset[region[:n_axes]]
            out[...] = found[(slice(None),) * n_axes + region[n_axes:]]
        elif is_text(out.dtype):
            _read_text(dataset, region, out)
        elif not dataset.shape:
            out[()] = dataset[()]
        elif out.dtype.kind == "V" and out.dtype.fields is None:
            read_opaque(dataset, region, out)
        else:
            dataset.read_direct(out, source_sel=region)
    except (OSError, UnicodeDecodeError) as error:
        if number := errno_of(error):
            msg = f"{name} cannot be read at {format_region(region)}: {os.strerror(number)}"
            raise SourceError(number, msg) from error
        msg = f"{name} cannot be decoded at {format_region(region)}: {error}"
        raise DamagedDataError(msg) from error


def _read_text(dataset: h5py.Dataset, region: Region, out: Array) -> None:
    # Not as numpy's text at once: that takes any bytes for UTF-8, and h5py
    # has no way from ASCII to it before it has seen UTF-8.
    text = dataset.asstr()
    try:
        out[...] = text[region or ()]
    except OSError:
        if dataset.chunks is None:
            raise
        # In a file that is open for reading, libhdf5 has no fill value for chunks that are missing.
        out[...] = dataset.fillvalue.decode()
        for index, in_chunk, in_region in touched(region, dataset.chunks):
            corner = tuple(at * extent for at, extent in zip(index, dataset.chunks, strict=True))
            if dataset.id.get_chunk_info_by_coord(corner).byte_offset is not None:
                out[in_region] = text[_moved(in_chunk, corner)]


def _moved(region: Region, corner: Sequence[int]) -> Region:
    return tuple(
        slice(first + part.start, first + part.stop)
        for part, first in zip(region, corner, strict=True)
    )


def write_dataset(dataset: h5py.Dataset, region: Region, elements: Array) -> None:
    """Write a part of an open dataset, by libhdf5."""
    if elements.dtype.kind == "V" and elements.dtype.fields is None:
        there = space = h5py.h5s.ALL
        if region:
            there = dataset.id.get_space()
            there.select_hyperslab(tuple(part.start for part in region), elements.shape)
            space = h5py.h5s.create_simple(elements.shape)
        dataset.id.write(space, there, np.ascontiguousarray(elements), dataset.id.get_type())
        return
    if is_text(elements.dtype) and h5py.check_string_dtype(dataset.dtype).encoding == "ascii":
        # There is no way from numpy's text to text that is tagged ASCII.
        elements = elements.astype(object)
    if elements.dtype.fields is not None and elements.dtype == dataset.dtype:
        # Says of each field what its bytes are: there is no way from ASCII to UTF-8.
        elements = elements.view(dataset.dtype)
    dataset[region or ()] = elements


def require_filters(dataset: h5py.Dataset, name: str) -> None:
    """Raise unless every filter of a dataset can be undone here."""
    for step, label in labelled_filters(dataset):
        number = step.filter_id
        if libhdf5_has(number):
            continue
        remedy = remedy_for(
            number,
            "ask the maker of the file for its plugin and set HDF5_PLUGIN_PATH to its folder",
        )
        named = f"{number} ({label or 'no name'})"
        msg = f"{name} needs HDF5 filter {named}, which is not available here; {remedy}"
        raise SourceError(msg)
