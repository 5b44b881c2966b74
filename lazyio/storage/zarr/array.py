"""Zarr arrays in a local folder: metadata by zarr-python, chunk objects encoded here.

zarr-python stays the judge of what is valid. Its event loop costs ten times a
plain write for each chunk, so chunks and shards whose codecs are known are
encoded and written by the thread that computed them; others go through
zarr-python.
"""

import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, StorePath, ZipStore

from lazyio.atomic.descriptors import begin_sync
from lazyio.atomic.digests import Hash, NotedDigests, digest_of, digest_of_elements
from lazyio.atomic.journal import Record
from lazyio.atomic.publish_steps import FolderSnapshot
from lazyio.atomic.zarr_digests import digest_of_file
from lazyio.codecs.workspace import Bytes, Fill, Workspace
from lazyio.codecs.zarr_chain import Chain, chain_of, is_exact
from lazyio.dtypes import Shape, is_text
from lazyio.errors import OptionError, TargetError, TargetExistsError, UnsupportedDtypeError
from lazyio.regions import Bounds, check_numbered, flat_index, index_at
from lazyio.sources.zarr import store_name
from lazyio.sources.zarr_metadata import METADATA_FILES
from lazyio.storage.base import ChunkTarget, EncodedChunk, PayloadPlace, PlaceKind, padded
from lazyio.storage.disk_errors import disk_errors, store_errors
from lazyio.storage.region_target import require_equal
from lazyio.storage.zarr.chunk_writer import ZarrChunkWriter, travels

PARTIAL = ".partial"
"""End of the name of a file that is not all there yet."""

REMOVED = ".removed"
"""End of the name of a file that stands for an object which is not to be there any more."""

# Inner chunks of a shard may be tiny, and a write for each would cost more than encoding it.
_BUFFER_NBYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ZarrOptions:
    """How an array is to be stored, beside its shape and dtype."""

    compressors: Any = "auto"
    """As zarr-python takes them."""
    filters: Any = "auto"
    """As zarr-python takes them."""
    fill_value: Any = None
    """What a reader gets where nothing was written; ``None`` is zarr's own."""
    zarr_format: Literal[2, 3] = 3
    """Version of the metadata."""
    chunk_key_encoding: Mapping[str, str] | None = None
    """How objects are named by the positions of chunks; ``None`` is zarr's own."""
    dimension_names: Sequence[str | None] | None = None
    """Names of the axes."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the array."""
    write_empty_chunks: bool | None = None
    """Whether objects are stored that hold the fill value only; ``None`` is no."""


