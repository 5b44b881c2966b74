"""Datasets that every rank of MPI has open by way of MPI-IO, filled by h5py's collective mode.

A path needs none of this: there all ranks encode, and one has the file open, see
`lazyio.writing.ranks`. This is for programs that have such a file open anyway.
libhdf5 does the writing, so that nothing of it is old or new as a whole, and
there are no digests.

libhdf5 lets compressed chunks be written only by all ranks at once: all take part
in every write, a rank that has no more blocks with nothing. Nobody writes before
all have their block, so that an error of any rank is one of all.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import h5py
import numpy as np
import numpy.typing as npt
from dask.array.core import normalize_chunks

from lazyio.atomic.hdf5_digests import forget
from lazyio.dtypes import is_text, nbytes_of
from lazyio.errors import LazyioError, OptionError
from lazyio.execution.dask_graphs import block_error
from lazyio.execution.progress import Progress
from lazyio.execution.ranks import Failure, Own, Ranks, raise_first, ranks_of, sizes_of
from lazyio.execution.report import WriteReport
from lazyio.execution.run import Ran
from lazyio.execution.workers import checked_block, converted
from lazyio.libhdf5_calls import name_of
from lazyio.regions import Region, box_shape, cuts, n_touched
from lazyio.writing.hdf5_backend import path_of
from lazyio.writing.ranks import RankCall, require_apart, require_one_call
from lazyio.writing.request import RegionItem, Request
from lazyio.writing.run_options import OPEN_HANDLE, Outcome, report_on


@dataclass(frozen=True, kw_only=True)
class _OwnBlock:
    """A block that a rank computes."""

    array: da.Array
    """It, alone."""
    inside: Region
    """Where it lies in its array."""
    place: Region
    """Where it goes in the dataset."""


def is_parallel(target: Any) -> bool:
    """Return whether a target is open by way of MPI-IO."""
    is_handle = isinstance(target, (h5py.Group, h5py.Dataset))
    return is_handle and bool(target) and target.file.driver == "mpio"


def write_collectively(call: RankCall) -> WriteReport:
    """Carry a call out on this rank, and return what all of them return.

    ``call.request_of`` plans, on every rank, what this one gives.
    """
    began = time.perf_counter()
    with ranks_of(call.given["comm"]) as ranks:
        _agreed(ranks, lambda: _require_same_ranks(ranks, call.given[call.target].file))
        is_one = call.is_one(ranks)
        own, checked = call.said(ranks, is_one=is_one)
        own = Failure.of(own) if isinstance(own, BaseException) else own
        require_one_call(ranks.shared(own), is_one=is_one)
        items = _agreed(ranks, lambda: _items(call.request_of(checked)))
        if not is_one:
            _require_apart(ranks, items)
        parts = [_own_blocks(item, ranks, is_one=is_one) for item in items]
        n_blocks, made = 0, []
        total = sum(_nbytes(blocks) for blocks in parts)
        wanted = call.given["progress"] if ranks.is_first else False
        with Progress(wanted, n_total=sum(map(len, parts)), total_nbytes=total) as progress:
            for item, blocks in zip(items, parts, strict=True):
                n, outcome = _filled(ranks, item, blocks, progress)
                n_blocks += n
                made.append(outcome)
        each = ranks.shared(made)
    outcomes = [_together(of, is_one=is_one) for of in zip(*each, strict=True)]
    path = str(path_of(call.given[call.target]))
    ran = Ran(n_blocks=n_blocks)
    return report_on(path, outcomes, ran=ran, began=began, advice=(OPEN_HANDLE,))


def _agreed(ranks: Ranks, work: Callable[[], Any]) -> Any:
    """Return what a rank comes to alone, once all have come to something, or raise what failed."""
    found, failure = None, None
    try:
        found = work()
    except BaseException as error:  # noqa: BLE001 - raised on all ranks
        error.add_note(f"on rank {ranks.rank} of {ranks.size}")
        failure = Failure.of(error)
    raise_first(ranks.shared(failure))
    return found


def _require_same_ranks(ranks: Ranks, file: h5py.File) -> None:
    """Refuse a file that others have open, too: they would be waited for in every write."""
    comm, _ = file.id.get_access_plist().get_fapl_mpio()
    try:
        if not ranks.are_of(comm):
            msg = (
                f"comm=: {file.filename} is open on {comm.Get_size()} ranks, and this call is made "
                f"by {ranks.size}; give the communicator with which it was opened"
            )
            raise OptionError(msg)
    finally:
        comm.Free()


def _items(request: Request[Any]) -> Sequence[RegionItem]:
    """Return the parts of datasets that a rank writes, which libhdf5 can write together."""
    for item in request.items:
        if not isinstance(item, RegionItem):
            msg = (
                f"{item.arranged.key!r} is to be made in a file that all ranks have open; make it "
                "on all of them with create_dataset, and give region= (... is all of it)"
            )
            raise OptionError(msg)
        if is_text(item.array.dtype) or item.array.dtype.hasobject:
            msg = (
                f"{item.arranged.key!r} holds text of any length, which HDF5 writes with one "
                "process only; give text of fixed length"
            )
            raise OptionError(msg)
        if item.appends or item.window.shape != item.seen:
            msg = (
                f"{item.arranged.key!r} would grow from {item.seen} to {item.window.shape}; call "
                "its resize on all ranks first, and give region="
            )
            raise OptionError(msg)
    return request.items


def _require_apart(ranks: Ranks, items: Sequence[RegionItem]) -> None:
    """Refuse parts of two ranks that overlap."""
    said = ranks.shared([(item.arranged.key, item.window.region) for item in items])
    for each in zip(*said, strict=True):
        windows = {
            rank: region
            for rank, (_, region) in enumerate(each)
            if all(part.start < part.stop for part in region)
        }
        require_apart(each[0][0], windows)


def _own_blocks(item: RegionItem, ranks: Ranks, *, is_one: bool) -> list[_OwnBlock]:
    """Return the blocks that a rank computes: neighbours, of an array that all of them have."""
    arranged, _ = item.to_fill()
    given, window = arranged.given, item.window
    if given.source is None and given.array is not None:
        edges = sizes_of(given.array.chunks)
    else:
        edges = normalize_chunks(arranged.plan.block_shape, arranged.plan.shape)
    array = Own(source=given.source, array=given.array).blocks(edges)
    regions = [region for region in cuts(edges) if all(part.stop > part.start for part in region)]
    if is_one:
        n = len(regions)
        first, last = (n * at // ranks.size for at in (ranks.rank, ranks.rank + 1))
        regions = regions[first:last]
    corner = [part.start for part in window.region]
    return [
        _OwnBlock(array=array[region], inside=region, place=_moved(region, corner))
        for region in regions
    ]


def _moved(region: Region, corner: Sequence[int]) -> Region:
    return tuple(
        slice(part.start + start, part.stop + start)
        for part, start in zip(region, corner, strict=True)
    )


def _nbytes(blocks: Sequence[_OwnBlock]) -> int:
    return sum(nbytes_of(box_shape(one.place), one.array.dtype) for one in blocks)


def _filled(
    ranks: Ranks, item: RegionItem, blocks: Sequence[_OwnBlock], progress: Progress
) -> tuple[int, Outcome]:
    """Write one part while others write theirs; return how many blocks all have, and its own."""
    dataset, arranged = item.array, item.arranged
    # Others may be at work on the file: its digests are not ours to renew.
    forget(dataset.file, name_of(dataset))
    before = dataset.id.get_storage_size()
    n_blocks = _write_together(
        ranks,
        dataset,
        blocks,
        arranged.conversion(np.dtype(dataset.dtype), dataset.fillvalue),
        n_workers=arranged.plan.workers,
        on_done=lambda one: progress.advance(arranged.key, one.place, _nbytes([one])),
    )
    outcome = Outcome(
        key=arranged.key,
        plan=arranged.plan,
        nbytes=_nbytes(blocks),
        stored_nbytes=max(0, dataset.id.get_storage_size() - before),
        n_chunks=n_touched(item.window.region, item.unit),
        engine="libhdf5",
    )
    return n_blocks, outcome


def _together(outcomes: Sequence[Outcome], *, is_one: bool) -> Outcome:
    """Return what has become of an array, of what each rank tells; the storage is that of all."""
    n_chunks = [one.n_chunks for one in outcomes]
    return replace(
        outcomes[0],
        nbytes=sum(one.nbytes for one in outcomes),
        n_chunks=n_chunks[0] if is_one else sum(n_chunks),
    )


def _write_together(
    ranks: Ranks,
    dataset: h5py.Dataset,
    blocks: Sequence[_OwnBlock],
    convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    *,
    n_workers: int,
    on_done: Callable[[_OwnBlock], object],
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


def _computed(
    block: _OwnBlock,
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
    dataset: h5py.Dataset, elements: npt.NDArray[Any] | None, block: _OwnBlock | None
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
