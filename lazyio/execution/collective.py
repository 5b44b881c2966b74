"""Blocks of all ranks of MPI, written by h5py's collective mode: each write is one of all of them.

libhdf5 encodes, and lets compressed chunks be written only so. All ranks take
part in every write, a rank that has no more blocks with nothing. Nobody writes
before all have their block, so that an error of any rank is one of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import h5py
import numpy as np
import numpy.typing as npt

from lazyio.errors import LazyioError
from lazyio.execution.dask_graphs import block_error
from lazyio.execution.ranks import Failure, Ranks
from lazyio.execution.workers import checked_block, converted
from lazyio.regions import Region


@dataclass(frozen=True, kw_only=True)
class OwnBlock:
    """A block that a rank computes."""

    array: da.Array
    """It, alone."""
    inside: Region
    """Where it lies in its array."""
    place: Region
    """Where it goes in the dataset."""


def write_together(
    ranks: Ranks,
    dataset: h5py.Dataset,
    blocks: Sequence[OwnBlock],
    convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    *,
    n_workers: int,
    on_done: Callable[[OwnBlock], object],
) -> int:
    """Write the blocks of this rank while others write theirs; return how many all have."""
    numbers = ranks.shared(len(blocks))
    for at in range(max(numbers)):
        block = blocks[at] if at < len(blocks) else None
        elements, failure = None, None
        try:
            if block is not None:
                elements = _computed(block, convert, dataset.name, n_workers)
        except BaseException as error:  # noqa: BLE001 - raised on all ranks
            error.add_note(f"on rank {ranks.rank} of {ranks.size}")
            failure = Failure.of(error)
        raise_first(ranks.shared(failure))
        _write(dataset, elements, block)
        if block is not None:
            on_done(block)
    return sum(numbers)


def raise_first(said: Sequence[Any]) -> None:
    """Raise the first error of those that ranks have told of, on all of them."""
    for one in said:
        if isinstance(one, Failure):
            raise one.error()


def _computed(
    block: OwnBlock,
    convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    key: str,
    n_workers: int,
) -> npt.NDArray[Any]:
    try:
        found: Any = block.array.compute(scheduler="threads", num_workers=n_workers)
    except LazyioError:
        raise
    except Exception as error:
        raise block_error(error, block.place) from error
    found = checked_block(found, block.inside, block.array.dtype)
    return np.ascontiguousarray(converted(convert, found, block.inside, key))


def _write(
    dataset: h5py.Dataset, elements: npt.NDArray[Any] | None, block: OwnBlock | None
) -> None:
    """Take part in one write of all ranks, with a block or with nothing."""
    mode = h5py.h5p.create(h5py.h5p.DATASET_XFER)
    mode.set_dxpl_mpio(h5py.h5fd.MPIO_COLLECTIVE)
    target = dataset.id.get_space()
    if elements is None or block is None:
        target.select_none()
        memory = h5py.h5s.create_simple((1,))
        memory.select_none()
        elements = np.empty(1, dataset.dtype)
    elif block.place:
        starts = tuple(part.start for part in block.place)
        target.select_hyperslab(starts, elements.shape)
        memory = h5py.h5s.create_simple(elements.shape)
    else:
        memory = h5py.h5s.create(h5py.h5s.SCALAR)
    dataset.id.write(memory, target, elements, dxpl=mode)
