"""HDF5 on the direct path: chunks encoded outside libhdf5, in any file that is open.

The only lock is the one h5py holds for the few microseconds of
``write_direct_chunk``. Filters that lazyio does not encode go through
libhdf5's own pipeline, which is correct and takes one thread at a time.
"""

import contextlib
import errno
import operator
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import NotedDigests, digest_of, digest_of_elements
from lazyio.atomic.hdf5_digests import digest_of_piece, has_payloads, pieces_in
from lazyio.atomic.journal import Record, ResumeState, TwoResultsError
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
from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.dtypes import TEXT, Shape, is_text, nbytes_of
from lazyio.errors import (
    BlockError,
    DamagedDataError,
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
    box_shape,
    check_numbered,
    flat_index,
    format_region,
    index_at,
)
from lazyio.sources.hdf5_layout import (
    StoredPayloads,
    each_stored_chunk,
    is_byte_for_byte,
    limits_of,
)
from lazyio.sources.libhdf5 import read_dataset, write_dataset
from lazyio.storage.base import ChunkTarget, EncodedChunk, PayloadPlace, PlaceKind, padded
from lazyio.storage.disk_errors import disk_errors, target_error
from lazyio.storage.hdf5.attributes import write_attributes
from lazyio.storage.hdf5.chunk_writer import Hdf5ChunkWriter, may_be_completed, require_whole
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata
from lazyio.storage.hdf5.payloads import InPlacePayloads, Payloads, as_bytes, as_elements

Put = Callable[[Shape, Payload, int], object]
"""Takes corner, payload and filter mask of a chunk."""


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


