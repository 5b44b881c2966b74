"""HDF5 on the direct path: chunks encoded outside libhdf5, in any file that is open.

The only lock is the one h5py holds for the few microseconds of
``write_direct_chunk``. Filters that lazyio does not encode go through
libhdf5's own pipeline, which is correct and takes one thread at a time.
"""

import contextlib
import copy
import errno
import operator
import os
import posixpath
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import NotedDigests, Rows, digest_of, digest_of_elements, renumbered
from lazyio.atomic.hdf5_digests import digest_of_piece, has_payloads, pieces_in
from lazyio.atomic.journal import Record, ResumeState
from lazyio.codecs.base import FLETCHER32, SHUFFLE, SZIP
from lazyio.codecs.hdf5_chunks import (
    Decoder,
    Encoder,
    Payload,
    decoder_for,
    encoder_for,
    filters_of,
    libhdf5_has,
    load_plugins,
    remedy_for,
)
from lazyio.codecs.hdf5_filters import Filter, as_given
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import TEXT, Shape, is_text, nbytes_of
from lazyio.errors import (
    BlockError,
    DamagedDataError,
    LazyioError,
    OptionError,
    TargetError,
    TargetExistsError,
    UnsupportedDtypeError,
)
from lazyio.libhdf5_calls import write_direct_chunk
from lazyio.os_errors import errno_of
from lazyio.regions import (
    Bounds,
    Region,
    box,
    box_shape,
    check_numbered,
    flat_index,
    format_region,
    grid_shape,
    index_at,
    open_grid,
)
from lazyio.sources.hdf5_layout import (
    StoredPayloads,
    each_stored_chunk,
    is_byte_for_byte,
    limits_of,
)
from lazyio.sources.libhdf5 import bound_metadata, read_dataset, write_dataset
from lazyio.storage.base import padded
from lazyio.storage.disk_errors import disk_errors, target_error
from lazyio.storage.hdf5.attributes import write_attributes
from lazyio.storage.hdf5.payloads import Payloads, as_bytes, as_elements


@dataclass(frozen=True, kw_only=True)
class Hdf5Options:
    """How a dataset is to be stored, beside its shape and dtype."""

    filters: tuple[Filter, ...] = ()
    """In the order in which they are applied."""
    fillvalue: Any = None
    """What a reader gets where nothing was written; ``None`` is zero."""
    maxshape: tuple[int | None, ...] | None = None
    """How far it may grow; ``None`` is not at all."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the dataset."""
    is_contiguous: bool = False
    """Whether it has no chunks, but lies in one run."""


