"""Iterators as HDMF has them: chunks of data, each with the selection that it belongs to."""

import contextlib
import copy
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from lazyio.dtypes import TEXT, Shape, as_dtype, as_shape, is_integer
from lazyio.errors import BlockError, OptionError
from lazyio.iterables.elements import dtype_of_elements
from lazyio.iterables.items import ENDED, Items
from lazyio.iterables.selections import Part, placed
from lazyio.regions import Bounds

_FACTS = ("dtype", "maxshape", "recommended_chunk_shape", "recommended_data_shape")
_TAKEN: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""Iterators that an earlier call has used up, by whichever wrapper."""


def is_iterator(obj: Any) -> bool:
    """Return whether something is an ``AbstractDataChunkIterator``, whoever defines it."""
    return callable(getattr(type(obj), "__next__", None)) and all(
        hasattr(obj, name) for name in _FACTS
    )


class HdmfBlocks:
    """What an HDMF ``AbstractDataChunkIterator`` yields."""

    is_in_order = True
    old_shape: Shape | None = None

    def __init__(self, iterator: Any) -> None:
        self._name = f"the {type(iterator).__name__}"
        self._iterator = iterator
        self._items = Items(lambda: iterator, self._name, f"item {{}} of {self._name}")
        self._refuse_taken()
        try:
            self.dtype, self.shape, self.max_shape, self.chunk_shape = _facts(iterator)
            # Had it had elements once, it would know how far it reached.
            self._is_empty = not any(
                _fact(iterator, name) for name in ("maxshape", "recommended_data_shape")
            )
        except Exception as error:
            msg = f"{self._name} does not say what it yields: {error}"
            raise OptionError(msg) from error
        self._refuse_misfit()

    def within(self, bounds: Bounds, shape: Shape | None = None) -> "HdmfBlocks":
        """Return what it yields for an array that has, or may get, other extents than it says."""
        wider = copy.copy(self)
        wider.max_shape, wider.shape = bounds, shape or self.shape
        return wider

    def take(self, _chunk_shape: Shape) -> Iterator[Part]:
        """Yield regions with their elements; see :class:`~lazyio.iterables.base.BlockIterator`."""
        self._refuse_taken()
        with contextlib.suppress(TypeError):  # One that cannot be remembered yields nothing.
            _TAKEN.add(self._iterator)
        return self._taken()

    def _taken(self) -> Iterator[Part]:
        shape, number = self.shape, 0
        if self._items.first() is ENDED and not self._is_empty:
            msg = f"{self._name} yields nothing: it was used up before; make a new one"
            raise OptionError(msg)
        while (chunk := self._items.next(number)) is not ENDED:
            label = f"item {number} of {self._name}"
            if not hasattr(chunk, "selection") or not hasattr(chunk, "data"):
                msg = f"{label} is a {type(chunk).__name__}, and no DataChunk"
                raise BlockError(msg)
            bounds, selection = self.max_shape, chunk.selection
            for part in placed(label, selection, chunk.data, self.dtype, shape, bounds):
                region, _ = part
                shape = tuple(max(n, part.stop) for n, part in zip(shape, region, strict=True))
                yield part
            number += 1

    def _refuse_taken(self) -> None:
        if self._iterator in _TAKEN:
            msg = f"{self._name} was used up by an earlier call; make a new one"
            raise OptionError(msg)

    def _refuse_misfit(self) -> None:
        n_axes = {
            len(one) for one in (self.shape, self.max_shape, self.chunk_shape) if one is not None
        }
        if len(n_axes) > 1:
            msg = (
                f"{self._name} has recommended_data_shape {self.shape}, maxshape {self.max_shape} "
                f"and recommended_chunk_shape {self.chunk_shape}; give them as many axes each"
            )
            raise OptionError(msg)
        fits = all(
            bound is None or extent <= bound
            for extent, bound in zip(self.shape, self.max_shape, strict=True)
        )
        if not fits:
            msg = (
                f"{self._name} recommends the shape {self.shape}, which its maxshape "
                f"{self.max_shape} does not hold"
            )
            raise OptionError(msg)


def _facts(iterator: Any) -> tuple[np.dtype[Any], Shape, Bounds, Shape | None]:
    """Return dtype, first and largest extents, and chunks, as an iterator says them."""
    found = _fact(iterator, "maxshape")
    shape = _fact(iterator, "recommended_data_shape")
    # Of one without elements nothing tells how many axes there are.
    axes = 1 if shape is None else len(shape)
    bounds = (None,) * axes if found is None else tuple(found)
    if not all(bound is None or is_integer(bound) for bound in bounds):
        msg = f"maxshape={found!r}; give an integer or None for each axis"
        raise OptionError(msg)
    if shape is None:
        shape = tuple(bound or 0 for bound in bounds)
    dtype = _fact(iterator, "dtype")
    if dtype is None:
        msg = "it has no dtype"
        raise OptionError(msg)
    max_shape = tuple(None if bound is None else int(bound) for bound in bounds)
    first = as_shape(tuple(shape), "recommended_data_shape")
    # Of text an iterator knows the length of the first; what comes later may be longer.
    elements = TEXT if as_dtype(dtype).kind == "U" else dtype_of_elements(dtype)
    return elements, first, max_shape, recommended_chunks(iterator)


def _fact(iterator: Any, name: str) -> Any:
    """Return what an iterator says, in a property or by a method."""
    found = getattr(iterator, name)
    return found() if callable(found) and not isinstance(found, type) else found


def recommended_chunks(obj: Any) -> Shape | None:
    """Return the chunks that an iterator with random access asks for, ``None`` for none."""
    if not is_iterator(obj):
        return None
    found = _fact(obj, "recommended_chunk_shape")
    if found is None or found is True:
        return None
    return as_shape(tuple(found), "recommended_chunk_shape")
