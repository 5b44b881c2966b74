"""A Zarr store as it is going to be: what is written to it waits in memory.

xarray makes groups, arrays and metadata in it, and reads what lies under them; nothing of the
store itself is changed.
"""

from collections.abc import AsyncIterator, Iterable

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import MemoryStore

from lazyio.atomic.publish_steps import is_hidden_name
from lazyio.sources.zarr_metadata import METADATA_NAMES


class StagedStore(Store):
    """A store over another one, which stays as it is."""

    supports_writes = True
    supports_deletes = True
    supports_partial_writes = False
    supports_listing = True

    def __init__(self, under: Store) -> None:
        super().__init__(read_only=False)
        self.under = under
        self.written: dict[str, Buffer] = {}
        """Objects that are new or changed, by their keys."""
        self.removed: set[str] = set()
        """Keys of which nothing is there any more, nor below them."""
        self.seen: dict[str, bytes | None] = {}
        """Metadata of the store as they were when they were first used, by their keys."""
        self._memory = MemoryStore(self.written)

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same store."""
        return self is other

    __hash__ = object.__hash__

    def with_read_only(self, read_only: bool = False) -> "StagedStore":  # noqa: ARG002
        """Return itself: it is written by whoever has it."""
        return self

    def is_removed(self, key: str) -> bool:
        """Return whether what lies under a key is gone."""
        return "" in self.removed or any(
            key == one or key.startswith(f"{one}/") for one in self.removed
        )

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return an object."""
        kind = prototype or default_buffer_prototype()
        if key in self.written:
            return await self._memory.get(key, kind, byte_range)
        if self.is_removed(key):
            return None
        found = await self.under.get(key, kind, byte_range)
        if byte_range is None:
            self._see(key, found)
        return found

    def _see(self, key: str, found: Buffer | None) -> None:
        if key.rpartition("/")[2] in METADATA_NAMES:
            self.seen.setdefault(key, None if found is None else found.to_bytes())

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of objects."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Return whether there is an object."""
        if key in self.written:
            return True
        return not self.is_removed(key) and await self.under.exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Keep an object."""
        if key not in self.seen and not self.is_removed(key):
            self._see(key, await self.under.get(key, default_buffer_prototype()))
        self.written[key] = value

    async def delete(self, key: str) -> None:
        """Remove an object."""
        self.written.pop(key, None)
        self.removed.add(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove what lies below a key."""
        inside = prefix.rstrip("/")
        for key in [key for key in self.written if not inside or key.startswith(f"{inside}/")]:
            del self.written[key]
        self.removed.add(inside)

    async def clear(self) -> None:
        """Remove everything."""
        await self.delete_dir("")

    async def list(self) -> AsyncIterator[str]:
        """Yield the keys of all objects."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin so."""
        for key in [key for key in self.written if key.startswith(prefix)]:
            yield key
        async for key in self.under.list_prefix(prefix):
            if key not in self.written and not self.is_removed(key):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder."""
        inside = f"{prefix.rstrip('/')}/" if prefix else ""
        names = {
            key.removeprefix(inside).partition("/")[0]
            for key in self.written
            if key.startswith(inside)
        }
        for name in names:
            yield name
        async for name in self.under.list_dir(prefix):
            # zarr-python warns of what is no part of a hierarchy, such as a write under way.
            is_hidden = is_hidden_name(name)
            if name not in names and not is_hidden and not self.is_removed(f"{inside}{name}"):
                yield name
