"""Digests in an HDF5 file: the group ``/_lazyio``, and what of a dataset they cover.

Below it lies one group for each dataset, by its path with ``/`` as ``%2F``. In
it are ``head``, JSON text as bytes, and ``rows``, three 64-bit integers for
each digest of a chunk.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import (
    ATTRIBUTE,
    ELEMENTS,
    PAYLOADS,
    UNREADABLE,
    NotedDigests,
    Rows,
    Table,
    digest_of,
    digest_of_elements,
    digest_of_value,
    only_cut,
    renumbered,
)
from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.dtypes import Shape
from lazyio.libhdf5_calls import read_direct_chunk
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
_NOT_OURS = {"REFERENCE_LIST"}
"""Attributes that change when other datasets come and go."""


def group_of(key: str) -> str:
    """Return the path of the group that holds the digests of a dataset."""
    return f"{GROUP}/{_escaped(key)}"


def store(file: h5py.File, key: str, table: Table) -> None:
    """Put the digests of a dataset into its file, in place of those that are there."""
    forget(file, key)
    group = file.get(GROUP)
    if group is None:
        # The netCDF library adds to no file with a group whose links are not numbered.
        group = file.create_group(GROUP, track_order=True)
    group.attrs["about"] = _ABOUT
    held = group.create_group(_escaped(key), track_order=True)
    held.create_dataset("head", data=np.frombuffer(table.head().encode(), np.uint8))
    rows = held.create_dataset("rows", (table.n_rows, 3), "<u8")
    at = 0
    for slab in table.all_rows:
        rows[at : at + len(slab)] = slab
        at += len(slab)


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
        head = group["head"][...].tobytes().decode()
        rows = group["rows"][...]
    except (KeyError, OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        msg = f"its digests cannot be read: {error}"
        raise ValueError(msg) from error
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind != "u":
        msg = "its digests are damaged themselves"
        raise ValueError(msg)
    return Table.read(head, rows)


def keys_with_digests(file: h5py.File) -> list[str]:
    """Return the paths of all datasets that have digests, from the root of the file."""
    group = file.get(GROUP)
    if not isinstance(group, h5py.Group):
        return []
    return [name.replace("%2F", "/").replace("%25", "%") for name in group]


def table_of(
    dataset: h5py.Dataset, rows: Rows, rims: Rows, job: Mapping[str, str] | None = None
) -> Table:
    """Return the digests of a dataset as it is now, with those of its chunks."""
    shape = tuple(map(int, dataset.shape))
    return Table(
        facts=facts_of(dataset),
        rows=rows,
        of=PAYLOADS if has_payloads(dataset) else ELEMENTS,
        job=job or {},
        shape=shape,
        rims=only_cut(rims, rows, shape, piece_shape(dataset)),
    )


@dataclass(frozen=True, kw_only=True)
class Known:
    """The digests of a dataset before a part of it is written.

    What did not match them before must not match them afterwards either, or
    damage would be hidden by writing beside it.
    """

    table: Table | None
    """As stored; ``None`` where there is none, or a damaged one."""
    facts: dict[str, str]
    """As they were found."""
    grid: Shape
    """Pieces along each axis."""

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> "Known":
        """Return what is known of a dataset."""
        table = None
        with contextlib.suppress(ValueError):
            table = load(dataset.file, dataset.name)
        grid = grid_shape(dataset.shape, piece_shape(dataset))
        return cls(table=table, facts=facts_of(dataset), grid=grid)

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
        own = grid_shape(dataset.shape, piece_shape(dataset))
        numbered = grid or own
        rows = noted.rows(renumbered(self.table.rows, self.grid, numbered))
        rims = noted.rims(renumbered(self.table.rims, self.grid, numbered))
        now = table_of(dataset, renumbered(rows, numbered, own), renumbered(rims, numbered, own))
        store(dataset.file, dataset.name, self.table.renewed(self.facts, now, head))


def has_payloads(dataset: h5py.Dataset) -> bool:
    """Return whether elements are stored in chunks, as bytes that are all there is of them."""
    return dataset.chunks is not None and not dataset.dtype.hasobject


def piece_shape(dataset: h5py.Dataset) -> Shape:
    """Return the extents of what has one digest: a chunk, else a run of about a megabyte."""
    chunks: Shape | None = dataset.chunks
    return chunks or rows_of(dataset.shape, dataset.dtype.itemsize, _RUN_NBYTES)


def pieces_in(dataset: h5py.Dataset, region: Region) -> set[int]:
    """Return the numbers of the pieces that a region touches."""
    step = piece_shape(dataset)
    grid = grid_shape(dataset.shape, step)
    return {flat_index(index, grid) for index, _, _ in touched(region, step)}


def digest_of_piece(dataset: h5py.Dataset, number: int) -> int:
    """Return the digest of a piece as it is stored, read back by libhdf5."""
    step = piece_shape(dataset)
    index = index_at(number, grid_shape(dataset.shape, step))
    if has_payloads(dataset):
        corner = tuple(at * extent for at, extent in zip(index, step, strict=True))
        mask, payload = read_direct_chunk(dataset, corner)
        return digest_of(payload, seed=mask)
    return digest_of_elements(elements_in(dataset, box(dataset.shape, step, index)))


def elements_in(dataset: h5py.Dataset, region: Region) -> npt.NDArray[Any]:
    """Return elements as libhdf5 reads them."""
    if dataset.dtype.kind == "V" and dataset.dtype.fields is None:
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


def facts_of(dataset: h5py.Dataset) -> dict[str, str]:
    """Return digests of everything beside a dataset's elements that a reader gets."""
    properties = dataset.id.get_create_plist()
    fill = None
    if properties.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        fill = _plain(np.asarray(dataset.fillvalue))
    found: dict[str, Any] = {
        "name": dataset.name,
        "dtype": _type(dataset.dtype),
        "shape": dataset.shape,
        "maxshape": dataset.maxshape,
        "chunks": dataset.chunks,
        "filters": [(step.filter_id, [*map(int, step.options)]) for step in filters_of(dataset)],
        "fill value": fill,
    }
    facts = {name: digest_of_value(value) for name, value in found.items()}
    return facts | dict(_attributes(dataset))


