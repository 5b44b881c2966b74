"""Digests in an HDF5 file: the group ``/_lazyio``, and what of a dataset they cover.

Below it lies one group for each dataset, by its path with ``/`` as ``%2F``. In
it are ``head``, JSON text deflated by zlib, and ``rows``, three 64-bit integers for
each digest of a chunk.
"""

import contextlib
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Self
from urllib.parse import unquote

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import (
    ATTRIBUTE,
    DAMAGED,
    ELEMENTS,
    PAYLOADS,
    UNREADABLE,
    Hash,
    KnownDigests,
    NotedDigests,
    Rows,
    Table,
    digest_of,
    digest_of_elements,
    digest_of_value,
    only_cut,
)
from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.dtypes import Shape
from lazyio.libhdf5_calls import name_of, read_direct_chunk
from lazyio.regions import (
    Region,
    box,
    box_shape,
    flat_index,
    grid_shape,
    index_at,
    rows_of,
    touched,
)

GROUP = "_lazyio"

_ABOUT = "Digests by which lazyio verifies the datasets of this file; it may be deleted"
_RUN_NBYTES = 1 << 20
_MOST_HEAD_NBYTES = 1 << 26
"""Of a head in plain: of some hundred thousand attributes."""
_MOST_COMPACT_NBYTES = 1 << 13
"""Of a dataset that lies in its header; HDF5 takes eight times that."""
_COPY = "copy"
_NOT_OURS = {"REFERENCE_LIST"}
"""Attributes that change when other datasets come and go."""


def group_of(key: str) -> str:
    """Return the path of the group that holds the digests of a dataset."""
    return f"{GROUP}/{_escaped(key)}"


def store(file: h5py.File, key: str, table: Table) -> None:
    """Put the digests of a dataset into its file, in place of those that are there."""
    forget(file, key)
    group = _our_group(file)
    held = group.create_group(_escaped(key), track_order=True)
    head = np.frombuffer(zlib.compress(table.head().encode(), 9), np.uint8)
    _dataset(held, "head", head.shape, head.dtype)[...] = head
    rows = _dataset(held, "rows", (table.n_rows, 3), np.dtype("<u8"))
    at = 0
    for slab in table.all_rows:
        rows[at : at + len(slab)] = slab
        at += len(slab)


def _our_group(file: h5py.File) -> h5py.Group:
    group = file.get(GROUP)
    if group is None:
        # The netCDF library adds to no file with a group whose links are not numbered.
        group = file.create_group(GROUP, track_order=True)
    # Text of a fixed length: for any other the file gets a heap of 4 KiB.
    group.attrs["about"] = np.bytes_(_ABOUT)
    return group


def note_copy(file: h5py.File, job: str) -> None:
    """Note in a file that is copied whole which call has made it."""
    _our_group(file).attrs[_COPY] = np.bytes_(job)


def noted_copy(file: h5py.File) -> str | None:
    """Return what was noted of the call that has copied a file whole."""
    group = file.get(GROUP)
    found = None if group is None else group.attrs.get(_COPY)
    return found.decode("latin-1") if isinstance(found, bytes) else None


def _plain_head(stored: bytes) -> bytes:
    """Return a head as JSON, as which it was stored itself before."""
    if stored.startswith(b"{"):
        return stored
    inflate = zlib.decompressobj()
    try:
        head = inflate.decompress(stored, _MOST_HEAD_NBYTES)
    except zlib.error:
        raise ValueError(DAMAGED) from None
    if not inflate.eof:
        raise ValueError(DAMAGED)
    return head


