"""MATLAB's files: those of version 7.3 are HDF5, with the axes the other way round.

MATLAB stores the first axis as the fastest, and HDF5 the last one. Its arrays are given
as MATLAB has them: an array of size 1000 x 64 has shape (1000, 64).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import h5py
import numpy as np

from lazyio.dtypes import Shape
from lazyio.errors import SourceError, UnknownFormatError, UnsupportedDtypeError
from lazyio.regions import Region
from lazyio.sources.base import (
    Array,
    FillsNew,
    Source,
    Stored,
    chosen,
    lies_in_rows,
    reading_unit,
)
from lazyio.sources.cf_decoded import StoredSource
from lazyio.sources.concatenated import slabs
from lazyio.sources.elements import ViewedSource
from lazyio.sources.files import (
    LONG_RUN_NBYTES,
    PAGE_NBYTES,
    existing,
    open_for_reading,
    run_of,
)
from lazyio.sources.function import ArraySource
from lazyio.sources.hdf5 import dataset_keys, hdf5_source
from lazyio.sources.libhdf5 import open_hdf5

MAGIC = b"MATLAB 5"
"""Of files before version 7.3, which are not HDF5."""
_OF_HDF5 = b"MATLAB 7.3 MAT-file"
_NUMBERS = {
    "double": "f8",
    "single": "f4",
    "logical": "?",
    **{f"int{bits}": f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"u{bits // 8}" for bits in (8, 16, 32, 64)},
}
_OTHERS = {
    "char": "text; convert it in MATLAB, as in x = double(x)",
    "cell": "a cell array, which holds other arrays; give them names of their own in MATLAB",
    "struct": "an array of structs; give their fields names of their own in MATLAB",
}


@dataclass(frozen=True, kw_only=True)
class TransposedSource(FillsNew):
    """A stored array with its axes the other way round."""

    part: StoredSource
    """The array as it is stored."""

    @property
    def parts(self) -> tuple[Source, ...]:
        """What is read."""
        return (self.part,)

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return self.part.shape[::-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.part.dtype

    @property
    def chunk_shape(self) -> Shape | None:
        """What is decoded at once; of a contiguous array, a page of the file."""
        return self._unit(self.part.chunk_shape, PAGE_NBYTES)

    @property
    def run_shape(self) -> Shape | None:
        """What is worth a read of its own."""
        return self._unit(reading_unit(self.part), LONG_RUN_NBYTES)

    def _unit(self, unit: Shape | None, nbytes: int) -> Shape | None:
        if unit is None and lies_in_rows(self.part):
            unit = run_of(self.part.shape, self.dtype.itemsize, nbytes)
        return None if unit is None else unit[::-1]

    @property
    def location(self) -> tuple[str, str]:
        """Path and key of the stored array."""
        return self.part.location

    @property
    def in_rows(self) -> bool:
        """Whether rows are runs of bytes, which they are where there is one axis."""
        return False

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, some chunks at a time."""
        if out.size:
            for wanted, place in slabs(self.part, region[::-1]):
                out.T[place] = self.part.read(wanted)


def _is_turned(source: Source) -> TypeGuard[StoredSource]:
    return len(source.shape) > 1 and isinstance(source, Stored)


def is_matlab(path: str | os.PathLike[str]) -> bool:
    """Return whether an HDF5 file says that it is MATLAB's."""
    if not Path(path).is_file():
        return False
    with open_for_reading(str(path)) as file:
        return (file.read(len(_OF_HDF5)) or b"") == _OF_HDF5


def matlab_keys(path: str) -> list[str]:
    """Return the names of the arrays of a file, but for those that MATLAB made for itself."""
    require_hdf5(path)
    with open_hdf5(path) as file:
        return [key for key in dataset_keys(file) if not key.startswith("#")]


