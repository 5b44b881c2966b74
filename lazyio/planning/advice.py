"""What a plan says of itself: why its shapes are what they are, and what is unwise."""

import math
from collections.abc import Iterator

from lazyio.dtypes import Shape, nbytes_of
from lazyio.planning.blocks import MANY_FILES, read_amplification
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Advice
from lazyio.planning.request import ArraySpec, CheckedRequest, OnePass
from lazyio.regions import n_boxes
from lazyio.units import format_size

_TINY_CHUNK_NBYTES = 16 * 2**10
_PAGE_NBYTES = 4096
"""What a system reads of a file at least, however little is asked for."""
_UNKNOWN_LENGTH = (
    "chunks are made for a stream of some length; expected_length= suits them to a short one"
)


def chunk_reason(given: CheckedRequest, default_nbytes: int) -> str:
    """Return why chunks are what they are."""
    bounds = given.wishes.chunk_nbytes
    if given.is_chunk_fixed and given.chunk:
        return "chunk as given"
    limit = format_size(bounds[1] if bounds else default_nbytes)
    if given.windows:
        where = " inside of the array's own blocks" if given.facts.edges is not None else ""
        return f"chunk of up to {limit}{where} that costs the least to read the windows out of"
    if any(wish is not None for wish in given.chunk):
        return f"free axes of the chunk fill up to {limit}"
    if isinstance(given.shard, tuple):
        return f"chunk of up to {limit} that divides the given shard"
    if given.facts.edges is not None:
        return f"chunk of up to {limit} that divides the array's own blocks where it can"
    return f"default chunk of up to {limit}, as no access pattern was given"


def block_reason(facts: ArraySpec, block: Shape) -> str:
    """Return why blocks are what they are."""
    if facts.source_chunk_shape is None:
        return "blocks of whole chunks, several for each worker"
    if read_amplification(facts.shape, block, facts.source_chunk_shape) == 1.0:
        return "blocks of whole chunks, here and in the source"
    return "blocks that read the source's chunks the least often in the memory there is"


def advice_on(given: CheckedRequest, layout: Layout, read_shape: Shape | None) -> Advice:
    """Return hints on what the user chose; what the solver chose needs none."""
    facts, chunk = given.facts, layout.chunk_shape
    if facts.is_part:
        return ()  # Those chunks were there.
    found: list[tuple[str, str]] = []
    if any(wish is not None for wish in given.chunk):
        found += _on_given_chunk(facts, chunk)
    if read_shape is not None and facts.edges is not None:
        what = "chunks" if layout.shard_shape is None else "shards"
        text = f"{what} {layout.unit_shape} cut across the array's blocks (largest {read_shape})"
        found.append((f"{what}-across-blocks", f"{text}; {what} are assembled first"))
    n_files = n_boxes(facts.shape, chunk)
    if given.wishes.format == "zarr" and layout.shard_shape is None and n_files > MANY_FILES:
        text = f"every chunk is a file of its own, {n_files} in all"
        found.append(("many-files", f'{text}; shards="auto" keeps many chunks in one file'))
    found += _on_windows(given, chunk)
    if facts.one_pass is None:
        return tuple(found)
    return _on_one_pass(facts.one_pass, found, given, chunk)


def _on_one_pass(
    one_pass: OnePass, found: list[tuple[str, str]], given: CheckedRequest, chunk: Shape
) -> Advice:
    """Return the hints that hold for input of which nobody knows yet what there will be."""
    if one_pass.axis is not None:
        is_open = not any(given.asked) and not one_pass.has_length
        return (*found, ("stream-length", _UNKNOWN_LENGTH)) if is_open else tuple(found)
    unwanted = {"many-files"}
    if chunk == one_pass.chunk_shape:
        unwanted.add("tiny-chunks")
    return tuple(pair for pair in found if pair[0] not in unwanted)


def _on_given_chunk(facts: ArraySpec, chunk: Shape) -> Iterator[tuple[str, str]]:
    nbytes = nbytes_of(chunk, facts.dtype)
    total = nbytes_of(facts.shape, facts.dtype)
    if nbytes < _TINY_CHUNK_NBYTES and total > 64 * nbytes:
        text = f"chunks of {format_size(nbytes)} cost more to look up than to read"
        yield "tiny-chunks", f"{text}; 64 KiB to a few MiB is usual"
    padded = math.prod(
        -(-extent // step) * step for extent, step in zip(facts.shape, chunk, strict=True)
    )
    if total and padded * facts.dtype.itemsize > 1.5 * total:
        share = 1 - math.prod(facts.shape) / padded
        yield "padded-chunks", f"{share:.0%} of the stored chunks is padding"


def _on_windows(given: CheckedRequest, chunk: Shape) -> Iterator[tuple[str, str]]:
    """Yield a hint for the windows that lie in a chunk with room to spare."""
    if not given.wishes.reads_whole_chunks and given.wishes.format == "hdf5":
        return
    dtype = given.facts.dtype
    if nbytes_of(chunk, dtype) <= _PAGE_NBYTES:
        return
    for window in given.windows:
        inside = all(w <= c for w, c in zip(window.shape, chunk, strict=True))
        if inside and window.shape != chunk and all(given.facts.shape):
            text = (
                f"the window {window.shape} of {format_size(nbytes_of(window.shape, dtype))} is "
                f"smaller than a chunk of {chunk}, {format_size(nbytes_of(chunk, dtype))}, which "
                "is decoded whole"
            )
            yield "window-in-chunk", f"{text}; chunk_nbytes=(lower, upper) allows smaller chunks"