def _dataset(group: h5py.Group, name: str, shape: Shape, dtype: np.dtype[Any]) -> h5py.Dataset:
    """Return a new dataset; a small one lies in its own header, and in no place beside it."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if math.prod(shape) * dtype.itemsize <= _MOST_COMPACT_NBYTES:
        properties.set_layout(h5py.h5d.COMPACT)
    return group.create_dataset(name, shape, dtype, dcpl=properties)


def forget(file: h5py.File, key: str) -> None:
    """Remove the digests of a dataset, where there are any."""
    name = group_of(key)
    if name in file:
        del file[name]


def load(file: h5py.File, key: str) -> Table | None:
    """Return the digests of a dataset, ``None`` where there are none."""
    try:
        group = file.get(group_of(key))
        if group is None:
            return None
        # They are stored as they are: none of them is larger than the file that it is in.
        if max(group["head"].nbytes, group["rows"].nbytes) > file.id.get_filesize():
            msg = "they are larger than the file"
            raise ValueError(msg)
        head = _plain_head(group["head"][...].tobytes())
        rows = group["rows"][...]
    except (KeyError, OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        msg = f"its digests cannot be read: {error}"
        raise ValueError(msg) from error
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind != "u":
        raise ValueError(DAMAGED)
    return Table.read(head, rows)


def keys_with_digests(file: h5py.File) -> list[str]:
    """Return the paths of all datasets that have digests, from the root of the file."""
    group = file.get(GROUP)
    if not isinstance(group, h5py.Group):
        return []
    return [unquote(name, errors="surrogateescape").removeprefix("/") for name in group]


class ObjectNames:
    """Names of the objects of a file that references lead to, as libhdf5 gives them.

    It goes through all links for each; for ``many`` that is done once.
    """

    def __init__(self, file: h5py.File, *, many: bool) -> None:
        self._file = file
        self._many = many
        self._by_address: dict[int, str] | None = None

    def of(self, reference: h5py.Reference) -> str | None:
        """Return the name of what a reference leads to, ``None`` where that is gone."""
        if not reference:
            return None
        try:
            if not self._many:
                return name_of(self._file[reference])
            address = h5py.h5o.get_info(h5py.h5r.dereference(reference, self._file.id)).addr
        except (KeyError, OSError, RuntimeError, ValueError):
            return None
        if self._by_address is None:
            try:
                self._by_address = self._all()
            except (OSError, RuntimeError, ValueError):
                # A link that is damaged says nothing of the others.
                self._many = False
                return self.of(reference)
        # What has no name any more is told so by h5py.
        return self._by_address.get(address, "None")

    def of_region(self, reference: h5py.RegionReference) -> list[Any]:
        """Return what a reference to a part of a dataset leads to, and which part in short."""
        name = self.of(reference)
        if name is None:
            return [None]
        space = h5py.h5r.get_region(reference, self._file.id)
        bounds = space.get_select_bounds() if space.get_select_npoints() else None
        return [name, int(space.get_select_npoints()), bounds]

    def _all(self) -> dict[int, str]:
        """Return the first name of each object, in the order in which libhdf5 looks for it."""
        found = {h5py.h5o.get_info(self._file.id).addr: "/"}

        def note(name: bytes, link: Any) -> None:
            if link.type == h5py.h5l.TYPE_HARD and link.u not in found:
                found[link.u] = "/" + name.decode("utf-8", "surrogateescape")

        order = {"idx_type": h5py.h5.INDEX_NAME, "order": h5py.h5.ITER_NATIVE}
        self._file.id.links.visit(note, info=True, **order)
        return found


def table_of(
    dataset: h5py.Dataset,
    rows: Rows,
    rims: Rows,
    job: Mapping[str, str] | None = None,
    names: ObjectNames | None = None,
) -> Table:
    """Return the digests of a dataset as it is now, with those of its chunks."""
    shape = tuple(map(int, dataset.shape))
    return Table(
        facts=facts_of(dataset, names),
        rows=rows,
        of=PAYLOADS if has_payloads(dataset) else ELEMENTS,
        job=job or {},
        shape=shape,
        rims=only_cut(rims, rows, shape, piece_shape(dataset)),
    )


class Known(KnownDigests):
    """The digests of a dataset before a part of it is written."""

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Self:
        """Return what is known of a dataset."""
        table = None
        with contextlib.suppress(ValueError):
            table = load(dataset.file, name_of(dataset))
        return cls(table=table, facts=facts_of(dataset), grid=_grid_of(dataset))

    def renew(
        self,
        dataset: h5py.Dataset,
        noted: NotedDigests,
        head: Mapping[str, str],
        *,
        grid: Shape | None = None,
    ) -> None:
        """Store digests of a dataset of which a part has been written, where it had any.

        ``grid`` is that by which the part was numbered, if not by the dataset's own.
        """
        if self.table is None:
            return
        now, own = partial(table_of, dataset), _grid_of(dataset)
        table = self.renewed(self.table, noted, head, now, numbered=grid or own, own=own)
        store(dataset.file, name_of(dataset), table)


def _grid_of(dataset: h5py.Dataset) -> Shape:
    """Return the number of pieces along each axis."""
    return grid_shape(dataset.shape, piece_shape(dataset))


def has_payloads(dataset: h5py.Dataset) -> bool:
    """Return whether elements are stored in chunks, as bytes that are all there is of them."""
    return dataset.chunks is not None and not dataset.dtype.hasobject


def piece_shape(dataset: h5py.Dataset) -> Shape:
    """Return the extents of what has one digest: a chunk, else a run of about a megabyte."""
    chunks: Shape | None = dataset.chunks
    return chunks or rows_of(dataset.shape, dataset.dtype.itemsize, _RUN_NBYTES)


def pieces_in(dataset: h5py.Dataset, region: Region) -> set[int]:
    """Return the numbers of the pieces that a region touches."""
    grid = _grid_of(dataset)
    return {flat_index(index, grid) for index, _, _ in touched(region, piece_shape(dataset))}


def digest_of_piece(dataset: h5py.Dataset, number: int) -> int:
    """Return the digest of a piece as it is stored, read back by libhdf5."""
    step = piece_shape(dataset)
    index = index_at(number, _grid_of(dataset))
    if has_payloads(dataset):
        corner = tuple(at * extent for at, extent in zip(index, step, strict=True))
        mask, payload = read_direct_chunk(dataset, corner)
        return digest_of(payload, seed=mask)
    return digest_in(dataset, elements_in(dataset, box(dataset.shape, step, index)))


def digest_in(
    dataset: h5py.Dataset, elements: npt.NDArray[Any], names: ObjectNames | None = None
) -> int:
    """Return the digest of elements of a dataset; references count by what they name."""
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    if is_text or not elements.dtype.hasobject:
        return digest_of_elements(elements)
    hash_, known = Hash(), names or ObjectNames(dataset.file, many=elements.size > 1)
    for element in elements.ravel().tolist():
        raw = json.dumps(_element(element, known)).encode()
        hash_.update(len(raw).to_bytes(8, "little") + raw)
    return hash_.value


def elements_in(dataset: h5py.Dataset, region: Region) -> npt.NDArray[Any]:
    """Return elements as libhdf5 reads them."""
    dtype = dataset.dtype
    if dtype.kind == "V" and dtype.fields is None and dtype.subdtype is None:
        out = np.empty(box_shape(region), dataset.dtype)
        read_opaque(dataset, region, out)
        return out
    return np.asarray(dataset[region])


def read_opaque(dataset: h5py.Dataset, region: Region, out: npt.NDArray[Any]) -> None:
    """Read bytes under the file's own tag; libhdf5 converts between equal tags only."""
    there = space = h5py.h5s.ALL
    if region:
        there = dataset.id.get_space()
        there.select_hyperslab(tuple(part.start for part in region), out.shape)
        space = h5py.h5s.create_simple(out.shape)
    dataset.id.read(space, there, out, dataset.id.get_type())