def _attributes(dataset: h5py.Dataset) -> Iterator[tuple[str, str]]:
    for name in dataset.attrs:
        if name in _NOT_OURS:
            continue
        digest = UNREADABLE
        with contextlib.suppress(OSError, TypeError, ValueError, RuntimeError, KeyError):
            digest = digest_of_value(_attribute(dataset, name))
        yield f"{ATTRIBUTE}{name!r}", digest


def _attribute(dataset: h5py.Dataset, name: str) -> Any:
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
    return [_type(dtype), identifier.shape, _plain(np.asarray(value), dataset.file)]


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


def _plain(value: Any, file: h5py.File | None = None) -> Any:
    """Return elements as JSON holds them: bytes in hexadecimal, references by what they name."""
    if not value.dtype.hasobject:
        return np.ascontiguousarray(value).tobytes().hex()
    return [_element(element, file) for element in value.ravel().tolist()]


def _element(element: Any, file: h5py.File | None) -> Any:
    if isinstance(element, bytes):
        return element.hex()
    if isinstance(element, h5py.Reference):
        return ["reference", None if file is None else _named(element, file)]
    if isinstance(element, np.ndarray):
        return [_element(part, file) for part in element.tolist()]
    if isinstance(element, (tuple, list)):
        return [_element(part, file) for part in element]
    return element if isinstance(element, (str, int, float, type(None))) else str(element)


def _named(reference: h5py.Reference, file: h5py.File) -> str | None:
    """Return the name of what a reference leads to, ``None`` where that is gone."""
    try:
        return str(file[reference].name) if reference else None
    except (KeyError, OSError, RuntimeError, ValueError):
        return None


def _escaped(key: str) -> str:
    # Not normalized: to HDF5 '..' is a name like any other.
    return "/".join(filter(None, key.split("/"))).replace("%", "%25").replace("/", "%2F")
