"""What PyTables stores in its own way: truth values as bits, and what only PyTables can read."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import h5py
import numpy as np

from lazyio.codecs.libraries import optional
from lazyio.dtypes import Shape
from lazyio.errors import LazyioError, SourceError, UnsupportedDtypeError
from lazyio.libhdf5_calls import name_of, named
from lazyio.regions import Region
from lazyio.sources.base import Array, FillsNew, Source, Stored, chosen
from lazyio.sources.concatenated import slabs
from lazyio.sources.elements import ViewedSource, field_source
from lazyio.sources.files import describing, existing, reading
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.function import OwnLock
from lazyio.sources.identity import Identity, SeenFile

LOCK = OwnLock()
"""Two threads in PyTables end the process."""
_CACHE_NBYTES = 2**20
_INDEX = "_i_"
"""With which the names of groups of indexes begin."""
_CLASSES = ("ARRAY", "CARRAY", "EARRAY", "TABLE")
"""What PyTables says that its datasets are, where their rows are of one length."""


_ATTRIBUTES = ("CLASS", "VERSION", "TITLE", "FLAVOR", "EXTDIM", "NROWS", "AUTO_INDEX")


def class_of(dataset: h5py.Dataset) -> str | None:
    """Return what PyTables calls a dataset of its own, ``None`` for all others."""
    if not {"CLASS", "VERSION"} <= set(dataset.attrs):
        return None
    found = dataset.attrs["CLASS"]
    name = found.decode("latin-1") if isinstance(found, bytes) else str(found)
    return name if name in _CLASSES else None


def index_of(dataset: h5py.Dataset) -> str | None:
    """Return the path of the group with PyTables' indexes of a table, ``None`` without one."""
    if class_of(dataset) != "TABLE":
        return None
    folder, _, name = name_of(dataset).rpartition("/")
    path = f"{folder}/{_INDEX}{name}"
    group = dataset.file.get(named(path))
    # PyTables leaves the group where it has removed all indexes.
    return path if isinstance(group, h5py.Group) and len(group) else None


def without_indexes(keys: Sequence[str]) -> list[str]:
    """Return the keys of datasets but for those of indexes, which PyTables hides.

    Examples
    --------
    >>> without_indexes(["run/_i_hits/energy/sorted", "run/hits"])
    ['run/hits']
    """
    return [key for key in keys if not any(part.startswith(_INDEX) for part in key.split("/"))]


def is_of_pytables(attribute: str) -> bool:
    """Return whether an attribute tells PyTables how a dataset is stored, and nobody else.

    Examples
    --------
    >>> is_of_pytables("FIELD_0_NAME"), is_of_pytables("unit")
    (True, False)
    """
    return attribute in _ATTRIBUTES or attribute.startswith("FIELD_")


def with_bools(source: Source, dataset: h5py.Dataset) -> Source:
    """Return a dataset of PyTables with truth values, which it stores as bits in a byte."""
    dtype = _with_bools(source.dtype, dataset.id.get_type())
    if dtype == source.dtype or not isinstance(source, Stored) or class_of(dataset) is None:
        return source
    return ViewedSource(part=source, dtype=dtype)


def _with_bools(dtype: np.dtype[Any], kind: Any) -> np.dtype[Any]:
    """Return a dtype with bool where HDF5 has a field of 8 bits."""
    if isinstance(kind, h5py.h5t.TypeArrayID):
        kind = kind.get_super()
    if kind.get_class() == h5py.h5t.BITFIELD and dtype == np.uint8:
        return np.dtype(bool)
    if dtype.subdtype is not None:
        return np.dtype((_with_bools(dtype.base, kind), dtype.shape))
    if dtype.fields is None or kind.get_class() != h5py.h5t.COMPOUND:
        return dtype
    members = {
        os.fsdecode(kind.get_member_name(at)): kind.get_member_type(at)
        for at in range(kind.get_nmembers())
    }
    names = list(dtype.names or ())
    fields = [dtype.fields[name] for name in names]
    formats = [
        _with_bools(field[0], members[name]) for name, field in zip(names, fields, strict=True)
    ]
    if all(one == field[0] for one, field in zip(formats, fields, strict=True)):
        return dtype
    offsets = [field[1] for field in fields]
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize}
    )


