"""What virtual datasets are made of, and whether their chunks are whole chunks of that."""

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.codecs.hdf5_filters import Filter
from lazyio.dtypes import Shape
from lazyio.libhdf5_calls import named
from lazyio.regions import Region, box_shape, grid_shape, n_along
from lazyio.repacking.properties import passed_through
from lazyio.repacking.references import kinds_in
from lazyio.sources.libhdf5 import identity_in
from lazyio.sources.stored_chunks import ChunkBox, JoinedChunks, stored_chunks

_MOST_CHUNKS = 10**7
"""Of a virtual dataset, to look for those that several sources have."""


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """A part of a virtual dataset, and where it lies."""

    path: str
    """Of the file, as it is named; a dot is the file itself."""
    key: str
    """Of the dataset in there."""
    there: Any
    """Selection in that."""
    here: Any
    """Selection in the virtual dataset."""


def mapped_in(dataset: h5py.Dataset) -> list[Mapped]:
    """Return the parts of a virtual dataset."""
    return [
        Mapped(path=str(one.file_name), key=one.dset_name, there=one.src_space, here=one.vspace)
        for one in dataset.virtual_sources()
    ]


class _Sources(contextlib.ExitStack):
    """The files of a virtual dataset's sources, of which it is known that they may be read."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        super().__init__()
        self._dataset = dataset
        self._files: dict[str, h5py.File] = {}

    def find(self, part: Mapped) -> h5py.Dataset | None:
        """Return the dataset that a part lies in, ``None`` where it lies beside no other."""
        if part.path == ".":
            found = self._dataset.file.get(named(part.key))
        else:
            folder = os.path.dirname(os.fsdecode(self._dataset.file.filename))
            path = os.path.join(folder, part.path)
            if "%" in part.path + part.key or not os.path.isfile(path):
                return None
            if path not in self._files:
                self._files[path] = self.enter_context(h5py.File(path, "r"))
            found = self._files[path].get(part.key)
        return found if isinstance(found, h5py.Dataset) else None


def form_of_first(dataset: h5py.Dataset) -> tuple[Shape | None, tuple[Filter, ...]]:
    """Return chunks and filters of the first source of a virtual dataset."""
    parts = mapped_in(dataset)
    with _Sources(dataset) as sources:
        first = sources.find(parts[0]) if parts else None
        if first is None or first.chunks is None or first.ndim != dataset.ndim:
            return None, ()
        fits = all(
            bound is None or step <= bound
            for step, bound in zip(first.chunks, dataset.maxshape, strict=True)
        )
        return (tuple(map(int, first.chunks)), filters_of(first)) if fits else (None, ())


def joined_chunks(dataset: h5py.Dataset) -> tuple[JoinedChunks, tuple[Filter, ...]] | None:
    """Return the chunks of a virtual dataset and their filters, if all are whole in its sources."""
    parts, boxes = mapped_in(dataset), []
    form: Any = None
    if not parts or not dataset.size or kinds_in(dataset.id.get_type()):
        return None
    with _Sources(dataset) as sources:
        for part in parts:
            source = sources.find(part)
            if source is None or source.chunks is None or source.file.mode != "r":
                return None
            if form is None and passed_through(source) is not None:
                form = source.chunks, filters_of(source)
            if form != (source.chunks, filters_of(source)):
                return None
            box = _box(dataset, source, part)
            if box is None:
                return None
            boxes.append(box)
    grid = grid_shape(dataset.shape, form[0])
    if _overlap(boxes, grid):
        return None
    shape = tuple(map(int, dataset.shape))
    return JoinedChunks(shape=shape, chunk_shape=form[0], boxes=tuple(boxes)), form[1]


def _box(dataset: h5py.Dataset, source: h5py.Dataset, part: Mapped) -> ChunkBox | None:
    """Return the chunks that a part is made of, ``None`` where they are not whole."""
    here, there = _region(part.here, dataset.shape), _region(part.there, source.shape)
    is_alike = source.ndim == dataset.ndim and source.id.get_type().equal(dataset.id.get_type())
    if here is None or there is None or not is_alike or box_shape(here) != box_shape(there):
        return None
    axes = zip(here, there, source.chunks, dataset.shape, source.shape, strict=True)
    if not all(_is_whole(*axis) for axis in axes):
        return None
    path = os.path.realpath(os.fsdecode(source.file.filename))
    chunks = stored_chunks(source, path, identity_in(source.file))
    if chunks is None or (chunks.is_sparse and not _same_fill(dataset, source)):
        return None
    steps = chunks.chunk_shape
    return ChunkBox(
        chunks=chunks,
        first=tuple(side.start // step for side, step in zip(there, steps, strict=True)),
        at=tuple(side.start // step for side, step in zip(here, steps, strict=True)),
        count=tuple(
            n_along(side.stop - side.start, step) for side, step in zip(here, steps, strict=True)
        ),
    )


def _is_whole(here: slice, there: slice, step: int, extent: int, source_extent: int) -> bool:
    """Return whether a side of a part begins and ends with chunks, in both datasets."""
    begins = here.start % step == 0 and there.start % step == 0
    is_end = here.stop == extent and there.stop == source_extent
    return bool(begins and (here.stop % step == 0 or is_end))


def _same_fill(one: h5py.Dataset, other: h5py.Dataset) -> bool:
    """Return whether what is not stored reads as the same."""
    fills = [np.asarray(dataset.fillvalue).tobytes() for dataset in (one, other)]
    return bool(fills[0] == fills[1])


def _region(space: h5py.h5s.SpaceID, shape: Shape) -> Region | None:
    """Return the box that a selection of an array is, ``None`` where it is none."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return tuple(slice(0, int(extent)) for extent in shape)
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        return None
    try:
        low, high = space.get_select_bounds()
        count = space.get_select_npoints()
    except (RuntimeError, TypeError, ValueError):
        return None
    found = tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    return found if math.prod(box_shape(found)) == count else None


def _overlap(boxes: Sequence[ChunkBox], grid: Shape) -> bool:
    """Return whether some chunk belongs to several parts, or that cannot be told."""
    if math.prod(grid) > _MOST_CHUNKS:
        return True
    taken = np.zeros(grid, bool)
    for one in boxes:
        place = tuple(slice(at, at + n) for at, n in zip(one.at, one.count, strict=True))
        if taken[place].any():
            return True
        taken[place] = True
    return False
