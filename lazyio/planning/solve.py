"""From facts and wishes to a plan: the order in which things are decided.

1. What the user fixed is taken as it is, or refused with the limit that would
   do. Nothing else raises.
2. Workers, then the chunk, are lowered until a block of one chunk fits.
3. The block fills a worker's share, along the source's chunks where it has any.
"""

import math
from dataclasses import dataclass, replace

from lazyio.errors import OptionError, PlanError
from lazyio.grid import n_boxes
from lazyio.planning.blocks import align_blocks, fill_blocks
from lazyio.planning.boundaries import (
    Edges,
    chunk_shape_within,
    common_step,
    divides_steps,
)
from lazyio.planning.budget import Budget
from lazyio.planning.facts import Facts, Wishes
from lazyio.planning.hdmf_plan import solve_hdmf
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Plan
from lazyio.planning.reads import read_amplification, run_amplification
from lazyio.planning.remarks import advice_on, block_reason, chunk_reason
from lazyio.planning.solver import solve_chunk_shape
from lazyio.planning.wishes import MAX_CHUNK_NBYTES, chunk_wishes
from lazyio.sizes import format_size
from lazyio.spec import Shape, nbytes_of

DEFAULT_LIMIT = 2**30
DEFAULT_CHUNK_NBYTES = {"hdf5": 2**20, "zarr": 4 * 2**20}
MAX_AMPLIFICATION = 3.0
"""Above it, reading once and passing parts of chunks through scratch is cheaper."""
_LEAST_TASK_NBYTES = 16 * 2**20
_LEAST_WANTED_NBYTES = 2**20
_TASKS_PER_WORKER = 4
_LEAST_CHUNK_NBYTES = 64 * 2**10


def solve(facts: Facts, wishes: Wishes) -> Plan:
    """Return the plan for an array.

    Parameters
    ----------
    facts : Facts
        What is known of the array and of where it comes from.
    wishes : Wishes
        What the user asked for.

    Returns
    -------
    Plan
        With ``peak_nbytes <= memory_limit``.

    Raises
    ------
    PlanError
        When what the user fixed does not tile, does not fit the memory limit
        or is over 4 GiB; the message names what would do.
    OptionError
        When ``chunks`` is none of the forms it may have.

    Examples
    --------
    >>> import numpy as np
    >>> facts = Facts(shape=(20000, 5000), dtype=np.dtype("int32"))
    >>> wishes = Wishes(chunks=(1000, 250), block_shape=(10000, 2500), workers=2)
    >>> solve(facts, wishes).n_blocks
    4
    """
    fixed = chunk_wishes(wishes.chunks, facts, wishes.dims)
    if wishes.strategy == "hdmf":
        return solve_hdmf(facts, wishes, fixed)
    block = wishes.block_shape
    if block is not None:
        # Blocks that were asked for, whatever blocks the array has now.
        facts = replace(facts, edges=None)
    elif isinstance(wishes.chunks, Plan) and facts.edges is None:
        block = wishes.chunks.block_shape if wishes.chunks.shape == facts.shape else None
    if block is not None:
        if len(block) != len(facts.shape):
            msg = (
                f"block_shape={block} has {len(block)} axes, the array's shape {facts.shape} has "
                f"{len(facts.shape)}; give one extent per axis"
            )
            raise OptionError(msg)
        block = tuple(min(b, max(1, n)) for b, n in zip(block, facts.shape, strict=True))
        # Refuses a block that a fixed chunk does not tile.
        whole = tuple(wish or 1 for wish in fixed)
        Layout(shape=facts.shape, chunk_shape=whole, block_shape=block)
    budget = _budget(facts, wishes, fixed, block)
    chunk = _chunk_shape(facts, wishes, fixed, block, budget)
    return _with_block(facts, wishes, fixed, block, chunk, budget)


def _steps(facts: Facts, block: Shape | None) -> Shape | None:
    """Return what chunk edges must divide to stay inside one block."""
    if block is not None:
        return tuple(min(b, max(1, n)) for b, n in zip(block, facts.shape, strict=True))
    if facts.edges is not None:
        return tuple(map(common_step, facts.edges, facts.shape))
    return None


def _source_chunk_nbytes(facts: Facts) -> int:
    if facts.source_chunk_shape is None:
        return 0
    return math.prod(facts.source_chunk_shape) * facts.itemsize


