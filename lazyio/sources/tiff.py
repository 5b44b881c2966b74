"""TIFF and OME-TIFF: the series and levels that tifffile finds, read a tile or strip at a time.

tifffile tells where the segments of a series lie, and decodes them; what is stored
as it is in memory is read without it.
"""

import logging
import math
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import FileIO
from typing import Any

import numpy as np

from lazyio.codecs.chunk_reading import read_chunks
from lazyio.codecs.libraries import required
from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import (
    DamagedDataError,
    SourceError,
    TruncatedSourceError,
    UnsafeFileError,
    UnsupportedDtypeError,
)
from lazyio.regions import Region, box, boxes, flat_index, format_region, grid_shape
from lazyio.sources.base import Array, FillsNew, Source, chosen
from lazyio.sources.files import (
    describing,
    existing,
    open_for_reading,
    read_exactly,
    read_region,
    reading,
    require_stored,
)
from lazyio.sources.foreign import described, foreign_errors
from lazyio.sources.identity import Identity, SeenFile, all_unchanged, seen_files
from lazyio.sources.manifest import Manifest, ManifestMaker, looked_up
from lazyio.sources.raw import RawSource

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG = (6, 7, 33007, 34892)
"""Compressions whose segments need tables that are stored apart."""
_PAGE_NBYTES = 16 * 2**10
"""Of what tifffile keeps of one page."""
_OF_LOSS = ("zeroed", "out of range")
"""In warnings of tifffile about pages that it leaves out or makes up."""
_HARMLESS = "OME series raised"
"""In an error of tifffile about a description that it cannot read; it goes by the pages then."""


@dataclass(frozen=True, kw_only=True)
class TiffLayout:
    """What is needed to read a series: where its segments lie, and how they are decoded."""

    page_shape: Shape
    """Separate samples, depth, length, width, samples, as tifffile has every page."""
    segment_shape: Shape
    """Extents of a tile or strip, in the same axes."""
    manifest: Manifest
    """Segments that are stored, page by page; the mask is the number of the file."""
    decode: Callable[..., Any] | None
    """From the bytes of a segment and its number in the page; ``None`` where pages are plain."""
    tables: dict[int, tuple[Any, Any]]
    """For pages of JPEG, the tables that decode their segments."""
    fill_value: Any
    """What segments hold that are not stored."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes, about."""
        return self.manifest.nbytes + _PAGE_NBYTES

    @property
    def grid(self) -> Shape:
        """Number of segments along each axis of a page."""
        return grid_shape(self.page_shape, self.segment_shape)


