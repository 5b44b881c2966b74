"""Arrays that are read by a function, and existing arrays."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from lazyio.dtypes import Shape
from lazyio.errors import BlockError, OptionError
from lazyio.regions import Region, box_shape, format_region
from lazyio.sources.base import Array, Source


@dataclass(frozen=True, kw_only=True)
class FunctionSource:
    """An array of which a function reads any part."""

    function: Callable[[Region], Array]
    """From a region to an ndarray."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None = None
    """What the function fetches at once, if it does."""

    def read(self, region: Region) -> Array:
        """Return what the function gives, once it is seen to be what was asked for."""
        part = self.function(region)
        return checked_part(part, region, self.dtype, "the read function")


@dataclass(frozen=True, kw_only=True)
class ArraySource:
    """Anything in this process with a shape, a dtype and indexing."""

    array: Any
    """The array-like."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None = None
    """Its own chunks, where it says so."""
    kind: str = field(default="the array")
    """What to call it in an error."""

    def read(self, region: Region) -> Array:
        """Return a part; of an ndarray a view that cannot be written to."""
        # With an ellipsis a single element keeps its byte order and its length.
        part = self.array[region or ...]
        if callable(switch := getattr(self.array, "set_auto_maskandscale", None)):
            _require_plain(part, self.dtype, self.kind, switch.__name__)
        checked = checked_part(_as_ndarray(part), region, self.dtype, self.kind)
        if checked.flags.owndata:
            return checked
        view = checked.view()
        view.flags.writeable = False
        return view


class OwnLock:
    """A lock of this process; in another, to which it is sent, it is another one.

    Examples
    --------
    >>> with OwnLock():
    ...     pass
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self) -> bool:
        """Take it."""
        return self._lock.acquire()

    def release(self) -> None:
        """Let go of it."""
        self._lock.release()

    def __enter__(self) -> Self:
        """Take it, and return itself."""
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __reduce__(self) -> Any:
        return OwnLock, ()

    def __eq__(self, other: object) -> bool:
        """Say that a lock adds nothing to what a source is."""
        return isinstance(other, OwnLock)

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class SerialSource:
    """An array of which one part is read at a time, by whatever reads it."""

    part: Source
    """The array."""
    lock: Any
    """Held while it is read."""
    has_one_thread: bool = False
    """Whether writing is to read it on the thread that was called, as HDMF does."""

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return self.part.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.part.dtype

    @property
    def chunk_shape(self) -> Shape | None:
        """What is read at once, where it says so."""
        return self.part.chunk_shape

    def read(self, region: Region) -> Array:
        """Return a part, while nobody else reads one."""
        with self.lock:
            found = self.part.read(region)
            # An iterator may fill the same memory anew when it is asked for the next.
            return np.array(found) if self.has_one_thread else found


def with_lock(source: Source, lock: Any) -> Source:
    """Return a source that is read under a lock, as ``dask.array.from_array`` takes it."""
    if lock is False:
        return source
    held = OwnLock() if lock is True else lock
    if not (hasattr(held, "__enter__") and hasattr(held, "acquire")):
        msg = f"lock={lock!r}; give True, False or a lock, such as threading.Lock()"
        raise OptionError(msg)
    return SerialSource(part=source, lock=held)


def _require_plain(part: Any, dtype: np.dtype[Any], kind: str, switch: str) -> None:
    """Refuse what netCDF4 has masked or scaled: it says that it holds something else."""
    if np.ma.is_masked(part) or np.asarray(part).dtype != dtype:
        msg = (
            f"{kind} masks or scales its elements, which are {dtype} in the file; call "
            f".{switch}(False) on it to store them as they are, or open the file's path"
        )
        raise BlockError(msg)


def _as_ndarray(part: Any) -> Any:
    """Return what an array-like gave as an ndarray; a mask is not to be lost on the way."""
    if isinstance(part, np.ma.MaskedArray):
        # netCDF4 gives one also where nothing is masked.
        return part if np.ma.is_masked(part) else part.data
    return np.asarray(part)


def _element(part: Any, dtype: np.dtype[Any]) -> Any:
    """Return a single element as an array of its dtype, if it is one of that kind.

    numpy's scalars know neither byte order nor the length that text may have.
    """
    found = np.asarray(part)
    is_text = found.dtype.kind == "U" and dtype.kind == "T"
    is_same = found.dtype.kind == dtype.kind and np.can_cast(found.dtype, dtype, "safe")
    return found.astype(dtype) if is_same or is_text else found


def checked_part(part: Any, region: Region, dtype: np.dtype[Any], who: str) -> Array:
    """Return a part that has the shape and dtype that were asked for."""
    wanted, remedy = box_shape(region), "return exactly the region that was asked for"
    if not wanted and isinstance(part, (np.generic, str)):
        part = _element(part, dtype)
    if not isinstance(part, (np.ndarray, np.generic)) or isinstance(part, np.ma.MaskedArray):
        got = f"a {type(part).__name__}"
    elif part.shape == wanted and part.dtype != dtype:
        remedy = (
            f"say dtype={part.dtype} where it is made, or return {dtype} (.astype cuts what does "
            "not fit)"
        )
        got = f"dtype {part.dtype}"
    elif part.shape != wanted or part.dtype != dtype:
        got = f"shape {part.shape} {part.dtype}"
    else:
        return np.asarray(part)
    msg = (
        f"{who} gave {got} for region {format_region(region)}, which is shape {wanted} {dtype}; "
        f"{remedy}"
    )
    raise BlockError(msg)
