"""An array in a file that is not trusted: a child process reads it, this one never."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

import numpy as np

from lazyio.dtypes import MAX_NDIM, Shape, is_text
from lazyio.errors import OptionError, UnsafeFileError, UnsupportedDtypeError
from lazyio.regions import Region, box_shape
from lazyio.sources.base import Array, FillsNew
from lazyio.sources.files import existing
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.path_policy import allowed_folders
from lazyio.untrusted.helper import ask
from lazyio.untrusted.messages import dtype_received

_PIECE_NBYTES = 64 * 2**20
"""What is asked for at once: the child holds as much."""
_MOST_EXTENT = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class UntrustedSource(FillsNew):
    """An array in a file or store; each region is asked of a child process."""

    path: str
    """Absolute path of the file or store."""
    key: str
    """Path of the array inside it, empty where it has only one."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """What is decoded at once."""
    in_rows: bool
    """Whether whole rows are runs of bytes."""
    token: str
    """Name of what was opened, which is another one once the file has changed."""
    memory_nbytes: int
    """Bytes that the child may take."""
    request: Mapping[str, Any] = field(repr=False)
    """How it was opened."""

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file and key of the array."""
        return self.path, self.key

    def __dask_tokenize__(self) -> Any:
        """Return what names the same bytes in any process."""
        return "lazyio.UntrustedSource", self.token

    def read(self, region: Region) -> Array:
        """Return a part as a new array."""
        if not is_text(self.dtype):
            return super().read(region)
        answer, body = self._ask(region, None, self.memory_nbytes)
        with foreign_errors(self.path, UnsafeFileError):
            ends = np.cumsum([0, *answer["lengths"]]).tolist()
            text = bytes(body)
            parts = [
                text[start:stop].decode("utf-8", "surrogatepass")
                for start, stop in itertools.pairwise(ends)
            ]
            return np.array(parts, self.dtype).reshape(box_shape(region))

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, a few chunks at a time."""
        if not out.size:
            return
        for piece in _pieces(region, self.chunk_shape, self.dtype.itemsize):
            inside = tuple(
                slice(part.start - whole.start, part.stop - whole.start)
                for part, whole in zip(piece, region, strict=True)
            )
            part = out[inside] if inside else out
            place = part if part.flags.c_contiguous else np.empty(part.shape, part.dtype)
            _, body = self._ask(piece, memoryview(place.reshape(-1).view(np.uint8)), 0)
            if len(body) != place.nbytes:
                msg = f"{self.path}: the process that reads it gave {len(body)} bytes of a part"
                raise UnsafeFileError(msg)
            if place is not part:
                part[...] = place

    def _ask(self, region: Region, out: memoryview | None, most_nbytes: int) -> Any:
        asked = {
            **self.request,
            "do": "read",
            "token": self.token,
            "region": [[int(part.start), int(part.stop)] for part in region],
        }
        return ask(
            self.path,
            asked,
            out=out,
            most_nbytes=most_nbytes,
            memory_nbytes=self.memory_nbytes,
            keep=True,
        )


def untrusted_source(
    path: Any,
    key: Any,
    memory_nbytes: int,
    request: Mapping[str, Any],
    allow_external: object = None,
) -> UntrustedSource:
    """Return the source for an array, described by a child process."""
    if "://" in str(path):
        msg = f"trusted=False is for files and folders on a disk here; copy {path} to one"
        raise OptionError(msg)
    if not isinstance(key, (str, NoneType)):
        msg = f"key={key!r} is no path inside a file or store; give a string"
        raise OptionError(msg)
    place = str(existing(path))
    folders = None
    if allow_external is not None:
        # The file's own folder comes first, and is known there.
        folders = [str(folder) for folder in allowed_folders(place, allow_external)[1:]]
    asked = {**request, "key": key, "allow_external": folders}
    answer, _ = ask(place, {**asked, "do": "describe"}, memory_nbytes=memory_nbytes, keep=True)
    with foreign_errors(f"{place}: what the process that reads it says", UnsafeFileError):
        shape = _shape(answer["shape"])
        chunk_shape = None if answer["chunk_shape"] is None else _shape(answer["chunk_shape"])
        dtype = dtype_received(answer["dtype"])
        is_fixed = not dtype.hasobject or is_text(dtype)
        if not is_fixed or (chunk_shape is not None and len(chunk_shape) != len(shape)):
            msg = f"{place} holds elements of type {dtype}, or chunks {chunk_shape} of {shape}"
            raise UnsupportedDtypeError(msg)
        return UntrustedSource(
            path=place,
            key=key or "",
            shape=shape,
            dtype=dtype,
            chunk_shape=chunk_shape,
            in_rows=bool(answer["in_rows"]),
            token=str(answer["token"]),
            memory_nbytes=memory_nbytes,
            request=asked,
        )


def _shape(sent: Any) -> Shape:
    """Return a shape as a child says it, which may be no shape."""
    shape = tuple(map(int, sent))
    if len(shape) > MAX_NDIM or not all(0 <= extent <= _MOST_EXTENT for extent in shape):
        msg = f"{shape} is no shape"
        raise ValueError(msg)
    return shape


def _pieces(region: Region, chunk_shape: Shape | None, itemsize: int) -> Iterator[Region]:
    """Yield a region in parts of some bytes, cut between chunks where that is possible.

    Examples
    --------
    >>> [box_shape(part) for part in _pieces((slice(0, 100), slice(0, 64)), (30, 64), 2**15)]
    [(30, 64), (30, 64), (40, 64)]
    """
    shape = box_shape(region)
    if math.prod(shape) * itemsize > _PIECE_NBYTES:
        for axis, part in enumerate(region):
            step = chunk_shape[axis] if chunk_shape else 1
            middle = (part.start + part.stop) // 2 // step * step
            if part.start < middle < part.stop:
                for half in (slice(part.start, middle), slice(middle, part.stop)):
                    cut = (*region[:axis], half, *region[axis + 1 :])
                    yield from _pieces(cut, chunk_shape, itemsize)
                return
    yield region