def facts_of(dataset: h5py.Dataset, names: ObjectNames | None = None) -> dict[str, str]:
    """Return digests of everything beside a dataset's elements that a reader gets."""
    properties = dataset.id.get_create_plist()
    fill = None
    if properties.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        fill = _plain(np.asarray(dataset.fillvalue))
    found: dict[str, Any] = {
        "name": name_of(dataset),
        "dtype": _type(dataset.dtype),
        "shape": dataset.shape,
        "maxshape": dataset.maxshape,
        "chunks": dataset.chunks,
        "filters": [(step.filter_id, [*map(int, step.options)]) for step in filters_of(dataset)],
        "fill value": fill,
    }
    facts = {name: digest_of_value(value) for name, value in found.items()}
    return facts | dict(_attributes(dataset, names or ObjectNames(dataset.file, many=False)))


def _attributes(dataset: h5py.Dataset, names: ObjectNames) -> Iterator[tuple[str, str]]:
    for name in dataset.attrs:
        if name in _NOT_OURS:
            continue
        digest = UNREADABLE
        with contextlib.suppress(OSError, TypeError, ValueError, RuntimeError, KeyError):
            digest = digest_of_value(_attribute(dataset, name, names))
        yield f"{ATTRIBUTE}{name!r}", digest


def _attribute(dataset: h5py.Dataset, name: str, names: ObjectNames) -> Any:
    identifier = dataset.attrs.get_id(name)
    try:
        dtype = identifier.dtype
    except TypeError:
        # A type that numpy lacks: its bytes are all that there is to say.
        kind = identifier.get_type()
        raw = np.zeros(identifier.shape, f"V{kind.get_size()}")
        identifier.read(raw, mtype=kind)
        return ["raw", kind.get_class(), identifier.shape, raw.tobytes().hex()]
    value = dataset.attrs[name]
    if isinstance(value, h5py.Empty):
        return ["empty", _type(value.dtype)]
    return [_type(dtype), identifier.shape, _plain(np.asarray(value), names)]


