"""A part of an existing array: chunks at its rim keep what lies outside; done chunks are compared.

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
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import digest_of_elements
from lazyio.atomic.journal import TwoResultsError
from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.dtypes import Shape
from lazyio.errors import TargetLockedError
from lazyio.regions import Region, box, box_shape, grid_shape
from lazyio.storage.base import ChunkWriter, EncodedChunk, PayloadPlace, Rewritable, TakesEncoded

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
class SharedArray:
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


class _Facts:
    """The facts of a target, told by what wraps it."""

    _target: Rewritable

    @property
    def shape(self) -> Shape:
        """Extents of the whole array, in elements."""
        return self._target.shape

    @property
    def chunk_shape(self) -> Shape:
        """Extents of its chunks."""
        return self._target.chunk_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self._target.dtype

    @property
    def fill_value(self) -> Any:
        """What a reader gets where nothing was written."""
        return self._target.fill_value

    @property
    def grid(self) -> Shape:
        """Chunks along each axis, by which they are numbered."""
        found: Shape = getattr(self._target, "grid", ()) or grid_shape(self.shape, self.chunk_shape)
        return found

    @property
    def engine(self) -> str:
        """How chunks get there."""
        return self._target.engine


class RegionTarget(_Facts):
    """Part of an existing array, which takes its own chunks' shares of the window.

    A chunk that the window covers goes to the array as it is. One that it cuts
    is read, overlaid and written once.
    """

    def __init__(
        self, target: Rewritable, window: Region, shared: SharedArray | None = None
    ) -> None:
        self._target = target
        self._window = window
        self._shared = shared

    @property
    def n_written(self) -> int:
        """Chunks that were encoded and stored."""
        return self._target.n_written

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk, with what is there around the window, and commit it."""
        if self._shared is None:
            _merge(self._target, self._window, index, chunk, workspace)
            return
        with self._shared.alone_at(index, self._target) as target:
            _merge(target, self._window, index, chunk, workspace)

    def finish(self) -> int:
        """Finish the array and return the bytes of all payloads written."""
        return self._target.finish()

    def chunk_writer(self) -> ChunkWriter | None:
        """Return what other processes write whole chunks with, ``None`` where they cannot."""
        target = self._target
        is_alone = self._shared is None and isinstance(target, TakesEncoded)
        return target.chunk_writer() if is_alone and isinstance(target, TakesEncoded) else None

    def place(self, chunk: EncodedChunk) -> PayloadPlace:
        """Return where a payload goes."""
        return self._encoded.place(chunk)

    def land(self, chunk: EncodedChunk, place: PayloadPlace, payload: Bytes | None) -> None:
        """Take note of a chunk that another process has encoded."""
        self._encoded.land(chunk, place, payload)

    @property
    def _encoded(self) -> TakesEncoded:
        return cast("TakesEncoded", self._target)


def _merge(
    target: Rewritable,
    window: Region,
    index: Sequence[int],
    chunk: npt.NDArray[Any],
    workspace: Workspace,
) -> None:
    """Write a chunk, with what is there around a window."""
    place = box(target.shape, target.chunk_shape, index)
    if chunk.shape == box_shape(place):
        target.write_chunk(index, chunk, workspace)
        return
    whole = target.read_chunk(index)
    # Counted from the start of the chunk, whatever part of it lies in the window.
    inside = tuple(
        slice(max(0, bounds.start - part.start), min(part.stop, bounds.stop) - part.start)
        for part, bounds in zip(place, window, strict=True)
    )
    whole[inside] = chunk
    target.write_chunk(index, whole, workspace)


class Comparable(Rewritable, Protocol):
    """A target that knows what becomes of elements by storing them."""

    def as_stored(self, index: Sequence[int], chunk: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a chunk's elements as they come back, which lossy codecs change."""


class ComparisonTarget(_Facts):
    """The chunks of an array, against which others are held."""

    n_written = 0
    is_read_back = True
    _target: Comparable

    def __init__(self, target: Comparable) -> None:
        self._target = target

    def read_chunk(self, index: Sequence[int]) -> npt.NDArray[Any]:
        """Return a chunk's elements, cut at the end of the array."""
        return self._target.read_chunk(index)

    def write_chunk(self, index: Sequence[int], chunk: npt.NDArray[Any], _: Workspace) -> None:
        """Compare a chunk with the one that is there; see :func:`require_equal`."""
        require_equal(self._target, index, chunk)

    def finish(self) -> int:
        """Return the bytes that were written, which are none."""
        return 0


def require_equal(target: Comparable, index: Sequence[int], chunk: npt.NDArray[Any]) -> None:
    """Refuse a chunk that is not the one that is there."""
    again = target.as_stored(index, chunk)
    if digest_of_elements(again) != digest_of_elements(target.read_chunk(index)):
        raise TwoResultsError.at(box(target.shape, target.chunk_shape, index))
