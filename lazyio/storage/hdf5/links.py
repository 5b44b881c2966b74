"""What leads out of a dataset or group of an HDF5 file: links, and virtual datasets.

The digests of a link hold where it leads, and in plain words what was there. So does
the table of a virtual dataset for each of its sources. By that a file that was replaced by
another one is found, though there is still something to read.
"""

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lazyio.atomic.digests import ELEMENTS, NO_ROWS, Table, digest_of_value
from lazyio.atomic.hdf5_digests import ObjectNames, facts_of
from lazyio.dtypes import Shape
from lazyio.regions import Region, box_shape
from lazyio.sources.hdf5_layout import virtual_pieces
from lazyio.sources.path_policy import LinkEnd
from lazyio.storage.hdf5.attributes import write_attributes
from lazyio.storage.hdf5.dataset import group_for
from lazyio.storage.hdf5.dimension_scales import attach_dimensions

_MOST_LINKS = 16
ENDS = "source "
"""Begin of the names of facts that say what a link or a piece leads to, in plain words."""
LINK, PIECES = "link", "virtual sources"
"""Facts of a link, and of a virtual dataset: what it is made of, as the file says it."""


def link_object(group: h5py.Group, key: str, path: str, name: str, final: Path) -> None:
    """Link to an object: of another file, relative to where this one will lie; or of its own."""
    parent, own = group_for(group, key), posixpath.basename(key)
    parent[own] = _link_to(path, name, final)


def is_link_to(group: h5py.Group, key: str, path: str, name: str, final: Path) -> bool:
    """Return whether there is such a link already."""
    link = group.get(key, getlink=True)
    is_link = isinstance(link, (h5py.SoftLink, h5py.ExternalLink))
    return is_link and fact_of_link(link) == fact_of_link(_link_to(path, name, final))


def _link_to(path: str, name: str, final: Path) -> h5py.SoftLink | h5py.ExternalLink:
    if os.path.realpath(path) == str(final):
        return h5py.SoftLink(name)
    return h5py.ExternalLink(relative(path, final), name)


def own_name(file: h5py.File, key: str) -> str:
    """Return the path of an object without the soft links on the way, as its digests have it."""
    done, left = "", [part for part in key.split("/") if part]
    for _ in range(_MOST_LINKS * len(left) + 1):
        if not left:
            break
        at = f"{done}/{left.pop(0)}"
        link = file.get(at, getlink=True)
        if not isinstance(link, h5py.SoftLink):
            done = at
            continue
        left = [part for part in (*link.path.split("/"), *left) if part not in ("", ".")]
        done = "" if link.path.startswith("/") else done
    return "/".join([done, *left])


def relative(path: str, final: Path) -> str:
    """Return how a file names another one, so that both can be moved together."""
    try:
        return os.path.relpath(path, final.parent)
    except ValueError:
        return path  # On another drive.


def table_of_link(link: h5py.SoftLink | h5py.ExternalLink, end: LinkEnd) -> Table:
    """Return the digests of a link, and what it leads to."""
    facts = {LINK: fact_of_link(link), end_name(link.path, file_in(link)): end.to_text()}
    return Table(facts=facts, rows=NO_ROWS, of=ELEMENTS)


def fact_of_link(link: h5py.SoftLink | h5py.ExternalLink) -> str:
    """Return the digest of what a link says."""
    return digest_of_value([file_in(link), link.path])


def file_in(link: h5py.SoftLink | h5py.ExternalLink) -> str:
    """Return the file that a link names, ``"."`` where it is its own."""
    return str(link.filename) if isinstance(link, h5py.ExternalLink) else os.curdir


def end_name(key: str, path: str) -> str:
    """Return the name of the fact that says what a dataset is.

    Examples
    --------
    >>> end_name("/x", "day1.h5"), end_name("/x", ".")
    ("source '/x' in day1.h5", "source '/x' in the same file")
    """
    return f"{ENDS}{key!r} in {'the same file' if path == os.curdir else path}"


def facts_of_virtual(dataset: h5py.Dataset, names: ObjectNames | None = None) -> dict[str, str]:
    """Return digests of everything that a virtual dataset says beside its elements."""
    said = [
        [piece.path, piece.key, _plain(piece.region), _plain(piece.source_region)]
        for piece in virtual_pieces(dataset)
    ]
    return facts_of(dataset, names) | {PIECES: digest_of_value(said)}


def _plain(region: Region | None) -> list[list[int]] | None:
    return None if region is None else [[part.start, part.stop] for part in region]


@dataclass(frozen=True, kw_only=True)
class PieceToMap:
    """A dataset that fills a part of a virtual one."""

    path: str
    """Its file, absolute."""
    key: str
    """Its path in the file."""
    shape: Shape
    """Extents of all of it."""
    region: Region
    """What it fills."""
    end: LinkEnd
    """What it is, in words."""

    def name_in(self, final: Path) -> str:
        """Return how the file of the virtual dataset names its own."""
        return (
            os.curdir if os.path.realpath(self.path) == str(final) else relative(self.path, final)
        )


def create_virtual(
    group: h5py.Group,
    key: str,
    *,
    shape: Shape,
    kind: h5py.h5t.TypeID,
    fill_value: np.ndarray[Any, Any] | None,
    pieces: Sequence[PieceToMap],
    final: Path,
    attrs: Mapping[str, Any],
    dims: Sequence[str] | None,
) -> Table:
    """Make a virtual dataset of whole datasets, and return its digests."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if fill_value is not None:
        properties.set_fill_value(fill_value)
    for piece in pieces:
        filled = h5py.h5s.create_simple(shape)
        filled.select_hyperslab(tuple(part.start for part in piece.region), box_shape(piece.region))
        name = _escaped(piece.name_in(final))
        properties.set_virtual(filled, name, _escaped(piece.key), _all_of(piece.shape))
    parent, own = group_for(group, key), posixpath.basename(key)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(parent.id, os.fsencode(own), kind, space, dcpl=properties)
    dataset = parent[own]
    write_attributes(dataset, attrs)
    if dims is not None:
        attach_dimensions(dataset, dims)
    ends = {end_name(piece.key, piece.name_in(final)): piece.end.to_text() for piece in pieces}
    facts = facts_of_virtual(dataset) | ends
    return Table(facts=facts, rows=NO_ROWS, of=ELEMENTS, shape=shape)


def _all_of(shape: Shape) -> h5py.h5s.SpaceID:
    """Return a selection of all of a dataset, by which its extents are kept as well.

    What selects everything says nothing of extents: libhdf5 would read a dataset of others.
    """
    if not shape:
        return h5py.h5s.create(h5py.h5s.SCALAR)
    space = h5py.h5s.create_simple(shape)
    space.select_hyperslab((0,) * len(shape), shape)
    return space


def _escaped(name: str) -> bytes:
    """Return a name for a mapping, in which ``%b`` would stand for a number."""
    return os.fsencode(name.replace("%", "%%"))