@dataclass(frozen=True, kw_only=True)
class TiffSource(FillsNew):
    """A series of pages in a TIFF file, or a level of it."""

    path: str
    """Absolute path."""
    key: str
    """Number of the series, and of the level behind a slash where it is not the first."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """A tile or strip, in the axes of the series; ``None`` where pages are plain."""
    n_leading: int
    """How many axes count pages."""
    codecs: str
    """What segments are encoded with."""
    stored_nbytes: int
    """Bytes that they take."""
    identity: Identity
    """The state of the file that is read."""
    others: tuple[SeenFile, ...] = field(default=(), repr=False)
    """Other files in which pages lie."""
    token: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False, compare=False)
    """By which the tasks of a graph share what is known of the places of its segments."""

    @property
    def run_shape(self) -> Shape | None:
        """A whole page: of small strips many are decoded at once."""
        if self.chunk_shape is None:
            return None
        return (1,) * self.n_leading + tuple(max(1, n) for n in self.shape[self.n_leading :])

    @property
    def in_rows(self) -> bool:
        """Whether pages are plain: runs of bytes, end to end."""
        return self.chunk_shape is None

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file, and key of the series."""
        return self.path, self.key

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of the file, and of the others in which pages lie."""
        return (self.path, *(file.path for file in self.others))

    def __dask_tokenize__(self) -> Any:
        """Return what names the same bytes in any process."""
        others = [file.token for file in self.others]
        return "lazyio.TiffSource", self.path, self.identity, self.key, others

    def require_unchanged(self) -> None:
        """Raise where one of the files is not as it was."""
        for file in (SeenFile(path=self.path, identity=self.identity), *self.others):
            file.check()

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, page by page."""
        if not out.size:
            return
        with ExitStack() as held:
            held.enter_context(all_unchanged(self.others))
            files = [held.enter_context(reading(self.path, self.identity))]
            files += [held.enter_context(open_for_reading(file.path)) for file in self.others]
            layout = looked_up(self.token, self.identity, self._layout)
            lead, rest = region[: self.n_leading], region[self.n_leading :]
            inside = _in_page(rest, self.shape[self.n_leading :], layout.page_shape)
            counts = self.shape[: self.n_leading]
            offsets = boxes(tuple(part.stop - part.start for part in lead), (1,) * len(lead))
            for at in offsets:
                index = tuple(part.start + one.start for part, one in zip(lead, at, strict=True))
                # By slices: an index of integers alone would be a copy.
                page = out[at].reshape(tuple(part.stop - part.start for part in inside))
                self._read_page(layout, files, flat_index(index, counts), inside, page)

    def _read_page(
        self, layout: TiffLayout, files: list[FileIO], page: int, region: Region, out: Array
    ) -> None:
        """Fill ``out`` with a part of a page, whose axes are those that tifffile gives it."""
        n_segments = math.prod(layout.grid)
        if layout.decode is None:
            place = layout.manifest.find(page)
            if place is None:
                out[...] = layout.fill_value
            else:
                read_region(files[place[2]], place[0], layout.page_shape, region, out)
            return
        nbytes = nbytes_of(layout.segment_shape, self.dtype)
        tables = layout.tables.get(page)
        options = {} if tables is None else {"jpegtables": tables[0], "jpegheader": tables[1]}

        def read_part(index: Shape, inside: Region, part: Array) -> bool:
            number = flat_index(index, layout.grid)
            place = layout.manifest.find(page * n_segments + number)
            if place is None:
                return False
            address, stored, which = place
            try:
                file = files[which]
                require_stored(file, os.fstat(file.fileno()).st_size, address, stored, nbytes)
                raw = bytearray(stored)
                read_exactly(file, address, memoryview(raw))
                found = _decoded(layout, raw, number, options)[inside]
                if found.shape != part.shape:
                    msg = f"it decodes to too few elements, {found.shape} of {part.shape}"
                    raise ValueError(msg)
            except Exception as error:
                if isinstance(error, OSError):
                    raise
                why = str(error) if isinstance(error, ValueError) else described(error)
                where = format_region(box(layout.page_shape, layout.segment_shape, index)[1:])
                msg = f"{self.path}: the segment {where} of page {page} is damaged: {why}"
                raise DamagedDataError(msg) from error
            part[...] = found
            return True

        read_chunks(region, layout.segment_shape, out, layout.fill_value, read_part)

    def _layout(self) -> TiffLayout:
        with _opened(self.path) as tif:
            _, series = _series(tif, self.key, self.path)
            others = tuple(file.path for file in self.others)
            return _layout_of(series, self.path, others)


def _decoded(layout: TiffLayout, raw: bytearray, number: int, options: dict[str, Any]) -> Array:
    """Return a segment in the axes of a page."""
    if layout.decode is None:
        msg = "plain pages are read as they are"
        raise ValueError(msg)
    found, _, _ = layout.decode(bytes(raw), number, **options)
    segment: Array = np.asarray(found)[None]
    return segment