class Hdf5Target(ChunkTarget):
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
        put: Put | None = None,
        check: Callable[[], object] | None = None,
        is_copied: bool = False,
        holds: Callable[[Region], bool] | None = None,
    ) -> None:
        super().__init__(dataset.shape, chunk_shape, noted=noted, bounds=bounds)
        self.dtype = element_dtype(dataset)
        self.fill_value = "" if is_text(self.dtype) else dataset.fillvalue
        self._dataset = dataset
        self._stored = StoredPayloads(dataset)
        self._bounds = dataset.maxshape
        self._folder = folder
        self._filters = filters_of(dataset)
        self._encoder = self._find_encoder()
        self._is_copied = is_copied
        self._holds = holds
        self._limits = () if self.encodes else limits_of(dataset.id.get_type())
        self._decoder = decoder_for(self._filters, self.dtype.itemsize) if self._encoder else None
        self._rewrites = rewrites
        self.put_by(put, check)
        self._engine: DeferredMetadata | None = None
        self.payloads: Payloads | None = None
        """Takes the chunks of a job that can be resumed; else they go into the file at once.
        """
        self._old = old
        # What libhdf5 has encoded: the digests are those of what it made of that.
        self._to_read_back: set[int] = set()
        # Where szip is skipped, and the chunk is as long as it was before, libhdf5 forgets that.
        self._is_doubtful = rewrites and any(step.filter_id == SZIP for step in self._filters)
        self._written: dict[int, tuple[Region, int]] = {}
        """Of what may be stored wrongly: where it went, and the digest of its elements."""

    @property
    def engine(self) -> str:
        """How chunks get into the file."""
        if self._is_copied:
            return "undecoded"
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
        """Whether chunks are encoded outside libhdf5, here or by whoever wrote them first."""
        return self._encoder is not None or self._is_copied

    def put_by(self, put: Put | None, check: Callable[[], object] | None) -> None:
        """Have this take corner, payload and mask of each chunk; ``None`` leaves it to libhdf5.

        ``check`` raises what libhdf5 was not told of, after it has written elements.
        """
        self._write_direct_chunk = self._over_others(
            put or partial(write_direct_chunk, self._dataset)
        )
        # libhdf5 forgets the mask of the chunk that was written last, as long as the dataset
        # stays open: who has it open could not read what no filter has gone over.
        self._skips = put is not None
        self._check = check

    def place_by(self, engine: DeferredMetadata) -> None:
        """Have places of payloads reserved by this, also of those that others write."""
        self._engine = engine
        if self.payloads is None:
            self.put_by(engine.putter(self._dataset), engine.check)

    def chunk_writer(self) -> Hdf5ChunkWriter | None:
        """Return what other processes write with, ``None`` where they cannot."""
        if self._engine is None or self._encoder is None or self._holds is not None:
            return None
        return Hdf5ChunkWriter(
            path=self._engine.path,
            shape=self.shape,
            chunk_shape=self.chunk_shape,
            grid=self.grid,
            bounds=self._bounds,
            elements=self.dtype,
            fill_value=self.fill_value,
            filters=self._filters,
            skips=self._skips,
            has_digests=self._noted is not None,
        )

    def place(self, chunk: EncodedChunk) -> PayloadPlace:
        """Reserve a place for a payload that another process has."""
        engine, keeping = self._engine, self.keeping
        if engine is None:
            return PayloadPlace(PlaceKind.SEND)
        corner = self.corner_of(chunk.chunk)
        with disk_errors(self._folder):
            if keeping is not None and isinstance(self.payloads, InPlacePayloads):
                if keeping.has(chunk.chunk, chunk.digest):
                    return PayloadPlace(PlaceKind.KEPT)
                self._require_same(keeping, chunk)
                record = keeping.record(
                    chunk.chunk, nbytes=chunk.nbytes, digest=chunk.digest, mask=chunk.mask
                )
                offset = self.payloads.place(keeping, corner, record)
            else:
                offset = self._reserved(engine, corner, chunk)
            is_lent = engine.is_lent
        return PayloadPlace(PlaceKind.WRITE if is_lent else PlaceKind.SEND, offset)

    def _require_same(self, keeping: ResumeState, chunk: EncodedChunk) -> None:
        """Refuse another payload than a killed run has given a place to.

        A task of that run may still be about to write it there.
        """
        there = keeping.reserved.get(chunk.chunk)
        if there is not None and there.digest != chunk.digest:
            raise TwoResultsError.at(self._region_of(chunk.chunk))

    def _reserved(self, engine: DeferredMetadata, corner: Shape, chunk: EncodedChunk) -> int:
        """Return a place that no journal takes note of."""
        whole = nbytes_of(self.chunk_shape, self.dtype)
        if self._rewrites and self._filters and (chunk.mask or chunk.nbytes >= whole):
            # See _over_others.
            engine.reserve(self._dataset, corner, chunk.nbytes + 1, chunk.mask, _ignore)
        return engine.reserve(self._dataset, corner, chunk.nbytes, chunk.mask, _ignore)

    def land(self, chunk: EncodedChunk, place: PayloadPlace, payload: Bytes | None) -> None:
        """Take note of a payload that is in its place, or put it there."""
        if place.kind is PlaceKind.KEPT:
            return
        if payload is not None and self._engine is not None:
            with disk_errors(self._folder):
                self._engine.write(payload, place.offset)
        if self._noted is not None:
            self._noted.note(chunk.chunk, chunk.digest, chunk.rim)
        self._count(chunk.nbytes)

    def _over_others(self, write: Put) -> Put:
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
        if self._holds is not None and not self._holds(self._region(index)):
            return  # It stays a chunk that is not stored.
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
        if not self._filters:
            require_whole(payload, whole)
        self._commit(index, payload, mask, self._rim_of(chunk))

    def copy_payload(self, index: Sequence[int], payload: Payload, mask: int) -> None:
        """Commit a chunk as it was stored elsewhere, with the same filters."""
        rim, shape = None, box_shape(self._region(index))
        if self._has_rim(shape) and self._decoder is not None:
            # One that is damaged is copied as it is.
            with contextlib.suppress(OSError, ValueError):
                whole = self._unpacked(self._decoder, payload, mask)
                rim = digest_of_elements(whole[tuple(map(slice, shape))])
        self._commit(index, payload, mask, rim)

    def _commit(self, index: Sequence[int], payload: Payload, mask: int, rim: int | None) -> None:
        """Put a payload into the file, or to where it waits, and note its digest."""
        corner = tuple(map(operator.mul, index, self.chunk_shape))
        if self.payloads is not None:
            self._put(index, corner, payload, mask, rim)
            return
        try:
            self._write_direct_chunk(corner, payload, mask)
        except (OSError, RuntimeError) as error:
            raise target_error(error, self._folder) from error
        if self._noted is not None:
            digest = digest_of(payload, seed=mask)
            self._noted.note(flat_index(index, self.grid), digest, rim)
        self._count(len(payload))

    def _rim_of(self, chunk: npt.NDArray[Any]) -> int | None:
        """Return the digest of a chunk's elements, where others may come to lie beside them."""
        return digest_of_elements(chunk) if self._has_rim(chunk.shape) else None

    def _has_rim(self, shape: Shape) -> bool:
        """Return whether others may come to lie beside the elements of a chunk."""
        is_noted = self._noted is not None
        return is_noted and may_be_completed(shape, self.chunk_shape, self.shape, self._bounds)

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
        if self._noted is not None and self.encodes:
            self._noted.note(chunk, digest, rim)
        self._count(nbytes)

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
            if self._check is not None:
                self._check()
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

    def _kept_rim(self, record: Record) -> int | None:
        """Return the digest of the elements of a chunk that is cut, and there from before."""
        if self.payloads is None or self._decoder is None:
            return None
        whole = self._unpacked(self._decoder, self.payloads.read(record), record.mask)
        return self._rim_of(whole[tuple(map(slice, box_shape(self._region_of(record.chunk))))])

    def _put_waiting(self) -> None:
        """Put the payloads into the file that have waited beside it."""
        if self.payloads is None or self.keeping is None:
            return
        for record, payload in self.payloads.waiting(self.keeping):
            index = index_at(record.chunk, self.grid)
            if self.encodes:
                self._write_direct_chunk(self.corner_of(record.chunk), payload, record.mask)
                continue
            shape = box_shape(self._region(index))
            self._write_elements(index, as_elements(payload, shape, self.dtype))

    def is_whole(self, record: Record) -> bool:
        """Return whether a payload is there as its record says."""
        payload = b"" if self.payloads is None else self.payloads.read(record)
        is_all = len(payload) == record.nbytes
        return is_all and digest_of(payload, seed=record.mask) == record.digest

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
        region = self._region(index)
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

    def _unpacked(self, decoder: Decoder, payload: Payload, mask: int) -> npt.NDArray[Any]:
        whole = np.empty(self.chunk_shape, self.dtype)
        raw = whole.reshape(-1).view(np.uint8)
        decoder.decode(np.frombuffer(payload, np.uint8), mask, raw)
        return whole

    def finish(self) -> int:
        """Return the bytes that the chunks written take."""
        with disk_errors(self._folder):
            self._put_waiting()
            grid = self._own_grid
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
            return self._all_nbytes or int(self._dataset.id.get_storage_size())

    @contextlib.contextmanager
    def _reading_back(self, piece: int) -> Iterator[None]:
        """Say so where the filters of libhdf5 do not undo what they did."""
        try:
            yield
        except OSError as error:
            if errno_of(error) is not None:
                raise
            where = format_region(self._region_of(piece))
            msg = (
                f"dataset {self._dataset.name!r}: the chunk {where} cannot be read back as its "
                f"filters wrote it ({error}); write a new dataset with another compression"
            )
            raise TargetError(errno.EIO, msg) from error

    def _rim_read_back(self, number: int) -> int | None:
        """Return the same of a chunk that libhdf5 has encoded, and may have changed thereby."""
        if not has_payloads(self._dataset) or self._dataset.chunks != self.chunk_shape:
            return None
        region = self._region(index_at(number, self._own_grid))
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