def chunk_keys_of(array: "zarr.Array[Any]") -> Mapping[str, str]:
    """Return how an array names its objects, as :class:`ZarrOptions` has it."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        return {"name": "v2", "separator": metadata.dimension_separator}
    encoding: Any = metadata.chunk_key_encoding
    return {"name": encoding.name, "separator": encoding.separator}


@dataclass(frozen=True, kw_only=True)
class OverlaidObjects:
    """An array of which a part is built elsewhere, object by object."""

    array: "zarr.Array[Any]"
    """The array as it is."""
    seen: FolderSnapshot
    """What lay in its folder when the part was begun."""


class ZarrTarget(ChunkTarget):
    """An array that is open for writing."""

    def __init__(
        self,
        array: "zarr.Array[Any]",
        *,
        keeps_empty: bool = False,
        replaces: bool = False,
        noted: NotedDigests | None = None,
        bounds: Bounds | None = None,
        over: "OverlaidObjects | None" = None,
    ) -> None:
        super().__init__(array.shape, array.shards or array.chunks, noted=noted, bounds=bounds)
        self.dtype = np.dtype(array.dtype)
        self._array = array
        self._folder = local_folder(array)
        # An array of which the store is not told yet has none.
        self._has_folder = self._folder is not None and self._folder.is_dir()
        self._keeps_empty = keeps_empty
        self._replaces = replaces
        self._over = over
        metadata = array.metadata
        self.fill_value: Any = metadata.fill_value
        self._chain = None
        if is_text(self.dtype):
            self.fill_value = "" if metadata.fill_value is None else metadata.fill_value
        else:
            self._fill = Fill(metadata.fill_value, self.dtype)
            self.fill_value = self._fill.value
        self._is_exact = is_text(self.dtype) or is_exact(metadata.to_dict())
        if self._folder is not None and not is_text(self.dtype):
            described = metadata.to_dict()
            self._chain = chain_of(described, self.dtype, self._fill, keep_empty=keeps_empty)
        self._folders: set[str] = set()
        self.written: list[str] | None = None
        """Takes the names of the objects that are written to a local folder."""

    @property
    def engine(self) -> str:
        """How chunks get into the store."""
        return "direct" if self._chain is not None else "zarr-python"

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk and commit it, unless it holds the fill value only."""
        if self._chain is None or self._folder is None:
            if self.keeping is not None and self.keeping.number(index) in self._kept:
                require_equal(self, index, chunk)
                return
            # A store may keep what it is given, and the memory is its caller's, to be used again.
            kept = chunk if self._folder is not None else chunk.copy()
            with self._errors(index):
                if self._over is not None:
                    self._look_under(self._name(index))
                self._array[self._region(index) or ()] = kept
                self._look_at(index, chunk)
            return
        whole = padded(chunk, self.chunk_shape, self.fill_value, workspace)
        # A shard is cut into its inner chunks from any strides.
        if not whole.flags.c_contiguous and self._chain.shard is None:
            packed = workspace.array("packed", whole.shape, whole.dtype)
            np.copyto(packed, whole)
            whole = packed
        name = self._name(index)
        self._look_under(name)
        pieces = self._pieces(self._chain, whole, workspace)
        if self._is_there(index, pieces):
            return
        first = next(pieces, None)
        with disk_errors(self._folder):
            if first is not None:
                hash_ = Hash() if self._noted is not None else None
                pieces = _hashed(itertools.chain([first], pieces), hash_)
                nbytes = self._write_object(name, pieces)
                self._is_written(name, nbytes)
                digest = hash_.value if hash_ is not None else None
                self._note(index, digest, nbytes, self._rim_of(index, chunk))
            elif self._replaces:
                Path(name).unlink(missing_ok=True)
                self._mark_removed(name)
                self._note(index, None)

    def chunk_writer(self) -> ZarrChunkWriter | None:
        """Return what other processes write with, ``None`` where they cannot."""
        if is_text(self.dtype) or (self._noted is not None and self._folder is None):
            return None
        if self._chain is None and (self._folder is not None or not travels(self._array.store)):
            return None
        if self._folder is not None:
            # Others make folders in it only, so that they leave nothing once it is removed.
            self._folder.mkdir(parents=True, exist_ok=True)
        return ZarrChunkWriter(
            array=self._array,
            folder=self._folder,
            shape=self.shape,
            chunk_shape=self.chunk_shape,
            grid=self.grid,
            keeps_empty=self._keeps_empty,
            has_digests=self._noted is not None,
        )

    def place(self, chunk: EncodedChunk) -> PayloadPlace:
        """Return whether an object is there; each has its own name, and needs no other place."""
        is_there = self.keeping is not None and self.keeping.has(chunk.chunk, chunk.digest)
        return PayloadPlace(PlaceKind.KEPT if is_there else PlaceKind.WRITE)

    def land(self, chunk: EncodedChunk, place: PayloadPlace, payload: Bytes | None) -> None:
        """Take note of an object that is written, or write it."""
        index = index_at(chunk.chunk, self.grid)
        if self._folder is None:
            self._count(0)
            return
        if place.kind is PlaceKind.KEPT:
            return
        name = self._name(index)
        with disk_errors(self._folder):
            self._look_under(name)
            if chunk.nbytes:
                if payload is not None:
                    self._write_object(name, [payload])
                self._is_written(name, chunk.nbytes)
                self._note(index, chunk.digest, chunk.nbytes, chunk.rim)
            elif self._replaces:
                Path(name).unlink(missing_ok=True)
                self._mark_removed(name)
                self._note(index, None)

    def _look_under(self, name: str) -> None:
        """Note what lies under an object, before that is read or replaced."""
        if self._over is not None:
            self._over.seen.look_at(self._inside(name))

    def _mark_removed(self, name: str) -> None:
        """Say that the object under this one is to go, where there is one."""
        if self._over is not None and self._over.seen.is_there(self._inside(name)):
            self._make_folder(os.path.dirname(name))
            Path(f"{name}{REMOVED}").touch()

    def _inside(self, name: str) -> str:
        return name.removeprefix(f"{self._folder}/")

    def _pieces(
        self, chain: Chain, whole: npt.NDArray[Any], workspace: Workspace
    ) -> Iterator[Bytes]:
        """Return the object of a chunk or shard in pieces, none where it need not be stored."""
        if chain.shard is None and not self._keeps_empty and self._fill.is_all_of(whole):
            return iter(())
        return chain.pieces(whole, workspace)

    def grow(self, shape: Shape) -> None:
        """Take chunks within these extents from now on; what readers look at is told at the end."""
        check_numbered(shape, self.chunk_shape, self.grid)
        self.shape = shape
        self._array = with_shape(self._array, shape)

    def shape_now(self) -> Shape:
        """Return the extents that the array has by now, also where another handle changed them."""
        return shape_in_store(self._array)

    def at_shape(self, shape: Shape) -> Self:
        """Return a target for the array with those extents, which has written nothing yet."""
        other = super().at_shape(shape)
        other._array = with_shape(self._array, shape)
        return other

    def _kept_rim(self, record: Record) -> int | None:
        """Return the digest of the elements of a chunk that is cut, and there from before."""
        if not record.nbytes:
            return None
        return digest_of_elements(self.read_chunk(index_at(record.chunk, self.grid)))

    @property
    def is_read_back(self) -> bool:
        """Whether an object may be read and written again; a zip file keeps both."""
        return not isinstance(self._array.store, ZipStore)

    @property
    def array(self) -> "zarr.Array[Any]":
        """The array, as it is now."""
        return self._array

    def as_stored(self, index: Sequence[int], chunk: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a chunk's elements as they come back, which lossy codecs change."""
        region = self._region(index) or ()
        memory = StorePath(MemoryStore())
        metadata: Any = self._array.metadata
        one: Any = zarr.AsyncArray(metadata=metadata, store_path=memory, config=self._array.config)
        array = zarr.Array(one)
        array[region] = chunk
        return np.array(array[region], self.dtype)

    def read_chunk(self, index: Sequence[int]) -> npt.NDArray[Any]:
        """Return a chunk's elements, cut at the end of the array."""
        with self._errors(index):
            array = self._array
            if self._over is not None:
                name = self._name(index)
                self._look_under(name)
                if not os.path.exists(name) and not os.path.exists(f"{name}{REMOVED}"):
                    array = with_shape(self._over.array, self.shape)
            return np.array(array[self._region(index) or ()], self.dtype)

    def is_whole(self, record: Record) -> bool:
        """Return whether an object is there as its record says, or not there if that says so."""
        name = self._name(index_at(record.chunk, self.grid))
        try:
            return bool(record.nbytes) and digest_of_file(name) == record.digest
        except FileNotFoundError:
            return not record.nbytes
        except OSError:
            return False

    def finish(self) -> int:
        """Return the bytes of all objects written; where the store is no folder, of all there."""
        if self._folder is None:
            return int(self._array.nbytes_stored())
        return self._all_nbytes

    def _is_written(self, name: str, nbytes: int) -> None:
        """Count an object that has its name, and tell who is to have it on the disk."""
        self._count(nbytes)
        if self.written is not None:
            self.written.append(name)

    def _name(self, index: Sequence[int]) -> str:
        return f"{self._folder}/{self._array.metadata.encode_chunk_key(tuple(index))}"

    def _is_there(self, index: Sequence[int], pieces: Iterator[Bytes]) -> bool:
        """Return whether an object is kept from a run that was killed, after comparing it."""
        if self.keeping is None or self.keeping.number(index) not in self._kept:
            return False
        hash_ = Hash()
        nbytes = sum(piece.size for piece in _hashed(pieces, hash_))
        return self.keeping.has(self.keeping.number(index), hash_.value if nbytes else 0)

    def _note(
        self, index: Sequence[int], digest: int | None, nbytes: int = 0, rim: int | None = None
    ) -> None:
        chunk = flat_index(index, self.grid)
        if self._noted is not None:
            self._noted.note(chunk, digest, rim)
        if self.keeping is not None:
            self.keeping.note(self.keeping.record(chunk, nbytes=nbytes, digest=digest or 0))

    def _rim_of(self, index: Sequence[int], chunk: npt.NDArray[Any]) -> int | None:
        """Return the digest of the elements of a chunk that the end of the array cuts."""
        if self._noted is None or chunk.shape == self.chunk_shape:
            return None
        # What a reader gets of them, where codecs leave out a part.
        elements = np.asarray(chunk, self.dtype) if self._is_exact else self.read_chunk(index)
        return digest_of_elements(elements)

    def _look_at(self, index: Sequence[int], chunk: npt.NDArray[Any]) -> None:
        """Count and note what zarr-python has written, in a local folder or a zip file."""
        if self._folder is None:
            self._count(0)
            if self._noted is not None:
                key = self._array.metadata.encode_chunk_key(tuple(index))
                found: Any = sync((self._array.store_path / key).get())
                digest = None if found is None else digest_of(found.to_bytes())
                self._note(index, digest, rim=self._rim_of(index, chunk))
            return
        name = self._name(index)
        if not os.path.exists(name):  # It held the fill value only.
            self._mark_removed(name)
            self._note(index, None)
            return
        nbytes = os.stat(name).st_size
        self._is_written(name, nbytes)
        if self._noted is not None:
            self._note(index, digest_of_file(name), nbytes, self._rim_of(index, chunk))

    def _errors(self, index: Sequence[int]) -> AbstractContextManager[None]:
        """Return what turns errors of the disk, or of a store behind a URL, into ours."""
        if self._folder is not None:
            return disk_errors(self._folder)
        name = f"{store_name(self._array.store)}/{self._array.path}".rstrip("/")
        return store_errors(name, self._region(index))

    def _make_folder(self, folder: str) -> None:
        """Make a folder of the array's; not the array's own, where it was there and is gone."""
        if not self._has_folder:
            os.makedirs(folder, exist_ok=True)
            return
        try:
            os.mkdir(folder)
        except FileExistsError:
            return
        except FileNotFoundError:
            above = os.path.dirname(folder)
            if not above.startswith(f"{self._folder}/"):
                raise
            self._make_folder(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)

    def _write_object(self, name: str, pieces: Iterable[Bytes]) -> int:
        folder = name.rpartition("/")[0]
        # A directory costs more than a small chunk: each is made once.
        if folder not in self._folders:
            self._make_folder(folder)
            self._folders.add(folder)
        built = f"{name}.{threading.get_ident()}{PARTIAL}" if self._replaces else name
        try:
            nbytes = _write_file(built, pieces)
            if self._replaces:
                os.replace(built, name)
        except BaseException:
            # In an array that the caller has open nobody else would remove it.
            Path(built).unlink(missing_ok=True)
            raise
        return nbytes


def _hashed(pieces: Iterator[Bytes], hash_: Hash | None) -> Iterator[Bytes]:
    """Yield pieces, and hash each while it is in the cache."""
    for piece in pieces:
        if hash_ is not None:
            hash_.update(piece)
        yield piece


def _write_file(path: str, pieces: Iterable[Bytes]) -> int:
    """Write a file and return its bytes; what is larger than the buffer is not copied."""
    with open(path, "wb", buffering=_BUFFER_NBYTES) as file:
        nbytes = sum(file.write(memoryview(piece)) for piece in pieces)
        file.flush()
        begin_sync(file.fileno(), 0, nbytes)
        return nbytes


def with_shape(array: "zarr.Array[Any]", shape: Shape) -> "zarr.Array[Any]":
    """Return an array with other extents, of which its store is not told."""
    metadata: Any = array.metadata
    grown: Any = zarr.AsyncArray(
        metadata=metadata.update_shape(shape), store_path=array.store_path, config=array.config
    )
    return zarr.Array(grown)


def shape_in_store(array: "zarr.Array[Any]") -> Shape:
    """Return the extents of an array as its store has them, whatever its handle says."""
    # Some stores that can be written cannot be opened for reading only.
    found = zarr.open_array(array.store, path=array.path, mode="r" if array.read_only else "r+")
    return tuple(map(int, found.shape))


def local_folder(array: "zarr.Array[Any]") -> Path | None:
    """Return the folder that an array's objects lie in, ``None`` where it is no local one."""
    if not isinstance(array.store, LocalStore):
        return None
    return Path(os.path.abspath(array.store.root), array.path)


def codecs_of(array: "zarr.Array[Any]") -> dict[str, str]:
    """Return an array's codecs by the arguments that name them, to be compared."""
    return {"compressors": str(array.compressors), "filters": str(array.filters)}


def create_array(
    store: Any,
    path: str,
    *,
    shape: Shape,
    chunk_shape: Shape,
    dtype: np.dtype[Any],
    options: ZarrOptions,
    shard_shape: Shape | None = None,
) -> "zarr.Array[Any]":
    """Make an array that is still empty."""
    if any(field[0].subdtype for field in (dtype.fields or {}).values()):
        msg = (
            f"Zarr has no type for dtype {dtype}, a record with arrays as fields; write each "
            "field as an array of its own"
        )
        raise UnsupportedDtypeError(msg)
    try:
        if path:
            zarr.open_group(store, mode="a", zarr_format=options.zarr_format)
        return zarr.create_array(
            store,
            name=path or None,
            zarr_format=options.zarr_format,
            **creation_arguments(shape, chunk_shape, dtype, options, shard_shape),
        )
    except zarr.errors.ContainsArrayError as error:
        msg = f"{error}; pass overwrite=True to replace it, or another path"
        raise TargetExistsError(errno.EEXIST, msg) from error
    except (zarr.errors.ContainsGroupError, zarr.errors.ContainsArrayAndGroupError) as error:
        msg = f"{error}; a group is never replaced, give a path inside it"
        raise TargetExistsError(errno.EEXIST, msg) from error
    except ImportError as error:
        msg = f"{store} cannot be opened: {error}; install the package that is missing"
        raise OptionError(msg) from error
    except OSError as error:
        where = Path(store).parent if isinstance(store, (str, os.PathLike)) else store
        msg = f"{where} cannot be written: {error.strerror or error}"
        raise TargetError(error.errno or errno.EIO, msg) from error
    except (ValueError, TypeError, KeyError) as error:
        if "dtype" in str(error).lower() or "data type" in str(error).lower():
            msg = f"Zarr has no type for dtype {dtype}: {error}; convert with dtype= or .astype"
            raise UnsupportedDtypeError(msg) from error
        msg = f"the Zarr array cannot be created: {error}"
        raise OptionError(msg) from error


def creation_arguments(
    shape: Shape,
    chunk_shape: Shape,
    dtype: np.dtype[Any],
    options: ZarrOptions,
    shard_shape: Shape | None = None,
) -> dict[str, Any]:
    """Return how an array is made, as zarr-python's ``create_array`` takes it."""
    return {
        "shape": shape,
        "dtype": dtype,
        "chunks": chunk_shape,
        "shards": shard_shape,
        "compressors": options.compressors,
        "filters": options.filters,
        "fill_value": options.fill_value,
        "chunk_key_encoding": options.chunk_key_encoding,
        "dimension_names": options.dimension_names,
        "attributes": dict(options.attributes),
        "config": {"write_empty_chunks": bool(options.write_empty_chunks)},
    }


class DeferredZarrMetadata:
    """Metadata of new arrays, kept from a store until :meth:`tell`.

    A run that fails or is killed before leaves objects that no reader finds.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._held: dict[str, Any] = {}
        self._arrays: set[str] = set()

    def create(self, path: str, *, overwrite: bool, **settings: Any) -> "zarr.Array[Any]":
        """Return a new array, as :func:`~lazyio.storage.zarr.array.create_array` does.

        What has its place is removed at once: its objects could not be told from new ones.
        """
        held: dict[str, Any] = {}
        made = create_array(MemoryStore(held), path, **settings)
        if overwrite and self._store.supports_deletes:
            sync(self._store.delete_dir(path))
        self._held = held | self._held
        self._arrays |= {key for key in held if key.rpartition("/")[0] == path}
        place = sync(StorePath.open(self._store, path))
        array: Any = zarr.AsyncArray(metadata=made.metadata, store_path=place, config=made.config)
        return zarr.Array(array)

    def tell(
        self,
        arrays: Sequence["zarr.Array[Any]"],
        group_attrs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Put the metadata where readers look for them: arrays first, then the groups above.

        ``arrays`` are those that were created, as they have become; groups get the attributes
        by their paths, beside those that they have.
        """
        for array in arrays:
            inside = f"{array.path}/" if array.path else ""
            for name, data in _described(array).items():
                self._held[f"{inside}{name}"] = data
        described = self._describe_groups(group_attrs or {})
        inner_first = sorted(self._held, key=lambda key: (-key.count("/"), key))
        for key in inner_first:
            if key in self._arrays | described or not sync(self._store.exists(key)):
                sync(self._store.set(key, self._held[key]))

    def _describe_groups(self, group_attrs: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Put attributes into the metadata of groups, and return what they are stored under."""
        found: set[str] = set()
        for path, attributes in group_attrs.items():
            held = {key: data for key, data in self._held.items() if _is_of_group(key, path)}
            for key in held:
                if (there := sync(self._store.get(key, default_buffer_prototype()))) is not None:
                    held[key] = there
            group = zarr.open_group(MemoryStore(held), path=path or None, mode="r+")
            group.update_attributes(dict(attributes))
            self._held |= held
            found |= held.keys()
        return found

    def described(self, array: "zarr.Array[Any]") -> dict[str, bytes]:
        """Return the metadata files of an array, as they will be."""
        return {name: data.to_bytes() for name, data in _described(array).items()}

    def put(self, key: str, data: bytes) -> None:
        """Put a file of ours where it will be."""
        sync(self._store.set(key, default_buffer_prototype().buffer.from_bytes(data)))

    def forget(self) -> None:
        """Remove the objects of arrays that are not to be, where the store can."""
        if not self._store.supports_deletes:
            return
        for path in {key.rpartition("/")[0] for key in self._arrays}:
            sync(self._store.delete_dir(path))


def _is_of_group(key: str, path: str) -> bool:
    """Return whether metadata are those of a group itself."""
    folder, _, name = key.rpartition("/")
    return folder == path and name in METADATA_FILES


def _described(array: "zarr.Array[Any]") -> dict[str, Any]:
    metadata: Any = array.metadata
    held: dict[str, Any] = metadata.to_buffer_dict(default_buffer_prototype())
    return held
