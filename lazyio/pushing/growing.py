"""Public: the array that is appended to."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lazyio.errors import BlockError, TargetError
from lazyio.os_errors import system_errors
from lazyio.pushing.batches import Batches
from lazyio.pushing.place import Opened
from lazyio.pushing.pool import Pool
from lazyio.pushing.slabs import Array, Slabs
from lazyio.spec import Shape

_NONE = object()
"""In place of the dtype of which elements are copied as they are: they never are."""


class GrowingArray(Slabs):
    """An array of a :func:`lazyio.writer`, which grows by what is appended to it.

    Made by :meth:`~lazyio.pushing.writer.Writer.create`. Several threads may append, each batch as
    a whole.

    Parameters
    ----------
    name : str
        What errors call it.
    opened : Opened
        The array as it stands.
    pool : Pool
        Writes slabs that are full.
    n_buffers : int
        Slabs that are filled or being written at once.
    is_lenient : bool
        Whether numbers are rounded to the dtype, because it was asked for.
    begin : callable
        Called before anything is taken, at least the first time.
    """

    def __init__(
        self,
        name: str,
        opened: Opened,
        pool: Pool,
        *,
        n_buffers: int,
        is_lenient: bool,
        begin: Callable[[], object],
    ) -> None:
        super().__init__(name, opened, pool, n_buffers=n_buffers)
        self._begin_writer = begin
        self._item_shape = opened.item_shape
        self._batches = Batches(
            form=opened.form,
            stored=opened.target.dtype,
            item_shape=opened.item_shape,
            axis=opened.axis,
            is_lenient=is_lenient,
        )
        self._quick: Any = opened.target.dtype if self._batches.are_plain else _NONE

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self._opened.form.original

    @property
    def shape(self) -> Shape:
        """Extents, with all that was appended."""
        return self._opened.with_length(len(self))

    @property
    def axis(self) -> int:
        """Along which it grows."""
        return self._opened.axis

    def __len__(self) -> int:
        """Return how many elements there are along the axis of growth."""
        with self._lock:
            return self._length

    def append(self, batch: Any) -> None:
        """Append elements.

        They are copied: the batch may be used again at once.

        Parameters
        ----------
        batch : array-like
            One element, of the array's ``item_shape``; or several, with the
            axis of growth in its place. Numbers of another dtype are taken
            where none of them changes its value.

        Raises
        ------
        BlockError
            When it is neither, or does not fit the dtype; nothing of it was appended.
        TargetError
            When an earlier batch could not be written.

        Examples
        --------
        >>> import lazyio, numpy as np
        >>> with lazyio.writer("grown.h5", mode="w") as w:
        ...     x = w.create("x", dtype="i2", item_shape=(4,))
        ...     x.append(np.arange(4))
        ...     x.append(np.zeros((10, 4), "i2"))
        ...     x.shape
        (11, 4)
        """
        if type(batch) is not np.ndarray or batch.dtype != self._quick:
            elements = self._rows_of(batch)
        elif batch.shape == self._item_shape:
            with self._lock:
                at = self._filled
                if at < self._room:
                    self._elements[at] = batch
                    at += 1
                    self._filled = at
                    if at == self._room:
                        self._turn()
                    return
            elements = batch[np.newaxis]
        else:
            elements = self._rows_of(batch)
        self._extend(elements)

    def _rows_of(self, batch: Any) -> Array:
        try:
            return self._batches.rows(batch)
        except Exception as error:
            msg = f"a batch for {self.name} after {len(self)} elements cannot be appended: {error}"
            raise BlockError(msg) from error

    @system_errors(TargetError)
    def _extend(self, elements: Array) -> None:
        self._begin_writer()
        with self._lock:
            self._refuse_beyond(len(elements))
            self._fill(elements)

    def _refuse_beyond(self, n_elements: int) -> None:
        most = self._opened.most
        if most is not None and self._length + n_elements > most:
            msg = (
                f"{n_elements} elements for {self.name}, which has {self._length} and may have "
                f"{most}; write it anew with a larger maxshape"
            )
            raise BlockError(msg)
