"""What a source is: three facts and a way to read a part.

An adapter knows its format and nothing of plans, blocks or targets. It holds
paths, never open files, so that it travels to another process as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape
from lazyio.errors import SourceError
from lazyio.regions import Region, box_shape

Array = npt.NDArray[Any]


@runtime_checkable
class Source(Protocol):
    """An array that can be read in parts.

    Examples
    --------
    >>> import numpy as np
    >>> class Ramp:
    ...     shape, dtype, chunk_shape = (10,), np.dtype("int64"), None
    ...     def read(self, region):
    ...         return np.arange(region[0].start, region[0].stop)
    >>> isinstance(Ramp(), Source)
    True
    """

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    @property
    def chunk_shape(self) -> Shape | None:
        """What is fetched or decoded at once, in elements, or ``None``."""

    def read(self, region: Region) -> Array:
        """Return a part.

        Parameters
        ----------
        region : tuple of slice
            One step-1 slice per axis, within the shape.

        Returns
        -------
        ndarray
            Of the region's shape and the source's dtype: new, or a view that
            cannot be written to.
        """


@runtime_checkable
class ReadsInto(Protocol):
    """A source that can fill memory it is given, which saves getting it anew."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out``, C-ordered and of the region's shape."""


class FillsNew:
    """What makes ``read`` of ``read_into``."""

    def read(self: ReadsInto, region: Region) -> Array:
        """Return a part as a new array."""
        out: Array = np.empty(box_shape(region), self.dtype)
        self.read_into(region, out)
        return out


class ReadsRows(Protocol):
    """Short reads of whole rows, by any number of threads."""

    @property
    def is_serial(self) -> bool:
        """Whether one thread reads at a time, however many there are."""

    @property
    def is_plain(self) -> bool:
        """Whether rows lie as they are in a file that the system reads ahead."""

    def read_rows(self, start: int, out: Array, step: int = 1) -> bool:
        """Fill ``out`` with every so many rows from one on; return whether they were all there."""

    def will_need(self, start: int, stop: int) -> bool:
        """Have the system read rows ahead; return whether it can."""


class OpenedSource(ReadsInto, Protocol):
    """A source of which the file is open; one thread at a time reads from it."""

    def keep_memory(self) -> None:
        """Keep what decodes a chunk between reads."""

    def rows(self, row_nbytes: int) -> ReadsRows | None:
        """Return what reads whole rows of some bytes, if that is one call each."""


@runtime_checkable
class KeptOpen(Protocol):
    """A source of which the file can stay open for many reads."""

    def opened(self) -> AbstractContextManager[OpenedSource]:
        """Open it."""


@runtime_checkable
class MayLiePlain(Protocol):
    """A source of which the elements may lie in a file just as they are in memory."""

    def reading_rows(self) -> AbstractContextManager[ReadsRows | None]:
        """Open the file and give what reads its rows there, ``None`` where they lie otherwise."""


@runtime_checkable
class Stored(Protocol):
    """A source that lies in a file or store."""

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file or store, and key inside it (empty if none)."""


@runtime_checkable
class LaidOut(Protocol):
    """A source that knows how its elements lie in a file."""

    @property
    def in_rows(self) -> bool:
        """Whether they are one C-ordered run of bytes, or such runs end to end."""


@runtime_checkable
class Scattered(Protocol):
    """A source of which a block is many runs of bytes, that are best long ones."""

    @property
    def run_shape(self) -> Shape | None:
        """What is worth a read of its own, in elements; a multiple of ``chunk_shape``."""


@runtime_checkable
class Composed(Protocol):
    """A source that reads other sources, and adds no data of its own."""

    @property
    def parts(self) -> tuple[Source, ...]:
        """What it reads."""


@runtime_checkable
class Watched(Protocol):
    """A source of which it is known whether it is as it was when it was opened."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where everything lies that it reads."""

    def require_unchanged(self) -> None:
        """Raise ``SourceChangedError`` where it is not."""


@runtime_checkable
class Encoded(Protocol):
    """A source whose chunks are encoded, which says how."""

    @property
    def codecs(self) -> str:
        """Names of what its chunks are encoded with."""

    @property
    def stored_nbytes(self) -> int:
        """Bytes that its chunks take as they are stored."""


def lies_in_rows(source: object) -> bool:
    """Return whether whole rows of a source are runs of bytes, cheap to read anywhere.

    Examples
    --------
    >>> class Ramp:
    ...     in_rows = True
    >>> lies_in_rows(Ramp()), lies_in_rows(None)
    (True, False)
    """
    return isinstance(source, LaidOut) and source.in_rows


def parts_of(source: object) -> tuple[Source, ...]:
    """Return the sources that a source reads; none where it reads data of its own.

    Examples
    --------
    >>> class Scan:
    ...     parts = "left", "right"
    >>> parts_of(Scan()), parts_of(object())
    ((), ())
    """
    if not isinstance(source, Composed) or not isinstance(source.parts, tuple):
        return ()
    # A user's class may have parts that are something else.
    return source.parts if all(isinstance(part, Source) for part in source.parts) else ()


def leaves_of(source: Any) -> Iterator[Any]:
    """Yield the sources that read data of their own: one, or those that it is made of."""
    parts = parts_of(source)
    if not parts:
        yield source
    for part in parts:
        yield from leaves_of(part)


def reading_unit(source: Source) -> Shape | None:
    """Return what blocks are best made of, where only reading counts; ``None`` if anything."""
    run_shape = source.run_shape if isinstance(source, Scattered) else None
    return run_shape or source.chunk_shape


def fills_memory(source: Source) -> TypeGuard[ReadsInto]:
    """Return whether a source can read into plain memory that it is given.

    Text of any length lies elsewhere: its elements can only be made anew.
    """
    return isinstance(source, ReadsInto) and not source.dtype.hasobject


def name_of(source: object, position: int) -> str:
    """Return how an error names one of several sources: by position, and by its file.

    Examples
    --------
    >>> class Scan:
    ...     location = "/data/scan.h5", "raw"
    >>> name_of(Scan(), 3), name_of(object(), 0)
    ("item 3 (/data/scan.h5, 'raw')", 'item 0')
    """
    if not isinstance(source, Stored):
        return f"item {position}"
    path, key = source.location
    return f"item {position} ({path}, {key!r})" if key else f"item {position} ({path})"


def chosen(keys: Sequence[str], key: str | None, owner: str, noun: str, word: str = "key") -> str:
    """Return the key that was given, or the only one there is.

    Examples
    --------
    >>> chosen(["a"], None, "scan.h5", "dataset")
    'a'
    >>> chosen(["a", "b"], None, "scan.h5", "dataset")
    Traceback (most recent call last):
    lazyio.errors.SourceError: scan.h5 holds 2 datasets; give the key of one: 'a', 'b'
    """
    if key is None and len(keys) == 1:
        return keys[0]
    if key is not None and key in keys:
        return key
    what = f"give the {word} of one" if key is None else f"there is no {key!r}"
    found = f"{len(keys)} {noun}s; {what}: {listed(keys)}" if keys else f"no {noun}; check the path"
    msg = f"{owner} holds {found}"
    raise SourceError(msg)


def listed(keys: Iterable[str], most: int = 12) -> str:
    """Return keys as an error lists them, the first few of very many.

    Examples
    --------
    >>> listed(["a", "b"]), listed([]), listed("abc", most=2)
    ("'a', 'b'", 'none', "'a', 'b' and 1 more")
    """
    names = [repr(key) for key in keys]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
