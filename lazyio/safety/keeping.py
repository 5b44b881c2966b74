"""What is kept of an array that a killed run has begun: its chunks, and how they are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from lazyio.errors import BlockError
from lazyio.grid import Region, box, flat_index, format_region, grid_shape, index_at, touched
from lazyio.safety.journal import Journal, Record
from lazyio.spec import Shape


class TwoResultsError(BlockError):
    """A chunk that is there, and came out otherwise when it was computed again."""

    @classmethod
    def at(cls, place: Region) -> "TwoResultsError":
        """Return the error for a chunk at some place."""
        return cls(
            f"chunk {format_region(place)} was computed twice, with two results; a job goes on "
            "only with data that is the same every time"
        )


@dataclass(kw_only=True)
class Keeping:
    """One array's share of a job's journal."""

    array: int
    """Its position among those of the job."""
    journal: Journal | None
    """Where records go; ``None`` where nothing is to be written."""
    shape: Shape
    """Extents of the whole array."""
    chunk_shape: Shape
    """Extents of what has one record."""
    corner: Shape = ()
    """Where the part begins that is written; by default at the array's own corner."""
    kept: dict[int, Record] = field(default_factory=dict)
    """Chunks that were found whole, by their position in the grid."""
    reserved: dict[int, Record] = field(default_factory=dict)
    """Chunks that have a place, and were not found there."""

    def number(self, index: Sequence[int]) -> int:
        """Return a chunk's position in the grid, from that along each axis."""
        return flat_index(index, grid_shape(self.shape, self.chunk_shape))

    def chunks_in(self, region: Region) -> Iterator[int]:
        """Yield the chunks that a block touches."""
        corner = self.corner or (0,) * len(region)
        there = tuple(
            slice(part.start + at, part.stop + at) for part, at in zip(region, corner, strict=True)
        )
        return (self.number(index) for index, _, _ in touched(there, self.chunk_shape))

    def covers(self, region: Region) -> bool:
        """Return whether all chunks that a block touches are kept."""
        return all(chunk in self.kept for chunk in self.chunks_in(region))

    def has(self, chunk: int, digest: int) -> bool:
        """Return whether a chunk is kept that has been computed again."""
        record = self.kept.get(chunk)
        if record is None:
            return False
        if record.digest != digest:
            index = index_at(chunk, grid_shape(self.shape, self.chunk_shape))
            raise TwoResultsError.at(box(self.shape, self.chunk_shape, index))
        return True

    def record(self, chunk: int, *, nbytes: int, digest: int, mask: int = 0) -> Record:
        """Return the record of a chunk of this array that has no place yet."""
        return Record(self.array, chunk, 0, nbytes, mask, digest)

    def note(self, record: Record, offset: int = 0) -> Record:
        """Write down that a chunk has its place, or is there."""
        placed = replace(record, offset=offset)
        if self.journal is not None:
            self.journal.append(placed)
        return placed
