"""Zarr arrays, v2 and v3, in any store that zarr-python opens.

Every byte that it reads comes by way of ``get``: what is no regular file, lies
outside the store's folder, or is too large to be metadata is refused there.
"""

import asyncio
import os
import pickle
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.errors
import zarr.storage
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, ZipStore

from lazyio.atomic.publish_steps import check_finished, is_changing
from lazyio.dtypes import Shape, is_text
from lazyio.errors import (
    DamagedDataError,
    LazyioError,
    OptionError,
    SourceError,
    UnsupportedDtypeError,
)
from lazyio.regions import Region, format_region, touched
from lazyio.sources.base import Array, FillsNew, chosen
from lazyio.sources.files import existing, read_json, require_metadata_size
from lazyio.sources.foreign import described, foreign_errors
from lazyio.sources.identity import SeenFile, all_unchanged, changed, seen_files
from lazyio.sources.path_policy import allowed_folders, require_inside
from lazyio.sources.zarr_metadata import METADATA_NAMES, NODE_METADATA
from lazyio.sources.zarr_objects import (
    FolderState,
    OpenFolder,
    ZarrObjects,
    folder_state,
    objects_of,
)


class ConfinedStore(LocalStore):
    """A local folder, of which nothing is read that lies outside."""

    def __init__(
        self, root: Path | str, *, folders: Sequence[Path] = (), read_only: bool = True
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._folders = tuple(folders) or allowed_folders(str(root), None)

    def with_read_only(self, read_only: bool = False) -> "ConfinedStore":
        """Return the same store; zarr asks for it when it opens one."""
        return type(self)(self.root, folders=self._folders, read_only=read_only)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return an object, or a part of it, ``None`` where there is none."""
        await asyncio.to_thread(self._check, key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return parts of objects."""
        return [await self.get(key, prototype, one) for key, one in key_ranges]

    def _check(self, key: str) -> None:
        path = os.path.join(self.root, key)
        try:
            nbytes = os.stat(path).st_size
        except OSError:
            return
        require_inside(path, str(self.root), repr(key), self._folders)
        if _is_metadata(key):
            _require_metadata_size(path, nbytes)


class SizedZipStore(ZipStore):
    """A zip file, of which no metadata are unpacked that are too large to be any."""

    def _get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if not self._is_open:
            self._sync_open()
        try:
            entry = self._zf.getinfo(key)
        except KeyError:
            return None
        if _is_metadata(key):
            _require_metadata_size(f"{self.path}: {key}", entry.file_size)
        return super()._get(key, prototype, byte_range)


def confined_store(path: Path, folders: Sequence[Path] = ()) -> Any:
    """Return the store for a folder or a zip file."""
    if not os.path.isfile(path):
        return ConfinedStore(path, folders=folders)
    if not zipfile.is_zipfile(path):
        msg = f"{path} is a file, but no zip file; a Zarr store is a folder or a zip file"
        raise SourceError(msg)
    return SizedZipStore(path, mode="r")


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] in METADATA_NAMES


def _require_metadata_size(path: str, nbytes: int) -> None:
    try:
        require_metadata_size(nbytes)
    except ValueError as error:
        msg = f"{path} is damaged: {error}"
        raise SourceError(msg) from error


_MOST_DEPTH = 100
"""Groups inside each other."""


