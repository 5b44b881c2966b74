"""What a source is: three facts and a way to read a part.

An adapter knows its format and nothing of plans, blocks or targets. It holds
paths, never open files, so that it travels to another process as it is.
"""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lazyio.grid import Region
from lazyio.spec import Shape

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
        """What is decoded at once, in elements, or ``None``."""

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

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out``, C-ordered and of the region's shape."""


@runtime_checkable
class Stored(Protocol):
    """A source that lies in a file or store."""

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file or store, and key inside it (empty if none)."""

    @property
    def in_rows(self) -> bool:
        """Whether it is one C-ordered run of bytes."""


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
