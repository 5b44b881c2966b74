"""Arrays in a store without renames: nothing tells of them before their chunks are there."""

from collections.abc import Sequence
from typing import Any

import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore, StorePath

from lazyio.targets.zarr import create_array


class Apart:
    """Metadata of new arrays, kept from a store until :meth:`tell`.

    A run that fails or is killed before leaves objects that no reader finds.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._held: dict[str, Any] = {}
        self._arrays: set[str] = set()

    def create(self, path: str, *, overwrite: bool, **settings: Any) -> "zarr.Array[Any]":
        """Return a new array, as :func:`~lazyio.targets.zarr.create_array` does.

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

    def tell(self, arrays: Sequence["zarr.Array[Any]"]) -> None:
        """Put the metadata where readers look for them: arrays first, then the groups above.

        ``arrays`` are those that were created, as they have become.
        """
        for array in arrays:
            inside = f"{array.path}/" if array.path else ""
            for name, data in _described(array).items():
                self._held[f"{inside}{name}"] = data
        inner_first = sorted(self._held, key=lambda key: (-key.count("/"), key))
        for key in inner_first:
            if key in self._arrays or not sync(self._store.exists(key)):
                sync(self._store.set(key, self._held[key]))

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


def _described(array: "zarr.Array[Any]") -> dict[str, Any]:
    metadata: Any = array.metadata
    held: dict[str, Any] = metadata.to_buffer_dict(default_buffer_prototype())
    return held
