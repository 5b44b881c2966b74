"""From the facts and the request to a plan: the order in which things are decided.

1. What the user fixed is taken as it is, or refused with the limit that would
   do. Nothing else raises.
2. Workers, then the chunk, are lowered until a block of one chunk fits.
3. A shard is as many chunks as make few files and fit beside their block.
4. The block fills a worker's share, along the source's chunks where it has any.

What a run is to do is known from the start: input that can be had only once,
chunks that are there already, or that the array is to grow into.
"""

from dataclasses import replace

from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import PlanError
from lazyio.planning.access import access_amplification
from lazyio.planning.advice import advice_on, chunk_reason
from lazyio.planning.blocking import (
    Cut,
    Unit,
    cut_blocks,
    gather_nbytes,
    n_tasks,
    wanted_block,
)
from lazyio.planning.blocks import choose_shard
from lazyio.planning.budget import Budget, Footprint, allot, within_limit
from lazyio.planning.chunks import DEFAULT_CHUNK_NBYTES, choose_chunk
from lazyio.planning.hdmf import solve_hdmf
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Advice, Plan
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

    def make(limit: int | None) -> Plan:
        return _solved(facts, wishes if limit is None else replace(wishes, memory_limit=limit))

    return within_limit(make)


def _solved(facts: ArraySpec, wishes: PlanRequest) -> Plan:
    """Return the plan, or refuse a limit without looking for the smallest that would do."""
    given = checked_request(facts, wishes)
    if wishes.strategy == "hdmf":
        return solve_hdmf(given)
    budget = allot(given)
    while True:
        chunk = choose_chunk(given, budget)
        try:
            return _with_block(given, chunk, budget)
        except PlanError:
            smaller = _with_smaller_chunk(given, chunk)
            if smaller is None:
                raise
            given = smaller


def _with_smaller_chunk(given: CheckedRequest, chunk: Shape) -> CheckedRequest | None:
    """Return a request for chunks of half the size, where too little of one-pass input fits."""
    one_pass = given.facts.one_pass
    if one_pass is None or given.shard is not None:
        return None
    if one_pass.axis is None:
        nbytes = nbytes_of(chunk, given.facts.dtype) // 2
        if given.is_chunk_fixed or any(given.asked) or nbytes < given.facts.itemsize:
            return None
        return replace(given, wishes=replace(given.wishes, chunk_nbytes=(None, nbytes)))
    axis, edge = one_pass.axis, chunk[one_pass.axis]
    if given.asked[axis] is not None or edge == 1:
        return None
    # Shorter chunks, which then may be as wide as an element is.
    shorter = (*given.chunk[:axis], edge // 2, *given.chunk[axis + 1 :])
    return replace(given, chunk=shorter, windows=())


def _on_own_blocks(given: CheckedRequest, chunk: Shape, cut: Cut, budget: Budget) -> Advice:
    """Return a word on blocks of the array's own that no chunk for readers fits in.

    They are kept all the same: who gives a graph computes each of its blocks once.
    """
    is_kept = given.facts.edges is not None and cut.read_shape is None
    amplification = access_amplification(given.costs(chunk))
    if amplification is None or not is_kept or given.is_chunk_fixed or given.wishes.chunks is True:
        return ()
    free = checked_request(replace(given.facts, edges=None), given.wishes)
    better = choose_chunk(free, budget)
    best = access_amplification(free.costs(better))
    if best is None or amplification < _MUCH_DEARER * best:
        return ()
    what = (
        f"the array's own blocks leave chunks of {chunk}, of which the windows read "
        f"{amplification / best:.1f}x as much as of {better}; rechunk the array first, or give "
        f"chunks={better} to have chunks assembled"
    )
    return (("blocks-against-access", what),)


def _with_block(given: CheckedRequest, chunk: Shape, budget: Budget) -> Plan:
    """Return the plan: the shard and block that suit chunk, source and budget."""
    facts = given.facts
    shard = _shard(given, chunk, budget)
    beside = Footprint(
        chunk=nbytes_of(chunk, facts.dtype),
        decoded=given.decoded_nbytes,
        shard=0 if shard is None else nbytes_of(shard, facts.dtype),
    )
    cut = cut_blocks(given, Unit(shape=shard or chunk, beside=beside), budget)
    each = replace(beside, block=cut.held * facts.itemsize)
    what = cut.what or f"blocks of {format_size(each.block)}"
    fitted = budget.fit(each, what, waiting_nbytes=cut.waiting_nbytes)
    if facts.one_pass is None or facts.one_pass.has_length:
        # More workers than tasks would only be counted in vain.
        fitted = fitted.at_most(n_tasks(facts, cut))
    if fitted.workers < budget.workers:
        return _with_block(given, chunk, fitted)
    layout = Layout(shape=facts.shape, chunk_shape=chunk, shard_shape=shard, block_shape=cut.block)
    return _plan(given, layout, cut, budget, budget.peak_nbytes(each))


def _shard(given: CheckedRequest, chunk: Shape, budget: Budget) -> Shape | None:
    facts, itemsize = given.facts, max(1, given.facts.dtype.itemsize)
    one = Footprint(block=facts.itemsize, shard=itemsize)
    beside = Footprint(chunk=nbytes_of(chunk, facts.dtype), decoded=given.decoded_nbytes)
    room = budget.room(one, beside=beside) * itemsize
    return choose_shard(given, chunk, room, wanted_block(facts, budget) * itemsize)


def _plan(given: CheckedRequest, layout: Layout, cut: Cut, budget: Budget, peak: int) -> Plan:
    """Return the plan, every decision made."""
    facts, wishes = given.facts, given.wishes
    costs = given.costs(layout.chunk_shape)
    gather = gather_nbytes(given, layout, cut, budget.limit_nbytes - peak)
    advice = advice_on(given, layout, cut.read_shape)
    return Plan(
        layout=layout,
        dtype=facts.dtype,
        format=wishes.format,
        workers=budget.workers,
        memory_limit=budget.limit_nbytes,
        limit_is_auto=wishes.limit_is_auto,
        peak_nbytes=budget.limit_nbytes if cut.waiting_nbytes else peak + gather,
        read_amplification=cut.amplification,
        access_amplification=access_amplification(costs),
        windows=costs,
        advice=(*advice, *_on_own_blocks(given, layout.chunk_shape, cut, budget)),
        edges=cut.edges,
        source_chunk_shape=facts.source_chunk_shape,
        read_shape=cut.read_shape,
        n_reads=cut.n_reads,
        gather_nbytes=gather,
        is_graph=facts.edges is not None,
        reasons=(chunk_reason(given, DEFAULT_CHUNK_NBYTES[wishes.format]), cut.reason),
    )
