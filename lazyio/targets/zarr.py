"""Zarr in a local directory: metadata by zarr-python, chunk objects encoded here.

zarr-python stays the judge of what is valid. Its event loop costs ten times a
plain write for each chunk, so chunks whose codecs are known are encoded and
written by the thread that computed them; others go through zarr-python.
"""

import errno
import os
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr

from lazyio.codecs import blosc, deflate, zstd
from lazyio.codecs.libraries import optional, required
from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.errors import OptionError, TargetError, UnsupportedDtypeError
from lazyio.spec import Shape
from lazyio.targets.base import padded
from lazyio.targets.disk import disk_errors

Step = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class ZarrOptions:
    """How an array is to be stored, beside its shape and dtype."""

    compressors: Any = "auto"
    """As zarr-python takes them."""
    filters: Any = "auto"
    """As zarr-python takes them."""
    fill_value: Any = None
    """What a reader gets where nothing was written; ``None`` is zarr's own."""
    zarr_format: Literal[2, 3] = 3
    """Version of the metadata."""
    dimension_names: Sequence[str | None] | None = None
    """Names of the axes."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the array."""


class ZarrTarget:
    """A new array in a directory that nobody else knows.

    Parameters
    ----------
    root : Path
        Directory of the hidden store, which is made.
    path : str
        Path of the array inside it, empty for the store itself.
    shape, chunk_shape : tuple of int
        Extents of the array and of its chunks.
    dtype : numpy.dtype
        Type of an element.
    options : ZarrOptions
        How it is stored.

    Raises
    ------
    OptionError, UnsupportedDtypeError
        Before anything is computed.
    """

    def __init__(
        self,
        root: Path,
        path: str,
        *,
        shape: Shape,
        chunk_shape: Shape,
        dtype: np.dtype[Any],
        options: ZarrOptions,
    ) -> None:
        self.shape = shape
        self.chunk_shape = chunk_shape
        self.dtype = dtype
        self._root = root / path if path else root
        self._array = _create(root, path, shape, chunk_shape, dtype, options)
        self.fill_value = _fill_value(self._array, dtype)
        self._steps = encoding_steps(self._array, dtype)
        self._empty = _bytes_of_fill(self.fill_value, dtype)
        self._folders: set[str] = set()
        self._lock = threading.Lock()
        self._stored_nbytes = 0

    @property
    def engine(self) -> str:
        """How chunks get into the store."""
        return "direct" if self._steps is not None else "zarr-python"

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk and commit it, unless it holds the fill value only."""
        if self._steps is None:
            corner = (i * c for i, c in zip(index, self.chunk_shape, strict=True))
            region = tuple(slice(at, at + n) for at, n in zip(corner, chunk.shape, strict=True))
            with disk_errors(self._root):
                self._array[region or ()] = chunk
            return
        whole = padded(chunk, self.chunk_shape, self.fill_value, workspace)
        if not whole.flags.c_contiguous:
            packed = workspace.array("packed", whole.shape, whole.dtype)
            np.copyto(packed, whole)
            whole = packed
        if self._empty is not None and _holds_only(whole, self._empty):
            return
        payload: Any = whole
        for step in self._steps:
            payload = step(payload)
        with disk_errors(self._root):
            nbytes = self._write_object(
                self._array.metadata.encode_chunk_key(tuple(index)), payload
            )
        with self._lock:
            self._stored_nbytes += nbytes

    def finish(self) -> int:
        """Return the bytes of all chunk objects."""
        if self._steps is None:
            return sum(file.stat().st_size for file in self._root.rglob("*") if file.is_file())
        return self._stored_nbytes

    def abort(self) -> None:
        """Do nothing: no file is open between two chunks."""

    def _write_object(self, key: str, payload: Any) -> int:
        name = f"{self._root}/{key}"
        folder = name.rpartition("/")[0]
        # A directory costs more than a small chunk: each is made once.
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        is_array = isinstance(payload, np.ndarray)
        view = memoryview(payload.reshape(-1).view(np.uint8) if is_array else payload).cast("B")
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            done = 0
            while done < len(view):
                done += os.write(descriptor, view[done:])
        finally:
            os.close(descriptor)
        return len(view)


def encoding_steps(array: zarr.Array[Any], dtype: np.dtype[Any]) -> list[Step] | None:
    """Return the functions from a chunk to its object, ``None`` where zarr must do it.

    Parameters
    ----------
    array : zarr.Array
        Whose metadata names the codecs.
    dtype : numpy.dtype
        Type of an element in memory.

    Returns
    -------
    list of callable or None
        Each takes what the one before gave; the first takes the C-ordered chunk.
    """
    if array.metadata.zarr_format == 2:
        if array.metadata.order != "C" or array.metadata.dtype.to_native_dtype() != dtype:
            return None
        # numcodecs objects are the codecs of v2, and safe to share.
        codecs = [*(array.metadata.filters or ()), array.metadata.compressor]
        return [codec.encode for codec in codecs if codec is not None]
    steps: list[Step] = []
    for codec in array.metadata.codecs:
        step = _step(codec.to_dict(), dtype)
        if step is None:
            return None
        steps.append(step)
    return steps


def _step(described: Mapping[str, Any], dtype: np.dtype[Any]) -> Step | None:
    name, settings = described["name"], described.get("configuration", {})
    if name == "bytes":
        return _in_order(settings.get("endian"), dtype)
    if name == "zstd":
        return zstd.compressor(settings["level"], checksum=settings["checksum"])
    if name == "blosc":
        return _blosc(settings)
    if name == "gzip":
        return _gzip(settings["level"])
    if name == "crc32c":
        return _crc32c()
    return None


def _in_order(endian: Any, dtype: np.dtype[Any]) -> Step | None:
    """Return the step from elements to bytes in the byte order of the metadata."""
    if dtype.fields is not None and dtype.newbyteorder("<") != dtype:
        return None
    is_big = str(getattr(endian, "value", endian)) == "big"
    wanted = dtype if endian is None else dtype.newbyteorder(">" if is_big else "<")

    def to_bytes(chunk: npt.NDArray[Any]) -> Bytes:
        return chunk.astype(wanted, copy=False).reshape(-1).view(np.uint8)

    return to_bytes


def _blosc(settings: Mapping[str, Any]) -> Step | None:
    shuffles = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
    value = settings["shuffle"]
    shuffle = shuffles.get(str(getattr(value, "value", value)))
    if shuffle is None or not settings.get("typesize"):
        return None
    cname = settings["cname"]
    return blosc.compressor(
        str(getattr(cname, "value", cname)),
        settings["clevel"],
        shuffle,
        typesize=settings["typesize"],
        blocksize=settings["blocksize"],
    )


def _gzip(level: int) -> Step:
    isal = optional("isal.igzip")
    libdeflate = optional("deflate")
    if level == 1 and isal is not None:
        return lambda data: deflate.bytes_of(isal.compress(data, 1))
    if level >= 1 and libdeflate is not None:
        return lambda data: deflate.bytes_of(libdeflate.gzip_compress(data, level))
    encode: Step = required("numcodecs", what="gzip", extra="fast").GZip(level).encode
    return encode


def _crc32c() -> Step | None:
    library = optional("google_crc32c")
    if library is None:
        return None

    def with_checksum(data: Any) -> bytes:
        raw = bytes(data)
        return raw + struct.pack("<I", library.value(raw))

    return with_checksum


def _create(
    root: Path,
    path: str,
    shape: Shape,
    chunk_shape: Shape,
    dtype: np.dtype[Any],
    options: ZarrOptions,
) -> zarr.Array[Any]:
    try:
        if path:
            zarr.create_group(root, zarr_format=options.zarr_format)
        return zarr.create_array(
            root,
            name=path or None,
            shape=shape,
            dtype=dtype,
            chunks=chunk_shape,
            compressors=options.compressors,
            filters=options.filters,
            fill_value=options.fill_value,
            zarr_format=options.zarr_format,
            dimension_names=options.dimension_names,
            attributes=dict(options.attributes),
        )
    except OSError as error:
        msg = f"{root.parent} cannot be written: {error.strerror}"
        raise TargetError(error.errno or errno.EIO, msg) from error
    except (ValueError, TypeError, KeyError) as error:
        if "dtype" in str(error).lower() or "data type" in str(error).lower():
            msg = f"Zarr has no type for dtype {dtype}: {error}; convert with dtype= or .astype"
            raise UnsupportedDtypeError(msg) from error
        msg = f"the Zarr array cannot be created: {error}"
        raise OptionError(msg) from error


def _fill_value(array: zarr.Array[Any], dtype: np.dtype[Any]) -> Any:
    value = array.metadata.fill_value
    return np.zeros((), dtype)[()] if value is None else value


def _bytes_of_fill(value: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    """Return the fill value as a word to compare with; odd sizes are not compared."""
    if dtype.fields is not None or dtype.itemsize not in (1, 2, 4, 8):
        return None
    return np.array(value, dtype).reshape(1).view(f"u{dtype.itemsize}")


def _holds_only(chunk: npt.NDArray[Any], word: npt.NDArray[Any]) -> bool:
    """Return whether every element has the bits of the word; mostly known at once."""
    words = chunk.reshape(-1).view(word.dtype)
    if not words.size or words[0] != word[0] or words[-1] != word[0]:
        return False
    return bool((words == word[0]).all())
