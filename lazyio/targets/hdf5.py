"""HDF5 on the direct path: a file under a hidden name, chunks encoded outside libhdf5.

The only lock is the one h5py holds for the few microseconds of
``write_direct_chunk``. Filters that lazyio does not encode go through
libhdf5's own pipeline, which is correct and takes one thread at a time.
"""

import errno
import operator
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.codecs.encode import Encoder, encoder_for
from lazyio.codecs.filters import FLETCHER32, SHUFFLE, SZIP, Filter
from lazyio.codecs.libraries import optional
from lazyio.codecs.workspace import Workspace
from lazyio.errors import OptionError, TargetError, TargetExistsError, UnsupportedDtypeError
from lazyio.spec import Shape
from lazyio.targets.base import padded
from lazyio.targets.disk import disk_errors, target_error

_PLUGIN_FILTERS = range(32000, 32768)


@dataclass(frozen=True, kw_only=True)
class Hdf5Options:
    """How a dataset is to be stored, beside its shape and dtype."""

    key: str
    """Path inside the file."""
    filters: tuple[Filter, ...] = ()
    """In the order in which they are applied."""
    fillvalue: Any = None
    """What a reader gets where nothing was written; ``None`` is zero."""
    maxshape: tuple[int | None, ...] | None = None
    """How far it may grow; ``None`` is not at all."""
    attrs: Mapping[str, Any] | None = None
    """Attributes of the dataset."""
    libver: Any = None
    """File format bounds, as h5py takes them."""
    replace: bool = False
    """Whether a dataset of that key may be replaced."""


class Hdf5Target:
    """A new dataset in a file that nobody else has open.

    Parameters
    ----------
    path : Path
        The hidden file; made if it is not there.
    shape, chunk_shape : tuple of int
        Extents of the dataset and of its chunks.
    dtype : numpy.dtype
        Type of an element.
    options : Hdf5Options
        How it is stored.

    Raises
    ------
    OptionError, UnsupportedDtypeError, TargetExistsError, TargetError
        Before anything is computed.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: Shape,
        chunk_shape: Shape,
        dtype: np.dtype[Any],
        options: Hdf5Options,
    ) -> None:
        self.shape = shape
        self.chunk_shape = chunk_shape
        self.dtype = dtype
        self._options = options
        self._folder = path.parent.parent
        self._lock = threading.Lock()
        self._stored_nbytes = 0
        require_filters(options.filters)
        self._file = _open(path, options.libver)
        try:
            self._dataset = self._create()
        except BaseException:
            self.abort()
            raise
        self.fill_value = self._dataset.fillvalue
        self._encoder = self._find_encoder()
        self._write_direct_chunk = self._dataset.id.write_direct_chunk

    @property
    def engine(self) -> str:
        """How chunks get into the file."""
        if self._encoder is not None:
            return "direct"
        return "libhdf5"

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk and commit it."""
        corner = tuple(map(operator.mul, index, self.chunk_shape))
        if self._encoder is None:
            region = tuple(slice(at, at + n) for at, n in zip(corner, chunk.shape, strict=True))
            with self._lock, disk_errors(self._folder):
                self._dataset[region or ()] = chunk
            return
        whole = padded(chunk, self.chunk_shape, self.fill_value, workspace)
        payload, mask = self._encoder.encode(whole, workspace)
        if not self._options.filters and len(payload) != whole.nbytes:
            # HDF5 takes a short payload of an unfiltered chunk without a word.
            msg = f"chunk {tuple(index)}: {len(payload)} bytes instead of {whole.nbytes}"
            raise TargetError(errno.EIO, msg)
        try:
            self._write_direct_chunk(corner, payload, mask)
        except (OSError, RuntimeError) as error:
            raise target_error(error, self._folder) from error
        with self._lock:
            self._stored_nbytes += len(payload)

    def finish(self) -> int:
        """Close the file and return the bytes that the dataset's chunks take."""
        with disk_errors(self._folder):
            stored = self._stored_nbytes or self._dataset.id.get_storage_size()
            self._file.close()
        return stored

    def abort(self) -> None:
        """Close the file, whatever it holds."""
        try:
            self._file.close()
        except (OSError, RuntimeError, ValueError):
            # A full disk fails the close as well; the file is removed anyway.
            return

    def _create(self) -> h5py.Dataset:
        options = self._options
        key = options.key
        if key in self._file:
            if not options.replace:
                msg = (
                    f"dataset {key!r} is there already; pass overwrite=True to replace it, "
                    "or another key"
                )
                raise TargetExistsError(errno.EEXIST, msg)
            del self._file[key]
        is_chunked = bool(self.shape) and (0 not in self.shape or options.maxshape is not None)
        try:
            dataset = self._file.create_dataset(
                key,
                shape=self.shape,
                dtype=self.dtype,
                chunks=self.chunk_shape if is_chunked else None,
                maxshape=options.maxshape if is_chunked else None,
                fillvalue=options.fillvalue,
                dcpl=self._properties() if is_chunked else None,
            )
        except TypeError as error:
            msg = (
                f"HDF5 has no type for dtype {self.dtype} ({error}); convert with dtype= or "
                ".astype first"
            )
            raise UnsupportedDtypeError(msg) from error
        except (ValueError, OSError) as error:
            msg = f"dataset {key!r} cannot be created: {error}"
            raise OptionError(msg) from error
        for name, value in (options.attrs or {}).items():
            try:
                dataset.attrs[name] = value
            except (TypeError, ValueError, OSError, RuntimeError) as error:
                msg = f"attribute {name!r} of type {type(value).__name__} has no HDF5 form: {error}"
                raise OptionError(msg) from error
        return dataset

    def _properties(self) -> Any:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        for step in self._options.filters:
            if step.filter_id == SHUFFLE:
                properties.set_shuffle()
            elif step.filter_id == FLETCHER32:
                properties.set_fletcher32()
            elif step.filter_id == SZIP:
                properties.set_szip(*step.options)
            else:
                # Optional, as h5py does it: a chunk may be stored without it.
                flag = h5py.h5z.FLAG_OPTIONAL
                properties.set_filter(step.filter_id, flag, step.options or None)
        return properties

    def _find_encoder(self) -> Encoder | None:
        dataset = self._dataset
        if dataset.chunks is None or not self.dtype.itemsize:
            return None
        # Only where memory and file agree byte for byte may libhdf5 be left out.
        if dataset.dtype != self.dtype or dataset.id.get_type().get_size() != self.dtype.itemsize:
            return None
        return encoder_for(self._options.filters, self.dtype.itemsize)


