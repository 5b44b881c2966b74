"""Chunks of an HDF5 dataset, encoded and written by a process that has not opened the file.

It knows what a payload is made of, and is told where each belongs; what makes
a payload findable is written by whoever has the file open.
"""

import errno
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.atomic.descriptors import WRITES_AT_ONCE, opened, write_at
from lazyio.atomic.digests import digest_of, digest_of_elements
from lazyio.codecs.hdf5_chunks import Encoder, Payload, encoder_for
from lazyio.codecs.hdf5_filters import Filter, as_given
from lazyio.codecs.workspace import Bytes, Kept, Workspace
from lazyio.dtypes import Shape
from lazyio.errors import OptionError, TargetError
from lazyio.regions import flat_index
from lazyio.storage.base import EncodedChunk, PayloadPlace, padded
from lazyio.storage.disk_errors import disk_errors


@dataclass(frozen=True, kw_only=True)
class Hdf5ChunkWriter:
    """What encodes and writes chunks of a dataset in another process."""

    path: Path
    """The file."""
    shape: Shape
    """Extents of the dataset, in elements."""
    chunk_shape: Shape
    """Extents of a chunk."""
    grid: Shape
    """Chunks along each axis, by which they are numbered."""
    bounds: tuple[int | None, ...]
    """How far the dataset may grow."""
    elements: np.dtype[Any]
    """Type of an element."""
    fill_value: Any
    """With which chunks are padded."""
    filters: tuple[Filter, ...]
    """In the order in which they are applied."""
    skips: bool
    """Whether a chunk that does not shrink is stored without its compression."""
    has_digests: bool
    """Whether digests are kept of what is written."""

    is_remote = False

    def encode(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace, kept: Kept
    ) -> tuple[EncodedChunk, Bytes]:
        """Return a chunk as it is to be stored, and its payload, which is kept there."""
        whole = padded(chunk, self.chunk_shape, self.fill_value, workspace)
        encoder = _encoder(self.filters, self.elements.itemsize)
        encoder = encoder if self.skips else replace(encoder, skip_mask=0)
        payload, mask = encoder.encode(whole, workspace)
        if not self.filters:
            require_whole(payload, whole)
        own = kept.keep([payload])
        elements = digest_of_elements(chunk)
        has_rim = self.has_digests and may_be_completed(
            chunk.shape, self.chunk_shape, self.shape, self.bounds
        )
        encoded = EncodedChunk(
            chunk=flat_index(index, self.grid),
            nbytes=own.size,
            mask=mask,
            digest=digest_of(own, seed=mask),
            elements=elements,
            rim=elements if has_rim else None,
        )
        return encoded, own

    def write(
        self,
        chunks: Sequence[tuple[EncodedChunk, Bytes, PayloadPlace]],
        *,
        scratch: Path,  # noqa: ARG002 - for formats of many files
        syncs: bool,
    ) -> None:
        """Write payloads to their places; ``syncs`` has them on the disk afterwards."""
        # Opened anew each time: the name is gone once the file is published or given up.
        flags = os.O_WRONLY | (WRITES_AT_ONCE if syncs else 0)
        with disk_errors(self.path.parent), opened(self.path, flags) as descriptor:
            for _, payload, place in chunks:
                write_at(descriptor, memoryview(payload), place.offset)
            if syncs:
                os.fsync(descriptor)


@functools.lru_cache(maxsize=64)
def _encoder(filters: tuple[Filter, ...], itemsize: int) -> Encoder:
    """Return the encoder of some filters, which has to be there where it was elsewhere."""
    encoder = encoder_for(tuple(map(as_given, filters)), itemsize)
    if encoder is None:
        names = ", ".join(step.name for step in filters)
        msg = (
            f"this process cannot encode {names}, and the one that opened the file can; install "
            "the same packages on all of them"
        )
        raise OptionError(msg)
    return encoder


def require_whole(payload: Payload, chunk: npt.NDArray[Any]) -> None:
    """Raise unless an unfiltered payload is as long as its chunk.

    HDF5 takes a short payload of an unfiltered chunk without a word.
    """
    if len(payload) != chunk.nbytes:
        msg = f"a chunk came to {len(payload)} bytes instead of {chunk.nbytes}, and has no filters"
        raise TargetError(errno.EIO, msg)


def may_be_completed(
    shape: Shape, chunk_shape: Shape, extents: Shape, bounds: Sequence[int | None]
) -> bool:
    """Return whether others may come to lie beside the elements of a chunk of some shape.

    Examples
    --------
    >>> may_be_completed((3,), (5,), (8,), (None,)), may_be_completed((3,), (5,), (8,), (8,))
    (True, False)
    """
    return any(
        n < size and (bound is None or bound > extent)
        for n, size, extent, bound in zip(shape, chunk_shape, extents, bounds, strict=True)
    )