@dataclass(frozen=True, kw_only=True)
class PyTablesSource(FillsNew):
    """A node that is read by PyTables, one thread at a time."""

    path: str
    """Absolute path of the file."""
    key: str
    """Path of the node."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """What is decoded at once."""
    identity: Identity | None
    """The state of the file that is read."""

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file and key of the node."""
        return self.path, self.key

    @property
    def in_rows(self) -> bool:
        """Whether rows are cheap to read, which goes for contiguous arrays."""
        return self.chunk_shape is None

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of the file."""
        return (self.path,)

    def require_unchanged(self) -> None:
        """Raise where the file is not as it was."""
        SeenFile(path=self.path, identity=self.identity).check()

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, a little at a time: PyTables gives each anew."""
        if not out.size:
            return
        where = f"{self.path}: node {self.key!r}"
        with reading(self.path, self.identity), LOCK, foreign_errors(where):
            self._read_rows(region, out)

    def _read_rows(self, region: Region, out: Array) -> None:
        with _opened(self.path) as file:
            node = file.get_node(self.key)
            for wanted, place in slabs(self, region):
                out[place] = rows_of(node, wanted, self.dtype)


def _opened(path: str) -> Any:
    tables = optional("tables")
    if tables is None:
        msg = f'{path} needs PyTables, which is not installed; run pip install "lazyio[pytables]"'
        raise SourceError(msg)
    # Its own cache of chunks would be as much as a memory limit.
    return tables.open_file(path, "r", chunk_cache_size=_CACHE_NBYTES)


def rows_of(node: Any, region: Region, dtype: np.dtype[Any]) -> Array:
    """Return a part of an open node, as numpy has it whatever the flavor of the node."""
    if not region:
        found = node.read()
    elif node._c_classid == "TABLE":
        found = node.read(region[0].start, region[0].stop)
    else:
        n_axes = len(node.shape)
        found = np.asarray(node[region[:n_axes]])
        found = found[(slice(None),) * n_axes + region[n_axes:]]
    part: Array = np.asarray(found, dtype)
    return part


def is_node(obj: object) -> bool:
    """Return whether something is an array, a table or a column that PyTables has open."""
    if type(obj).__module__.partition(".")[0] != "tables":
        return False
    return getattr(obj, "_c_classid", None) in _CLASSES or _is_column(obj)


def _is_column(obj: object) -> bool:
    return hasattr(obj, "pathname") and hasattr(obj, "table")


def is_file_or_group(obj: object) -> bool:
    """Return whether something is a file or group that PyTables has open."""
    is_theirs = type(obj).__module__.partition(".")[0] == "tables"
    return is_theirs and type(obj).__name__ in ("File", "Group", "RootGroup")


def node_in(group: Any, key: str | None) -> Any:
    """Return a node, or a column of one, below an open file or group."""
    with LOCK:
        return _node_at(group, key)


def _node_at(group: Any, key: str | None) -> Any:
    top = getattr(group, "root", group)
    wanted = None if key is None else key.strip("/")
    paths = list(_leaves(top, ""))
    found = wanted
    while found and found not in paths:
        found = found.rpartition("/")[0]
    if not found:
        owner = f"{top._v_file.filename}{top._v_pathname}"
        found = chosen(without_indexes(paths), wanted, owner, "array")
    node = top._v_file.get_node(f"{top._v_pathname.rstrip('/')}/{found}")
    column = (wanted or found)[len(found) + 1 :]
    if not column:
        return node
    try:
        return _column_at(node, column)
    except (AttributeError, KeyError) as error:
        msg = f"the node {node._v_pathname!r} has no column {column!r}; check the key"
        raise SourceError(msg) from error


def _leaves(group: Any, prefix: str) -> Iterator[str]:
    """Yield the paths of what is in a group; nothing is opened, which may fail for some."""
    for name in group._v_leaves:
        yield f"{prefix}{name}"
    for name, below in group._v_groups.items():
        yield from _leaves(below, f"{prefix}{name}/")


def _column_at(table: Any, path: str) -> Any:
    found = table.cols
    for name in path.split("/"):
        found = found._f_col(name)
    return found