class _Told(logging.Handler):
    """What tifffile says, in this thread, of pages that it leaves out or makes up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread = threading.get_ident()
        self.lost: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        is_loss = record.levelno >= logging.ERROR or any(word in text for word in _OF_LOSS)
        if record.thread == self.thread and is_loss and _HARMLESS not in text:
            self.lost.append(text)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a file with tifffile, which leaves out pages that it cannot read: that is refused."""
    tifffile = required("tifffile", what="a TIFF file", extra="tiff")
    told = _Told()
    log = logging.getLogger("tifffile")
    log.addHandler(told)
    try:
        with foreign_errors(path), tifffile.TiffFile(path) as tif:
            yield tif
            if told.lost:
                msg = (
                    f"{path} is damaged or incomplete, tifffile says: {' '.join(told.lost)}; "
                    "restore it from a copy, with all files that belong to it"
                )
                raise TruncatedSourceError(msg)
    finally:
        log.removeHandler(told)


def tiff_keys(path: str) -> list[str]:
    """Return the keys of the series of a file, and of their smaller levels."""
    with describing(path), _opened(path) as tif:
        return _keys(tif)


def _keys(tif: Any) -> list[str]:
    return [
        f"{number}/{level}" if level else str(number)
        for number, series in enumerate(tif.series)
        for level in range(len(series.levels))
    ]


def _series(tif: Any, key: str | None, path: str) -> tuple[str, Any]:
    """Return key and level of a series; the full one of the only series unless a key is given."""
    keys = _keys(tif)
    if key is None and len(tif.series) == 1:
        key = "0"
    name = chosen(keys, key, path, "image", "key (the number of a series, or series/level)")
    number, _, level = name.partition("/")
    return name, tif.series[int(number)].levels[int(level or 0)]


def is_image(path: str) -> bool:
    """Return whether a file has one page."""
    with _opened(path) as tif:
        return not tif.pages.is_multipage


def tiff_source(path: str | os.PathLike[str], key: str | None = None) -> Source:
    """Return the source for a series of a TIFF file, after reading its metadata."""
    found = str(existing(path))
    if os.path.isdir(found):
        msg = f"{found} is not a file; a TIFF image is one"
        raise SourceError(msg)
    with describing(found) as (_, identity), _opened(found) as tif:
        name, series = _series(tif, key, found)
        source = _described(found, name, series, identity)
        if isinstance(source, TiffSource):
            # While all pages are at hand; other processes look them up anew.
            others = tuple(file.path for file in source.others)
            looked_up(source.token, identity, lambda: _layout_of(series, found, others))
        return source


def _described(path: str, key: str, series: Any, identity: Identity) -> Source:
    shape, keyframe = tuple(map(int, series.shape)), series.keyframe
    where = f"{path}: image {key!r}"
    _require_decodable(series, where)
    pages = _Pages.of(series, path, where)
    n_leading = _leading_axes(shape, keyframe, series, where)
    offset = series.dataoffset if pages.is_plain else None
    if offset is not None and not pages.others:
        dtype = pages.dtype
        if math.prod(shape) and identity.nbytes < offset + nbytes_of(shape, dtype):
            msg = (
                f"{where} has {shape} {dtype} from byte {offset} on, and the file has "
                f"{identity.nbytes} bytes; it was cut short, copy it again"
            )
            raise TruncatedSourceError(msg)
        if len(series) * keyframe.size in (math.prod(shape), keyframe.size):
            return RawSource(
                path=path, shape=shape, dtype=dtype, offset=int(offset), identity=identity
            )
    segment_shape = _segment_shape(keyframe)
    chunk_shape = None
    if not pages.is_plain:
        inner = _in_series(segment_shape, tuple(keyframe.shaped), shape[n_leading:])
        chunk_shape = (1,) * n_leading + inner
    return TiffSource(
        path=path,
        key=key,
        shape=shape,
        dtype=pages.dtype,
        chunk_shape=chunk_shape,
        n_leading=n_leading,
        codecs=_codecs(keyframe),
        stored_nbytes=pages.stored_nbytes,
        identity=identity,
        others=seen_files(SeenFile(path=other, identity=None) for other in pages.others),
    )


