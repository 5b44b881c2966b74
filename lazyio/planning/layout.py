"""The one type that says which chunk belongs to which block.

Per axis a chunk divides a shard and a shard tiles a block, where reaching the
end of the axis counts as tiling. Every on-disk unit therefore lies in exactly
one block and has exactly one writer. A layout that breaks this cannot be built.
"""

from dataclasses import dataclass

from lazyio.dtypes import Shape
from lazyio.errors import PlanError
from lazyio.regions import is_multiple


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Chunk, shard and block of one array, checked when built.

    Examples
    --------
    >>> Layout(shape=(100, 10), chunk_shape=(8, 10), block_shape=(48, 10)).unit_shape
    (8, 10)
    >>> Layout(shape=(100, 10), chunk_shape=(8, 10), block_shape=(50, 10))
    Traceback (most recent call last):
    ...
    lazyio.errors.PlanError: block_shape (50, 10) is not a multiple of chunk_shape (8, 10) \
on axis 0; use 48 or 56, or the whole axis (100)
    """

    shape: Shape
    """The array's extents."""
    chunk_shape: Shape
    """What the codec compresses."""
    shard_shape: Shape | None = None
    """What a Zarr store writes as one object, if not a chunk."""
    block_shape: Shape
    """What one task holds in memory."""

    def __post_init__(self) -> None:
        """Refuse shapes that do not tile each other."""
        if self.shard_shape is not None:
            # Zarr has no cut shards: they may reach over the end of the array instead.
            self._check(
                "shard_shape", self.shard_shape, "chunk_shape", self.chunk_shape, may_end=False
            )
        name = "chunk_shape" if self.shard_shape is None else "shard_shape"
        self._check("block_shape", self.block_shape, name, self.unit_shape)

    @property
    def unit_shape(self) -> Shape:
        """What is written whole, once, by one task: the shard, else the chunk."""
        return self.shard_shape or self.chunk_shape

    def _check(
        self, name: str, outer: Shape, unit_name: str, unit: Shape, *, may_end: bool = True
    ) -> None:
        for named, extents in ((name, outer), (unit_name, unit)):
            if len(extents) != len(self.shape):
                msg = (
                    f"{named} {extents} has {len(extents)} axes, the array's shape {self.shape} "
                    f"has {len(self.shape)}; give one extent per axis"
                )
                raise PlanError(msg)
            if any(extent < 1 for extent in extents):
                msg = f"{named} {extents} has an extent below 1; every extent is at least 1"
                raise PlanError(msg)
        for axis, (edge, step, end) in enumerate(zip(outer, unit, self.shape, strict=True)):
            if is_multiple(edge, step, end) if may_end else edge % step == 0:
                continue
            remedy = (
                f"{_nearest(edge, step, end)}, or the whole axis ({end})"
                if may_end
                else _nearest(edge, step, 2 * edge + step)
            )
            msg = (
                f"{name} {outer} is not a multiple of {unit_name} {unit} on axis {axis}; "
                f"use {remedy}"
            )
            raise PlanError(msg)


def _nearest(edge: int, step: int, end: int) -> str:
    below = edge // step * step
    near = [extent for extent in (below, below + step) if 0 < extent < end]
    return " or ".join(map(str, near)) or str(step)