class Hdf5Target:
    """A dataset in a file that is open for writing."""

    def __init__(
        self,
        dataset: h5py.Dataset,
        chunk_shape: Shape,
        *,
        folder: Path,
        noted: NotedDigests | None = None,
        bounds: Bounds | None = None,
        rewrites: bool = False,
        old: Callable[[Region], npt.NDArray[Any]] | None = None,
        put: Callable[[Shape, Payload, int], object] | None = None,
    ) -> None:
        self.shape: Shape = tuple(map(int, dataset.shape))
        self.chunk_shape = chunk_shape
        self.dtype = element_dtype(dataset)
        self.fill_value = "" if is_text(self.dtype) else dataset.fillvalue
        self._dataset = dataset
        self._stored = StoredPayloads(dataset)
        self._bounds = dataset.maxshape
        self._folder = folder
        self._lock = threading.Lock()
        self._stored_nbytes = 0
        self.n_written = 0
        """Chunks that were encoded and stored."""
        self._filters = filters_of(dataset)
        self._encoder = self._find_encoder()
        self._limits = () if self._encoder else limits_of(dataset.id.get_type())
        self._decoder = decoder_for(self._filters, self.dtype.itemsize) if self._encoder else None
        self._rewrites = rewrites
        if put is not None:
            self.put_by(put)
        else:
            self._write_direct_chunk = self._over_others(partial(write_direct_chunk, dataset))
            # libhdf5 forgets the mask of the chunk that was written last, as long as the dataset
            # stays open: who has it open could not read what no filter has gone over.
            self._skips = False
        self._noted = noted
        self.payloads: Payloads | None = None
        """Takes the chunks of a job that can be resumed; else they go into the file at once.
        """
        self._old = old
        self.check: Callable[[], object] | None = None
        """Raises what libhdf5 was not told of, after it has written elements."""
        self.keeping: ResumeState | None = None
        """Chunks that are there from a run that was killed, and the journal."""
        self.grid: Shape = grid_shape(self.shape, chunk_shape)
        """By which chunks are numbered."""
        if bounds is not None:
            self.grid = open_grid(bounds, chunk_shape)
        # What libhdf5 has encoded: the digests are those of what it made of that.
        self._to_read_back: set[int] = set()
        # Where szip is skipped, and the chunk is as long as it was before, libhdf5 forgets that.
        self._is_doubtful = rewrites and any(step.filter_id == SZIP for step in self._filters)
        self._written: dict[int, tuple[Region, int]] = {}
        """Of what may be stored wrongly: where it went, and the digest of its elements."""

    @property
    def engine(self) -> str:
        """How chunks get into the file."""
        if self._encoder is None:
            return "libhdf5"
        return "direct" if self.payloads is None else self.payloads.engine

    @property
    def is_read_back(self) -> bool:
        """Whether the chunks that were written are in the file, and can be decoded."""
        return self.payloads is None and (
            self._decoder is not None or all(libhdf5_has(step.filter_id) for step in self._filters)
        )

    @property
    def encodes(self) -> bool:
        """Whether chunks are encoded outside libhdf5."""
        return self._encoder is not None

    def put_by(self, put: Callable[[Shape, Payload, int], object]) -> None:
        """Have this take corner, payload and mask of each chunk that is encoded."""
        self._write_direct_chunk = self._over_others(put)
        self._skips = True

    def _over_others(
        self, write: Callable[[Shape, Payload, int], object]
    ) -> Callable[[Shape, Payload, int], object]:
        """Return what writes a chunk over another, whatever filters that one went through.

        libhdf5 keeps the mask of the old chunk where the new one has as many bytes: as one
        may have that no filter has gone over.
        """
        if not self._rewrites or not self._filters:
            return write
        whole = nbytes_of(self.chunk_shape, self.dtype)

        def write_over(corner: Shape, payload: Payload, mask: int) -> None:
            if mask or len(payload) >= whole:
                write(corner, bytes(len(payload) + 1), mask)
            write(corner, payload, mask)

        return write_over

    def corner_of(self, chunk: int) -> Shape:
        """Return where a chunk begins, from its position in the grid."""
        return tuple(map(operator.mul, index_at(chunk, self.grid), self.chunk_shape))

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk and commit it."""
        corner = tuple(map(operator.mul, index, self.chunk_shape))
        if self._encoder is None:
            if self.payloads is not None:
                self._put(index, corner, as_bytes(chunk), 0)
            else:
                self._write_elements(index, chunk)
            return
        whole = padded(chunk, self.chunk_shape, self.fill_value, workspace)
        encoder = self._encoder if self._skips else replace(self._encoder, skip_mask=0)
        payload, mask = encoder.encode(whole, workspace)
        if not self._filters and len(payload) != whole.nbytes:
            # HDF5 takes a short payload of an unfiltered chunk without a word.
            msg = f"chunk {tuple(index)}: {len(payload)} bytes instead of {whole.nbytes}"
            raise TargetError(errno.EIO, msg)
        if self.payloads is not None:
            self._put(index, corner, payload, mask, self._rim_of(chunk))
            return
        try:
            self._write_direct_chunk(corner, payload, mask)
        except (OSError, RuntimeError) as error:
            raise target_error(error, self._folder) from error
        if self._noted is not None:
            digest = digest_of(payload, seed=mask)
            self._noted.note(flat_index(index, self.grid), digest, self._rim_of(chunk))
        self._count(len(payload))

    def _rim_of(self, chunk: npt.NDArray[Any]) -> int | None:
        """Return the digest of a chunk's elements, where others may come to lie beside them."""
        is_cut = any(
            n < size and (bound is None or bound > extent)
            for n, size, extent, bound in zip(
                chunk.shape, self.chunk_shape, self.shape, self._bounds, strict=True
            )
        )
        return digest_of_elements(chunk) if is_cut and self._noted is not None else None

    def _put(
        self,
        index: Sequence[int],
        corner: Shape,
        payload: Payload,
        mask: int,
        rim: int | None = None,
    ) -> None:
        """Write a payload down in the journal, and to where it can be found again."""
        keeping, payloads = self.keeping, self.payloads
        if keeping is None or payloads is None:
            return
        chunk, nbytes = flat_index(index, self.grid), len(payload)
        digest = digest_of(payload, seed=mask)
        if keeping.has(chunk, digest):
            return
        record = keeping.record(chunk, nbytes=nbytes, digest=digest, mask=mask)
        with disk_errors(self._folder):
            payloads.put(keeping, corner, record, payload)
        if self._noted is not None and self._encoder is not None:
            self._noted.note(chunk, digest, rim)
        self._count(nbytes)

    def _count(self, nbytes: int) -> None:
        with self._lock:
            self._stored_nbytes += nbytes
            self.n_written += 1

    def _write_elements(self, index: Sequence[int], chunk: npt.NDArray[Any]) -> None:
        """Let libhdf5 encode a chunk, or whatever part there is of one."""
        corner = tuple(map(operator.mul, index, self.chunk_shape))
        region = tuple(slice(at, at + n) for at, n in zip(corner, chunk.shape, strict=True))
        for limits in self._limits:
            if (value := limits.misfit(chunk)) is not None:
                msg = (
                    f"block {format_region(region)} of {self._dataset.name!r} holds {value}, and "
                    f"its integers are from {limits.low} to {limits.high}; write a new dataset"
                )
                raise BlockError(msg)
        if self.dtype.metadata:
            # Says what the bytes are: text in UTF-8, or an enumeration.
            chunk = chunk.view(self.dtype)
        with self._lock, disk_errors(self._folder):
            write_dataset(self._dataset, region, chunk)
            self.n_written += 1
            if self.check is not None:
                self.check()
            pieces = self._pieces_in(index, region)
            if self._is_doubtful and self._dataset.chunks == self.chunk_shape:
                self._written |= dict.fromkeys(pieces, (region, digest_of_elements(chunk)))
            if self._noted is not None or self._is_doubtful:
                self._to_read_back |= pieces

    def _pieces_in(self, index: Sequence[int], region: Region) -> set[int]:
        """Return what has digests of its own in a chunk that libhdf5 has encoded."""
        if self._dataset.chunks == self.chunk_shape:
            return {flat_index(index, self.grid)}
        return pieces_in(self._dataset, region)

    def grow(self, shape: Shape) -> None:
        """Take chunks within these extents from now on."""
        try:
            with self._lock:
                self._dataset.resize(shape)
        except (ValueError, OSError, RuntimeError) as error:
            msg = (
                f"{self._dataset.name!r} cannot grow to shape {shape}, its maxshape is "
                f"{self._dataset.maxshape}: {error}; give maxshape= with room for all of it"
            )
            raise TargetError(errno.EINVAL, msg) from error
        check_numbered(shape, self.chunk_shape, self.grid)
        self.shape = shape

    def shape_now(self) -> Shape:
        """Return the extents that the dataset has by now, whoever has changed them."""
        return tuple(map(int, self._dataset.shape))

    def at_shape(self, shape: Shape) -> "Hdf5Target":
        """Return a target for the dataset with those extents, which has written nothing yet."""
        other = copy.copy(self)
        other.shape = shape
        other.n_written = other._stored_nbytes = 0
        return other

    def count_for(self, other: "Hdf5Target") -> None:
        """Count what was written here as another's."""
        with other._lock:
            other.n_written += self.n_written
            other._stored_nbytes += self._stored_nbytes

    def rows(self, noted: NotedDigests) -> Rows:
        """Return the digests that were noted, chunks numbered as the dataset is now."""
        return renumbered(noted.rows(), self.grid, grid_shape(self.shape, self.chunk_shape))

    def rims(self, noted: NotedDigests) -> Rows:
        """Return the same of the elements of chunks that were cut."""
        kept = {} if self.keeping is None else self.keeping.kept
        for chunk, record in kept.items():
            shape = box_shape(box(self.shape, self.chunk_shape, index_at(chunk, self.grid)))
            if self.payloads is not None and self._decoder and shape != self.chunk_shape:
                # Written before the kill, and only compared or left alone since.
                whole = self._unpacked(self._decoder, self.payloads.read(record), record.mask)
                rim = self._rim_of(whole[tuple(map(slice, shape))])
                if rim is not None:
                    noted.note_rim(chunk, rim)
        return renumbered(noted.rims(), self.grid, grid_shape(self.shape, self.chunk_shape))

    def _put_waiting(self) -> None:
        """Put the payloads into the file that have waited beside it."""
        if self.payloads is None or self.keeping is None:
            return
        for record, payload in self.payloads.waiting(self.keeping):
            index = index_at(record.chunk, self.grid)
            if self._encoder is not None:
                self._write_direct_chunk(self.corner_of(record.chunk), payload, record.mask)
                continue
            shape = box_shape(box(self.shape, self.chunk_shape, index))
            self._write_elements(index, as_elements(payload, shape, self.dtype))

    def is_whole(self, record: Record) -> bool:
        """Return whether a payload is there as its record says."""
        return self.payloads is not None and self.payloads.is_whole(record)

    def as_stored(self, _: Sequence[int], chunk: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a chunk's elements as they come back, which filters of libhdf5's may change."""
        if self._encoder is not None or not self._dataset.chunks or not self._filters:
            return chunk
        with self._one_chunk(self._dataset.chunks) as one:
            part = tuple(map(slice, chunk.shape))
            one[part] = chunk.view(self.dtype) if self.dtype.metadata else chunk
            out = np.empty(chunk.shape, self.dtype)
            read_dataset(one, part, out, f"dataset {self._dataset.name!r}")
            return out

    @contextlib.contextmanager
    def _one_chunk(self, shape: Shape, maxshape: Any = None) -> Iterator[h5py.Dataset]:
        """Return a dataset like this one, but for its shape, to write one chunk to."""
        limits = [h5py.h5s.UNLIMITED if bound is None else bound for bound in maxshape or shape]
        properties = self._dataset.id.get_create_plist().copy()
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_INCR)
        # In memory, and without a cache: it would give back what it was given.
        memory = h5py.File("x", "w", driver="core", backing_store=False, rdcc_nbytes=0)
        with memory as file:
            identifier = h5py.h5d.create(
                file.id,
                b"x",
                self._dataset.id.get_type(),
                h5py.h5s.create_simple(shape, tuple(limits)),
                properties,
            )
            yield h5py.Dataset(identifier)

    def _stored_masks(self) -> dict[int, int]:
        """Return the filter masks of the chunks that were written, as the file will have them."""
        masks: dict[int, int] = {}

        def note(index: npt.NDArray[Any], places: npt.NDArray[Any]) -> None:
            for at, mask in zip(index.tolist(), places[:, 2].tolist(), strict=True):
                if (piece := flat_index(at, self.grid)) in self._written:
                    masks[piece] = mask

        each_stored_chunk(self._dataset, note)
        return masks

    def _require_decodable(self, piece: int, masks: Mapping[int, int]) -> None:
        """Raise unless a chunk decodes to what was written, in a file that knows nothing of it."""
        if piece not in self._written:
            return
        region, digest = self._written[piece]
        corner = tuple(part.start for part in region)
        if (found := self._stored.find(corner)) is None:
            return
        # The one that was written last comes with the mask it was given, whatever is stored of it.
        mask = masks.get(piece, found[0])
        payload = found[1]
        # The options of szip depend on the shape of the whole, too.
        with self._one_chunk(self.shape, self._dataset.maxshape) as one:
            file = one.file
            write_direct_chunk(one, corner, payload, mask)
            one.id.close()
            # Opened anew: libhdf5 forgets the mask of what was written last.
            if digest_of_elements(file["x"][region]) != digest:
                msg = "it decodes to other elements"
                raise OSError(msg)

    def read_chunk(self, index: Sequence[int]) -> npt.NDArray[Any]:
        """Return a chunk's elements, cut at the end of the dataset."""
        region = box(self.shape, self.chunk_shape, index)
        if self._old is not None:
            return self._old(region)
        try:
            if self._decoder is not None:
                return self._decoded(self._decoder, index, box_shape(region))
        except (OSError, ValueError) as error:
            msg = f"the chunk {format_region(region)} of {self._dataset.name!r} is damaged: {error}"
            raise DamagedDataError(msg) from error
        out = np.empty(box_shape(region), self.dtype)
        with self._lock:
            read_dataset(self._dataset, region, out, f"dataset {self._dataset.name!r}")
        return out

    def _decoded(self, decoder: Decoder, index: Sequence[int], shape: Shape) -> npt.NDArray[Any]:
        """Return a chunk's elements, for which libhdf5 need not have the filters."""
        corner = tuple(map(operator.mul, index, self.chunk_shape))
        with self._lock:
            found = self._stored.find(corner)
        if found is None:
            return np.full(shape, self.fill_value, self.dtype)
        return self._unpacked(decoder, found[1], found[0])[tuple(map(slice, shape))]

    def _unpacked(self, decoder: Decoder, payload: bytes, mask: int) -> npt.NDArray[Any]:
        whole = np.empty(self.chunk_shape, self.dtype)
        raw = whole.reshape(-1).view(np.uint8)
        decoder.decode(np.frombuffer(payload, np.uint8), mask, raw)
        return whole

    def finish(self) -> int:
        """Return the bytes that the chunks written take."""
        with disk_errors(self._folder):
            self._put_waiting()
            grid = grid_shape(self.shape, self.chunk_shape)
            if self._to_read_back:
                # What libhdf5 has in its cache has no place yet, and may get none it tells.
                self._dataset.id.flush()
            masks = self._stored_masks() if self._written else {}
            for piece in sorted(self._to_read_back):
                number = piece
                if grid != self.grid:
                    number = flat_index(index_at(piece, self.grid), grid)
                with self._reading_back(piece):
                    if self._is_doubtful:
                        self._require_decodable(piece, masks)
                    if self._noted is not None:
                        digest = digest_of_piece(self._dataset, number)
                        self._noted.note(piece, digest, self._rim_read_back(number))
            kept = 0
            if self.keeping is not None:
                kept = sum(record.nbytes for record in self.keeping.kept.values())
            return self._stored_nbytes + kept or int(self._dataset.id.get_storage_size())

    @contextlib.contextmanager
    def _reading_back(self, piece: int) -> Iterator[None]:
        """Say so where the filters of libhdf5 do not undo what they did."""
        try:
            yield
        except OSError as error:
            if errno_of(error) is not None:
                raise
            where = format_region(self._box_of(piece))
            msg = (
                f"dataset {self._dataset.name!r}: the chunk {where} cannot be read back as its "
                f"filters wrote it ({error}); write a new dataset with another compression"
            )
            raise TargetError(errno.EIO, msg) from error

    def _box_of(self, piece: int) -> Region:
        return box(self.shape, self.chunk_shape, index_at(piece, self.grid))

    def _rim_read_back(self, number: int) -> int | None:
        """Return the same of a chunk that libhdf5 has encoded, and may have changed thereby."""
        if not has_payloads(self._dataset) or self._dataset.chunks != self.chunk_shape:
            return None
        index = index_at(number, grid_shape(self.shape, self.chunk_shape))
        region = box(self.shape, self.chunk_shape, index)
        if box_shape(region) == self.chunk_shape:
            return None
        return self._rim_of(np.asarray(self._dataset[region]))

    def _find_encoder(self) -> Encoder | None:
        dataset = self._dataset
        if dataset.chunks != self.chunk_shape or not self.dtype.itemsize or is_text(self.dtype):
            return None
        if not is_byte_for_byte(dataset):
            return None
        return encoder_for(tuple(map(as_given, self._filters)), self.dtype.itemsize)


def element_dtype(dataset: h5py.Dataset) -> np.dtype[Any]:
    """Return the dtype of a dataset's elements; text of any length as numpy has it."""
    if h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.hasobject:
        return TEXT
    dtype: np.dtype[Any] = dataset.dtype
    return dtype


@contextlib.contextmanager
def hidden_file(path: Path, libver: Any) -> Iterator[h5py.File]:
    """Open a file that nobody else knows, and close it whatever happens."""
    file = _open(path, libver)
    try:
        yield file
    except BaseException:
        # A full disk fails the close as well; the file is removed anyway.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            file.close()
        raise
    with disk_errors(path.parent.parent):
        file.close()


def create_dataset(
    group: h5py.Group,
    key: str,
    *,
    shape: Shape,
    chunk_shape: Shape,
    dtype: np.dtype[Any],
    options: Hdf5Options,
) -> h5py.Dataset:
    """Make a dataset that is still empty."""
    require_filters(options.filters)
    if group.get(key, getlink=True) is not None:
        msg = f"{key!r} is there already; give every array a key of its own"
        raise TargetExistsError(errno.EEXIST, msg)
    is_chunked = bool(shape) and (0 not in shape or options.maxshape is not None)
    is_chunked = is_chunked and not options.is_contiguous
    # A filter needs chunks, of which an array without axes or elements has none.
    properties = _properties(options.filters) if is_chunked else None
    try:
        dataset = _group_for(group, key).create_dataset(
            posixpath.basename(key),
            shape=shape,
            dtype=h5py.string_dtype() if is_text(dtype) else dtype,
            chunks=chunk_shape if is_chunked else None,
            maxshape=options.maxshape if is_chunked else None,
            fillvalue=options.fillvalue,
            dcpl=properties,
        )
    except TypeError as error:
        msg = f"HDF5 has no type for dtype {dtype} ({error}); convert with dtype= or .astype first"
        raise UnsupportedDtypeError(msg) from error
    except (ValueError, OSError, RuntimeError) as error:
        remedy = "choose other chunks or filters"
        if is_text(dtype):
            remedy = "text of any length takes few filters, and no checksum: leave them out"
        msg = f"dataset {key!r} cannot be created: {error}; {remedy}"
        raise OptionError(msg) from error
    write_attributes(dataset, options.attrs)
    # libhdf5 writes a filter's name, which it may learn only when a plugin is loaded, into room
    # that it has measured without: the description goes out before anyone can load one.
    dataset.id.flush()
    return dataset


def _group_for(group: h5py.Group, key: str) -> h5py.Group:
    """Return the group of a dataset, made where it is not there yet.

    Links are numbered as they are made: the netCDF library adds to no others.
    """
    above = posixpath.dirname(key.strip("/"))
    for name in filter(None, above.split("/")):
        there = group.get(name)
        group = group.create_group(name, track_order=True) if there is None else there
    return group


def link_dataset(group: h5py.Group, key: str, path: str, name: str, final: Path) -> None:
    """Link to a dataset: of another file, relative to where this one will lie; or of its own."""
    if os.path.realpath(path) == str(final):
        group[key] = h5py.SoftLink(name)
        return
    group[key] = h5py.ExternalLink(os.path.relpath(path, final.parent), name)


def _properties(filters: tuple[Filter, ...]) -> Any:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    for step in filters:
        if step.filter_id == SHUFFLE:
            properties.set_shuffle()
        elif step.filter_id == FLETCHER32:
            properties.set_fletcher32()
        elif step.filter_id == SZIP:
            properties.set_szip(*step.options)
        else:
            load_plugins(step.filter_id)
            # Optional, as h5py does it: a chunk may be stored without it.
            flag = h5py.h5z.FLAG_OPTIONAL
            properties.set_filter(step.filter_id, flag, step.options or None)
    return properties


def require_filters(filters: tuple[Filter, ...]) -> None:
    """Raise unless each filter can be applied, by lazyio or by libhdf5."""
    # The itemsize does not matter for whether there is an encoder at all.
    if encoder_for(filters, 2) is not None:
        return
    for step in filters:
        if libhdf5_has(step.filter_id):
            continue
        remedy = remedy_for(step.filter_id, "set HDF5_PLUGIN_PATH to the folder of its plugin")
        msg = f"HDF5 filter {step.name} ({step.filter_id}) is not to be had here; {remedy}"
        raise OptionError(msg)


def check_libver(libver: Any) -> None:
    """Refuse file format bounds with which others cannot read the file."""
    if libver == "latest" or (isinstance(libver, (tuple, list)) and "latest" in libver[:1]):
        msg = (
            'libver="latest" makes files that HDF5 1.10 and PyTables cannot read; leave it out, '
            'or give ("earliest", "v114")'
        )
        raise OptionError(msg)


def _open(path: Path, libver: Any) -> h5py.File:
    with opening_errors(path.parent.parent, libver):
        # The lock of a file that only we know keeps nobody out, and would stay with the
        # processes of a pool that were forked meanwhile, after the file is published.
        return bound_metadata(h5py.File(path, "a", libver=libver, locking=False, track_order=True))


@contextlib.contextmanager
def opening_errors(folder: Path, libver: Any) -> Iterator[None]:
    """Say what is wrong where libhdf5 cannot open or create a file."""
    check_libver(libver)
    try:
        yield
    except LazyioError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        msg = f"libver={libver!r} is not a pair of HDF5 versions: {error}"
        raise OptionError(msg) from error
    except (OSError, RuntimeError) as error:
        if errno_of(error) is not None:
            raise target_error(error, folder) from error
        msg = f"the existing file cannot be opened as HDF5: {error}; pass mode='w' to replace it"
        raise TargetError(errno.EINVAL, msg) from error