def _require_decodable(series: Any, where: str) -> None:
    """Refuse what tifffile could not decode, or would change once it is decoded."""
    tifffile = required("tifffile", what="a TIFF file", extra="tiff")
    keyframe = series.keyframe
    if series.dtype is None or keyframe.dtype is None:
        msg = f"{where} has samples of {keyframe.bitspersample} bits, which numpy has no type for"
        raise UnsupportedDtypeError(msg)
    if series.transform is not None:
        msg = f"{where} is changed by tifffile once it is decoded; read it with tifffile.imread"
        raise SourceError(msg)
    steps = [(keyframe.compression, tifffile.TIFF.DECOMPRESSORS)]
    if keyframe.compression not in _JPEG:
        steps.append((keyframe.predictor, tifffile.TIFF.UNPREDICTORS))
    for number, known in steps:
        try:
            known[number]
        except KeyError as error:
            msg = (
                f"{where} is encoded as {number!r}, which is not available here: "
                f"{str(error).strip(chr(34))}; run pip install imagecodecs"
            )
            raise SourceError(msg) from error


@dataclass(frozen=True, kw_only=True)
class _Pages:
    """What is found in one walk over the pages of a series."""

    is_plain: bool
    """Whether each page is one run of bytes, as they are in memory."""
    dtype: np.dtype[Any]
    """Type of an element, in the file's byte order where pages are plain."""
    stored_nbytes: int
    """Bytes of all segments."""
    others: tuple[str, ...]
    """Absolute paths of other files in which pages lie."""

    @classmethod
    def of(cls, series: Any, path: str, where: str) -> "_Pages":
        """Return what is found, once every page is seen to be there."""
        keyframe, stored, is_plain, others = series.keyframe, 0, True, []
        is_plain = bool(keyframe.is_final)
        page_nbytes = int(keyframe.nbytes)
        for number, page in enumerate(series):
            if page is None or (len(page.dataoffsets) == 0 and keyframe.size):
                msg = (
                    f"{where} has no page {number} of {len(series)}: it was cut short, or another "
                    "file is missing that belongs to it; put that back"
                )
                raise TruncatedSourceError(msg)
            stored += sum(page.databytecounts)
            is_plain = is_plain and _is_run(page.dataoffsets, page.databytecounts, page_nbytes)
            other = os.path.abspath(page.parent.filehandle.path)
            if series.is_multifile and other != path and other not in others:
                if os.path.dirname(os.path.realpath(other)) != os.path.dirname(
                    os.path.realpath(path)
                ):
                    msg = f"{where} leads to {other}, outside its folder; move the files together"
                    raise UnsafeFileError(msg)
                others.append(other)
        dtype = np.dtype(series.dtype)
        if is_plain:
            dtype = dtype.newbyteorder(keyframe.parent.byteorder)
        return cls(is_plain=is_plain, dtype=dtype, stored_nbytes=stored, others=tuple(others))


def _is_run(offsets: Any, counts: Any, nbytes: int) -> bool:
    """Return whether segments are one run of bytes; those of one page may be without lengths."""
    if len(offsets) == 1:
        return bool(offsets[0])
    starts, lengths = np.asarray(offsets, np.int64), np.asarray(counts, np.int64)
    is_whole = starts.size > 0 and bool(starts.all()) and int(lengths.sum()) == nbytes
    return is_whole and bool((starts[:-1] + lengths[:-1] == starts[1:]).all())


def _codecs(keyframe: Any) -> str:
    """Return what segments are encoded with, as ``info`` prints it."""
    steps = [keyframe.predictor, keyframe.compression]
    names = [getattr(step, "name", str(step)).lower() for step in steps if step != 1]
    return " + ".join(names) or "none"


def _segment_shape(keyframe: Any) -> Shape:
    """Return the extents of a tile or strip, in the axes that tifffile gives every page."""
    samples = keyframe.shaped[4]
    if keyframe.is_tiled:
        sizes = keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth
    else:
        sizes = 1, min(keyframe.rowsperstrip, keyframe.imagelength), keyframe.imagewidth
    return (1, *(max(1, int(size)) for size in sizes), max(1, int(samples)))