def require_filters(filters: tuple[Filter, ...]) -> None:
    """Raise unless each filter can be applied, by lazyio or by libhdf5.

    Raises
    ------
    OptionError
        Naming the filter, and the extra that brings it where there is one.
    """
    # The itemsize does not matter for whether there is an encoder at all.
    if encoder_for(filters, 2) is not None:
        return
    for step in filters:
        if h5py.h5z.filter_avail(step.filter_id):
            continue
        plugins = optional("hdf5plugin") if step.filter_id in _PLUGIN_FILTERS else None
        # Importing hdf5plugin registers its filters with libhdf5.
        if plugins is not None and h5py.h5z.filter_avail(step.filter_id):
            continue
        remedy = "set HDF5_PLUGIN_PATH to the folder of its plugin"
        if step.filter_id in _PLUGIN_FILTERS and plugins is None:
            remedy = 'run pip install "lazyio[plugins]", or ' + remedy
        msg = f"HDF5 filter {step.name} ({step.filter_id}) is not to be had here; {remedy}"
        raise OptionError(msg)


def _open(path: Path, libver: Any) -> h5py.File:
    if libver == "latest" or (isinstance(libver, (tuple, list)) and "latest" in libver[:1]):
        msg = (
            'libver="latest" makes files that HDF5 1.10 and PyTables cannot read; leave it out, '
            'or give ("earliest", "v114")'
        )
        raise OptionError(msg)
    try:
        return h5py.File(path, "a", libver=libver)
    except (ValueError, KeyError, TypeError) as error:
        msg = f"libver={libver!r} is not a pair of HDF5 versions: {error}"
        raise OptionError(msg) from error
    except OSError as error:
        msg = f"the existing file cannot be opened as HDF5: {error}; pass mode='w' to replace it"
        raise TargetError(error.errno, msg) from error
