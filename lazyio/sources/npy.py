"""numpy's ``.npy`` files: a header, then raw bytes."""

import ast
import math
import os
from io import FileIO
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from lazyio.errors import SourceError, TruncatedSourceError, UnsupportedDtypeError
from lazyio.sources.files import describing, existing
from lazyio.sources.identity import Identity
from lazyio.sources.raw import RawSource

MAGIC = b"\x93NUMPY"
_MOST_HEADER_NBYTES = 10_000


def npy_source(path: str | os.PathLike[str]) -> RawSource:
    """Return the source for an ``.npy`` file, after reading its header."""
    found = existing(path)
    if not found.is_file():
        msg = f"{found} is not a file; an .npy array is one"
        raise SourceError(msg)
    with describing(str(found)) as (file, identity):
        return _described(str(found), file, identity)


def _described(path: str, file: FileIO, identity: Identity) -> RawSource:
    try:
        shape, fortran, dtype = _header(file)
        offset = file.tell()
    except Exception as error:
        msg = f"{path} is not a readable .npy file: {error}"
        raise SourceError(msg) from error
    if dtype.hasobject:
        msg = f"{path} holds pickled objects, which are never loaded; save it as numbers instead"
        raise UnsupportedDtypeError(msg)
    needed = offset + math.prod(shape) * dtype.itemsize
    if identity.nbytes < needed:
        msg = (
            f"{path} has {identity.nbytes} bytes, its header ({shape} {dtype}) says {needed}; "
            "it was cut short, copy or save it again"
        )
        raise TruncatedSourceError(msg)
    return RawSource(
        path=path,
        shape=tuple(map(int, shape)),
        dtype=dtype,
        offset=offset,
        order="F" if fortran and len(shape) > 1 else "C",
        identity=identity,
    )


def _header_3_0(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header that numpy writes for names outside Latin-1: 2.0 in UTF-8."""
    length = _require_length(file)
    file.seek(4, os.SEEK_CUR)
    facts = ast.literal_eval(file.read(length).decode("utf-8"))
    shape, fortran = facts["shape"], facts["fortran_order"]
    is_shape = isinstance(shape, tuple) and all(isinstance(extent, int) for extent in shape)
    if set(facts) != {"descr", "fortran_order", "shape"} or not is_shape:
        msg = "its header has other keys than descr, fortran_order and shape"
        raise ValueError(msg)
    return shape, bool(fortran), npy_format.descr_to_dtype(facts["descr"])


def _require_length(file: Any) -> int:
    """Return the length of a header, before it is read; it may claim to be gigabytes."""
    length = int.from_bytes(file.read(4), "little")
    file.seek(-4, os.SEEK_CUR)
    if length > _MOST_HEADER_NBYTES:
        msg = f"its header of {length} bytes is too long"
        raise ValueError(msg)
    return length


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        header = npy_format.read_array_header_1_0(file)
    elif version == (2, 0):
        _require_length(file)
        header = npy_format.read_array_header_2_0(file)
    elif version == (3, 0):
        header = _header_3_0(file)
    else:
        msg = f"format version {version} is not known"
        raise ValueError(msg)
    shape, fortran, dtype = header
    if any(extent < 0 for extent in shape):
        msg = f"its shape {shape} is negative"
        raise ValueError(msg)
    return shape, fortran, dtype
