"""Calls of libhdf5 for which h5py has no lock, or no name.

libhdf5 is not thread-safe in the wheels of h5py: each call is made under h5py's own lock, or a
second thread damages what libhdf5 has in memory.
"""

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Any

import h5py
from h5py._objects import phil

from lazyio.codecs.libraries import shared_functions

_PLAIN_EDGES = 2
"""H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS."""


def named(path: str) -> str | bytes:
    r"""Return a path inside a file as h5py takes it, which is bytes where those are no UTF-8.

    Examples
    --------
    >>> named("grün"), named("gr\udcfcn")
    ('grün', b'gr\xfcn')
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogateescape")
    return path


def link_at(group: h5py.Group, path: str) -> Any:
    """Return what is at a path, as ``get`` does it with ``getlink``, also where it is no UTF-8."""
    name = named(path)
    if isinstance(name, str):
        return group.get(name, getlink=True)
    parent, _, own = name.rpartition(b"/")
    # Held, for a proxy of links does not keep its group open.
    holder = h5py.h5g.open(group.id, parent or b".")
    links = holder.links
    if not links.exists(own):
        return None
    kind = links.get_info(own).type
    if kind == h5py.h5l.TYPE_HARD:
        return h5py.HardLink()
    values = links.get_val(own)
    if kind == h5py.h5l.TYPE_SOFT:
        return h5py.SoftLink(os.fsdecode(values))
    return h5py.ExternalLink(*map(os.fsdecode, values))


def name_of(item: h5py.HLObject) -> str:
    """Return the path of an object of a file; bytes that are no UTF-8 are a surrogate each."""
    return os.fsdecode(item.name) if item.name else ""


def write_direct_chunk(
    dataset: h5py.Dataset, corner: Sequence[int], payload: Any, mask: int
) -> None:
    """Store a payload, with the filters of the mask left out; h5py locks it from 3.16 on."""
    with phil:
        dataset.id.write_direct_chunk(tuple(corner), payload, mask)


def read_direct_chunk(dataset: h5py.Dataset, corner: Sequence[int]) -> tuple[int, bytes]:
    """Return mask and payload of a chunk that is stored; h5py locks it from 3.16 on."""
    with phil:
        mask, payload = dataset.id.read_direct_chunk(tuple(corner))
    return mask, payload


def copy_attribute(
    attribute: h5py.h5a.AttrID,
    owner: Any,
    name: bytes,
    kind: h5py.h5t.TypeID,
) -> h5py.h5a.AttrID:
    """Return a new attribute with the shape of another, and the encoding of its name."""
    space = attribute.get_space()
    library = _identifiers()
    if library is None:
        return h5py.h5a.create(owner, name, kind, space)
    with phil:
        properties = library.H5Aget_create_plist(attribute.id)
        if properties >= 0:
            made = library.H5Acreate2(owner.id, name, kind.id, space.id, properties, 0)
            library.H5Pclose(properties)
            if made >= 0:
                return h5py.h5a.AttrID(made)
    # Once more, by who raises what is wrong.
    return h5py.h5a.create(owner, name, kind, space)


def commit_type(kind: h5py.h5t.TypeID, group: Any, name: bytes, link: Any, properties: Any) -> None:
    """Give a type a name, and the creation properties of another that has one."""
    library = _identifiers()
    if library is not None:
        with phil:
            how = 0 if link is None else link.id
            if library.H5Tcommit2(group.id, name, kind.id, how, properties.id, 0) >= 0:
                return
    # Once more, by who raises what is wrong.
    kind.commit(group, name, link)


def comment_of(item: Any) -> bytes:
    """Return the comment of an object; h5py gives any bytes where there is none."""
    library = _identifiers()
    if library is None:
        return b""
    with phil:
        nbytes = library.H5Oget_comment(item.id, None, 0)
        if nbytes <= 0:
            return b""
        room = ctypes.create_string_buffer(nbytes + 1)
        library.H5Oget_comment(item.id, room, nbytes + 1)
    return room.value


def leaves_edges_plain(properties: h5py.h5p.PropDCID) -> bool | None:
    """Return whether filters are not applied to chunks at the edge, ``None`` if nobody knows."""
    options = ctypes.c_uint()
    library = _library()
    if library is None:
        return None
    with phil:
        failed = library.H5Pget_chunk_opts(properties.id, ctypes.byref(options)) < 0
    return None if failed else bool(options.value & _PLAIN_EDGES)


def chunk_index_type(dataset: h5py.Dataset) -> int | None:
    """Return the number of the kind of index that a dataset has, ``None`` if nobody knows."""
    kind = ctypes.c_int()
    library = _library()
    if library is None:
        return None
    with phil:
        failed = library.H5Dget_chunk_index_type(dataset.id.id, ctypes.byref(kind)) < 0
    return None if failed else kind.value


@functools.cache
def _identifiers() -> ctypes.CDLL | None:
    """Return the library, with functions that return identifiers or sizes."""
    number = ctypes.c_int64
    arguments: dict[str, Sequence[Any]] = {
        "H5Aget_create_plist": [number],
        "H5Acreate2": [number, ctypes.c_char_p, number, number, number, number],
        "H5Pclose": [number],
        "H5Tcommit2": [number, ctypes.c_char_p, number, number, number, number],
        "H5Oget_comment": [number, ctypes.c_char_p, ctypes.c_size_t],
    }
    return shared_functions(h5py.h5d.__file__, arguments, returns=number)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the library that h5py uses, ``None`` where it cannot be called."""
    arguments = {
        "H5Dget_chunk_index_type": [ctypes.c_int64, ctypes.POINTER(ctypes.c_int)],
        "H5Pget_chunk_opts": [ctypes.c_int64, ctypes.POINTER(ctypes.c_uint)],
    }
    return shared_functions(h5py.h5d.__file__, arguments, returns=ctypes.c_int)