def _least_block_nbytes(facts: Facts, fixed: list[int | None], block: Shape | None) -> int:
    """Return the bytes of the smallest block that what is fixed allows."""
    itemsize = facts.itemsize
    if block is not None:
        return math.prod(block) * itemsize
    least = math.prod(wish or 1 for wish in fixed) * itemsize
    if facts.edges is not None:
        least = max(least, math.prod(max(s, default=0) for s in facts.edges) * itemsize)
    return least


def _least_chunk_nbytes(facts: Facts, fixed: list[int | None], block: Shape | None) -> int:
    """Return the bytes of the smallest chunk that is worth having beside a given block."""
    least = math.prod(wish or 1 for wish in fixed) * max(1, facts.dtype.itemsize)
    if all(wish is not None for wish in fixed) or (block is None and facts.edges is None):
        return least
    held = _least_block_nbytes(facts, fixed, block)
    return max(least, min(_LEAST_CHUNK_NBYTES, held))


def _budget(facts: Facts, wishes: Wishes, fixed: list[int | None], block: Shape | None) -> Budget:
    """Return the budget with as many workers as what is fixed leaves room for."""
    limit = wishes.memory_limit or DEFAULT_LIMIT
    least = {
        "block_nbytes": _least_block_nbytes(facts, fixed, block),
        "chunk_nbytes": _least_chunk_nbytes(facts, fixed, block),
        "source_chunk_nbytes": _source_chunk_nbytes(facts),
    }
    each = Budget(limit_nbytes=limit, workers=1).peak_nbytes(**least)
    workers = wishes.workers
    if not wishes.workers_fixed:
        workers = max(1, min(workers, limit // max(1, each)))
    budget = Budget(limit_nbytes=limit, workers=workers)
    needed = budget.peak_nbytes(**least)
    if needed > limit:
        what = _what_is_fixed(facts, fixed, block)
        msg = (
            f"memory_limit={format_size(limit)} ({limit} bytes) is too small: {what} with "
            f"{workers} worker{'s' if workers > 1 else ''} needs {needed} bytes "
            f"({format_size(needed)}); the smallest limit that would do is "
            f"memory_limit={each if not wishes.workers_fixed else needed}"
        )
        raise PlanError(msg)
    return budget


def _what_is_fixed(facts: Facts, fixed: list[int | None], block: Shape | None) -> str:
    if block is not None:
        return f"a block of {block} {facts.dtype}"
    if facts.edges is not None:
        largest = tuple(max(sizes, default=0) for sizes in facts.edges)
        return f"the array's own largest block of {largest} {facts.dtype}"
    chunk = tuple(wish or 1 for wish in fixed)
    if facts.source_chunk_shape is not None:
        return (
            f"decoding the source's chunk of {facts.source_chunk_shape} for a chunk of at "
            f"least {chunk} {facts.dtype}"
        )
    return f"a chunk of at least {chunk} {facts.dtype}"


def _chunk_shape(
    facts: Facts,
    wishes: Wishes,
    fixed: list[int | None],
    block: Shape | None,
    budget: Budget,
) -> Shape:
    """Return the chunk: what is fixed, and the solver's choice for the rest."""
    if all(wish is not None for wish in fixed):
        chunk = tuple(wish or 1 for wish in fixed)
        return _checked_limit(chunk, facts, wishes)
    lower, upper = wishes.chunk_nbytes or (1, DEFAULT_CHUNK_NBYTES[wishes.format])
    source_chunk_nbytes = _source_chunk_nbytes(facts)
    if block is not None or facts.edges is not None:
        # The block stands; its chunks have what is left beside it.
        held = _least_block_nbytes(facts, fixed, block)
        room = budget.chunk_room_beside(block_nbytes=held, source_chunk_nbytes=source_chunk_nbytes)
        room = max(room, _least_chunk_nbytes(facts, fixed, block))
    else:
        room = budget.chunk_room_nbytes(
            itemsize=facts.dtype.itemsize,
            held_itemsize=facts.itemsize,
            source_chunk_nbytes=source_chunk_nbytes,
        )
    upper = min(upper, max(1, room), MAX_CHUNK_NBYTES)
    itemsize = facts.dtype.itemsize
    steps = _steps(facts, block)
    within = None
    if steps is not None:
        # Small chunks inside a block that was asked for, and whole small blocks.
        own = math.prod(max((1, *sizes)) for sizes in facts.edges or ()) * itemsize
        least = 1 if block is not None else max(lower, min(_LEAST_CHUNK_NBYTES, own))
        within = chunk_shape_within(steps, facts.shape, itemsize, upper, fixed, least_nbytes=least)
    solved = within or solve_chunk_shape(facts.shape, itemsize, upper, fixed)
    return _checked_limit(solved, facts, wishes)


def _checked_limit(chunk: Shape, facts: Facts, wishes: Wishes) -> Shape:
    nbytes = nbytes_of(chunk, facts.dtype)
    if wishes.chunk_nbytes and nbytes > wishes.chunk_nbytes[1] and math.prod(chunk) > 1:
        msg = (
            f"a chunk of {chunk} {facts.dtype} is {nbytes} bytes, over chunk_nbytes="
            f"{wishes.chunk_nbytes[1]}; fix fewer or smaller extents, or raise chunk_nbytes"
        )
        raise PlanError(msg)
    return chunk


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """How blocks are cut: what is planned, and what is held of it at once."""

    block: Shape
    """Extents of a planned block, of whole chunks."""
    held: int
    """Elements of the largest block that stands in memory."""
    reason: str
    """Why, for the printed table."""
    amplification: float = 1.0
    """Elements that the source decodes, over elements wanted."""
    edges: Edges | None = None
    """Blocks that are kept as the array has them."""
    read_shape: Shape | None = None
    """Blocks that are read or computed, where they cut across chunks."""


def _with_block(
    facts: Facts,
    wishes: Wishes,
    fixed: list[int | None],
    block: Shape | None,
    chunk: Shape,
    budget: Budget,
) -> Plan:
    """Return the plan: the block that suits chunk, source and budget."""
    sizes = {
        "chunk_nbytes": nbytes_of(chunk, facts.dtype),
        "source_chunk_nbytes": _source_chunk_nbytes(facts),
    }
    room = budget.room_nbytes(**sizes) // facts.itemsize
    cut = _cut(facts, block, chunk, budget, room)
    peak = budget.peak_nbytes(block_nbytes=cut.held * facts.itemsize, **sizes)
    if peak > budget.limit_nbytes and not wishes.workers_fixed and budget.workers > 1:
        fewer = Budget(limit_nbytes=budget.limit_nbytes, workers=budget.workers - 1)
        return _with_block(facts, wishes, fixed, block, chunk, fewer)
    if peak > budget.limit_nbytes:
        msg = (
            f"memory_limit={format_size(budget.limit_nbytes)} ({budget.limit_nbytes} bytes) is "
            f"too small for blocks of {format_size(cut.held * facts.itemsize)} with "
            f"{budget.workers} workers; the smallest limit that would do is memory_limit={peak}"
        )
        raise PlanError(msg)
    n_tasks = _n_tasks(facts, cut)
    if n_tasks < budget.workers and not wishes.workers_fixed and budget.workers > 1:
        # More workers than tasks would only be counted in vain.
        fewer = Budget(limit_nbytes=budget.limit_nbytes, workers=max(1, n_tasks))
        return _with_block(facts, wishes, fixed, block, chunk, fewer)
    default_nbytes = DEFAULT_CHUNK_NBYTES[wishes.format]
    # Half of what is left, so that keeping track of the parts has room too.
    gather_nbytes = 0 if cut.read_shape is None else (budget.limit_nbytes - peak) // 2
    return Plan(
        layout=Layout(shape=facts.shape, chunk_shape=chunk, block_shape=cut.block),
        dtype=facts.dtype,
        workers=budget.workers,
        memory_limit=budget.limit_nbytes,
        peak_nbytes=peak + gather_nbytes,
        gather_nbytes=gather_nbytes,
        read_amplification=cut.amplification,
        advice=advice_on(facts, fixed, chunk, cut.read_shape),
        edges=cut.edges,
        source_chunk_shape=facts.source_chunk_shape,
        read_shape=cut.read_shape,
        n_reads=_n_reads(facts, cut.read_shape),
        is_graph=facts.edges is not None,
        reasons=(chunk_reason(wishes, fixed, facts, default_nbytes), cut.reason),
    )


def _cut(facts: Facts, block: Shape | None, chunk: Shape, budget: Budget, room: int) -> _Cut:
    """Return how the array is cut into blocks of at most ``room`` elements."""
    if facts.edges is not None and block is None:
        return _cut_of_graph(facts.edges, facts, chunk, budget, room)
    if block is not None:
        amplification = _amplification(facts, block)
        held = math.prod(block)
        return _Cut(block=block, held=held, reason="block as given", amplification=amplification)
    solved = _solved_block(facts, chunk, budget, room)
    amplification = _amplification(facts, solved)
    if amplification > MAX_AMPLIFICATION:
        read_shape = _read_blocks(facts, budget, chunk)
        if read_shape is not None:
            return _Cut(
                block=solved,
                held=max(math.prod(chunk), math.prod(read_shape)),
                read_shape=read_shape,
                reason="blocks of whole chunks would read the source several times over",
            )
    return _Cut(
        block=solved,
        held=math.prod(solved),
        amplification=amplification,
        reason=block_reason(facts, solved),
    )


def _cut_of_graph(edges: Edges, facts: Facts, chunk: Shape, budget: Budget, room: int) -> _Cut:
    """Return how the blocks of a graph are taken: as they are, or gathered to chunks."""
    largest = tuple(max((1, *sizes)) for sizes in edges)
    steps = tuple(map(common_step, edges, facts.shape))
    held = math.prod(max(sizes, default=0) for sizes in edges)
    if divides_steps(chunk, steps, facts.shape):
        return _Cut(
            block=_round_up(largest, chunk, facts.shape),
            held=held,
            edges=edges,
            reason="blocks are the array's own, each of whole chunks",
        )
    return _Cut(
        block=fill_blocks(facts.shape, chunk, min(room, _wanted(facts, budget))),
        held=held,
        read_shape=largest,
        reason="the array's own blocks cut across chunks, so it is re-blocked",
    )


def _n_tasks(facts: Facts, cut: _Cut) -> int:
    """Return the number of blocks that are read or computed."""
    n_reads = _n_reads(facts, cut.read_shape)
    if n_reads is not None:
        return n_reads
    if cut.edges is not None:
        return math.prod(map(len, cut.edges))
    return n_boxes(facts.shape, cut.block)


def _n_reads(facts: Facts, read_shape: Shape | None) -> int | None:
    """Return the number of tasks where they are not the plan's blocks."""
    if read_shape is None:
        return None
    if facts.edges is not None:
        return math.prod(map(len, facts.edges))
    return n_boxes(facts.shape, read_shape)


def _wanted(facts: Facts, budget: Budget) -> int:
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


def _solved_block(facts: Facts, chunk: Shape, budget: Budget, room: int) -> Shape:
    wanted = min(room, _wanted(facts, budget))
    if facts.source_chunk_shape is None:
        return fill_blocks(facts.shape, chunk, wanted)
    itemsize = facts.itemsize
    while True:
        block = align_blocks(facts.shape, chunk, facts.source_chunk_shape, wanted, itemsize)
        amplification = read_amplification(facts.shape, block, facts.source_chunk_shape)
        if amplification == 1.0 or wanted >= room:
            return block
        # Larger blocks than tasks need are worth it where they save reading twice.
        wanted = min(2 * wanted, room)


def _read_blocks(facts: Facts, budget: Budget, chunk: Shape) -> Shape | None:
    """Return blocks of whole source chunks, or rows, for a pass through scratch.

    Half of the memory is kept for the parts of chunks that wait, where the
    other half holds a block. ``None`` where not even all of it does.
    """
    unit = facts.source_chunk_shape or (1,) * len(facts.shape)
    unit = tuple(min(u, max(1, n)) for u, n in zip(unit, facts.shape, strict=True))
    beside = {
        "chunk_nbytes": nbytes_of(chunk, facts.dtype),
        "source_chunk_nbytes": _source_chunk_nbytes(facts),
    }
    for limit_nbytes in (budget.limit_nbytes // 2, budget.limit_nbytes):
        share = Budget(limit_nbytes=limit_nbytes, workers=budget.workers)
        room = share.room_nbytes(**beside) // facts.itemsize
        if math.prod(unit) <= room:
            return fill_blocks(facts.shape, unit, min(room, _wanted(facts, budget)))
    return None


def _amplification(facts: Facts, block: Shape) -> float:
    if facts.source_chunk_shape is not None:
        return read_amplification(facts.shape, block, facts.source_chunk_shape)
    if facts.in_rows:
        return run_amplification(facts.shape, block, facts.dtype.itemsize)
    return 1.0


def _round_up(largest: Shape, chunk: Shape, shape: Shape) -> Shape:
    return tuple(
        min(-(-edge // step) * step, max(1, end))
        for edge, step, end in zip(largest, chunk, shape, strict=True)
    )
