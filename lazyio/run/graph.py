"""Blocks that dask graphs compute: each goes to its consumer once, whoever computes it.

Several arrays are one graph, so that what they share is computed once.
"""

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.utils import ensure_dict

from lazyio.codecs.workspace import Workspace
from lazyio.errors import BlockError, OptionError, PlanError
from lazyio.grid import Region, cuts, format_region

Consume = Callable[[Region, npt.NDArray[Any], Workspace], None]
Done = Callable[[Region], object]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The blocks of one array, and who takes them."""

    array: da.Array
    """With known block sizes."""
    consume: Consume
    """Given a region, its block and a thread's own workspace."""
    on_done: Done
    """Given each region after it was consumed, on the thread that waits."""
    is_kept: Callable[[Region], bool] | None = None
    """Whether a block is not wanted, because it is there already."""

    def regions(self) -> dict[tuple[int, ...], Region]:
        """Return where each block lies that is wanted, by its position in the grid of blocks."""
        places = zip(np.ndindex(*self.array.numblocks), cuts(self.array.chunks), strict=True)
        return {at: region for at, region in places if not (self.is_kept and self.is_kept(region))}

    def check(self, block: Any, region: Region) -> npt.NDArray[Any]:
        """Return a block that is what the array promised, so that nothing is broadcast.

        Masked arrays stay masked: what their gaps are filled with is for the
        consumer to say.
        """
        array = self.array
        wanted = tuple(part.stop - part.start for part in region)
        if isinstance(block, np.generic) or (not wanted and np.isscalar(block)):
            block = _as_element(np.asarray(block), array.dtype)
        is_plain = isinstance(block, np.ndarray)
        if is_plain and block.shape == wanted and block.dtype == array.dtype:
            is_masked = isinstance(block, np.ma.MaskedArray)
            checked: npt.NDArray[Any] = block if is_masked else np.asarray(block)
            return checked
        got = f"{block.shape} {block.dtype}" if is_plain else f"a {type(block).__name__}"
        msg = (
            f"block {format_region(region)} is {got}, the array says {wanted} {array.dtype}; "
            "let the function return that, or give map_blocks the right dtype= and chunks="
        )
        raise BlockError(msg)


def _as_element(block: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a scalar as the element that it was: numpy's own have neither order nor padding."""
    is_swapped = block.dtype == dtype.newbyteorder("=")
    is_shorter = block.dtype.kind == dtype.kind and dtype.kind in "SU"
    is_same = is_swapped or (is_shorter and block.dtype.itemsize <= dtype.itemsize)
    return block.astype(dtype) if is_same else block


def as_dask_array(collection: Any) -> da.Array:
    """Return any dask collection of blocks as dask's own array."""
    if not isinstance(collection, da.Array):
        chunks, dtype = getattr(collection, "chunks", None), getattr(collection, "dtype", None)
        keys = collection.__dask_keys__()
        first = keys
        while isinstance(first, list) and first:
            first = first[0]
        if not isinstance(chunks, tuple) or dtype is None or not isinstance(first, tuple):
            kind = type(collection).__name__
            msg = (
                f"a dask {kind} is not an array; convert it first, as with "
                ".to_dask_array(lengths=True)"
            )
            raise OptionError(msg)
        graph = collection.__dask_graph__()
        if first[0] not in getattr(graph, "layers", ()):
            graph = ensure_dict(graph)
        meta = getattr(collection, "_meta", None)
        known = {} if meta is None else {"meta": meta}
        collection = da.Array(graph, first[0], chunks, dtype=np.dtype(dtype), **known)
    if any(math.isnan(size) for sizes in collection.chunks for size in sizes):
        msg = (
            f"the array's chunks {collection.chunks} are not known (NaN); call "
            ".compute_chunk_sizes() first, which computes it once"
        )
        raise PlanError(msg)
    found: da.Array = collection
    return found


def block_error(error: BaseException, region: Region | None) -> BlockError:
    """Return the error of a block that could not be computed, naming its region."""
    where = "(its place is not known)" if region is None else format_region(region)
    msg = f"computing block {where} failed: {type(error).__name__}: {error}"
    return BlockError(msg)


def failed_key(error: BaseException) -> Any:
    """Return the key of the task that raised, ``None`` where it is not known.

    dask does not say it, but a task runs in a frame that has its key, and of
    one in another process the loop knows that waits for it. The outermost
    counts: a task may compute graphs of its own.
    """
    waited_for = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "execute_task" and "key" in frame.f_locals:
            return frame.f_locals["key"]
        if frame.f_code.co_name == "get_async" and waited_for is None:
            waited_for = frame.f_locals.get("key")
    return waited_for