def _ignore(_: int) -> None:
    """Do nothing: nobody takes note of the place."""


def element_dtype(dataset: h5py.Dataset) -> np.dtype[Any]:
    """Return the dtype of a dataset's elements; text of any length as numpy has it."""
    if h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.hasobject:
        return TEXT
    dtype: np.dtype[Any] = dataset.dtype
    return dtype


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
    if group.get(key, getlink=True) is not None:
        msg = f"{key!r} already exists; give every array a key of its own"
        raise TargetExistsError(errno.EEXIST, msg)
    arguments = creation_arguments(shape, chunk_shape, dtype, options)
    try:
        dataset = group_for(group, key).create_dataset(posixpath.basename(key), **arguments)
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


def creation_arguments(
    shape: Shape, chunk_shape: Shape, dtype: np.dtype[Any], options: Hdf5Options
) -> dict[str, Any]:
    """Return how a dataset is made, as h5py's ``create_dataset`` takes it."""
    require_filters(options.filters)
    is_chunked = bool(shape) and (0 not in shape or options.maxshape is not None)
    is_chunked = is_chunked and not options.is_contiguous
    return {
        "shape": shape,
        "dtype": h5py.string_dtype() if is_text(dtype) else dtype,
        "chunks": chunk_shape if is_chunked else None,
        "maxshape": options.maxshape if is_chunked else None,
        "fillvalue": options.fillvalue,
        # A filter needs chunks, of which an array without axes or elements has none.
        "dcpl": _properties(options.filters) if is_chunked else None,
    }


