"""Zarr in a local directory: metadata by zarr-python, chunk objects encoded here.

zarr-python stays the judge of what is valid. Its event loop costs ten times a
plain write for each chunk, so chunks and shards whose codecs are known are
encoded and written by the thread that computed them; others go through
zarr-python.
"""

import errno
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr

from lazyio.codecs.fill import Fill
from lazyio.codecs.workspace import Workspace
from lazyio.codecs.zarr_bytes import Payload, as_bytes
from lazyio.codecs.zarr_chain import chain_of
from lazyio.errors import OptionError, TargetError, UnsupportedDtypeError
from lazyio.spec import Shape
from lazyio.targets.base import padded
from lazyio.targets.disk import disk_errors


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
    shards: Shape | None = None
    """Extents of a shard, multiples of those of its chunks; ``None`` is none."""
    write_empty_chunks: bool | None = None
    """Whether objects are stored that hold the fill value only; ``None`` is no."""


class ZarrTarget:
    """A new array in a directory that nobody else knows.

    Parameters
    ----------
    root : Path
        Directory of the hidden store, which is made.
    path : str
        Path of the array inside it, empty for the store itself.
    shape, chunk_shape : tuple of int
        Extents of the array and of what its codecs compress at once.
    dtype : numpy.dtype
        Type of an element.
    options : ZarrOptions
        How it is stored.
    shard_shape : tuple of int, optional
        Extents of a shard; those of the options by default. Where there is
        one, it is the target's own ``chunk_shape``: what is written whole.

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
        shard_shape: Shape | None = None,
    ) -> None:
        options = replace(options, shards=shard_shape or options.shards)
        self.shape = shape
        self.chunk_shape = options.shards or chunk_shape
        self.dtype = dtype
        self._root = root / path if path else root
        self._array = _create(root, path, shape, chunk_shape, dtype, options)
        # v3 has no byte order in its dtypes: what is stored may differ from what is given.
        self._stored_dtype = np.dtype(self._array.dtype)
        metadata = self._array.metadata
        self._fill = Fill(metadata.fill_value, self._stored_dtype)
        self.fill_value = self._fill.value
        self._keep_empty = bool(options.write_empty_chunks)
        self._chain = chain_of(
            metadata.to_dict(), self._stored_dtype, self._fill, keep_empty=self._keep_empty
        )
        self._folders: set[str] = set()
        self._lock = threading.Lock()
        self._stored_nbytes = 0

    @property
    def engine(self) -> str:
        """How chunks get into the store."""
        return "direct" if self._chain is not None else "zarr-python"

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk and commit it, unless it holds the fill value only."""
        if self._chain is None:
            corner = (i * c for i, c in zip(index, self.chunk_shape, strict=True))
            region = tuple(slice(at, at + n) for at, n in zip(corner, chunk.shape, strict=True))
            with disk_errors(self._root):
                self._array[region or ()] = chunk
            return
        whole = padded(chunk, self.chunk_shape, self.fill_value, workspace)
        if not whole.flags.c_contiguous or whole.dtype != self._stored_dtype:
            packed = workspace.array("packed", whole.shape, self._stored_dtype)
            np.copyto(packed, whole)
            whole = packed
        if not self._keep_empty and self._fill.is_all_of(whole):
            return
        payload = self._chain.encode(whole, workspace)
        key = self._array.metadata.encode_chunk_key(tuple(index))
        with disk_errors(self._root):
            nbytes = self._write_object(key, payload)
        with self._lock:
            self._stored_nbytes += nbytes

    def finish(self) -> int:
        """Return the bytes of all chunk objects."""
        if self._chain is None:
            return sum(file.stat().st_size for file in self._root.rglob("*") if file.is_file())
        return self._stored_nbytes

    def abort(self) -> None:
        """Do nothing: no file is open between two chunks."""

    def _write_object(self, key: str, payload: Payload) -> int:
        name = f"{self._root}/{key}"
        folder = name.rpartition("/")[0]
        # A directory costs more than a small chunk: each is made once.
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        view = memoryview(as_bytes(payload))
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            done = 0
            while done < len(view):
                done += os.write(descriptor, view[done:])
        finally:
            os.close(descriptor)
        return len(view)


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
            shards=options.shards,
            compressors=options.compressors,
            filters=options.filters,
            fill_value=options.fill_value,
            zarr_format=options.zarr_format,
            dimension_names=options.dimension_names,
            attributes=dict(options.attributes),
            config={"write_empty_chunks": bool(options.write_empty_chunks)},
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
