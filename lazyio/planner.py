"""Public: how an array would be cut, before anything is read."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from lazyio.errors import OptionError
from lazyio.inputs import recognise
from lazyio.options import wishes_for
from lazyio.pieces.base import Pieces
from lazyio.pieces.iterators import is_iterator
from lazyio.planning import Facts, Plan, solve
from lazyio.planning.scattered import in_units
from lazyio.sources.arrays import is_indexed
from lazyio.sources.lookup import array_source
from lazyio.spec import as_dtype, as_shape


def plan(
    what: Any,
    dtype: npt.DTypeLike | None = None,
    *,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    chunks: Any = "auto",
    chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
    block_shape: Sequence[int] | None = None,
    shards: Any = None,
    access: Any = None,
    source_chunks: Sequence[int] | None = None,
    format: str = "hdf5",
    strategy: str = "auto",
) -> Plan:
    """Return how an array would be cut into chunks and blocks; print it.

    Parameters
    ----------
    what : tuple of int, dask array, Source, path or array-like
        A shape, for which nothing is read and ``dtype`` is needed; or an array
        or anything that :func:`open` takes, of which only metadata is read.
    dtype : dtype-like, optional
        Type of an element, where ``what`` does not say it or it will be cast.
    memory_limit : int or str, optional
        Bytes for everything in flight at once, such as ``"256 MiB"``; 1 GiB
        by default. ``"auto"`` is half of what is free.
    workers : int, optional
        Blocks in flight; by default dask's number of workers, or fewer where
        the limit does not allow as many.
    chunks : optional
        ``"auto"``; ``True`` for a dask array's own blocks; a :class:`Plan`; an
        integer; per axis an integer, ``None`` (solver's choice) or -1 (whole
        axis); or a dict from axis to one of those.
    chunk_nbytes : int, str or pair, optional
        Upper bound of a chunk in bytes, or ``(lower, upper)``; by default
        1 MiB for HDF5 and 4 MiB for Zarr, and a quarter of that as lower bound
        where ``access`` is given.
    block_shape : tuple of int, optional
        Elements per axis of a block; by default what the limit allows.
    shards : tuple of int, int or "auto", optional
        Elements per axis of a Zarr shard, a multiple of the chunk, -1 for the
        whole axis; ``"auto"`` keeps the number of files small.
    access : optional
        Windows that readers will ask for, such as ``[(30000, 1), (1, 384)]`` or
        ``[((30000, 1), weight), ...]``, -1 or ``None`` for a whole axis. The chunk
        is the one that costs the least to read them out of.
    source_chunks : tuple of int, optional
        Chunk shape of the source, for a shape whose source is not at hand.
    format : {"hdf5", "zarr"}
        Whose default chunk size to take, and whose costs of reading.
    strategy : {"auto", "hdmf"}
        ``"hdmf"`` gives the shapes of HDMF's GenericDataChunkIterator, with
        ``memory_limit`` and ``chunk_nbytes`` as its ``buffer_gb`` and ``chunk_mb``.

    Returns
    -------
    Plan
        Shapes, counts and bytes; ``print`` shows what is on disk, in memory
        and read twice, and why.

    Raises
    ------
    PlanError
        When what was fixed does not tile or does not fit the limit.
    OptionError
        When an argument cannot be.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((20000, 5000), "int32", chunks=(1000, 250), block_shape=(10000, 2500))
    >>> plan.n_blocks, plan.n_chunks
    (4, 400)
    """
    facts, dims, pieces = _facts(what, dtype, chunks is True, source_chunks)
    if pieces is not None and chunks == "auto" and access is None and chunk_nbytes is None:
        chunks = pieces.chunk_shape or chunks
    wishes = wishes_for(
        memory_limit=memory_limit,
        workers=workers,
        chunks=chunks,
        chunk_nbytes=chunk_nbytes,
        block_shape=block_shape,
        shards=shards,
        access=access,
        format=format,
        strategy=strategy,
        dims=dims,
    )
    plan = solve(facts, wishes)
    if pieces is None:
        return plan
    return in_units(plan, facts.itemsize, workers_fixed=workers is not None)


def _facts(
    what: Any, dtype: npt.DTypeLike | None, own_blocks: bool, source_chunks: Any
) -> tuple[Facts, tuple[str, ...], Pieces | None]:
    if isinstance(what, int) or (
        isinstance(what, (tuple, list)) and all(not isinstance(n, (tuple, list)) for n in what)
    ):
        shape = as_shape(what)
        chunk_shape = source_chunks_of(source_chunks, shape)
        return Facts(shape=shape, dtype=as_dtype(dtype), source_chunk_shape=chunk_shape), (), None
    if source_chunks is not None:
        msg = "source_chunks goes with a shape; an array or a file says itself how it is chunked"
        raise OptionError(msg)
    if is_iterator(what) and not is_indexed(what):
        # To be planned it would have to be looked into; refuses, and says what takes it.
        array_source(what)
    given = recognise(what)
    element = given.dtype if dtype is None else as_dtype(dtype)
    return given.facts(element, own_blocks=own_blocks), given.dims, given.pieces


def source_chunks_of(source_chunks: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the chunks of a source as a user gave them, checked against its shape.

    Raises
    ------
    OptionError
        When they are not one positive extent for each axis.
    """
    if source_chunks is None:
        return None
    chunk_shape = as_shape(source_chunks, "source_chunks")
    if len(chunk_shape) != len(shape) or 0 in chunk_shape:
        msg = f"source_chunks={chunk_shape} does not fit shape {shape}; give one extent of at \
least 1 per axis"
        raise OptionError(msg)
    return chunk_shape