@dataclass(frozen=True, kw_only=True)
class ZarrSource(FillsNew):
    """A Zarr array; it travels as its store and path, as zarr pickles it."""

    array: "zarr.Array[Any]"
    """The array, opened for reading."""
    token: str
    """Name of a store that lies nowhere, unlike that of any other; else empty."""
    state: FolderState | SeenFile | None = None
    """The state of its folder, or of the zip file, that is read; ``None`` for whatever is there."""
    in_rows: bool = False
    folders: tuple[Path, ...] = field(default=(), repr=False, compare=False)
    """Where symbolic links of a local store may lead; none where that is not asked."""

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return tuple(map(int, self.array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return np.dtype(self.array.dtype)

    @property
    def chunk_shape(self) -> Shape | None:
        """What is decoded at once: of a shard its inner chunks, where they are read here."""
        whole = self.array.shards or self.array.chunks
        is_inner = self.objects is not None and self.objects.chain.shard is not None
        return tuple(map(int, self.array.chunks if is_inner else whole))

    @property
    def location(self) -> tuple[str, str]:
        """Path of the store, or zarr's name of one that has none, and path inside it."""
        return store_name(self.array.store), self.array.path

    @cached_property
    def objects(self) -> ZarrObjects | None:
        """How the array's files are read without zarr-python, ``None`` where they are not."""
        return objects_of(self.array, self.folders)

    def __reduce__(self) -> Any:
        """Leave the codecs behind: they are found again where the array arrives."""
        array = pickle.dumps(self.array, pickle.HIGHEST_PROTOCOL)
        return _arrived, (array, self.token, self.state, self.folders)

    def __dask_tokenize__(self) -> Any:
        """Return what names the same array in any process."""
        # A replaced array is told by its folder; a chunk that was rewritten is not.
        return (
            "lazyio.ZarrSource",
            str(self.array.store_path),
            self.array.metadata.to_dict(),
            # Of a file system behind a URL its options, such as the endpoint, count as well.
            getattr(self.array.store, "fs", None),
            None if self.state is None else self.state.token,
            self.token,
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of the array's folder, or of the zip file, where it has one."""
        return () if self.state is None else (self.state.path,)

    def require_unchanged(self) -> None:
        """Raise where the array is another, or has other metadata; its objects are not gone over.

        Each block was as it was when it was read.
        """
        if self.state is not None:
            self.state.check()

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, a chunk at a time.

        Files are read and decoded here where that is known how; zarr-python
        would decode ten chunks at once, in memory that nobody counts.
        """
        path = array_folder(self.array)
        if path is None:
            files = [self.state] if isinstance(self.state, SeenFile) else []
            with all_unchanged(files):
                self._read_by_zarr(region, out)
            return
        state = self.state if isinstance(self.state, FolderState) else None
        with OpenFolder(path, state) as folder:
            if self.objects is not None:
                with folder.unchanged():
                    self.objects.read_into(folder, region, out)
                return
            name_of = self.array.metadata.encode_chunk_key
            names = [name_of(index) for index, _, _ in touched(region, self.chunk_shape or ())]
            with folder.unchanged(names):
                self._read_by_zarr(region, out)

    def _read_by_zarr(self, region: Region, out: Array) -> None:
        for _index, _inside, outside in touched(region, self.chunk_shape or ()):
            wanted = tuple(
                slice(whole.start + part.start, whole.start + part.stop)
                for whole, part in zip(region, outside, strict=True)
            )
            out[outside] = self._decode(wanted)

    def _decode(self, region: Region) -> Array:
        try:
            return np.asarray(self.array[region] if region else self.array[()])
        except LazyioError:
            raise
        except Exception as error:  # Each codec of zarr has exceptions of its own.
            msg = (
                f"{self.array.store_path}: the chunks at {format_region(region)} cannot be read: "
                f"{type(error).__name__}: {error}"
            )
            raise DamagedDataError(msg) from error


def _arrived(
    array: bytes, token: str, state: FolderState | SeenFile | None, folders: tuple[Path, ...]
) -> ZarrSource:
    """Return a source that was sent; a zip file is opened where it arrives."""
    try:
        return ZarrSource(array=pickle.loads(array), token=token, state=state, folders=folders)
    except (OSError, zipfile.BadZipFile) as error:
        if state is None:
            raise
        number = error.errno if isinstance(error, OSError) else None
        what = "was removed" if isinstance(error, FileNotFoundError) else "was changed"
        raise changed(state.path, what, number) from error


def zarr_source(
    store: Any,
    path: Any,
    storage_options: Mapping[str, Any] | None = None,
    allow_external: object = None,
) -> ZarrSource:
    """Return the source for an array in a store."""
    if path is not None and not isinstance(path, str):
        msg = f"path={path!r} is no path inside a Zarr store; give a string"
        raise OptionError(msg)
    if isinstance(store, zarr.Array):
        if path:
            msg = f"path={path!r} inside an array; give the group that it is in, or no path"
            raise OptionError(msg)
        return watched_array(store)
    if isinstance(store, zarr.Group):
        path = "/".join(part for part in (store.path, path) if part)
        store = store.store
    name = str(store)
    if isinstance(store, (str, os.PathLike)) and "://" not in name:
        name = str(existing(store))
        return _local_source(Path(name), path, allow_external)
    if allow_external is not None:
        msg = f"allow_external={allow_external!r} is for local files and folders; leave it out"
        raise OptionError(msg)
    return _source_in(store, path, name, storage_options)


def _local_source(root: Path, path: str | None, allow_external: object) -> ZarrSource:
    """Return the source for an array in a folder or a zip file here."""
    places = (root, root / (path or ""))
    folders = allowed_folders(str(root), allow_external)
    while True:
        # Who publishes a change needs milliseconds, and the array may not be opened meanwhile.
        check_finished(*places)
        try:
            if root.is_dir():
                _check_metadata(root, path, folders)
            source = _source_in(confined_store(root, folders), path, str(root), None)
            return replace(source, folders=folders)
        except SourceError:
            if not is_changing(*places):
                raise


def _source_in(
    store: Any, path: str | None, name: str, storage_options: Mapping[str, Any] | None
) -> ZarrSource:
    # Before the store reads what the zip file holds, which it does once.
    zipped = _zip_state(store)
    with foreign_errors(f"{name}: its Zarr metadata"):
        item = _opened(store, path, name, storage_options)
        if isinstance(item, zarr.Group):
            is_container = path is not None and "neurodata_type" in item.attrs and "data" in item
            own = "data" if is_container else chosen(array_paths(item), None, name, "array", "path")
            item = item[own]
        return describe_array(item, zipped) if zipped is not None else watched_array(item)


def watched_array(array: "zarr.Array[Any]") -> ZarrSource:
    """Return the source for a zarr array as it is now, where its store can tell that later."""
    path = array_folder(array)
    if path is None:
        return describe_array(array, _zip_state(array.store))
    state = folder_state(os.path.abspath(path))
    # Read again: the metadata may be older than the state, or come from a group's.
    now = _opened(array.store_path, None, path, None)
    if not isinstance(now, zarr.Array) or _facts_of(now) != _facts_of(array):
        raise changed(path, "has got other metadata")
    state.check()
    return describe_array(array, state)


def _facts_of(array: "zarr.Array[Any]") -> dict[str, Any]:
    """Return the metadata by which elements are read."""
    return {**array.metadata.to_dict(), "attributes": None}


def _zip_state(store: Any) -> SeenFile | None:
    if not isinstance(store, zarr.storage.ZipStore):
        return None
    path = os.path.abspath(store.path)
    return seen_files([SeenFile(path=path, identity=None)])[0]


_MOST_ELEMENTS = 2**63 - 1
"""Along an axis: no array can be indexed beyond."""


def describe_array(
    array: "zarr.Array[Any]", state: FolderState | SeenFile | None = None
) -> ZarrSource:
    """Return the source for a zarr array that is open already, read as it was in some state."""
    dtype = np.dtype(array.dtype)
    if (dtype.hasobject and not is_text(dtype)) or not dtype.itemsize:
        msg = (
            f"{array.store_path} holds elements of type {dtype}, which are Python objects or "
            "nothing; arrays of numbers, text and records are read"
        )
        raise UnsupportedDtypeError(msg)
    if max(array.shape, default=0) > _MOST_ELEMENTS:
        msg = (
            f"{array.store_path} is damaged: it says that it is longer than 2^63 elements; restore "
            "its metadata from a copy"
        )
        raise SourceError(msg)
    # A store in memory has no lasting name: zarr's is an address, which another may have next.
    is_named = bool(_root(array.store)) or hasattr(array.store, "fs")
    return ZarrSource(array=array, token="" if is_named else uuid.uuid4().hex, state=state)


def array_folder(array: "zarr.Array[Any]") -> str | None:
    """Return the folder that an array lies in, ``None`` where it lies in no local one."""
    root = None
    if isinstance(array.store, zarr.storage.LocalStore):
        root = str(array.store.root)
    elif isinstance(array.store, zarr.storage.FsspecStore) and _is_local(array.store):
        root = array.store.path
    return None if root is None else f"{root}/{array.path}".rstrip("/")


def _is_local(store: zarr.storage.FsspecStore) -> bool:
    """Return whether a store behind fsspec is a folder; dask opens folders this way, too."""
    known = store.fs.protocol
    return "file" in ((known,) if isinstance(known, str) else tuple(known))


def store_name(store: Any) -> str:
    """Return what tells a store from any other that is there at the same time.

    Examples
    --------
    >>> store_name(zarr.storage.LocalStore("/data/scan.zarr"))
    '/data/scan.zarr'
    >>> one, other = zarr.storage.MemoryStore(), zarr.storage.MemoryStore()
    >>> store_name(one) == store_name(other)
    False
    """
    if not isinstance(store, zarr.storage.FsspecStore):
        return _root(store) or str(store)
    if _is_local(store):
        return store.path
    known = store.fs.protocol
    protocol = known if isinstance(known, str) else known[0]
    return f"{protocol}://{store.path.lstrip('/')}"


def _root(store: Any) -> str:
    """Return the folder or zip file that a store lies in, empty for others."""
    if isinstance(store, zarr.storage.LocalStore):
        return str(store.root)
    return str(store.path) if isinstance(store, zarr.storage.ZipStore) else ""


def _opened(
    store: Any, path: str | None, name: str, storage_options: Mapping[str, Any] | None
) -> Any:
    options: dict[str, Any] = {}
    if storage_options:
        options["storage_options"] = dict(storage_options)
    try:
        return zarr.open(store, path=path or None, mode="r", **options)
    except (FileNotFoundError, zarr.errors.BaseZarrError) as error:
        where = f" at {path!r}" if path else ""
        msg = f"{name} has no Zarr array{where}: {error}"
        raise SourceError(msg) from error
    except ImportError as error:
        msg = f"{name} cannot be opened: {error}; install the package that is missing"
        raise OptionError(msg) from error
    except LazyioError:
        raise
    except Exception as error:
        # Backends raise their own types; botocore's are not OSErrors.
        what = "cannot be opened" if "://" in name else "has Zarr metadata that cannot be read"
        msg = f"{name} {what}: {described(error)}"
        raise SourceError(msg) from error


def array_paths(group: zarr.Group) -> list[str]:
    """Return the paths of all arrays below a group."""
    members = group.members(max_depth=_MOST_DEPTH)
    if any(path.count("/") >= _MOST_DEPTH for path, _ in members):
        msg = f"{group.store_path}: its groups are nested more than {_MOST_DEPTH} deep"
        raise SourceError(msg)
    return sorted(path for path, item in members if isinstance(item, zarr.Array))


def _check_metadata(store: Path, path: str | None, folders: tuple[Path, ...]) -> None:
    """Name the metadata file that is no JSON, which zarr's own error does not."""
    for name in NODE_METADATA:
        file = store.joinpath(*(path or "").split("/")) / name
        if not file.exists():
            continue
        require_inside(str(file), str(store), repr(name), folders)
        try:
            facts = read_json(file)
            if not isinstance(facts, dict) or not facts:
                msg = "it is not a JSON object with members"
                raise ValueError(msg)
        except OSError as error:
            msg = f"{file} cannot be read: {error.strerror}"
            raise SourceError(error.errno, msg) from error
        except ValueError as error:
            msg = f"{file} is damaged: {error}; restore it from a copy, the chunks may be intact"
            raise SourceError(msg) from error
