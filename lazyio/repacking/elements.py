"""Elements that libhdf5 copies: small datasets, and those that are no plain bytes.

A chunk is copied as it is stored wherever its elements are plain bytes. Text of any length,
rows of differing length and references lie elsewhere in the file, and are read and written.
"""

import os
from collections.abc import Iterator

import h5py
import numpy as np
from h5py import h5s

from lazyio.libhdf5_calls import read_direct_chunk, write_direct_chunk
from lazyio.regions import Region, box, box_shape, boxes, rows_of
from lazyio.repacking.references import References, dtype_in, kinds_in
from lazyio.sources.hdf5_layout import StoredPayloads, each_stored_chunk

_SLAB_NBYTES = 2**20
"""Of elements that are read and written at once."""
_SLAB_ELEMENTS = 2**13
"""The same where each of them is a Python object meanwhile."""


def lies_elsewhere(properties: h5py.h5p.PropDCID) -> bool:
    """Return whether the elements of a dataset lie in other files."""
    is_virtual = bool(properties.get_layout() == h5py.h5d.VIRTUAL)
    return is_virtual or bool(properties.get_external_count())


def names_relative_files(properties: h5py.h5p.PropDCID) -> bool:
    """Return whether elements lie in other files, named by where those lie from their own."""
    names = [properties.get_external(n)[0] for n in range(properties.get_external_count())]
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        count = properties.get_virtual_count()
        names += [properties.get_virtual_filename(n).encode() for n in range(count)]
    return any(name != b"." and not os.path.isabs(name) for name in names)


def copy_elements(source: h5py.Dataset, target: h5py.Dataset, references: References) -> None:
    """Copy the elements of a dataset into its copy, which has the same layout."""
    if source.shape is None or not source.size or not source.id.get_storage_size():
        return
    kind = source.id.get_type()
    kinds = kinds_in(kind)
    if not kinds and source.chunks is not None:
        for corner in _stored_corners(source):
            mask, payload = read_direct_chunk(source, corner)
            write_direct_chunk(target, corner, payload, mask)
    elif not kinds:
        for region in boxes(source.shape, rows_of(source.shape, kind.get_size(), _SLAB_NBYTES)):
            _copy_bytes(source, target, region)
    else:
        what = f"{source.file.filename}: dataset {source.name!r}"
        dtype = dtype_in(kind, what)
        for region in _regions(source):
            elements = np.empty(box_shape(region), dtype)
            memory, there = _spaces(source, region)
            source.id.read(memory, there, elements)
            if "references" in kinds:
                references.lead_on(elements, dtype, source.file)
            memory, there = _spaces(target, region)
            target.id.write(memory, there, elements)


def _copy_bytes(source: h5py.Dataset, target: h5py.Dataset, region: Region) -> None:
    """Copy elements of whatever type, as they lie in memory by the file's own type."""
    kind = source.id.get_type()
    raw = np.zeros(box_shape(region), f"V{kind.get_size()}")
    memory, there = _spaces(source, region)
    source.id.read(memory, there, raw, kind)
    memory, there = _spaces(target, region)
    target.id.write(memory, there, raw, kind)


def _spaces(dataset: h5py.Dataset, region: Region) -> tuple[h5s.SpaceID, h5s.SpaceID]:
    there = dataset.id.get_space()
    if not region:
        return h5s.create(h5s.SCALAR), there
    shape = box_shape(region)
    there.select_hyperslab(tuple(part.start for part in region), shape)
    return h5s.create_simple(shape), there


def _regions(dataset: h5py.Dataset) -> Iterator[Region]:
    """Yield the parts of a dataset that are stored, as they are best read."""
    if dataset.chunks is None:
        yield from boxes(dataset.shape, rows_of(dataset.shape, 1, _SLAB_ELEMENTS))
        return
    for corner in _stored_corners(dataset):
        index = tuple(at // step for at, step in zip(corner, dataset.chunks, strict=True))
        yield box(dataset.shape, dataset.chunks, index)


def _stored_corners(dataset: h5py.Dataset) -> list[tuple[int, ...]]:
    """Return where the chunks begin that are stored, in the order of the file's index."""
    found: list[tuple[int, ...]] = []
    steps = np.array(dataset.chunks)

    def take(index: np.ndarray[tuple[int, int], np.dtype[np.int64]], _: object) -> None:
        found.extend(map(tuple, (index * steps).tolist()))

    if each_stored_chunk(dataset, take):
        return found
    # One by one, where the list cannot be trusted.
    stored = StoredPayloads(dataset)
    corners = (tuple(part.start for part in one) for one in boxes(dataset.shape, dataset.chunks))
    return [corner for corner in corners if stored.find(corner) is not None]
