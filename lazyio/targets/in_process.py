"""Threads of one process at one array that is open: what is one step for them.

A chunk that two regions share is read, merged and written; while one thread does
that no other may. Nor may two find the end of an array and go on there. An array
is known by what it is, and not by the handle: several may be open.
"""

import contextlib
import errno
import os
import threading
import weakref
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
from zarr.storage import LocalStore

from lazyio.errors import TargetLockedError
from lazyio.grid import box, box_shape
from lazyio.sources.zarr import store_name
from lazyio.spec import Shape

_N_STRIPES = 1009
_PATIENCE = 60.0


class _Locks:
    """Locks of this process; a few for all chunks there are, one for each array that grows."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin anew: in a forked child nobody would let go of what others hold."""
        self.chunks = [threading.Lock() for _ in range(_N_STRIPES)]
        self.growing: weakref.WeakValueDictionary[Hashable, _Growth] = weakref.WeakValueDictionary()
        self.registry = threading.Lock()


class _Growth:
    """The lock of an array of which the shape is read and changed."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.shape: Shape | None = None
        """Extents that readers are told of later."""


_LOCKS = _Locks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_LOCKS.renew)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """An array that the caller has open, so that other threads may write to it."""

    identity: Hashable
    """What all handles of it have in common."""
    has_chunks: bool = True
    """Whether all calls cut it alike; else it is one."""

    def chunk_lock(self, index: Sequence[int]) -> threading.Lock:
        """Return the lock of a chunk, in which nothing else is waited for: others may share it."""
        key = (self.identity, tuple(index) if self.has_chunks else None)
        return _LOCKS.chunks[hash(key) % _N_STRIPES]

    @contextlib.contextmanager
    def alone_at(self, index: Sequence[int], target: Any) -> Iterator[Any]:
        """Be the only thread at a chunk, and get the target as long as the array is by now."""
        with self.chunk_lock(index):
            now = target
            if box_shape(box(target.shape, target.chunk_shape, index)) != target.chunk_shape:
                # At the end of the array: another thread may have gone on in this chunk.
                now = self._at_its_length(target)
            yield now
            if now is not target:
                now.count_for(target)

    def reach(self, shape: Shape) -> None:
        """Let other threads know how far the array reaches before readers are told."""
        growth = _LOCKS.growing.get(self.identity)
        if growth is not None:
            growth.shape = shape

    def _at_its_length(self, target: Any) -> Any:
        growth = _LOCKS.growing.get(self.identity)
        shapes = [target.shape, target.shape_now()]
        if growth is not None and growth.shape is not None:
            shapes.append(growth.shape)
        shape = tuple(map(max, *shapes))
        return target if shape == target.shape else target.at_shape(shape)


def dataset_identity(dataset: h5py.Dataset) -> Hashable:
    """Return what two handles of one dataset have in common."""
    facts = h5py.h5o.get_info(dataset.id)
    return "hdf5", facts.fileno, facts.addr


def array_identity(array: Any) -> Hashable:
    """Return what two handles of one Zarr array have in common."""
    if isinstance(array.store, LocalStore):
        return "zarr", os.path.realpath(os.path.join(array.store.root, array.path))
    return "zarr", store_name(array.store), array.path


@contextlib.contextmanager
def growing(identity: Hashable, name: str) -> Iterator[None]:
    """Be the only thread that reads and changes the shape of an array."""
    with _LOCKS.registry:
        growth = _LOCKS.growing.get(identity)
        if growth is None:
            growth = _LOCKS.growing[identity] = _Growth()
    if not growth.lock.acquire(timeout=_PATIENCE):
        msg = (
            f"{name} is being made longer by another call of this process; wait for that to end, "
            "then make the same call again. Nothing was changed"
        )
        raise TargetLockedError(errno.EBUSY, msg)
    try:
        yield
    finally:
        growth.shape = None
        growth.lock.release()
