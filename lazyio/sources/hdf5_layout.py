"""How an HDF5 dataset keeps its elements, where h5py does not tell or libhdf5 tells wrong.

They are read here: libhdf5 looks their names up in the working directory, and
cannot be told otherwise for a dataset that is open already.
"""

import array
import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape
from lazyio.errors import UnsupportedDtypeError
from lazyio.libhdf5_calls import chunk_index_type, leaves_edges_plain, read_direct_chunk
from lazyio.regions import Region, format_region
from lazyio.sources.files import open_for_reading


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a raw file; the elements lie in all segments, end to end."""

    path: str
    """The raw file."""
    offset: int
    """Bytes before it."""
    nbytes: int
    """Bytes of it."""


class RawStorage:
    """Segments as one file, for ``read_exactly``."""

    def __init__(self, name: str, segments: Sequence[Segment]) -> None:
        self.name = name
        self._segments = segments
        self._at = 0

    def seek(self, offset: int) -> int:
        """Go to a byte, counted from the first of the first segment."""
        self._at = offset
        return offset

    def readinto(self, view: memoryview) -> int:
        """Fill a view as far as the segment goes that the position is in.

        What a raw file is too short for reads as zeros, as libhdf5 has it: it
        grows as elements are written.
        """
        start = self._at
        for segment in self._segments:
            if start < segment.nbytes:
                part = view[: segment.nbytes - start]
                got = 0
                with open_for_reading(segment.path) as file:
                    file.seek(segment.offset + start)
                    while count := file.readinto(part[got:]):
                        got += count
                part[got:] = bytes(len(part) - got)
                self._at += len(part)
                return len(part)
            start -= segment.nbytes
        return 0


@dataclass(frozen=True, kw_only=True)
class VirtualPiece:
    """What a virtual dataset takes from one dataset, or from all that a pattern stands for."""

    path: str
    """File, as it is named there; ``"."`` for the same one."""
    key: str
    """Dataset, as it is named there."""
    region: Region | None
    """The box that it fills, ``None`` where that has no end."""
    n_elements: int | None
    """How many elements are taken, ``None`` where that has no end."""
    source_region: Region | None
    """The box that they are taken from, ``None`` where they are all that there is, or have no
    end."""

    @property
    def is_pattern(self) -> bool:
        """Whether the names stand for any number of datasets."""
        return "%b" in self.path.replace("%%", "") + self.key.replace("%%", "")

    @property
    def taken(self) -> str:
        """What is taken of the dataset, in words."""
        if self.source_region is not None:
            return f"[{format_region(self.source_region)}]"
        return "all" if self.n_elements is None else f"all {self.n_elements} elements"

    def names(self, number: int) -> tuple[str, str]:
        """Return file and dataset of one of the blocks that a pattern stands for.

        Examples
        --------
        >>> piece = VirtualPiece(
        ...     path="day-%b.h5", key="100%%", region=None, n_elements=None, source_region=None
        ... )
        >>> piece.names(3)
        ('day-3.h5', '100%')
        """
        return _expand(self.path, number), _expand(self.key, number)

    def fits(self, shape: Shape | None) -> bool:
        """Return whether a dataset of a shape has the elements that are taken.

        libhdf5 reads others in their place, without a word, where it has fewer along one axis and
        more along another.
        """
        if shape is None:
            return False
        if self.source_region is None:
            return self.n_elements in (None, math.prod(shape))
        return len(shape) == len(self.source_region) and all(
            part.stop <= extent for part, extent in zip(self.source_region, shape, strict=True)
        )


def virtual_pieces(dataset: h5py.Dataset) -> list[VirtualPiece]:
    """Return what a virtual dataset is made of, in the order in which it was put together."""
    properties = dataset.id.get_create_plist()
    found = []
    for at in range(properties.get_virtual_count()):
        filled, taken = properties.get_virtual_vspace(at), properties.get_virtual_srcspace(at)
        is_whole = filled.get_select_type() == h5py.h5s.SEL_ALL
        region: Region | None = tuple(slice(0, extent) for extent in dataset.shape)
        n_elements: int | None = math.prod(dataset.shape)
        if not is_whole:
            region = _bounds(filled)
            n_elements = None if region is None else int(filled.get_select_npoints())
        is_all = taken.get_select_type() == h5py.h5s.SEL_ALL
        found.append(
            VirtualPiece(
                path=os.fsdecode(properties.get_virtual_filename(at)),
                key=os.fsdecode(properties.get_virtual_dsetname(at)),
                region=region,
                n_elements=n_elements,
                source_region=None if is_all else _bounds(taken),
            )
        )
    return found


def _bounds(space: h5py.h5s.SpaceID) -> Region | None:
    """Return the box around a selection, ``None`` where it has no end."""
    try:
        found = space.get_select_bounds()
    except RuntimeError:
        return None
    if found is None:
        return (slice(0, 0),) * len(space.shape)  # Nothing is selected.
    first, last = found
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(first, last, strict=True))


def _expand(pattern: str, number: int) -> str:
    """Return a printf-style name of a virtual source for one of its blocks."""
    return re.sub("%([b%])", lambda found: str(number) if found[1] == "b" else "%", pattern)


_EXTENSIBLE_ARRAY = 4
"""Index of chunks of a dataset with one unlimited axis, from HDF5 1.10 on."""
_NOT_THERE = ("not allocated", "not initialized")
"""In what libhdf5 says of a chunk that is not stored."""
_OF_FIXED_SIZE = "iufbcSV"
_MOST_NOTED = 2**15
"""Numbers that wait to be handed over."""

Integers = npt.NDArray[np.int64]


def dtype_of(dataset: h5py.Dataset) -> np.dtype[Any]:
    """Return the type of a dataset's elements."""
    try:
        dtype: np.dtype[Any] = dataset.dtype
    except (TypeError, ValueError, OverflowError) as error:
        kind = dataset.id.get_type()
        msg = (
            f"{dataset.file.filename}: dataset {dataset.name!r} holds elements of {kind.get_size()}"
            f" bytes of a type that numpy lacks ({error}); read it by h5py's low-level interface"
        )
        raise UnsupportedDtypeError(msg) from error
    return dtype


