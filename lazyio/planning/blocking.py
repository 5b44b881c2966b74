"""How an array is cut into blocks: along chunks, its source, the blocks it has, or as it comes."""

import math
from dataclasses import dataclass, replace

from lazyio.dtypes import Shape, nbytes_of
from lazyio.planning.advice import block_reason
from lazyio.planning.blocks import align_blocks, fill_blocks, read_amplification, run_amplification
from lazyio.planning.boundaries import Edges, common_step, divides_steps
from lazyio.planning.budget import Budget, Footprint, count_of
from lazyio.planning.layout import Layout
from lazyio.planning.request import ArraySpec, CheckedRequest
from lazyio.regions import n_boxes

MAX_AMPLIFICATION = 3.0
"""Above it, reading once and passing parts of chunks through scratch is cheaper."""
_LEAST_TASK_NBYTES = 16 * 2**20
_LEAST_WANTED_NBYTES = 2**20
_TASKS_PER_WORKER = 4
_LARGEST_SLAB_NBYTES = 4 * 2**20
"""Of a stream, if of more than one row of chunks: it is encoded while it is in the cache."""
_LEAST_WAITING = 2
"""Chunks that wait at least: one that is laid over, and one on its way to scratch."""
_WAITING_NBYTES = 1024
"""What is kept beside the elements of a chunk of which parts wait."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is written whole by one task, and what writing it holds beside the block."""

    shape: Shape
    """Extents of a shard, or of a chunk where there are no shards."""
    beside: Footprint
    """What a worker holds beside its block."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How blocks are cut: what is planned, and what is held of it at once."""

    block: Shape
    """Extents of a planned block, of whole units."""
    held: int
    """Elements of the largest block that stands in memory."""
    reason: str
    """Why, for the printed table."""
    what: str = ""
    """What is held, in words, where that is no block."""
    amplification: float = 1.0
    """Elements that the source decodes, over elements wanted."""
    edges: Edges | None = None
    """Blocks that are kept as the array has them."""
    read_shape: Shape | None = None
    """Blocks that are read or computed, where they cut across units."""
    n_reads: int | None = None
    """Number of those."""
    waiting_nbytes: int = 0
    """Bytes that parts of chunks need at least while they wait."""


def cut_blocks(given: CheckedRequest, unit: Unit, budget: Budget) -> Cut:
    """Return how the array is cut into blocks that the budget has room for."""
    facts = given.facts
    if facts.one_pass is not None:
        axis = facts.one_pass.axis
        return _assembled(facts, unit) if axis is None else _slabs(facts, axis, unit, budget)
    room = _room(facts, unit, budget)
    if given.block is not None:
        return Cut(
            block=given.block,
            held=math.prod(given.block),
            reason="block as given",
            amplification=_amplification(facts, given.block),
        )
    if facts.edges is not None:
        return _cut_of_graph(facts.edges, facts, unit, min(room, wanted_block(facts, budget)))
    solved = _solved_block(facts, unit.shape, budget, room)
    amplification = _amplification(facts, solved)
    if amplification > MAX_AMPLIFICATION:
        read_shape = _read_blocks(facts, budget, unit)
        if read_shape is not None:
            return Cut(
                block=solved,
                held=max(_within(unit.shape, facts.shape), math.prod(read_shape)),
                read_shape=read_shape,
                n_reads=n_boxes(facts.shape, read_shape),
                reason="blocks of whole chunks would read the source several times over",
            )
    return Cut(
        block=solved,
        held=math.prod(solved),
        amplification=amplification,
        reason=block_reason(facts, solved),
    )