def _long_axes(shape: Shape) -> list[int]:
    return [axis for axis, extent in enumerate(shape) if extent != 1]


def _leading_axes(shape: Shape, keyframe: Any, series: Any, where: str) -> int:
    """Return how many axes of a series count pages; the others are those of a page."""
    page_shape = tuple(map(int, keyframe.shaped))
    inner = [page_shape[axis] for axis in _long_axes(page_shape)]
    is_raw = series.is_truncated or len(series) != math.prod(shape) // max(1, keyframe.size)
    for n_axes in range(len(shape) + 1):
        tail = shape[n_axes:]
        is_page = [extent for extent in tail if extent != 1] == inner
        if is_page and (is_raw or math.prod(shape[:n_axes]) == len(series)):
            return n_axes
    if is_raw:
        return 0
    msg = (
        f"{where} has shape {shape}, and {len(series)} pages of {tuple(keyframe.shape)}, whose "
        "axes it splits or joins; read it with tifffile.imread"
    )
    raise SourceError(msg)


def _in_page(region: Region, shape: Shape, page_shape: Shape) -> Region:
    """Return a region of a page in the axes that tifffile gives it, of which more are 1."""
    long = iter(region[axis] for axis in _long_axes(shape))
    return tuple(slice(0, 1) if extent == 1 else next(long) for extent in page_shape)


def _in_series(segment_shape: Shape, page_shape: Shape, shape: Shape) -> Shape:
    """Return the extents of a segment in the axes of a series."""
    sizes = iter(min(segment_shape[axis], page_shape[axis]) for axis in _long_axes(page_shape))
    return tuple(1 if extent == 1 else next(sizes) for extent in shape)


def _layout_of(series: Any, path: str, others: tuple[str, ...]) -> TiffLayout:
    """Return where the segments of a series lie; of tifffile's objects one page is kept."""
    keyframe, where = series.keyframe, f"{path}: image"
    pages = _Pages.of(series, path, where)
    files = {name: number for number, name in enumerate((path, *others))}
    page_shape, maker = tuple(map(int, keyframe.shaped)), ManifestMaker()
    segment_shape = _segment_shape(keyframe)
    n_segments = 1 if pages.is_plain else math.prod(grid_shape(page_shape, segment_shape))
    tables = {}
    for number, page in enumerate(series):
        addresses = np.asarray(page.dataoffsets[:n_segments], np.int64)
        counts = np.asarray(page.databytecounts[:n_segments], np.int64)
        if len(addresses) < n_segments:
            msg = f"{where}: page {number} has {len(addresses)} of {n_segments} segments"
            raise TruncatedSourceError(msg)
        file = files[os.path.abspath(page.parent.filehandle.path) if others else path]
        places = np.column_stack([addresses, counts, np.full(n_segments, file)])
        # TIFF has no segment where both are 0: readers fill it.
        there = np.flatnonzero((addresses > 0) & (counts > 0))
        maker.add(there + number * n_segments, places[there])
        if keyframe.compression in _JPEG:
            tables[number] = page.jpegtables, keyframe.jpegheader
    layout = TiffLayout(
        page_shape=page_shape,
        segment_shape=segment_shape,
        manifest=maker.finish(),
        decode=None if pages.is_plain else keyframe.decode,
        tables=tables,
        fill_value=keyframe.nodata,
    )
    _forget_pages(series)
    return layout


def _forget_pages(series: Any) -> None:
    """Have tifffile keep one page of each file: what decodes holds on to all of them."""
    tif = series.keyframe.parent
    for one in {id(tif): tif, id(tif.root): tif.root}.values():
        one.pages.cache = True
        one.pages.cache = False
        one.__dict__.pop("series", None)