def attributes_of(item: h5py.Group | h5py.Dataset) -> tuple[dict[str, Any], list[str]]:
    """Return attributes by name, and the names of those whose types numpy lacks."""
    found, left_out = {}, []
    for name in item.attrs:
        try:
            found[name] = item.attrs[name]
        except (TypeError, ValueError, OverflowError):
            left_out.append(name)
    return found, left_out


def each_stored_chunk(dataset: h5py.Dataset, take: Callable[[Integers, Integers], None]) -> bool:
    """Hand over where the chunks of a dataset lie, some thousand at a time."""
    if 0 in dataset.shape:
        return True
    is_turned = _is_told_turned(dataset)
    if is_turned is None:
        return False
    n_axes, steps = len(dataset.shape), np.array(dataset.chunks)
    # Flat, because a million chunks as Python's objects take some 300 MB.
    found = array.array("q")

    def hand_over() -> None:
        rows = np.array(found, np.int64).reshape(-1, n_axes + 3)
        del found[:]
        index = rows[:, :n_axes] // steps
        take(_turned_back(index, dataset) if is_turned else index, rows[:, n_axes:])

    def note(info: Any) -> None:
        found.extend(info.chunk_offset)
        found.extend((info.byte_offset, info.size, info.filter_mask))
        if len(found) > _MOST_NOTED:
            hand_over()

    visit_chunks(dataset.id, note)
    hand_over()
    return True


def visit_chunks(dataset: Any, note: Callable[[Any], None]) -> None:
    """Tell of each stored chunk of a dataset, given by its identifier.

    libhdf5 before 1.12.3, against which an h5py for MPI may be built, cannot go through
    them, and looks for each from the first one on.
    """
    if hasattr(dataset, "chunk_iter"):
        dataset.chunk_iter(note)
        return
    for number in range(dataset.get_num_chunks()):
        note(dataset.get_chunk_info(number))


class StoredPayloads:
    """The chunks of a dataset as they are stored, looked up as libhdf5 does.

    ``get_chunk_info_by_coord`` goes through all chunks, and by wrong positions where those of
    :func:`each_stored_chunk` are wrong.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._has_any = False

    def find(self, corner: Sequence[int]) -> tuple[int, bytes] | None:
        """Return mask and payload of a chunk, ``None`` if it is not stored."""
        # Of a dataset of which nothing is stored libhdf5 gives any number as the size of a chunk.
        self._has_any = self._has_any or self._dataset.id.get_storage_size() > 0
        if not self._has_any:
            return None
        try:
            mask, payload = read_direct_chunk(self._dataset, corner)
        except (OSError, RuntimeError) as error:
            if any(words in str(error) for words in _NOT_THERE):
                return None
            raise
        return mask, payload


def is_byte_for_byte(dataset: h5py.Dataset) -> bool:
    """Return whether memory and file agree byte for byte once the filters are undone.

    Only then may libhdf5 be left out: of integers of 12 bits, of text that is padded with
    spaces, or of chunks that are stored otherwise at the edges, only it knows how.
    """
    dtype, stored = dataset.dtype, dataset.id.get_type()
    if dtype.kind not in _OF_FIXED_SIZE or has_plain_edges(dataset):
        return False
    # Of opaque bytes there is nothing to convert, whatever their tag says.
    is_opaque = stored.get_class() == h5py.h5t.OPAQUE
    return is_opaque or bool(h5py.h5t.py_create(dtype, logical=True).equal(stored))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What integers of a dataset can be, where they have fewer bits than their bytes."""

    names: tuple[str, ...]
    """Of the field, and of those that it lies in; none where elements are no records."""
    low: int
    high: int

    def misfit(self, elements: npt.NDArray[Any]) -> int | None:
        """Return a value that has no room, ``None`` where all have."""
        for name in self.names:
            elements = elements[name]
        if not elements.size:
            return None
        least, most = int(elements.min()), int(elements.max())
        if least < self.low:
            return least
        return most if most > self.high else None


