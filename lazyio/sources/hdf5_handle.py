"""HDF5 datasets that a user has opened, which may lie where no path leads."""

import os
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from lazyio.errors import SourceError
from lazyio.grid import Region, box_shape
from lazyio.sources.base import Array, Source
from lazyio.sources.decoded import decoded
from lazyio.sources.hdf5 import describe_dataset, hdf5_source
from lazyio.sources.identity import identity_at
from lazyio.sources.libhdf5 import identity_in, read_dataset
from lazyio.spec import Shape


@dataclass(frozen=True, kw_only=True)
class OpenDatasetSource:
    """A dataset that only an open handle leads to: in memory, or open for writing.

    It is read through libhdf5 and h5py's lock, and cannot go to another process.
    """

    array: h5py.Dataset
    """The handle; its file has to stay open."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """What is decoded at once; ``None`` for contiguous datasets."""

    @property
    def location(self) -> tuple[str, str]:
        """Name of the file, which may be none on disk, and of the dataset."""
        self._require_open()
        return str(self.array.file.filename), str(self.array.name or "")

    def read(self, region: Region) -> Array:
        """Return a part as a new array."""
        out: Array = np.empty(box_shape(region), self.dtype)
        self.read_into(region, out)
        return out

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        self._require_open()
        read_dataset(self.array, region, out, f"the open dataset {self.array.name!r}")

    def _require_open(self) -> None:
        if not self.array:
            msg = "the dataset's file has been closed; keep it open, or give path and key"
            raise SourceError(msg)


def open_dataset_source(dataset: h5py.Dataset) -> Source:
    """Return the source for a dataset that a user has opened.

    It travels as path and key where that leads to the same data; where its
    file is open for writing, is no file on disk, or has no name for it, it is
    read through the handle.
    """
    if not dataset:
        msg = "the dataset's file has been closed; open it again, or give path and key"
        raise SourceError(msg)
    file = dataset.file
    on_disk = file.driver in ("sec2", "stdio") and file.mode == "r" and not file.swmr_mode
    if on_disk and dataset.name is not None and _leads_to_itself(file):
        return hdf5_source(file.filename, dataset.name)
    facts = describe_dataset(dataset, str(file.filename))
    held = OpenDatasetSource(
        array=dataset, shape=facts.shape, dtype=facts.dtype, chunk_shape=facts.chunk_shape
    )
    return decoded(held, dataset.attrs)


def _leads_to_itself(file: h5py.File) -> bool:
    """Return whether the path of an open file still leads to it, and to no successor."""
    found = identity_at(os.fsdecode(file.filename))
    return found is not None and not identity_in(file).difference(found)
