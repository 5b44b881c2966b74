"""What a plan says of itself: why its shapes are what they are, and what is unwise."""

import math

from lazyio.planning.facts import Facts, Wishes
from lazyio.planning.plan import Advice
from lazyio.planning.reads import read_amplification
from lazyio.sizes import format_size
from lazyio.spec import Shape, nbytes_of

_TINY_CHUNK_NBYTES = 16 * 2**10


def chunk_reason(wishes: Wishes, fixed: list[int | None], facts: Facts, default_nbytes: int) -> str:
    """Return why chunks are what they are."""
    if all(wish is not None for wish in fixed) and fixed:
        return "chunk as given"
    limit = format_size(wishes.chunk_nbytes[1] if wishes.chunk_nbytes else default_nbytes)
    if any(wish is not None for wish in fixed):
        return f"free axes of the chunk fill up to {limit}"
    if facts.edges is not None:
        return f"chunk of up to {limit} that divides the array's own blocks where it can"
    return f"chunk of up to {limit} that favours no reader"


def block_reason(facts: Facts, block: Shape) -> str:
    """Return why blocks are what they are."""
    if facts.source_chunk_shape is None:
        return "blocks of whole chunks, several for each worker"
    if read_amplification(facts.shape, block, facts.source_chunk_shape) == 1.0:
        return "blocks of whole chunks, here and in the source"
    return "blocks that read the source's chunks the least often in the memory there is"


def advice_on(
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
