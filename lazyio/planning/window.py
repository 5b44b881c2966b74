"""A plan for part of an array that is there: blocks end where its chunks do."""

from dataclasses import replace

from lazyio.grid import Region
from lazyio.planning.plan import Plan, gather_room
from lazyio.spec import Shape


def within(plan: Plan, start: Shape) -> Plan:
    """Return a plan whose blocks follow the chunk grid of the array around it.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((100,), "i2", chunks=(10,), block_shape=(30,))
    >>> within(plan, (7,)).edges
    ((23, 30, 30, 17),)
    """
    unit = plan.layout.unit_shape
    offsets = tuple(at % step for at, step in zip(start, unit, strict=True))
    if not any(offsets):
        return plan
    if plan.edges is not None or plan.read_shape is not None:
        gather = plan.gather_nbytes or gather_room(plan, plan.memory_limit - plan.peak_nbytes)
        peak = plan.peak_nbytes - plan.gather_nbytes + gather
        return replace(plan, gather_nbytes=gather, peak_nbytes=peak)
    edges = tuple(
        _edges(extent, block, offset)
        for extent, block, offset in zip(plan.shape, plan.block_shape, offsets, strict=True)
    )
    return replace(plan, edges=edges)


def cuts_chunks(region: Region, shape: Shape, chunk_shape: Shape) -> bool:
    """Return whether a part begins or ends inside a chunk of the array around it.

    Examples
    --------
    >>> cuts_chunks((slice(10, 20),), (25,), (10,)), cuts_chunks((slice(20, 25),), (25,), (10,))
    (False, False)
    >>> cuts_chunks((slice(10, 19),), (25,), (10,))
    True
    """
    return any(
        part.start % chunk or (part.stop % chunk and part.stop < extent)
        for part, extent, chunk in zip(region, shape, chunk_shape, strict=True)
    )


def _edges(extent: int, block: int, offset: int) -> tuple[int, ...]:
    """Return the sizes of blocks along an axis, the first cut short by the offset."""
    if extent <= block:
        return (extent,) if extent else ()
    first = block - offset
    rest = extent - first
    n_whole, last = divmod(rest, block)
    return (first, *([block] * n_whole), *([last] if last else []))