def node_source(node: Any, by_path: Callable[[str, str], Source]) -> Source:
    """Return the source for an open node: by its path where the file is open for reading.

    One that is open for writing may have rows that are not yet in the file; PyTables has to
    read it, as it is when it is read.
    """
    node, column = _node_and_column(node)
    file = node._v_file
    if file.mode == "r" and file.params.get("DRIVER") in (None, "H5FD_SEC2"):
        path, key = os.path.abspath(file.filename), "/".join((node._v_pathname, *column))
        try:
            return by_path(path, key)
        except (SourceError, UnsupportedDtypeError):
            # The user has opened it with PyTables, and so trusts it.
            return pytables_source(path, key)
    with LOCK:
        facts = _described(node, str(file.filename), None)
    held = OpenNodeSource(
        node=node, shape=facts.shape, dtype=facts.dtype, chunk_shape=facts.chunk_shape
    )
    return field_source(held, column, f"the node {node._v_pathname!r}")


@dataclass(frozen=True, kw_only=True)
class OpenNodeSource:
    """A node of a file that is open for writing; it cannot go to another process."""

    node: Any
    """The handle; its file has to stay open."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """What is decoded at once."""

    @property
    def location(self) -> tuple[str, str]:
        """Name of the file, and of the node."""
        self._require_open()
        return str(self.node._v_file.filename), str(self.node._v_pathname)

    def read(self, region: Region) -> Array:
        """Return a part as a new array."""
        with LOCK:
            self._require_open()
            part = rows_of(self.node, region, self.dtype)
            return part if part.flags.c_contiguous and part.flags.owndata else part.copy()

    def _require_open(self) -> None:
        if not self.node._v_isopen:
            msg = "the node's file has been closed; keep it open, or give path and key"
            raise SourceError(msg)


def refer_to_pytables(dataset: h5py.Dataset, error: LazyioError) -> NoReturn:
    """Raise why a dataset cannot be read here, and that PyTables may do it where it is its own.

    It is not asked by itself: it unpickles attributes, which runs whatever program is in them.
    """
    if class_of(dataset) is None:
        raise error
    msg = (
        f'{error}. PyTables may read it: give format="pytables", if you trust the file, since '
        "PyTables unpickles its attributes"
    )
    if optional("tables") is None:
        msg += ', and run pip install "lazyio[pytables]"'
    raise type(error)(msg) from error


def pytables_keys(path: str) -> list[str]:
    """Return the paths of the nodes of a file that PyTables reads as arrays."""
    with LOCK, foreign_errors(path), _opened(path) as file:
        return without_indexes(list(_leaves(file.root, "")))


def pytables_source(path: str | os.PathLike[str], key: str | None = None) -> Source:
    """Return the source for a node, or a column of one, that PyTables is to read."""
    found = str(existing(path))
    with describing(found) as (_, identity), LOCK, foreign_errors(found), _opened(found) as file:
        node, column = _node_and_column(_node_at(file, key))
        facts = _described(node, found, identity)
    return field_source(facts, column, f"{found}: node {facts.key!r}")


def _node_and_column(node: Any) -> tuple[Any, tuple[str, ...]]:
    """Return a node, and the names that lead to a column of it."""
    return (node.table, tuple(node.pathname.split("/"))) if _is_column(node) else (node, ())


def _described(node: Any, path: str, identity: Identity | None) -> PyTablesSource:
    if node._c_classid not in _CLASSES:
        msg = f"{path}: node {node._v_pathname!r} is no array or table; open_ragged reads VLArrays"
        raise SourceError(msg)
    chunks = node.chunkshape
    inner: Shape = ()
    dtype = np.dtype(node.dtype)
    if node._c_classid != "TABLE":
        inner, dtype = tuple(map(int, node.atom.shape)), np.dtype(node.atom.dtype).base
    shape = tuple(map(int, node.shape)) + inner
    if 0 not in shape:
        # Whether its filters are to be had shows when something is read.
        rows_of(node, tuple(slice(0, 1) for _ in shape), dtype)
    return PyTablesSource(
        path=path,
        key=str(node._v_pathname),
        shape=shape,
        dtype=dtype,
        chunk_shape=None if chunks is None else tuple(map(int, chunks)) + inner,
        identity=identity,
    )
