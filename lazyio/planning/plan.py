"""A plan: what will be on disk, in memory and read again, before anything runs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from lazyio.dtypes import Shape, nbytes_of, stored
from lazyio.planning.access import WindowCost
from lazyio.planning.boundaries import Edges
from lazyio.planning.display import as_html, as_text
from lazyio.planning.layout import Layout
from lazyio.regions import Region, boxes, cuts, n_boxes

Advice = tuple[tuple[str, str], ...]
"""Pairs of a short code and a message about what the user chose."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an array is cut into chunks and blocks under one memory limit.

    Made by :func:`lazyio.plan`; ``print`` it before anything runs. It can be
    given as ``chunks=`` wherever lazyio takes chunks.
    """

    layout: Layout
    """Chunk, shard and block, checked to tile each other."""
    dtype: np.dtype[Any]
    """Type of an element."""
    workers: int
    """Blocks in flight at once."""
    memory_limit: int
    """Bytes that all blocks in flight and their copies may take together."""
    peak_nbytes: int
    """Bytes that they take at most; never above ``memory_limit``."""
    read_amplification: float = 1.0
    """Elements that the source decodes, over elements wanted."""
    access_amplification: float | None = None
    """Elements read for the windows that readers ask for, over elements wanted: the weighted
    mean, 1.0 at best; ``None`` without windows."""
    windows: tuple[WindowCost, ...] = ()
    """What each window costs, on average over all its places."""
    format: Literal["hdf5", "zarr"] = "hdf5"
    """What the chunks are for."""
    limit_is_auto: bool = False
    """Whether ``memory_limit`` is half of what was free."""
    advice: Advice = ()
    """``(code, message)`` pairs on what the user chose."""
    edges: Edges | None = None
    """Sizes of the blocks along each axis, where they are not regular."""
    source_chunk_shape: Shape | None = None
    """Chunk of the source, where it has one."""
    read_shape: Shape | None = None
    """Largest block that is read or computed at once, where those cut across chunks."""
    n_reads: int | None = None
    """Number of those blocks."""
    gather_nbytes: int = 0
    """Bytes, counted in ``peak_nbytes``, that parts of chunks may take while they wait."""
    is_graph: bool = False
    """Whether blocks are computed by a graph, and not read from a source."""
    reasons: tuple[str, ...] = ()
    """Why the shapes are what they are, for the printed table."""

    @property
    def shape(self) -> Shape:
        """Extents of the array, in elements."""
        return self.layout.shape

    @property
    def chunk_shape(self) -> Shape:
        """What the codec compresses, in elements."""
        return self.layout.chunk_shape

    @property
    def shard_shape(self) -> Shape | None:
        """What a Zarr store writes as one object, in elements."""
        return self.layout.shard_shape

    @property
    def block_shape(self) -> Shape:
        """What one task holds in memory, in elements."""
        return self.layout.block_shape

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array, uncompressed."""
        return nbytes_of(self.shape, self.dtype)

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of one chunk, uncompressed."""
        return nbytes_of(self.chunk_shape, self.dtype)

    @property
    def block_nbytes(self) -> int:
        """Bytes of the largest block."""
        return nbytes_of(self.block_shape, self.dtype)

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return n_boxes(self.shape, self.chunk_shape)

    @property
    def n_shards(self) -> int:
        """Number of shards; of chunks where there are none."""
        return n_boxes(self.shape, self.layout.unit_shape)

    @property
    def n_files(self) -> int:
        """Number of files that hold the array's elements: one in HDF5, in Zarr one each unit."""
        return self.n_shards if self.format == "zarr" else 1

    @property
    def n_tasks(self) -> int:
        """Number of blocks that are read or computed."""
        return self.n_blocks if self.n_reads is None else self.n_reads

    @property
    def n_blocks(self) -> int:
        """Number of blocks: of tasks, unless blocks that cut across chunks are gathered."""
        if self.edges is None:
            return n_boxes(self.shape, self.block_shape)
        count = 1
        for sizes in self.edges:
            count *= len(sizes)
        return count

    def regions(self) -> Iterator[Region]:
        """Yield the region of every block in C order, last axis fastest.

        Yields
        ------
        tuple of slice
            One slice per axis, with Python integers.
        """
        if self.edges is None:
            return boxes(self.shape, self.block_shape)
        return cuts(self.edges)

    def dataset_kwargs(self) -> dict[str, Any]:
        """Return keywords for ``h5py.Group.create_dataset`` or HDMF's ``H5DataIO``.

        Returns
        -------
        dict
            ``shape``, ``dtype`` as it is stored, ``chunks`` and ``maxshape``. ``chunks`` is
            ``None`` where HDF5 has none: arrays of no axis or no elements.
        """
        chunked = bool(self.shape) and all(self.shape)
        return {
            "shape": self.shape,
            "dtype": stored(self.dtype, "hdf5").dtype,
            "chunks": self.chunk_shape if chunked else None,
            "maxshape": self.shape or None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as numbers, strings, lists and dicts, ready for JSON."""
        return {
            "shape": list(self.shape),
            "dtype": self.dtype.str if self.dtype.fields is None else str(self.dtype.descr),
            "chunk_shape": list(self.chunk_shape),
            "shard_shape": None if self.shard_shape is None else list(self.shard_shape),
            "block_shape": list(self.block_shape),
            "n_chunks": self.n_chunks,
            "n_shards": self.n_shards,
            "n_blocks": self.n_blocks,
            "nbytes": self.nbytes,
            "chunk_nbytes": self.chunk_nbytes,
            "block_nbytes": self.block_nbytes,
            "peak_nbytes": self.peak_nbytes,
            "memory_limit": self.memory_limit,
            "workers": self.workers,
            "read_amplification": self.read_amplification,
            "access_amplification": self.access_amplification,
            "windows": [
                {
                    "shape": list(cost.window.shape),
                    "weight": cost.window.weight,
                    "n_chunks": cost.n_chunks,
                    "nbytes": cost.nbytes,
                    "wanted_nbytes": cost.wanted_nbytes,
                }
                for cost in self.windows
            ],
            "format": self.format,
            "n_files": self.n_files,
            "advice": [list(pair) for pair in self.advice],
        }

    def __str__(self) -> str:
        """Return the table that a person reads before a run."""
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def at_shape(plan: Plan, shape: Shape) -> Plan:
    """Return the plan of what has grown, with the extents that it came to."""
    return replace(plan, layout=replace(plan.layout, shape=shape))


def plan_region(plan: Plan, start: Shape) -> Plan:
    """Return a plan whose blocks follow the chunk grid of the array around it.

    Where the part begins may be known only once the array is locked.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((100,), "i2", chunks=(10,), block_shape=(30,))
    >>> plan_region(plan, (7,)).edges
    ((23, 30, 30, 17),)
    """
    offsets = tuple(at % step for at, step in zip(start, plan.layout.unit_shape, strict=True))
    if not any(offsets) or plan.edges is not None or plan.read_shape is not None:
        return plan
    edges = tuple(map(_edges, plan.shape, plan.block_shape, offsets))
    return replace(plan, edges=edges)


def _edges(extent: int, block: int, offset: int) -> tuple[int, ...]:
    """Return the sizes of blocks along an axis, the first cut short by the offset."""
    if extent <= block:
        return (extent,) if extent else ()
    first = block - offset
    n_whole, last = divmod(extent - first, block)
    return (first, *([block] * n_whole), *([last] if last else []))
