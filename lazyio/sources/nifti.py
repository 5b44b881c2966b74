"""NIfTI images: the header by nibabel, elements as it scales them."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyio.codecs.libraries import required
from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import SourceError, TruncatedSourceError
from lazyio.regions import Region, box_shape
from lazyio.sources.base import Array, FillsNew, Source, reading_unit
from lazyio.sources.cf_decoded import ElementwiseSource
from lazyio.sources.files import Readable, describing, existing
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.gzipped import GzippedSource
from lazyio.sources.identity import Identity
from lazyio.sources.raw import RawSource

SUFFIXES = (".nii", ".nii.gz")
"""By which nibabel knows them: they do not begin with what they are."""
_SLAB_NBYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class ScaledSource(FillsNew, ElementwiseSource):
    """Stored numbers with a slope and an intercept, of the dtype that nibabel chooses."""

    part: RawSource
    """The numbers as they are stored."""
    slope: float
    """What they are multiplied by."""
    intercept: float
    """What is added to that."""

    @property
    def run_shape(self) -> Shape | None:
        """What is worth a read of its own."""
        return reading_unit(self.part)

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, in slabs along the last axis, which is the slowest."""
        if not out.size:
            return
        # Opened once for all of them: what is compressed is gone through in order.
        with self.part.contents() as file:
            self._read_slabs(file, region, out)

    def _read_slabs(self, file: Readable, region: Region, out: Array) -> None:
        axis = max((at for at, extent in enumerate(out.shape) if extent > 1), default=None)
        if axis is None:
            out[...] = self._scaled(file, region)
            return
        whole = region[axis]
        step = max(1, _SLAB_NBYTES // max(1, out.nbytes // out.shape[axis]))
        for start in range(whole.start, whole.stop, step):
            stop = min(start + step, whole.stop)
            place = slice(start - whole.start, stop - whole.start)
            wanted = (*region[:axis], slice(start, stop), *region[axis + 1 :])
            out[(slice(None),) * axis + (place,)] = self._scaled(file, wanted)

    def _scaled(self, file: Readable, region: Region) -> Array:
        numbers: Array = np.empty(box_shape(region), self.part.dtype)
        self.part.fill(file, region, numbers)
        return scaled(numbers, self.slope, self.intercept)


def scaled(numbers: Array, slope: float, intercept: float) -> Array:
    """Return stored numbers as nibabel scales them."""
    nibabel = required("nibabel.volumeutils", what="a NIfTI image", extra="nifti")
    found: Array = nibabel.apply_read_scaling(numbers, np.float64(slope), np.float64(intercept))
    return found


def nifti_source(path: str | os.PathLike[str]) -> Source:
    """Return the source for an image, after reading its header."""
    nibabel = required("nibabel", what="a NIfTI image", extra="nifti")
    found = str(existing(path))
    if os.path.isdir(found):
        msg = f"{found} is not a file; a NIfTI image is one"
        raise SourceError(msg)
    if not found.lower().endswith(SUFFIXES):
        msg = f"{found} does not end in {' or '.join(SUFFIXES)}, as NIfTI images do; rename it"
        raise SourceError(msg)
    with describing(found) as (_, identity), foreign_errors(found):
        image = nibabel.load(found, mmap=False)
        return _described(found, image.dataobj, identity)


def _described(path: str, proxy: Any, identity: Identity) -> Source:
    shape, offset, dtype = tuple(map(int, proxy.shape)), int(proxy.offset), np.dtype(proxy.dtype)
    is_gzipped = path.lower().endswith(".gz")
    needed = offset + nbytes_of(shape, dtype)
    if not is_gzipped and identity.nbytes < needed:
        msg = (
            f"{path} has {identity.nbytes} bytes, and its header ({shape} {dtype}) says {needed}; "
            "it was cut short, copy it again"
        )
        raise TruncatedSourceError(msg)
    kind = GzippedSource if is_gzipped else RawSource
    raw = kind(path=path, shape=shape, dtype=dtype, offset=offset, order="F", identity=identity)
    slope, intercept = float(proxy.slope), float(proxy.inter)
    result = scaled(np.zeros(1, dtype), slope, intercept).dtype
    if (slope, intercept) == (1, 0):
        return raw
    return ScaledSource(part=raw, dtype=result, slope=slope, intercept=intercept)