def limits_of(kind: h5py.h5t.TypeID, names: tuple[str, ...] = ()) -> tuple[Limits, ...]:
    """Return the limits of integers of a type, which libhdf5 cuts off without a word."""
    if kind.get_class() == h5py.h5t.COMPOUND:
        found: list[Limits] = []
        for at in range(kind.get_nmembers()):
            name = os.fsdecode(kind.get_member_name(at))
            found += limits_of(kind.get_member_type(at), (*names, name))
        return tuple(found)
    if kind.get_class() != h5py.h5t.INTEGER or kind.get_precision() == 8 * kind.get_size():
        return ()
    n_bits = kind.get_precision()
    if kind.get_sign() == h5py.h5t.SGN_NONE:
        return (Limits(names=names, low=0, high=2**n_bits - 1),)
    return (Limits(names=names, low=-(2 ** (n_bits - 1)), high=2 ** (n_bits - 1) - 1),)


def has_plain_edges(dataset: h5py.Dataset) -> bool:
    """Return whether filters are not applied to chunks at the edge, or that cannot be told."""
    properties = dataset.id.get_create_plist()
    if dataset.chunks is None or not properties.get_nfilters():
        return False
    whole = all(n % step == 0 for n, step in zip(dataset.shape, dataset.chunks, strict=True))
    if whole and dataset.maxshape == dataset.shape:
        return False
    return leaves_edges_plain(properties) is not False


def _is_told_turned(dataset: h5py.Dataset) -> bool | None:
    """Return whether libhdf5 tells positions with the axes turned, ``None`` if nobody knows.

    So it does (HDFGroup/hdf5#1419) of an extensible array whose one unlimited axis is not
    the first: its index has that axis first, and libhdf5 counts as if it had not.
    """
    grown = [axis for axis, bound in enumerate(dataset.maxshape) if bound is None]
    if len(grown) != 1 or grown[0] == 0:
        return False
    kind = chunk_index_type(dataset)
    return None if kind is None else kind == _EXTENSIBLE_ARRAY and _tells_turned()


def _turned_back(index: npt.NDArray[np.int64], dataset: h5py.Dataset) -> npt.NDArray[np.int64]:
    """Return positions as they are, from those that libhdf5 has counted.

    It counts on along the unlimited axis, and before that along those behind it; what it
    counts are places in an index with the unlimited axis first, then the others.
    """
    grid = [
        0 if bound is None else -(-bound // step)
        for bound, step in zip(dataset.maxshape, dataset.chunks, strict=True)
    ]
    unlimited = dataset.maxshape.index(None)
    number = np.zeros(len(index), np.int64)
    for axis in range(unlimited, len(grid)):
        number = number * (grid[axis] or 1) + index[:, axis]
    found = np.empty_like(index)
    others = [axis for axis in range(len(grid)) if axis != unlimited]
    for axis in reversed(others):
        number, found[:, axis] = np.divmod(number, grid[axis])
    found[:, unlimited] = number
    return found


@functools.cache
def _tells_turned() -> bool:
    """Return whether this libhdf5 tells positions turned: a later one may not."""
    places: list[tuple[int, ...]] = []
    name, libver = "turned", ("v110", "v110")
    with h5py.File(name, "w", driver="core", backing_store=False, libver=libver) as file:
        dataset = file.create_dataset("x", (2, 1), "i1", chunks=(1, 1), maxshape=(2, None))
        dataset[...] = 1
        visit_chunks(dataset.id, lambda info: places.append(tuple(info.chunk_offset)))
    return (1, 0) not in places
