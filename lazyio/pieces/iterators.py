"""Iterators as HDMF has them: chunks of data, each with the selection that it belongs to."""

import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from lazyio.errors import BlockError, OptionError
from lazyio.grid import Bounds
from lazyio.pieces.casting import as_elements
from lazyio.pieces.selections import Part, parts_of
from lazyio.spec import Shape, as_dtype, as_shape

_FACTS = ("dtype", "maxshape", "recommended_chunk_shape", "recommended_data_shape")
_TAKEN: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""Iterators that an earlier call has used up, by whichever wrapper."""


def is_iterator(obj: Any) -> bool:
    """Return whether something is an ``AbstractDataChunkIterator``, whoever defines it."""
    return callable(getattr(type(obj), "__next__", None)) and all(
        hasattr(obj, name) for name in _FACTS
    )


class IteratorPieces:
    """What an HDMF ``AbstractDataChunkIterator`` yields.

    Parameters
    ----------
    iterator : AbstractDataChunkIterator
        Gone through once. Its ``dtype``, ``maxshape`` and ``recommended_*``
        may be properties or methods.

    Raises
    ------
    OptionError
        When it has been used up, or one of these says nothing.
    """

    is_in_order = True
    old_shape: Shape | None = None

    def __init__(self, iterator: Any) -> None:
        self._name = f"the {type(iterator).__name__}"
        self._iterator = iterator
        self._refuse_taken()
        found = _fact(iterator, "maxshape")
        shape = _fact(iterator, "recommended_data_shape")
        if found is None and shape is None:
            msg = f"{self._name} says neither maxshape nor recommended_data_shape; is it used up?"
            raise OptionError(msg)
        if found is None:
            found = (None,) * len(shape)
        self.max_shape: Bounds = tuple(None if bound is None else int(bound) for bound in found)
        if shape is None:
            shape = tuple(bound or 0 for bound in self.max_shape)
        self.shape: Shape = as_shape(tuple(shape), "recommended_data_shape")
        self._refuse_misfit()
        dtype = _fact(iterator, "dtype")
        if dtype is None:
            msg = f"{self._name} says no dtype; give it one"
            raise OptionError(msg)
        self.dtype: np.dtype[Any] = as_dtype(dtype)
        chunks = _fact(iterator, "recommended_chunk_shape")
        self.chunk_shape: Shape | None = None
        if chunks is not None:
            self.chunk_shape = as_shape(tuple(chunks), "recommended_chunk_shape")

    def take(self, _chunk_shape: Shape) -> Iterator[Part]:
        """Yield regions with their elements; see :class:`~lazyio.pieces.base.Pieces`."""
        self._refuse_taken()
        _TAKEN.add(self._iterator)
        return self._taken()

    def _taken(self) -> Iterator[Part]:
        shape = self.shape
        for number in itertools.count():
            try:
                chunk = next(self._iterator)
            except StopIteration:
                if not number:
                    msg = f"{self._name} yields nothing: it was used up before; make a new one"
                    raise OptionError(msg) from None
                return
            except Exception as error:
                kind = type(error).__name__
                msg = f"item {number} of {self._name} did not come: {kind}: {error}"
                raise BlockError(msg) from error
            for region, elements in self._parts(number, chunk, shape):
                shape = tuple(max(n, part.stop) for n, part in zip(shape, region, strict=True))
                yield region, elements

    def _parts(self, number: int, chunk: Any, shape: Shape) -> Iterator[Part]:
        try:
            selection = chunk.selection
            found = np.asarray(chunk.data)
            is_lenient = not hasattr(chunk.data, "dtype")
            elements = as_elements(found, self.dtype, is_lenient=is_lenient)
            if elements is None:
                msg = f"dtype {found.dtype}, of which {self.dtype} cannot hold every value"
                raise TypeError(msg)
            return parts_of(selection, elements, shape, self.max_shape)
        except (AttributeError, TypeError, ValueError) as error:
            where = getattr(chunk, "selection", None)
            msg = f"item {number} of {self._name}, at {where!r}, does not fit: {error}"
            raise BlockError(msg) from error

    def _refuse_taken(self) -> None:
        if self._iterator in _TAKEN:
            msg = f"{self._name} was used up by an earlier call; make a new one"
            raise OptionError(msg)

    def _refuse_misfit(self) -> None:
        fits = len(self.shape) == len(self.max_shape) and all(
            bound is None or extent <= bound
            for extent, bound in zip(self.shape, self.max_shape, strict=False)
        )
        if not fits:
            msg = (
                f"{self._name} recommends the shape {self.shape}, which its maxshape "
                f"{self.max_shape} does not hold"
            )
            raise OptionError(msg)


def _fact(iterator: Any, name: str) -> Any:
    """Return what an iterator says, in a property or by a method."""
    found = getattr(iterator, name)
    return found() if callable(found) and not isinstance(found, type) else found


def recommended_chunks(obj: Any) -> Shape | None:
    """Return the chunks that an iterator with random access asks for, ``None`` for none."""
    if not is_iterator(obj):
        return None
    found = _fact(obj, "recommended_chunk_shape")
    return None if found is None else as_shape(tuple(found), "recommended_chunk_shape")