def _type(dtype: np.dtype[Any]) -> Any:
    """Return all that makes a type what it is, as JSON holds it."""
    if dtype.fields is not None:
        names = dtype.names or ()
        fields = [[name, _type(dtype.fields[name][0]), dtype.fields[name][1]] for name in names]
        return ["record", fields, dtype.itemsize]
    if dtype.subdtype is not None:
        return ["array", _type(dtype.subdtype[0]), list(dtype.subdtype[1])]
    text = h5py.check_string_dtype(dtype)
    if text is not None:
        return ["text", text.encoding, text.length]
    enumeration = h5py.check_enum_dtype(dtype)
    if enumeration is not None:
        return ["enum", dtype.str, sorted((name, int(at)) for name, at in enumeration.items())]
    return dtype.str


def _plain(value: Any, names: ObjectNames | None = None) -> Any:
    """Return elements as JSON holds them: bytes in hexadecimal, references by what they name."""
    if not value.dtype.hasobject:
        return np.ascontiguousarray(value).tobytes().hex()
    return [_element(element, names) for element in value.ravel().tolist()]


def _element(element: Any, names: ObjectNames | None) -> Any:
    if isinstance(element, bytes):
        return element.hex()
    if isinstance(element, h5py.RegionReference):
        return ["region", *(() if names is None else names.of_region(element))]
    if isinstance(element, h5py.Reference):
        return ["reference", None if names is None else names.of(element)]
    if isinstance(element, np.ndarray):
        return [_element(part, names) for part in element.tolist()]
    if isinstance(element, (tuple, list)):
        return [_element(part, names) for part in element]
    return element if isinstance(element, (str, int, float, type(None))) else str(element)


def _escaped(key: str) -> str:
    """Return a key as one name, the slash in front included.

    No variable is called like that. A group with the name of a coordinate above it is none
    that xarray could put into a tree, whose nodes inherit coordinates.
    """
    # Not normalized: to HDF5 '..' is a name like any other.
    parts = [part.replace("%", "%25") for part in key.split("/") if part]
    # h5netcdf leaves out the latter in the name of any object, and then finds none of that name.
    name = "".join(f"%2F{part}" for part in parts).replace("_nc4_non_coord_", "%5Fnc4_non_coord_")
    # Bytes that are no UTF-8, of which each is a surrogate.
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)