def matlab_source(
    path: str | os.PathLike[str], key: str | None = None, allow_external: object = None
) -> Source:
    """Return the source for an array of numbers, its axes as in MATLAB."""
    found = str(existing(path))
    require_hdf5(found)
    name = chosen(matlab_keys(found), None, found, "array") if key is None else key
    with open_hdf5(found) as file:
        facts = _facts(_item(file, name), f"{found}: {name!r}")
    if facts.get("empty") is not None:
        return ArraySource(
            array=np.empty(facts["empty"], facts["dtype"]),
            shape=facts["empty"],
            dtype=facts["dtype"],
        )
    source = hdf5_source(found, name, allow_external)
    dtype = facts.get("dtype")
    dtype = _complex_of(source.dtype) or dtype
    if dtype is not None and dtype != source.dtype and isinstance(source, Stored):
        source = ViewedSource(part=source, dtype=dtype)
    return TransposedSource(part=source) if _is_turned(source) else source


def _complex_of(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the complex dtype of MATLAB's pairs of floats; those of integers stay pairs."""
    if dtype.fields is None or dtype.names != ("real", "imag"):
        return None
    (real, start), (imaginary, middle) = (dtype.fields[name][:2] for name in dtype.names)
    is_packed = (start, middle, dtype.itemsize) == (0, real.itemsize, 2 * real.itemsize)
    if real != imaginary or real.kind != "f" or real.itemsize not in (4, 8) or not is_packed:
        return None
    return np.dtype(f"{real.str[0]}c{dtype.itemsize}")


def require_hdf5(path: str) -> None:
    """Refuse the files that MATLAB has written before version 7.3, or writes without ``-v7.3``."""
    if h5py.is_hdf5(path):
        return
    with open_for_reading(path) as file:
        is_matlab = (file.read(len(MAGIC)) or b"") == MAGIC
    if is_matlab:
        msg = (
            f"{path} is a MATLAB file of a version before 7.3, whose arrays can only be loaded "
            "whole; save it in MATLAB with save(..., '-v7.3'), or give the array that "
            "scipy.io.loadmat returns"
        )
        raise SourceError(msg)
    msg = (
        f"{path} is no MATLAB file of version 5 or later: it does not begin as one; check the "
        "path, or save it in MATLAB with save(..., '-v7.3')"
    )
    raise UnknownFormatError(msg)


def _item(file: h5py.File, key: str) -> Any:
    """Return what has a name in the file itself; what is behind links has not been allowed yet."""
    item: Any = file
    for name in key.strip("/").split("/"):
        is_here = isinstance(item, h5py.Group) and isinstance(
            item.get(name, getlink=True), h5py.HardLink
        )
        if not is_here:
            return None
        item = item[name]
    return item


def _facts(item: Any, where: str) -> dict[str, Any]:
    """Return what MATLAB says of an array beside its elements; refuse what is none of numbers."""
    if isinstance(item, h5py.Group) and "MATLAB_sparse" in item.attrs:
        msg = (
            f"{where} is a sparse matrix, whose parts lie in it as data, ir and jc; read those, or "
            "make it full in MATLAB, as in x = full(x)"
        )
        raise UnsupportedDtypeError(msg)
    if not isinstance(item, h5py.Dataset):
        return {}
    name = item.attrs.get("MATLAB_class", b"")
    kind = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    if not kind:
        return {}
    if kind not in _NUMBERS or "MATLAB_object_decode" in item.attrs:
        what = _OTHERS.get(kind, f"an object of class {kind}; convert it to numbers in MATLAB")
        msg = f"{where} is {what}"
        raise UnsupportedDtypeError(msg)
    facts: dict[str, Any] = {}
    if kind == "logical":
        facts["dtype"] = np.dtype(bool)
    if item.attrs.get("MATLAB_empty", 0):
        facts["dtype"] = np.dtype(_NUMBERS[kind])
        facts["empty"] = tuple(map(int, np.asarray(item[()]).reshape(-1)[:32]))
    return facts
