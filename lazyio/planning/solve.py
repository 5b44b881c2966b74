"""From the facts and the request to a plan: the order in which things are decided.

1. What the user fixed is taken as it is, or refused with the limit that would
   do. Nothing else raises.
2. Workers, then the chunk, are lowered until a block of one chunk fits.
3. A shard is as many chunks as make few files and fit beside their block.
4. The block fills a worker's share, along the source's chunks where it has any.
"""

from dataclasses import replace

from lazyio.dtypes import Shape, nbytes_of
from lazyio.planning.access import WindowCost, access_amplification, window_costs
from lazyio.planning.advice import advice_on, chunk_reason
from lazyio.planning.blocking import Cut, Unit, cut_blocks, n_reads, n_tasks, wanted_block
from lazyio.planning.blocks import choose_shard
from lazyio.planning.budget import Budget, LimitTooSmall, allot, count_of
from lazyio.planning.chunks import DEFAULT_CHUNK_NBYTES, choose_chunk
from lazyio.planning.hdmf import solve_hdmf
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Plan, gather_room
from lazyio.planning.request import ArraySpec, CheckedRequest, PlanRequest, checked_request
from lazyio.units import format_size

_MUCH_DEARER = 2.0
"""What windows read in vain before it is worth a word that other chunks would do better."""


def solve(facts: ArraySpec, wishes: PlanRequest) -> Plan:
    """Return the plan for an array.

    Examples
    --------
    >>> import numpy as np
    >>> facts = ArraySpec(shape=(20000, 5000), dtype=np.dtype("int32"))
    >>> wishes = PlanRequest(chunks=(1000, 250), block_shape=(10000, 2500), workers=2)
    >>> solve(facts, wishes).n_blocks
    4
    """
    given = checked_request(facts, wishes)
    if wishes.strategy == "hdmf":
        return _with_access(solve_hdmf(given), given)
    budget = allot(given)
    chunk = choose_chunk(given, budget)
    plan = _with_access(_with_block(given, chunk, budget), given)
    return _told_of_blocks(plan, given, budget)


def _costs(given: CheckedRequest, chunk: Shape) -> tuple[WindowCost, ...]:
    """Return what each window costs to read out of chunks."""
    return window_costs(
        given.windows,
        given.facts.shape,
        chunk,
        max(1, given.facts.dtype.itemsize),
        whole_chunks=given.wishes.reads_whole_chunks or given.wishes.format == "zarr",
    )


def _told_of_blocks(plan: Plan, given: CheckedRequest, budget: Budget) -> Plan:
    """Return the plan with a word on blocks of the array's own that no chunk for readers fits in.

    They are kept all the same: who gives a graph computes each of its blocks once.
    """
    amplification = plan.access_amplification
    is_kept = given.facts.edges is not None and plan.read_shape is None
    if amplification is None or not is_kept or given.is_chunk_fixed or given.wishes.chunks is True:
        return plan
    free = checked_request(replace(given.facts, edges=None), given.wishes)
    chunk = choose_chunk(free, budget)
    best = access_amplification(_costs(free, chunk))
    if best is None or amplification < _MUCH_DEARER * best:
        return plan
    what = (
        f"the array's own blocks leave chunks of {plan.chunk_shape}, of which the windows read "
        f"{amplification / best:.1f}x as much as of {chunk}; rechunk the array first, or give "
        f"chunks={chunk} to have the parts of chunks gathered"
    )
    return replace(plan, advice=(*plan.advice, ("blocks-against-access", what)))


def _with_block(given: CheckedRequest, chunk: Shape, budget: Budget) -> Plan:
    """Return the plan: the shard and block that suit chunk, source and budget."""
    facts = given.facts
    shard = _shard(given, chunk, budget)
    unit = Unit(
        shape=shard or chunk,
        chunk_nbytes=nbytes_of(chunk, facts.dtype),
        shard_nbytes=0 if shard is None else nbytes_of(shard, facts.dtype),
        source_chunk_nbytes=given.source_chunk_nbytes,
    )
    cut = cut_blocks(given, unit, budget)
    peak = budget.peak_nbytes(block_nbytes=cut.held * facts.itemsize, **unit.beside)
    # More workers than tasks would only be counted in vain.
    useful = budget.workers - 1 if peak > budget.limit_nbytes else max(1, n_tasks(facts, cut))
    if 0 < useful < budget.workers and not given.wishes.workers_fixed:
        return _with_block(given, chunk, replace(budget, workers=useful))
    if peak > budget.limit_nbytes:
        why = (
            f"blocks of {format_size(cut.held * facts.itemsize)} with "
            f"{count_of(budget.workers, 'worker')} need {peak} bytes"
        )
        raise LimitTooSmall(budget.limit_nbytes, why, peak)
    layout = Layout(shape=facts.shape, chunk_shape=chunk, shard_shape=shard, block_shape=cut.block)
    return _plan(given, layout, cut, budget, peak)


def _shard(given: CheckedRequest, chunk: Shape, budget: Budget) -> Shape | None:
    facts = given.facts
    room = budget.shard_room_nbytes(
        chunk_nbytes=nbytes_of(chunk, facts.dtype),
        itemsize=max(1, facts.dtype.itemsize),
        held_itemsize=facts.itemsize,
        source_chunk_nbytes=given.source_chunk_nbytes,
    )
    wanted = wanted_block(facts, budget) * max(1, facts.dtype.itemsize)
    return choose_shard(given, chunk, room, wanted)


def _plan(given: CheckedRequest, layout: Layout, cut: Cut, budget: Budget, peak: int) -> Plan:
    """Return the plan, every decision made."""
    facts, wishes = given.facts, given.wishes
    plan = Plan(
        layout=layout,
        dtype=facts.dtype,
        format=wishes.format,
        workers=budget.workers,
        memory_limit=budget.limit_nbytes,
        limit_is_auto=wishes.limit_is_auto,
        peak_nbytes=peak,
        read_amplification=cut.amplification,
        advice=advice_on(given, layout, cut.read_shape),
        edges=cut.edges,
        source_chunk_shape=facts.source_chunk_shape,
        read_shape=cut.read_shape,
        n_reads=n_reads(facts, cut.read_shape),
        is_graph=facts.edges is not None,
        reasons=(chunk_reason(given, DEFAULT_CHUNK_NBYTES[wishes.format]), cut.reason),
    )
    if cut.read_shape is None:
        return plan
    gather_nbytes = gather_room(plan, budget.limit_nbytes - peak)
    return replace(plan, gather_nbytes=gather_nbytes, peak_nbytes=peak + gather_nbytes)


def _with_access(plan: Plan, given: CheckedRequest) -> Plan:
    """Return the plan with what the readers' windows cost in its chunks."""
    if not given.windows:
        return plan
    costs = _costs(given, plan.chunk_shape)
    return replace(plan, windows=costs, access_amplification=access_amplification(costs))
