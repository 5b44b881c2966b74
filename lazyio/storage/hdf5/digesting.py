"""Digests of all of a dataset as it is, whoever has written it."""

from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import ELEMENTS, NO_ROWS, NotedDigests, Table, digest_of
from lazyio.atomic.hdf5_digests import (
    ObjectNames,
    digest_in,
    elements_in,
    facts_of,
    has_payloads,
    piece_shape,
    table_of,
)
from lazyio.errors import DamagedDataError
from lazyio.regions import Region, box, box_shape, boxes, grid_shape, index_at
from lazyio.sources.hdf5_layout import StoredPayloads
from lazyio.sources.manifest import manifest_of

Read = Callable[[Region], npt.NDArray[Any]]
"""Returns elements of a region."""


def digest_dataset(
    dataset: h5py.Dataset, read: Read | None = None, names: ObjectNames | None = None
) -> Table:
    """Return digests of all of a dataset; one piece of it is held at a time.

    ``read`` returns its elements, by default by libhdf5; ``names`` are those of what references
    of the file lead to, found once for many datasets.
    """
    known = names or ObjectNames(dataset.file, many=True)
    if dataset.shape is None:
        return Table(facts=facts_of(dataset, known), rows=NO_ROWS, of=ELEMENTS)

    def read_here(region: Region) -> npt.NDArray[Any]:
        return elements_in(dataset, region)

    noted = NotedDigests()
    if has_payloads(dataset):
        _note_payloads(dataset, read or read_here, noted)
    else:
        _note_elements(dataset, read or read_here, noted, known)
    return table_of(dataset, noted.rows(), noted.rims(), names=known)


def _note_elements(
    dataset: h5py.Dataset, read: Read, noted: NotedDigests, names: ObjectNames
) -> None:
    """Note what has no chunks of its own, in runs of about a megabyte."""
    # Of what was never written nothing is there, however large it is to be.
    if 0 in dataset.shape or not (dataset.is_virtual or dataset.id.get_storage_size()):
        return
    for number, region in enumerate(boxes(dataset.shape, piece_shape(dataset))):
        noted.note(number, digest_in(dataset, read(region), names))


def _note_payloads(dataset: h5py.Dataset, read: Read, noted: NotedDigests) -> None:
    """Note chunks as they are stored, and the elements of those that may gain others."""
    step, stored = dataset.chunks, StoredPayloads(dataset)
    grid = grid_shape(dataset.shape, step)
    for number in _stored_chunks(dataset):
        region = box(dataset.shape, step, index_at(number, grid))
        found = stored.find(tuple(part.start for part in region))
        if found is None:
            msg = "its list of chunks and the index by which they are read differ"
            raise DamagedDataError(msg)
        mask, payload = found
        rim = digest_in(dataset, read(region)) if _may_gain(dataset, region) else None
        noted.note(number, digest_of(payload, seed=mask), rim)


def _may_gain(dataset: h5py.Dataset, region: Region) -> bool:
    """Return whether the end of an axis cuts a chunk, where that may become longer."""
    axes = zip(box_shape(region), dataset.chunks, dataset.shape, dataset.maxshape, strict=True)
    return any(n < size and (bound is None or bound > extent) for n, size, extent, bound in axes)


def _stored_chunks(dataset: h5py.Dataset) -> Iterator[int]:
    """Yield the numbers of chunks that are stored, of each few thousand as they lie in the file."""
    if not dataset.id.get_storage_size():
        return
    manifest = manifest_of(dataset)
    if manifest is not None:
        for rows in manifest.pages():
            yield from rows["key"][np.argsort(rows["address"], kind="stable")].tolist()
        return
    # One by one, where the list cannot be trusted.
    stored = StoredPayloads(dataset)
    for number, region in enumerate(boxes(dataset.shape, dataset.chunks)):
        if stored.find(tuple(part.start for part in region)) is not None:
            yield number