def gather_nbytes(given: CheckedRequest, layout: Layout, cut: Cut, free_nbytes: int) -> int:
    """Return the bytes that waiting parts of chunks may take of those that are free.

    Half of them, so that keeping track of the parts has room too, and no more
    than all chunks take. Where nothing else is done, all but what the allocator keeps.
    """
    if cut.waiting_nbytes:
        return free_nbytes * 8 // 9
    # Blocks that suit a new array may cut across the chunks of one that is there.
    if cut.read_shape is None and not (given.facts.is_part and cut.edges is not None):
        return 0
    n_chunks = n_boxes(layout.shape, layout.chunk_shape)
    most = nbytes_of(layout.shape, given.facts.dtype) + n_chunks * _WAITING_NBYTES
    return max(0, min(free_nbytes // 2, most))


def n_tasks(facts: ArraySpec, cut: Cut) -> int:
    """Return the number of blocks that are read or computed."""
    if cut.n_reads is not None:
        return cut.n_reads
    if cut.edges is not None:
        return math.prod(map(len, cut.edges))
    return n_boxes(facts.shape, cut.block)


def wanted_block(facts: ArraySpec, budget: Budget) -> int:
    """Return the elements of a block that is neither too dear nor too coarse.

    A task costs a quarter of a millisecond, so blocks of a large array are at
    least 16 MiB; few large blocks leave workers idle at the end, so there are
    at least four per worker, which comes first for small arrays. A block fills
    at least half of what is wanted: twice the least is asked for.
    """
    per_worker = nbytes_of(facts.shape, facts.dtype) // budget.workers
    wanted = max(
        _LEAST_WANTED_NBYTES,
        min(2 * _LEAST_TASK_NBYTES, per_worker // _TASKS_PER_WORKER),
        per_worker // (2 * _TASKS_PER_WORKER),
    )
    return wanted // facts.itemsize


def _room(facts: ArraySpec, unit: Unit, budget: Budget) -> int:
    """Return the elements of the largest block that fits."""
    return budget.room(Footprint(block=facts.itemsize), beside=unit.beside)


def _slabs(facts: ArraySpec, axis: int, unit: Unit, budget: Budget) -> Cut:
    """Return how a stream is cut: into whole rows of chunks."""
    edge = unit.shape[axis]
    row = edge * math.prod(max(1, n) for at, n in enumerate(facts.shape) if at != axis)
    n_rows = budget.room(Footprint(block=row * facts.itemsize), beside=unit.beside)
    n_rows = max(1, min(n_rows, _LARGEST_SLAB_NBYTES // (row * facts.itemsize)))
    slab = (*facts.shape[:axis], n_rows * edge, *facts.shape[axis + 1 :])
    return Cut(
        block=tuple(max(1, extent) for extent in slab),
        held=n_rows * row,
        what=(
            f"{count_of(edge, 'element')} of the stream, which make one row of chunks {unit.shape},"
        ),
        reason="blocks are whole rows of chunks, as they come",
    )


def _assembled(facts: ArraySpec, unit: Unit) -> Cut:
    """Return how blocks that lie anywhere are cut: into chunks that wait until they are whole."""
    held = math.prod(unit.shape)
    return Cut(
        block=unit.shape,
        held=held,
        what=f"chunks of {unit.shape} {facts.dtype} that are assembled",
        waiting_nbytes=_LEAST_WAITING * held * facts.itemsize * 9 // 8,
        reason="each chunk is put together in memory, or in scratch, and stored if any part of "
        "it comes",
    )


def _cut_of_graph(edges: Edges, facts: ArraySpec, unit: Unit, room: int) -> Cut:
    """Return how the blocks of a graph are taken: as they are, or gathered to units."""
    largest = tuple(max((1, *sizes)) for sizes in edges)
    steps = tuple(map(common_step, edges, facts.shape))
    held = math.prod(max(sizes, default=0) for sizes in edges)
    if divides_steps(unit.shape, steps, facts.shape):
        return Cut(
            block=_round_up(largest, unit.shape, facts.shape),
            held=held,
            edges=edges,
            reason="blocks are the array's own, each of whole chunks",
        )
    return Cut(
        block=fill_blocks(facts.shape, unit.shape, room),
        held=max(held, _within(unit.shape, facts.shape)) if unit.beside.shard else held,
        read_shape=largest,
        n_reads=math.prod(map(len, edges)),
        reason="the array's own blocks cut across chunks, so it is re-blocked",
    )


def _solved_block(facts: ArraySpec, unit: Shape, budget: Budget, room: int) -> Shape:
    wanted = min(room, wanted_block(facts, budget))
    if facts.source_chunk_shape is None:
        return fill_blocks(facts.shape, unit, wanted)
    while True:
        block = align_blocks(
            facts.shape,
            tuple(min(edge, max(1, end)) for edge, end in zip(unit, facts.shape, strict=True)),
            facts.source_chunk_shape,
            wanted,
            facts.itemsize,
        )
        amplification = read_amplification(facts.shape, block, facts.source_chunk_shape)
        if amplification == 1.0 or wanted >= room:
            return block
        # Larger blocks than tasks need are worth it where they save reading twice.
        wanted = min(2 * wanted, room)


def _read_blocks(facts: ArraySpec, budget: Budget, unit: Unit) -> Shape | None:
    """Return blocks of whole source chunks, or rows, for a pass through scratch.

    Half of the memory is kept for the parts of chunks that wait, where the
    other half holds a block. ``None`` where not even all of it does.
    """
    source = facts.source_chunk_shape or (1,) * len(facts.shape)
    source = tuple(min(u, max(1, n)) for u, n in zip(source, facts.shape, strict=True))
    for limit_nbytes in (budget.limit_nbytes // 2, budget.limit_nbytes):
        room = _room(facts, unit, replace(budget, limit_nbytes=limit_nbytes))
        if math.prod(source) <= room:
            return fill_blocks(facts.shape, source, min(room, wanted_block(facts, budget)))
    return None


def _amplification(facts: ArraySpec, block: Shape) -> float:
    if facts.source_chunk_shape is not None:
        return read_amplification(facts.shape, block, facts.source_chunk_shape)
    if facts.in_rows:
        return run_amplification(facts.shape, block, facts.dtype.itemsize)
    return 1.0


def _within(unit: Shape, shape: Shape) -> int:
    """Return the elements of a unit, cut at the end of the array."""
    return math.prod(min(edge, max(1, end)) for edge, end in zip(unit, shape, strict=True))


def _round_up(largest: Shape, unit: Shape, shape: Shape) -> Shape:
    return tuple(
        min(-(-edge // step) * step, max(1, end))
        for edge, step, end in zip(largest, unit, shape, strict=True)
    )