def group_for(group: h5py.Group, key: str) -> h5py.Group:
    """Return the group of a dataset, made where it is not there yet.

    Links are numbered as they are made: the netCDF library adds to no others.
    """
    above = posixpath.dirname(key.strip("/"))
    for name in filter(None, above.split("/")):
        there = group.get(name)
        group = group.create_group(name, track_order=True) if there is None else there
    return group


def _properties(filters: tuple[Filter, ...]) -> Any:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    add_filters(properties, filters)
    return properties


def add_filters(properties: Any, filters: tuple[Filter, ...]) -> None:
    """Have a dataset made with some filters, behind those that it has."""
    for step in filters:
        if step.filter_id == SHUFFLE:
            properties.set_shuffle()
        elif step.filter_id == FLETCHER32:
            properties.set_fletcher32()
        elif step.filter_id == SZIP:
            # As a file has them, others follow that libhdf5 finds out itself.
            properties.set_szip(*step.options[:2])
        else:
            load_plugins(step.filter_id)
            # Optional, as h5py does it: a chunk may be stored without it.
            flag = h5py.h5z.FLAG_OPTIONAL
            properties.set_filter(step.filter_id, flag, step.options or None)


def require_filters(filters: tuple[Filter, ...]) -> None:
    """Raise unless each filter can be applied, by lazyio or by libhdf5."""
    # The itemsize does not matter for whether there is an encoder at all.
    if encoder_for(filters, 2) is not None:
        return
    for step in filters:
        if libhdf5_has(step.filter_id):
            continue
        remedy = remedy_for(step.filter_id, "set HDF5_PLUGIN_PATH to the folder of its plugin")
        msg = f"HDF5 filter {step.name} ({step.filter_id}) is not available here; {remedy}"
        raise OptionError(msg)


def check_libver(libver: Any) -> None:
    """Refuse file format bounds with which others cannot read the file."""
    if libver == "latest" or (isinstance(libver, (tuple, list)) and "latest" in libver[:1]):
        msg = (
            'libver="latest" makes files that HDF5 1.10 and PyTables cannot read; leave it out, '
            'or give ("earliest", "v114")'
        )
        raise OptionError(msg)
