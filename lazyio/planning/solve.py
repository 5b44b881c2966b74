"""From facts and wishes to a plan: the order in which things are decided.

1. What the user fixed is taken as it is, or refused with the limit that would
   do. Nothing else raises.
2. Workers, then the chunk, are lowered until a block of one chunk fits.
3. The block fills a worker's share, along the source's chunks where it has any.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

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
from lazyio.planning.hdmf import (
    BLOCK_NBYTES,
    CHUNK_NBYTES,
    hdmf_block_shape,
    hdmf_chunk_shape,
)
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Advice, Plan
from lazyio.planning.reads import read_amplification, run_amplification
from lazyio.planning.solver import solve_chunk_shape
from lazyio.sizes import format_size
from lazyio.spec import Shape, is_integer, nbytes_of

DEFAULT_LIMIT = 2**30
DEFAULT_CHUNK_NBYTES = {"hdf5": 2**20, "zarr": 4 * 2**20}
MAX_CHUNK_NBYTES = 2**32 - 1
"""HDF5 keeps the size of a chunk in 32 bits."""
MAX_AMPLIFICATION = 3.0
"""Above it, reading once and passing parts of chunks through scratch is cheaper."""
_LEAST_TASK_NBYTES = 16 * 2**20
_LEAST_WANTED_NBYTES = 2**20
_TASKS_PER_WORKER = 4
_TINY_CHUNK_NBYTES = 16 * 2**10
_LEAST_CHUNK_NBYTES = 64 * 2**10


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of an array before anything is decided."""

    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    source_chunk_shape: Shape | None = None
    """Chunk that the source decodes at once, where it has one."""
    in_rows: bool = False
    """Whether the source is one C-ordered run of bytes."""
    edges: Edges | None = None
    """Blocks that the array already has, each computed as a whole."""
    held_itemsize: int = 0
    """Bytes of an element as blocks hold it, where that is wider than on disk."""

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory, at least 1."""
        return max(1, self.dtype.itemsize, self.held_itemsize)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user asked for; ``None`` or ``"auto"`` leaves it to the solver."""

    memory_limit: int | None = None
    """Bytes for everything in flight."""
    workers: int = 1
    """Blocks in flight at once."""
    workers_fixed: bool = False
    """Whether the user chose ``workers``."""
    chunks: Any = "auto"
    """Chunk extents in any of the forms that :func:`lazyio.plan` takes."""
    chunk_nbytes: tuple[int, int] | None = None
    """Lower and upper bound of a chunk, in bytes."""
    block_shape: Shape | None = None
    """Extents of a block."""
    format: Literal["hdf5", "zarr"] = "hdf5"
    """Whose default chunk size to take."""
    strategy: Literal["auto", "hdmf"] = "auto"
    """Whose rules to follow."""
    dims: tuple[str, ...] = field(default=())
    """Names of the axes, where chunks are given by name."""


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
    >>> facts = Facts(shape=(20000, 5000), dtype=np.dtype("int32"))
    >>> wishes = Wishes(chunks=(1000, 250), block_shape=(10000, 2500), workers=2)
    >>> solve(facts, wishes).n_blocks
    4
    """
    fixed = chunk_wishes(wishes.chunks, facts, wishes.dims)
    if wishes.strategy == "hdmf":
        return _solve_hdmf(facts, wishes, fixed)
    block = wishes.block_shape
    if block is None and isinstance(wishes.chunks, Plan) and wishes.chunks.shape == facts.shape:
        block = wishes.chunks.block_shape
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


def chunk_wishes(chunks: Any, facts: Facts, dims: tuple[str, ...]) -> list[int | None]:
    """Return the chunk extent that the user fixed on each axis, or ``None``."""
    shape = facts.shape
    if chunks is True and facts.edges is not None:
        chunks = _own_blocks(facts.edges)
    if isinstance(chunks, Plan):
        chunks = chunks.chunk_shape
    if chunks is True or (isinstance(chunks, str) and chunks == "auto"):
        return [None] * len(shape)
    if isinstance(chunks, Mapping):
        chunks = _by_axis(chunks, shape, dims)
    if not isinstance(chunks, (tuple, list)):
        chunks = (chunks,) * len(shape)
    if len(chunks) != len(shape):
        msg = (
            f"chunks={tuple(chunks)} has {len(chunks)} axes, the array's shape {shape} has "
            f"{len(shape)}; give one extent per axis, None where the solver may choose"
        )
        raise OptionError(msg)
    fixed = [_one_wish(chunk, extent) for chunk, extent in zip(chunks, shape, strict=True)]
    nbytes = facts.dtype.itemsize * math.prod(wish or 1 for wish in fixed)
    if nbytes > MAX_CHUNK_NBYTES:
        msg = (
            f"a chunk of {tuple(wish or 1 for wish in fixed)} {facts.dtype} is "
            f"{format_size(nbytes)}; HDF5 and Zarr codecs stop below 4 GiB, choose a smaller chunk"
        )
        raise PlanError(msg)
    return fixed


def _own_blocks(edges: Edges) -> Any:
    """Return the blocks of a dask array as chunks, where they are regular."""
    extents = [max((1, *sizes)) for sizes in edges]
    regular = all(
        common_step(sizes, sum(sizes)) % extent == 0 or extent >= sum(sizes)
        for sizes, extent in zip(edges, extents, strict=True)
    )
    return tuple(extents) if regular else "auto"


def _by_axis(chunks: Mapping[Any, Any], shape: Shape, dims: tuple[str, ...]) -> tuple[Any, ...]:
    by_axis: list[Any] = [None] * len(shape)
    for name, chunk in chunks.items():
        axis = dims.index(name) if name in dims else name
        if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
            known = f"its dimensions are {dims}" if dims else "it has no named dimensions"
            msg = f"chunks names axis {name!r}; the array has {len(shape)} axes and {known}"
            raise OptionError(msg)
        by_axis[axis] = chunk
    return tuple(by_axis)


def _one_wish(chunk: Any, extent: int) -> int | None:
    if chunk is None or (isinstance(chunk, str) and chunk == "auto"):
        return None
    if not is_integer(chunk) or (chunk < 1 and chunk != -1):
        msg = (
            f"chunks holds {chunk!r}; an axis takes a positive integer, -1 for the whole axis, "
            'or None or "auto" to leave it to the solver'
        )
        raise OptionError(msg)
    return max(1, extent if chunk == -1 else min(int(chunk), extent))


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
        room = budget.room_nbytes(chunk_nbytes=0, source_chunk_nbytes=source_chunk_nbytes) - held
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
    reasons = [_chunk_reason(wishes, fixed, facts)]
    edges: Edges | None = None
    read_shape: Shape | None = None
    steps = _steps(facts, None)
    if block is not None:
        reasons.append("block as given")
    elif steps is not None and facts.edges is not None:
        largest = tuple(max((1, *sizes)) for sizes in facts.edges)
        if divides_steps(chunk, steps, facts.shape):
            edges = facts.edges
            block = _round_up(largest, chunk, facts.shape)
            reasons.append("blocks are the array's own, each of whole chunks")
        else:
            block = fill_blocks(facts.shape, chunk, min(room, _wanted(facts, budget)))
            read_shape = largest
            reasons.append("the array's own blocks cut across chunks, so it is re-blocked")
    else:
        block = _solved_block(facts, chunk, budget, room)
        reasons.append(_block_reason(facts, block))
    layout = Layout(shape=facts.shape, chunk_shape=chunk, block_shape=block)
    amplification = _amplification(facts, block)
    held = math.prod(block) * facts.itemsize
    if edges is not None or read_shape is not None:
        held = _least_block_nbytes(facts, [1] * len(chunk), None)
    elif amplification > MAX_AMPLIFICATION and wishes.block_shape is None:
        read_shape = _read_blocks(facts, budget, chunk)
        if read_shape is not None:
            amplification = 1.0
            held = max(math.prod(chunk), math.prod(read_shape)) * facts.itemsize
            reasons.append("blocks of whole chunks would read the source several times over")
    peak = budget.peak_nbytes(block_nbytes=held, **sizes)
    if peak > budget.limit_nbytes and not wishes.workers_fixed and budget.workers > 1:
        fewer = Budget(limit_nbytes=budget.limit_nbytes, workers=budget.workers - 1)
        return _with_block(facts, wishes, fixed, wishes.block_shape, chunk, fewer)
    if peak > budget.limit_nbytes:
        msg = (
            f"memory_limit={format_size(budget.limit_nbytes)} ({budget.limit_nbytes} bytes) is "
            f"too small for blocks of {format_size(held)} with {budget.workers} workers; the "
            f"smallest limit that would do is memory_limit={peak}"
        )
        raise PlanError(msg)
    return Plan(
        layout=layout,
        dtype=facts.dtype,
        workers=budget.workers,
        memory_limit=budget.limit_nbytes,
        peak_nbytes=peak,
        read_amplification=amplification,
        advice=_advice(facts, fixed, chunk, read_shape),
        edges=edges,
        source_chunk_shape=facts.source_chunk_shape,
        read_shape=read_shape,
        n_reads=_n_reads(facts, read_shape),
        is_graph=facts.edges is not None,
        reasons=tuple(reasons),
    )


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


def _chunk_reason(wishes: Wishes, fixed: list[int | None], facts: Facts) -> str:
    if all(wish is not None for wish in fixed) and fixed:
        return "chunk as given"
    limit = format_size(
        wishes.chunk_nbytes[1] if wishes.chunk_nbytes else DEFAULT_CHUNK_NBYTES[wishes.format]
    )
    if any(wish is not None for wish in fixed):
        return f"free axes of the chunk fill up to {limit}"
    if facts.edges is not None:
        return f"chunk of up to {limit} that divides the array's own blocks where it can"
    return f"chunk of up to {limit} that favours no reader"


def _block_reason(facts: Facts, block: Shape) -> str:
    if facts.source_chunk_shape is None:
        return "blocks of whole chunks, several for each worker"
    if read_amplification(facts.shape, block, facts.source_chunk_shape) == 1.0:
        return "blocks of whole chunks, here and in the source"
    return "blocks that read the source's chunks the least often in the memory there is"


def _advice(
    facts: Facts, fixed: list[int | None], chunk: Shape, read_shape: Shape | None
) -> Advice:
    """Return hints on what the user chose; what the solver chose needs none."""
    found = []
    nbytes = nbytes_of(chunk, facts.dtype)
    total = nbytes_of(facts.shape, facts.dtype)
    if any(wish is not None for wish in fixed):
        if nbytes < _TINY_CHUNK_NBYTES and total > 64 * nbytes:
            text = f"chunks of {format_size(nbytes)} cost more to look up than to read"
            found.append(("tiny-chunks", f"{text}; 64 KiB to a few MiB is usual"))
        padded = math.prod(
            -(-extent // step) * step for extent, step in zip(facts.shape, chunk, strict=True)
        )
        if total and padded * facts.dtype.itemsize > 1.5 * total:
            share = 1 - math.prod(facts.shape) / padded
            found.append(("padded-chunks", f"{share:.0%} of the stored chunks is padding"))
    if read_shape is not None and facts.edges is not None:
        text = f"chunks {chunk} cut across the array's blocks (largest {read_shape})"
        found.append(("chunks-across-blocks", f"{text}; parts of chunks are gathered first"))
    return tuple(found)


def _solve_hdmf(facts: Facts, wishes: Wishes, fixed: list[int | None]) -> Plan:
    """Return HDMF's shapes; its limit is for one buffer, and there is one."""
    if any(wish is not None for wish in fixed) and not all(fixed):
        msg = f'chunks={wishes.chunks!r}: strategy="hdmf" takes all extents or none'
        raise OptionError(msg)
    itemsize = max(1, facts.dtype.itemsize)
    chunk_nbytes = wishes.chunk_nbytes[1] if wishes.chunk_nbytes else CHUNK_NBYTES
    chunk_nbytes = min(chunk_nbytes, MAX_CHUNK_NBYTES)
    limit = wishes.memory_limit or BLOCK_NBYTES
    whole = tuple(max(1, extent) for extent in facts.shape)
    empty = not facts.shape or 0 in facts.shape
    if fixed and all(wish is not None for wish in fixed):
        chunk = tuple(wish or 1 for wish in fixed)
    else:
        chunk = whole if empty else hdmf_chunk_shape(facts.shape, itemsize, chunk_nbytes)
    block = wishes.block_shape
    if block is None:
        block = whole if empty else hdmf_block_shape(facts.shape, chunk, itemsize, limit)
    if math.prod(block) * itemsize > limit:
        msg = (
            f"one chunk of {chunk} {facts.dtype} is larger than memory_limit={limit}; the "
            f"smallest limit that would do is memory_limit={math.prod(block) * itemsize}"
        )
        raise PlanError(msg)
    return Plan(
        layout=Layout(shape=facts.shape, chunk_shape=chunk, block_shape=block),
        dtype=facts.dtype,
        workers=1,
        memory_limit=limit,
        peak_nbytes=math.prod(block) * itemsize,
        advice=_advice(facts, fixed, chunk, None),
        reasons=('shapes as HDMF computes them (strategy="hdmf"), one buffer at a time',),
    )
